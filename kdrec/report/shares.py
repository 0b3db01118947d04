"""How much of the lists the popular items are, against the ideal: the paper's Figure 1."""

from __future__ import annotations

import math

from kdrec.report.cells import Cell, Row, Table
from kdrec.report.chosen import Cohort
from kdrec.report.entries import Key
from kdrec.report.paired import Mean, mean
from kdrec.report.preset import Preset

GROUP = "popular"
IDEAL = "best possible lists"


def keys(preset: Preset) -> list[Key]:
    """What runs must have to be in such a table."""
    return [_key(f"exposure@{preset.cutoff}"), _key(f"ideal_exposure@{preset.cutoff}")]


def _key(metric: str) -> Key:
    return ("test", "beyond", GROUP, "", metric)


def ideal(cohort: Cohort, preset: Preset) -> float:
    """The popular items' share of the best possible lists; NaN without any run.

    The best list of a user with n test items has `min(k, n)` places filled with them.
    """
    return _of_data(cohort, f"ideal_exposure@{preset.cutoff}")


def _of_data(cohort: Cohort, metric: str) -> float:
    found = (mean(row.entry, _key(metric)).value for row in cohort.rows)
    return next((value for value in found if math.isfinite(value)), math.nan)


def shares(cohort: Cohort, preset: Preset) -> list[Mean]:
    """The popular items' share of each row's lists, over seeds."""
    return [mean(row.entry, _key(f"exposure@{preset.cutoff}")) for row in cohort.rows]


def table(cohort: Cohort, preset: Preset) -> Table:
    """The share of each row, and how far it is from the ideal."""
    best = ideal(cohort, preset)
    facts = ((IDEAL, best), ("test data", _of_data(cohort, "share_in_test")),
             ("training data", _of_data(cohort, "share_in_train")))  # fmt: skip
    rows = [
        Row(f"({label})", "data", 0, [Cell(value, "share"), Cell(value - best, "points")])
        for label, value in facts
    ]
    for row, share in zip(cohort.rows, shares(cohort, preset), strict=True):
        cells = [
            Cell(share.value, "mean_share", n_runs=share.n_seeds, low=share.low,
                 high=share.high, words=row.count()),
            Cell(share.value - best, "points"),
        ]  # fmt: skip
        role = "teacher" if row.spec.is_teacher else "student"
        n_runs = len(row.entry.runs) if row.entry is not None else 0
        rows.append(Row(row.spec.name, role, n_runs, cells))
    columns = [f"{GROUP} items in the top {preset.cutoff}", "less the ideal"]
    notes = [
        "Popular: the most popular items that together have half of the training interactions.",
        "Less the ideal: in percentage points.",
        *(remark for row in cohort.rows for remark in row.remarks),
    ]
    title = preset.caption or "Share of the popular items in the lists"
    both = [_key(f"exposure@{preset.cutoff}")] * 2
    return Table(preset.name, title, columns, both, rows, notes)
