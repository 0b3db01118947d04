"""Nested states as JSON and tensors, the two things that are written, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

_TENSOR, _FLOAT = "$tensor", "$float"

Tree = Any
"""None, a bool, a number, a text, a tensor, or a list or a dict of trees whose keys are texts."""


def parted(tree: Tree) -> tuple[Any, dict[str, Tensor]]:
    """A tree as JSON with the names of its tensors, and the tensors.

    JSON knows no infinity and no NaN; they are written by name.

    Raises:
        TypeError: If something in it can be neither.
    """
    tensors: dict[str, Tensor] = {}

    def walk(node: Tree, path: tuple[str, ...]) -> Any:
        if isinstance(node, Tensor):
            name = "/".join(path)
            tensors[name] = node.detach()
            return {_TENSOR: name}
        if isinstance(node, float) and not math.isfinite(node):
            return {_FLOAT: repr(node)}
        if node is None or isinstance(node, bool | int | float | str):
            return node
        if isinstance(node, Mapping):
            return {key: walk(value, (*path, key)) for key, value in node.items()}
        if isinstance(node, list | tuple):
            return [walk(value, (*path, str(place))) for place, value in enumerate(node)]
        raise TypeError(f"{'/'.join(path)} is a {type(node).__name__}, which cannot be kept.")

    return walk(tree, ()), tensors


def joined(json: Any, tensors: Mapping[str, Tensor]) -> Tree:
    """The tree of `parted`; its sequences are lists.

    Raises:
        KeyError: If a tensor is missing.
    """
    if isinstance(json, dict):
        if _TENSOR in json:
            return tensors[json[_TENSOR]]
        if _FLOAT in json:
            return float(json[_FLOAT])
        return {key: joined(value, tensors) for key, value in json.items()}
    if isinstance(json, list):
        return [joined(value, tensors) for value in json]
    return json
