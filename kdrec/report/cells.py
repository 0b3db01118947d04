"""What a table is made of, and how a number is written."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

NOTHING = "–"
UP, DOWN = "↑", "↓"


@dataclass(frozen=True, slots=True)
class Cell:
    """One number with what is known of it.

    Args:
        value: NaN if there is none.
        kind: How it is written: `score`, `share`, `number`, `percent`, `change`.
        spread: Standard deviation over runs, NaN for one run.
        n_runs: Runs it is the mean of.
        low: Lower end of an interval.
        high: Upper end.
        p: p-value against the comparison, adjusted.
        mark: `↑` or `↓` if it differs significantly from `none`.
        best: Whether it is the best of the students.
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

    def text(self) -> str:
        """The number as a table shows it, without emphasis."""
        return number(self) + self.mark


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
    value, spread = cell.value, cell.spread
    if not math.isfinite(value):
        return NOTHING
    if cell.kind == "change":
        known = math.isfinite(cell.low)
        return f"{value:+.4f}" + (f" [{cell.low:+.4f}, {cell.high:+.4f}]" if known else "")
    if cell.kind == "percent":
        return f"{100 * value:+.1f}%"
    if cell.kind == "share":
        return f"{100 * value:.1f}%"
    digits = 1 if cell.kind == "number" else 4
    text = f"{value:.{digits}f}"
    if not math.isfinite(spread):
        return text
    return f"{text}±{spread:.{digits}f}".replace("±0.", "±.")
