"""What a table is made of, and how a number is written."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

NOTHING = "–"
UP, DOWN = "↑", "↓"


@dataclass(frozen=True, slots=True)
class Cell:
    """One number with what is known of it.

    Args:
        value: NaN if there is none.
        kind: How it is written: `score`, `share`, `fine_share`, `number`, `count`, `percent`,
            `points`, `change`; with half of its interval `mean`, `mean_share`; with all of it
            `relative`.
        spread: Standard deviation over runs, NaN for one run.
        n_runs: Runs it is the mean of.
        low: Lower end of an interval.
        high: Upper end.
        p: p-value against the comparison, adjusted.
        mark: `↑` or `↓` if it differs significantly from what its table compares with: `none`, or a
            preset's baseline.
        best: Whether it is the best of the students.
        words: What stands behind the number, or in its place where there is none.
    """

    value: float
    kind: str = "score"
    spread: float = math.nan
    n_runs: int = 0
    low: float = math.nan
    high: float = math.nan
    p: float = math.nan
    mark: str = ""
    best: bool = False
    words: str = ""

    def text(self) -> str:
        """The number as a table shows it, without emphasis."""
        if not self.words:
            return number(self) + self.mark
        if not math.isfinite(self.value):
            return self.words
        return f"{number(self)}{self.mark} ({self.words})"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table.

    Args:
        label: What stands in front.
        role: `teacher`, `student` or `data`.
        n_runs: Runs behind it, 0 for data.
        cells: One a column.
    """

    label: str
    role: str
    n_runs: int
    cells: Sequence[Cell]


@dataclass(frozen=True, slots=True)
class Table:
    """A table that stands by itself.

    Args:
        name: Short name for files.
        title: What it shows.
        columns: Headings.
        keys: For each column target, scope, group, form and metric.
        rows: The rows.
        notes: What a reader must know, a sentence each.
        marked: Whether cells may carry marks, so that the legend belongs under it.
    """

    name: str
    title: str
    columns: Sequence[str]
    keys: Sequence[tuple[str, str, str, str, str]]
    rows: Sequence[Row]
    notes: Sequence[str] = ()
    marked: bool = False


def number(cell: Cell) -> str:
    """A value in the way of its kind."""
    if not math.isfinite(cell.value):
        return NOTHING
    return _WRITTEN[cell.kind](cell)


def _change(cell: Cell) -> str:
    ends = f" [{cell.low:+.4f}, {cell.high:+.4f}]" if math.isfinite(cell.low) else ""
    return f"{cell.value:+.4f}{ends}"


def _relative(cell: Cell) -> str:
    known = math.isfinite(cell.low)
    ends = f" [{100 * cell.low:+.1f}, {100 * cell.high:+.1f}]" if known else ""
    return f"{100 * cell.value:+.1f}%{ends}"


def _give_or_take(cell: Cell, around: float, *, digits: int, scale: int = 1, end: str = "") -> str:
    """`.0863±.0012`: the value and what is around it, if that is known."""
    text = f"{scale * cell.value:.{digits}f}"
    if not math.isfinite(around):
        return text + end
    return f"{text}±{scale * around:.{digits}f}".replace("±0.", "±.") + end


def _half(cell: Cell) -> float:
    return (cell.high - cell.low) / 2


_WRITTEN: dict[str, Callable[[Cell], str]] = {
    "score": lambda cell: _give_or_take(cell, cell.spread, digits=4),
    "number": lambda cell: _give_or_take(cell, cell.spread, digits=1),
    "mean": lambda cell: _give_or_take(cell, _half(cell), digits=4),
    "mean_share": lambda cell: _give_or_take(cell, _half(cell), digits=1, scale=100, end="%"),
    "share": lambda cell: f"{100 * cell.value:.1f}%",
    "fine_share": lambda cell: f"{100 * cell.value:.3g}%",
    "count": lambda cell: f"{cell.value:,.0f}",
    "percent": lambda cell: f"{100 * cell.value:+.1f}%",
    "points": lambda cell: f"{100 * cell.value:+.1f}",
    "change": _change,
    "relative": _relative,
}
