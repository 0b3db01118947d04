"""A config node that names a `_target_`, held against the signature of that target.

Hydra's `_partial_` accepts a misspelt option and `lr=abc` silently; this does not.
"""

from __future__ import annotations

import importlib
import inspect
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from kdrec.cli.values import check_value, did_you_mean
from kdrec.errors import KdrecError, UsageError

HYDRA_KEYS = frozenset({"_target_", "_partial_", "_convert_", "_recursive_", "_args_"})


def locate(path: str) -> Callable[..., object]:
    """The class or function of a dotted path, imported.

    Raises:
        UsageError: If there is none.
    """
    parts = path.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        module = ".".join(parts[:cut])
        try:
            found: Any = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name and (module == error.name or module.startswith(f"{error.name}.")):
                continue
            raise KdrecError(
                f"{path} needs the package {error.name}, which is not installed.",
                f"pip install {error.name}",
            ) from error
        try:
            for part in parts[cut:]:
                found = getattr(found, part)
        except AttributeError:
            break
        if callable(found):
            return typing.cast("Callable[..., object]", found)
        break
    raise UsageError(
        f"_target_: {path} is nothing that can be called.",
        "Check the dotted path, and that its package is installed or on PYTHONPATH.",
    )


def options(target: Callable[..., object]) -> tuple[dict[str, Any], bool]:
    """The parameters of a target with their annotations, and whether it takes any others.

    An annotation that cannot be evaluated (imported for type checkers only) counts as `Any`.
    """
    function = inspect.unwrap(target.__init__ if inspect.isclass(target) else target)
    names = getattr(function, "__globals__", {})
    found: dict[str, Any] = {}
    open_ended = False
    parameters = list(inspect.signature(target).parameters.values())
    for parameter in parameters:
        if parameter.kind is parameter.VAR_KEYWORD:
            open_ended = True
        elif parameter.kind not in {parameter.VAR_POSITIONAL, parameter.POSITIONAL_ONLY}:
            found[parameter.name] = _evaluated(parameter.annotation, names)
    return found, open_ended


def _evaluated(annotation: object, names: dict[str, object]) -> Any:
    if annotation is inspect.Parameter.empty:
        return Any
    holder = type("Holder", (), {"__annotations__": {"it": annotation}})
    try:
        return typing.get_type_hints(holder, globalns=names, include_extras=True)["it"]
    except (NameError, TypeError, AttributeError):
        return Any


def target_nodes(config: object, path: str = "") -> Iterator[tuple[str, dict[str, object]]]:
    """Every node with a `_target_` in a plain container, with its dotted path."""
    children: Iterable[tuple[object, object]] = ()
    if isinstance(config, dict):
        if isinstance(config.get("_target_"), str):
            yield path, config
        children = config.items()
    elif isinstance(config, list):
        children = enumerate(config)
    for key, child in children:
        yield from target_nodes(child, f"{path}.{key}" if path else str(key))


def check_node(path: str, node: Mapping[str, object]) -> None:
    """Holds one node's options against its target's signature.

    Raises:
        UsageError: An option that the target does not have, or a value of a wrong type.
    """
    name = str(node["_target_"])
    known, open_ended = options(locate(name))
    for option, value in node.items():
        if option in HYDRA_KEYS:
            continue
        if option not in known and not open_ended:
            raise UsageError(
                f"{path}.{option}: {name} has no option {option!r}.",
                did_you_mean(
                    option, [key for key in known if key in node] or list(known), "Options"
                ),
            )
        check_value(f"{path}.{option}", value, known.get(option, Any))
