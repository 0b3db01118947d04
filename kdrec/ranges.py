"""Ranges of options, written once, in the signature that takes them.

`dim: Count` says that `dim` is at least 1. The command line refuses a value outside before anything
runs; the function itself refuses it with `check_ranges` when it is called from Python.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_type_hints

from kdrec.errors import UsageError


@dataclass(frozen=True, slots=True)
class Range:
    """Finite numbers from `least` on, or (if `strictly`) above it, up to `most`, or `below` it."""

    least: float
    strictly: bool = False
    most: float = math.inf
    below: float = math.inf

    def __contains__(self, value: object) -> bool:
        if not isinstance(value, int | float) or not math.isfinite(value):
            return False
        low = value > self.least if self.strictly else value >= self.least
        return low and value <= self.most and value < self.below

    def __str__(self) -> str:
        words = [f"{'above' if self.strictly else 'at least'} {self.least:g}"]
        words += [f"at most {self.most:g}"] if math.isfinite(self.most) else []
        words += [f"below {self.below:g}"] if math.isfinite(self.below) else []
        return " and ".join(words)


Count = Annotated[int, Range(1)]
Natural = Annotated[int, Range(0)]
Positive = Annotated[float, Range(0, strictly=True)]
NonNegative = Annotated[float, Range(0)]
Share = Annotated[float, Range(0, most=1)]
Below1 = Annotated[float, Range(0, below=1)]


def ranges(annotation: Any) -> Iterator[Range]:
    """The ranges in an annotation, also within unions and lists."""
    yield from (part for part in getattr(annotation, "__metadata__", ()) if isinstance(part, Range))
    for part in get_args(annotation):
        if not isinstance(part, str):
            yield from ranges(part)


def check_range(key: str, value: object, annotation: Any) -> None:
    """Refuses a number, or a list with a number, outside the annotation's range.

    Raises:
        UsageError: It is outside.
    """
    numbers = value if isinstance(value, list | tuple) else [value]
    for bounds in ranges(annotation):
        for number in numbers:
            if isinstance(number, int | float) and number not in bounds:
                raise UsageError(f"{key}={number} is out of range: it must be {bounds}.")


def check_ranges(function: Callable[..., object], values: Mapping[str, object]) -> None:
    """Refuses what lies outside the ranges in the function's signature.

    Raises:
        UsageError: A value is outside.
    """
    hints = get_type_hints(function, include_extras=True)
    for name, annotation in hints.items():
        if name in values:
            check_range(name, values[name], annotation)
