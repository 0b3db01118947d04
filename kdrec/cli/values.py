"""Plain values, as a command line or YAML has them, held against type annotations."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from kdrec.errors import UsageError
from kdrec.ranges import check_range

_TYPES: dict[object, type | tuple[type, ...]] = {
    bool: bool,
    int: int,
    float: (int, float),
    str: str,
    Path: str,
    type(None): type(None),
}
_WORDS: dict[object, tuple[str, str]] = {
    bool: ("true or false", "true or false"),
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    str: ("text", "texts"),
    Path: ("a path", "paths"),
    type(None): ("null", "nulls"),
}


def nearest(word: str, names: Iterable[str], n: int = 3) -> list[str]:
    """The names most like `word`, best first; upper and lower case are the same."""
    by_lower = {name.lower(): name for name in names}
    close = difflib.get_close_matches(word.lower(), by_lower, n=n, cutoff=0.6)
    return [by_lower[match] for match in close]


def did_you_mean(word: str, names: Sequence[str], what: str) -> str:
    """`Did you mean ndcg? metric: map, mrr, ndcg` or, where nothing is close, the names alone."""
    close = nearest(word, names)
    return (f"Did you mean {' or '.join(close)}? " if close else "") + (
        f"{what}: {', '.join(names)}"
    )


def alternatives(annotation: Any) -> list[Any]:
    """`int | None` as `[int, NoneType]`; what is no union as itself alone."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return alternatives(args[0])
    if origin in {Union, types.UnionType}:
        return [part for arg in args for part in alternatives(arg)]
    return [type(None) if annotation is None else annotation]


def matches(value: object, annotation: Any) -> bool:
    """Whether a plain value (as YAML has them) may go where `annotation` stands.

    A whole number is a number; true and false are not; classes of ours are not judged.
    """
    return any(_matches(value, part) for part in alternatives(annotation))


def _matches(value: object, annotation: Any) -> bool:
    kind, args = get_origin(annotation) or annotation, get_args(annotation)
    if kind is Literal:
        return any(value == arg and type(value) is type(arg) for arg in args)
    if kind in _TYPES:
        truth = isinstance(value, bool)
        return isinstance(value, _TYPES[kind]) and (truth == (kind is bool))
    if _is(kind, Mapping):
        inner = args[1] if args else Any
        return isinstance(value, dict) and all(matches(v, inner) for v in value.values())
    if _is(kind, Sequence, AbstractSet):
        inner = args[0] if args else Any
        return isinstance(value, list) and all(matches(v, inner) for v in value)
    return True


def wanted(annotation: Any, *, many: bool = False) -> str:
    """The annotation in words: `a whole number`, `one of paper, official`, `a list of numbers`."""
    words = [_wanted(part, many=many) for part in alternatives(annotation)]
    return " or ".join(dict.fromkeys(words))


def _wanted(annotation: Any, *, many: bool) -> str:
    kind, args = get_origin(annotation) or annotation, get_args(annotation)
    if kind is Literal:
        return "one of " + ", ".join(str(arg) for arg in args)
    if kind in _WORDS:
        return _WORDS[kind][many]
    if _is(kind, Mapping):
        return "a set of key: value"
    if _is(kind, Sequence, AbstractSet):
        return f"a list of {wanted(args[0], many=True)}" if args else "a list"
    return getattr(kind, "__name__", str(kind))


def _is(kind: object, *families: type) -> bool:
    return isinstance(kind, type) and issubclass(kind, families)


def check_value(key: str, value: object, annotation: Any) -> None:
    """Refuses a value that does not fit an annotation, or its range.

    Raises:
        UsageError: It does not fit.
    """
    if isinstance(value, dict) and "_target_" in value:
        return
    if matches(value, annotation):
        check_range(key, value, annotation)
        return
    shown = shown_value(value)
    choices = [
        str(arg)
        for part in alternatives(annotation)
        if get_origin(part) is Literal
        for arg in get_args(part)
    ]
    close = nearest(shown, choices, n=1)
    if close:
        hint = f"Did you mean {close[0]}?"
    elif not isinstance(value, list) and matches([value], annotation):
        hint = f"Write {key}=[{shown}]."
    elif isinstance(value, int | float) and matches("", annotation):
        hint = f"For text, quote it twice: {key}=\"'{shown}'\""
    else:
        hint = ""
    raise UsageError(f"{key}={shown} is not {wanted(annotation)}.", hint)


def shown_value(value: object) -> str:
    """A value as one would type it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return "[" + ",".join(shown_value(item) for item in value) + "]"
    return str(value)
