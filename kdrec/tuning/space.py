"""The space that a search draws from: for each setting a list of values or an interval."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from kdrec.artifacts import setting_text
from kdrec.errors import UsageError

Value = bool | int | float | str
Settings = Mapping[str, Value]

FORMS = "Write choice(0.1,1), range(1,5), interval(0.1,1), int(interval(1,9)) or tag(log,...)."
"""How a dimension is written."""

DIGITS = 4
"""Significant digits of a number drawn from an interval: a setting is to be read and retyped."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One of these values.

    Raises:
        UsageError: If one is there twice: its points would be counted twice.
    """

    values: tuple[Value, ...]

    def __post_init__(self) -> None:
        if len(set(self.values)) < len(self.values):
            raise UsageError(f"A value is given twice: {', '.join(map(str, self.values))}.")

    def __contains__(self, value: object) -> bool:
        return any(value == one and isinstance(value, bool) == isinstance(one, bool)
                   for one in self.values)  # fmt: skip

    @property
    def ends(self) -> tuple[Value, Value]:
        """Two of its values that differ, if there are two."""
        return self.values[0], self.values[-1]

    def points(self) -> tuple[Value, ...] | None:
        """All its values."""
        return self.values

    def at_end(self, value: Value) -> bool:
        """Whether it is the least or the greatest of three numbers or more."""
        numbers = [one for one in self.values if _is_number(one)]
        return len(numbers) == len(self.values) > 2 and value in (min(numbers), max(numbers))

    def __str__(self) -> str:
        return f"choice({','.join(map(setting_text, self.values))})"


@dataclass(frozen=True, slots=True)
class Interval:
    """A number from `low` to `high`, both included.

    Args:
        low: The least.
        high: The most.
        log: Whether its logarithm is what is drawn evenly.
        whole: Whether it is a whole number.

    Raises:
        UsageError: If there is nothing between the ends, or no logarithm of `low`.
    """

    low: float
    high: float
    log: bool
    whole: bool

    def __post_init__(self) -> None:
        if not self.low < self.high or not math.isfinite(self.high - self.low):
            raise UsageError(f"interval({self.low}, {self.high}) is empty.", "The lower end first.")
        if self.log and self.low <= 0:
            raise UsageError(
                f"tag(log, interval({self.low}, {self.high})) has no logarithm.",
                "Its lower end must be above 0.",
            )

    def __contains__(self, value: object) -> bool:
        number = isinstance(value, int if self.whole else (int, float))
        return (
            number and not isinstance(value, bool) and self.low <= value <= self.high  # type: ignore[operator]
        )

    @property
    def ends(self) -> tuple[Value, Value]:
        """The least and the most."""
        return self.low, self.high

    def points(self) -> tuple[Value, ...] | None:
        """All its values, or None if they cannot be counted."""
        return tuple(range(int(self.low), int(self.high) + 1)) if self.whole else None

    def at_end(self, value: Value) -> bool:
        """Whether it is an end, or within a twentieth of the width of one."""
        scale = math.log if self.log else float
        low, at, high = (scale(float(one)) for one in (self.low, value, self.high))
        return min(at - low, high - at) <= (high - low) / 20

    def __str__(self) -> str:
        text = f"interval({self.low},{self.high})"
        text = f"int({text})" if self.whole else text
        return f"tag(log,{text})" if self.log else text

    def tidy(self, value: float) -> Value:
        """The value with `DIGITS` significant digits, still inside."""
        if self.whole:
            return int(value)
        return min(max(float(f"{value:.{DIGITS}g}"), self.low), self.high)


Dimension = Choice | Interval
Space = Mapping[str, Dimension]


def merged(config: Mapping[str, Any]) -> dict[str, str]:
    """The search strings of a resolved configuration by override key.

    The role's come first, then the method's (for a student), then those of `tune.space`; of two
    for a key the later counts. Null takes a key out. Keys may be dotted or nested.

    Args:
        config: Plain, with `role`, `tune` and perhaps `method`.
    """
    role = config["role"]
    method = config.get("method") if role["name"] == "student" else None
    parts = (role.get("space"), (method or {}).get("space"), config["tune"].get("space"))
    found: dict[str, str] = {}
    for part in parts:
        found |= dict(_dotted(part or {}))
    return {key: text for key, text in found.items() if text != "null"}


def _dotted(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from _dotted(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", setting_text(value)


def size(space: Space) -> int | None:
    """How many points the space has; None if they cannot be counted."""
    parts = [dimension.points() for dimension in space.values()]
    known = [len(part) for part in parts if part is not None]
    return math.prod(known) if len(known) == len(parts) else None


def points(space: Space) -> Iterator[dict[str, Value]]:
    """All points of a space that can be counted, in a fixed order."""
    parts = [dimension.points() or () for dimension in space.values()]
    for values in itertools.product(*parts):
        yield dict(zip(space, values, strict=True))


def same(one: Settings, other: Settings) -> bool:
    """Whether two settings are the same point."""
    return dict(one) == dict(other)


def inside(space: Space, settings: Settings) -> dict[str, Value]:
    """Those of the settings that the space allows."""
    return {key: value for key, value in settings.items() if value in space[key]}


def at_ends(space: Space, settings: Settings) -> dict[str, Value]:
    """Those of the settings that lie at an end of what was searched: beyond it may be better."""
    return {key: value for key, value in settings.items() if space[key].at_end(value)}


def _is_number(value: Value) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def typed(settings: Settings) -> list[str]:
    """The settings as one would type them: `["lr=0.01", "l2=0.1"]`."""
    return [f"{key}={setting_text(value)}" for key, value in settings.items()]
