"""The tables of one block of rows that may be compared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from kdrec.evaluation.significance import Intervals, holm
from kdrec.report.cells import DOWN, NOTHING, UP, Cell, Row, Table
from kdrec.report.compare import Column, PerUser, compare
from kdrec.report.entries import Block, Entry
from kdrec.report.layout import Layout

LEVEL = 0.95


class Builder:
    """Builds a block's tables.

    Args:
        block: The rows.
        per_user: Where per-user values come from.
        cutoff: Length of the lists.
        n_boot: Bootstrap resamples.
        seed: Seed of the bootstrap.
    """

    def __init__(
        self, block: Block, per_user: PerUser, *, cutoff: int, n_boot: int, seed: int
    ) -> None:
        self.block = block
        self.per_user = per_user
        self.n_boot, self.seed = n_boot, seed
        self.layout = Layout.of(block, cutoff)
        self.base = block.baseline()

    def tables(self) -> list[Table]:
        """All tables for which there are values."""
        layout = self.layout
        built = [
            self.plain("overall", "All users, all items", layout.overall()),
            self.plain(
                "item_groups",
                "Item groups of equal popularity mass",
                layout.item_groups("eligible"),
                "A group's value is the mean over the users with a test item in it (eligible).",
                layout.eligible_users(self.block),
            ),
            self.plain(
                "user_activeness",
                "Users by activeness, head to tail",
                layout.user_groups("activeness"),
                "Bins of equal user number by training interactions; head: the most active.",
            ),
            self.plain(
                "user_consistency",
                "Users by consistency on popular items, head to tail",
                layout.user_groups("consistency"),
                "Bins of equal user number by the popular share of their training items; "
                "head: the most consistent.",
            ),
            self.exposure(),
            self.plain(
                "unbiased",
                "Observed test beside the unbiased test, which knows the true affinity",
                layout.unbiased(),
            ),
            self.improvement(),
            self.change("none"),
            self.change("teacher"),
            self.plain(
                "item_groups_diluted",
                "Item groups, diluted form (only to compare with the UnKD paper)",
                layout.item_groups("diluted"),
                "The divisor is all test users, also those without a test item in the group.",
            ),
        ]
        return [table for table in built if table.rows and table.columns]

    def plain(self, name: str, title: str, columns: Sequence[Column], *notes: str) -> Table:
        """Means over runs, the best student marked, and what differs from `none`."""
        rows = [[_cell(entry, column) for column in columns] for entry in self.block.entries]
        _mark_best(rows, self.block.entries, columns)
        marks = self.marks(columns)
        done = [
            Row(
                entry.label,
                entry.role,
                len(entry.runs),
                [
                    replace(cell, p=p, mark=_mark(p, difference) if column.ranked else "")
                    for cell, column, (p, difference) in zip(
                        cells, columns, marks[entry.label], strict=True
                    )
                ],
            )
            for entry, cells in zip(self.block.entries, rows, strict=True)
            if any(math.isfinite(cell.value) for cell in cells)
        ]
        return _table(name, title, columns, done, *notes, marked=True)

    def against(self, entry: Entry, other: Entry | None, columns: Sequence[Column]) -> Intervals:
        """Intervals of a row's difference from another; NaN where there is nothing to compare."""
        ours = self.per_user.frame(entry)
        theirs = self.per_user.frame(other) if other is not None and other is not entry else None
        if ours is None or theirs is None:
            nothing = np.full(len(columns), np.nan)
            return Intervals(nothing, nothing, nothing, nothing, nothing)
        return compare(ours, theirs, columns, n_boot=self.n_boot, level=LEVEL, seed=self.seed)

    def marks(self, columns: Sequence[Column]) -> dict[str, list[tuple[float, float]]]:
        """For each row and column the p-value against `none`, adjusted, and the difference."""
        students = [entry for entry in self.block.students if entry is not self.base]
        intervals = [self.against(entry, self.base, columns) for entry in students]
        nothing = [(math.nan, math.nan)] * len(columns)
        marks = {entry.label: nothing for entry in self.block.entries}
        if students and columns:
            adjusted = np.apply_along_axis(holm, 0, np.stack([one.p for one in intervals]))
            for entry, p, one in zip(students, adjusted, intervals, strict=True):
                marks[entry.label] = [
                    (float(a), float(b)) for a, b in zip(p, one.mean, strict=True)
                ]
        return marks

    def exposure(self) -> Table:
        """Share of each item group in the lists, against its share in the test data."""
        columns = self.layout.exposure()
        k = self.layout.cutoff
        rows = []
        for label, metric in (
            ("(test data)", "share_in_test"),
            ("(best possible lists)", f"ideal_exposure@{k}"),
            ("(training data)", "share_in_train"),
        ):
            cells = [
                _cell(self.block.entries[0], replace(column, key=(*column.key[:4], metric)))
                if column.kind == "share" and column.key[4] == f"exposure@{k}"
                else Cell(math.nan)
                for column in columns
            ]
            rows.append(Row(label, "data", 0, [replace(cell, spread=math.nan) for cell in cells]))
        rows += [
            Row(entry.label, entry.role, len(entry.runs), [_cell(entry, one) for one in columns])
            for entry in self.block.entries
        ]
        return _table(
            "exposure",
            f"What the top {k} is made of",
            columns,
            rows,
            "Share of each item group in all recommended places; the first rows are its share in "
            "the data. cold: items never seen in training.",
            "popularity: mean training count of a recommended item; long tail: share outside "
            "the popular items; coverage: share of the catalogue that is recommended at all.",
        )

    def improvement(self) -> Table:
        """Relative to `none`, the form of the paper's Table 1."""
        columns = self.layout.headline()
        base = self.base
        students = [entry for entry in self.block.students if entry is not base]
        marks = self.marks(columns)
        rows = [
            Row(
                entry.label,
                entry.role,
                len(entry.runs),
                [
                    Cell(
                        _relative(entry.over_runs(column.key)[0], base.over_runs(column.key)[0]),
                        "percent",
                        p=p,
                        mark=_mark(p, difference),
                    )
                    for column, (p, difference) in zip(columns, marks[entry.label], strict=True)
                ],
            )
            for entry in students
            if base is not None
        ]
        return _table(
            "improvement",
            f"Relative improvement over the student alone ({base.label if base else ''})",
            columns,
            rows,
            "Change of the mean in percent of the student alone.",
            marked=True,
        )

    def change(self, against: str) -> Table:
        """Absolute change against `none` or the teacher, with interval and p."""
        columns = self.layout.headline()
        pairs = [
            (entry, self.base if against == "none" else self.block.teacher_of(entry))
            for entry in self.block.students
        ]
        pairs = [(one, other) for one, other in pairs if other is not None and other is not one]
        results = [self.against(one, other, columns) for one, other in pairs]
        rows = []
        if pairs and columns:
            adjusted = np.apply_along_axis(holm, 0, np.stack([one.p for one in results]))
            for (entry, _), one, p in zip(pairs, results, adjusted, strict=True):
                cells = [
                    Cell(float(mean), "change", low=float(low), high=float(high), p=float(own_p))
                    for mean, low, high, own_p in zip(one.mean, one.low, one.high, p, strict=True)
                ]
                cells = [replace(cell, mark=_mark(cell.p, cell.value)) for cell in cells]
                if any(math.isfinite(cell.value) for cell in cells):
                    rows.append(Row(entry.label, entry.role, len(entry.runs), cells))
        what = f"the student alone ({self.base.label})" if against == "none" and self.base else ""
        return _table(
            f"change_{against}",
            f"Change against {what or 'the teacher'}",
            columns,
            rows,
            f"[low, high]: {LEVEL:.0%} paired bootstrap interval over users ({self.n_boot:,} "
            "resamples), each user's values averaged over seeds first: it tells of other "
            f"users, not of other seeds. {UP} {DOWN}: p < .05, two-sided, Holm over the rows.",
        )

    def legend(self) -> str:
        """What emphasis and marks mean."""
        base = f" than {self.base.label}" if self.base is not None else " than none"
        return (
            "mean±standard deviation over runs, which differ in their seeds alone. "
            f"{UP} {DOWN}: significantly better, worse{base} (p < .05, paired bootstrap over "
            f"users, Holm over the methods). {NOTHING}: no value."
        )


