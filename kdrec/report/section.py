"""Reads a section `report:` key by key: a wrong value is refused by its name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kdrec.errors import UsageError
from kdrec.evaluation.part import COLD
from kdrec.report.compare import Column

_METRIC = re.compile(r"\w+@[1-9]\d*")
_GROUP = re.compile(rf"popular|unpopular|{COLD}|[1-9]\d*")
"""Names of item groups: by number where there are more or fewer than two."""


@dataclass(frozen=True, slots=True)
class Values:
    """The values of a section.

    Args:
        name: Of the preset.
        section: What the file has.
    """

    name: str
    section: Mapping[str, Any]

    @property
    def named(self) -> str:
        """How a message calls the section."""
        return f"The report section of experiment={self.name}"

    def unless(self, right: bool, what: str, hint: str) -> None:  # noqa: FBT001
        """Refuses the section unless something holds.

        Raises:
            UsageError: If it does not.
        """
        if not right:
            raise UsageError(f"{self.named}: {what}.", hint)

    def names(self, key: str, default: Sequence[str] = ()) -> list[str]:
        """A list of names; one alone may stand without brackets."""
        value = self.section.get(key)
        value = default if value is None else value
        value = [value] if isinstance(value, str) else value
        right = _is_list(value) and all(isinstance(one, str | int) for one in value)
        self.unless(right, f"{key}={value!r} is no list of names", f"Write {key}: [a, b].")
        return [str(one) for one in value]

    def columns(self) -> list[Column]:
        """The metrics."""
        return [column(text, self.named) for text in self.names("metrics")]

    def seeds(self, key: str) -> list[int] | None:
        """A list of seeds, None where all count."""
        value = self.section.get(key)
        if value is None:
            return None
        right = _is_list(value) and bool(value) and all(_is_whole(one, least=0) for one in value)
        self.unless(right, f"{key}={value!r} is no list of seeds", f"Write {key}: [0, 1, 2].")
        return list(value)

    def whole(self, key: str, default: int) -> int:
        """A whole number from 1 on."""
        value = self.section.get(key, default)
        self.unless(_is_whole(value, least=1), f"{key}={value!r} is no whole number from 1 on",
                    f"Write {key}: {default}.")  # fmt: skip
        return int(value)

    def wanted(self, value: object, where: str, *, of: str) -> dict[str, Any]:
        """What runs must have, by name; nothing said is nothing asked."""
        if value is None:
            return {}
        self.unless(isinstance(value, Mapping), f"{where}={value!r} does not say what runs must "
                    "have", f"Write {where}: {{{of}}}.")  # fmt: skip
        assert isinstance(value, Mapping)  # noqa: S101  (narrows the type)
        return {str(key): one for key, one in value.items()}

    def methods(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Each row's name and what its runs must have."""
        methods = self.section.get("methods") or {}
        if _is_list(methods):
            methods = dict.fromkeys(map(str, methods))
        self.unless(isinstance(methods, Mapping), f"methods={methods!r} names no rows",
                    "Write methods: {none: {}, UnKD: {method: unkd}}.")  # fmt: skip
        for name, given in methods.items():
            yield str(name), self.wanted(given, f"methods.{name}", of="method: NAME")

    def varied(self, name: str, value: object, *, numbers: bool) -> Iterator[tuple[str, list[Any]]]:
        """The values of each key that a row varies."""
        where = f"methods.{name}.vary"
        for key, several in self.wanted(value, where, of="KEY: [1, 2]").items():
            right = _is_list(several) and bool(several)
            right = right and not any(isinstance(one, list | tuple | Mapping) for one in several)
            self.unless(right, f"{where}.{key}={several!r} is no list of values",
                        f"Write vary: {{{key}: [1, 2]}}.")  # fmt: skip
            drawable = all(isinstance(x, int | float) and x is not True and x is not False
                           for x in several)  # fmt: skip
            self.unless(drawable or not numbers, f"figure=curve cannot be drawn over {where}."
                        f"{key}={several!r}", "A curve is over numbers.")  # fmt: skip
            yield key, list(several)


def _is_list(value: object) -> bool:
    return isinstance(value, list | tuple)


def _is_whole(value: object, *, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def column(text: object, where: str = "A metric") -> Column:
    """`recall@10 unpopular diluted`: the metric, an item group, and the form of its mean.

    Raises:
        UsageError: If the text is not of this form.
    """
    metric, *rest = str(text).split() or [""]
    form = rest.pop() if len(rest) > 1 and rest[-1] in ("eligible", "diluted") else "eligible"
    if not _METRIC.fullmatch(metric) or len(rest) > 1 or not all(map(_GROUP.fullmatch, rest)):
        raise UsageError(
            f"{where}: {text!r} names no metric.",
            f"Use for example recall@10, or recall@10 unpopular diluted; groups of items are "
            f"popular, unpopular and {COLD}, or numbers where there are not two of them.",
        )
    if not rest:
        return Column(str(text), ("test", "all", "all", "", metric))
    return Column(str(text), ("test", "items", rest[0], form, metric))