def _table(
    name: str,
    title: str,
    columns: Sequence[Column],
    rows: Sequence[Row],
    *notes: str,
    marked: bool = False,
) -> Table:
    titles, keys = [column.title for column in columns], [column.key for column in columns]
    return Table(name, title, titles, keys, rows, notes, marked)


def _cell(entry: Entry, column: Column) -> Cell:
    mean, spread, n_runs = entry.over_runs(column.key)
    return Cell(mean, column.kind, spread, n_runs)


def _relative(value: float, base: float) -> float:
    return value / base - 1 if base else math.nan


def _mark(p: float, difference: float) -> str:
    if not p < 1 - LEVEL:
        return ""
    return UP if difference > 0 else DOWN


def _mark_best(rows: list[list[Cell]], entries: Sequence[Entry], columns: Sequence[Column]) -> None:
    """Marks the best student of each column, if there are at least two."""
    students = [number for number, entry in enumerate(entries) if entry.role == "student"]
    for at, column in enumerate(columns):
        known = [n for n in students if math.isfinite(rows[n][at].value)]
        if column.ranked and len(known) > 1:
            found = [rows[n][at].value for n in known]
            for n, value in zip(known, found, strict=True):
                best = value == max(found) > min(found)
                rows[n][at] = replace(rows[n][at], best=best)
