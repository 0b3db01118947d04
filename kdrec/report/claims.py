"""Ours beside the paper's: a row a method, and whether its claim holds."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from kdrec.report.cells import DOWN, UP, Cell, Row, Table
from kdrec.report.chosen import Cohort
from kdrec.report.compare import PerUser
from kdrec.report.entries import Key
from kdrec.report.paired import Against, Mean, mean
from kdrec.report.preset import Preset
from kdrec.report.published import Published
from kdrec.report.rows import Filled
from kdrec.report.verdict import ALPHA, FEWEST_SEEDS, VERDICTS, Difference, significant, verdict

_OURS = (
    "± half of the 95 % t interval of the mean over seeds, each seed's value averaged over the "
    "teachers' seeds. Change: against {base}, over the seeds that both have, with the 95 % t "
    "interval of the per-seed differences. ↑ ↓: significant, that is p < .05 (paired bootstrap "
    "over users, Holm over the rows) and, from {fewest} shared seeds on, an interval over seeds "
    "without zero."
)
_CLAIM = (
    "Verdict on the sign of the paper's change. No difference: ours has another sign, and is not "
    "significant; opposite: another sign, and significant."
)


@dataclass(frozen=True, slots=True)
class Compared:
    """One number of ours with all that is known of it.

    Args:
        ours: Mean over seeds.
        change: Against the preset's baseline, by default the student alone.
        paper: The paper's number, NaN if it has none.
        claimed: The paper's relative change, NaN if it has none.
        verdict: What ours says to it, "" if there is nothing to say.
    """

    ours: Mean
    change: Difference
    paper: float
    claimed: float
    verdict: str


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """A cohort's rows against its baseline and the paper.

    Args:
        cohort: The rows.
        preset: What was asked for.
        lines: For each row a number a column.
    """

    cohort: Cohort
    preset: Preset
    lines: Sequence[Sequence[Compared]]

    @classmethod
    def of(
        cls,
        cohort: Cohort,
        preset: Preset,
        published: Published,
        per_user: PerUser,
        *,
        n_boot: int,
        seed: int,
    ) -> Comparison:
        """Compares each row but the teachers', whose seeds are not the students'."""
        base = cohort.row(preset.baseline)
        against = Against(base.entry, preset.columns, per_user, n_boot=n_boot, seed=seed)
        # A teacher's seed pairs with no student's: its line has no change.
        entries = [None if row.spec.is_teacher else row.entry for row in cohort.rows]
        changes = against.differences(entries)
        lines = []
        for row, own in zip(cohort.rows, changes, strict=True):
            line = []
            for column, change in zip(preset.columns, own, strict=True):
                paper, absolute, relative = _of_paper(published, cohort, row, base, column.key)
                if row is base or row.spec.is_teacher:
                    absolute = relative = math.nan
                said = verdict(absolute, change)
                ours = mean(row.entry, column.key)
                line.append(Compared(ours, change, paper, relative, said))
            lines.append(line)
        return cls(cohort, preset, lines)

    def tables(self) -> list[Table]:
        """For each metric ours, the paper's, the changes and the verdict."""
        remarks = [remark for row in self.cohort.rows for remark in row.remarks]
        absent = [row.spec.name for row in self.cohort.rows if row.entry is None]
        remarks += [f"No runs of: {'; '.join(absent)}."] if absent else []
        tables = []
        for number, column in enumerate(self.preset.columns):
            own = [line[number] for line in self.lines]
            told = any(math.isfinite(one.paper) for one in own)
            claimed = any(math.isfinite(one.claimed) for one in own)
            kinds = [column.title, *["paper"] * told, "change"]
            kinds += ["paper's change", "verdict"] * claimed
            rows = [
                Row(
                    row.spec.name,
                    "teacher" if row.spec.is_teacher else "student",
                    len(row.entry.runs) if row.entry is not None else 0,
                    _cells(row, one, told=told, claimed=claimed),
                )
                for row, one in zip(self.cohort.rows, own, strict=True)
            ]
            name = f"{self.preset.name}_{column.title.replace(' ', '_').replace('@', '_')}"
            title = ": ".join(filter(None, [self.preset.caption, column.title]))
            keys = [column.key] * len(kinds)
            notes = remarks if number == len(self.preset.columns) - 1 else ()
            tables.append(Table(name, title, kinds, keys, rows, notes, marked=True))
        return tables

    def verdicts(self) -> Counter[str]:
        """How often each verdict was given."""
        return Counter(one.verdict for line in self.lines for one in line if one.verdict)


def legend(preset: Preset, published: Published) -> str:
    """What the tables' signs mean, and which paper it is."""
    text = _OURS.format(base=preset.baseline, fewest=FEWEST_SEEDS)
    return f"{text} {_CLAIM} Paper: {published.source}" if published.source else text


def too_few(preset: Preset, n_boot: int) -> str:
    """A warning if no p-value can fall below 5 %: the least of a bootstrap, times the rows."""
    rows = sum(1 for row in preset.rows if row.name != preset.baseline and not row.is_teacher)
    if 2 / (1 + n_boot) * rows < ALPHA:
        return ""
    needed = -(-2 * rows * 100 // int(100 * ALPHA))
    return (
        f"with {n_boot} bootstrap samples and {rows} rows nothing can be significant: "
        f"use --n-boot {needed} or more"
    )


def counted(verdicts: Counter[str]) -> str:
    """`verdicts: 3 same sign and significant, 1 opposite`, or "" without any."""
    told = [f"{verdicts[name]} {name}" for name in VERDICTS if verdicts[name]]
    return f"verdicts: {', '.join(told)}" if told else ""


def _of_paper(
    published: Published, cohort: Cohort, row: Filled, base: Filled, key: Key
) -> tuple[float, float, float]:
    """The paper's number and its change against its own baseline, absolute and relative."""
    value, other = (
        published.value(cohort.dataset, cohort.student, one.spec.paper, key) for one in (row, base)
    )
    return value, value - other, (value - other) / other if other else math.nan


def _cells(row: Filled, one: Compared, *, told: bool, claimed: bool) -> list[Cell]:
    """One row's cells: with the paper's number and claim if any row has one."""
    ours, change = one.ours, one.change
    own = Cell(
        ours.value, "mean", n_runs=ours.n_seeds, low=ours.low, high=ours.high, words=row.count()
    )
    changed = Cell(
        change.relative(change.value), "relative", n_runs=change.n_seeds, p=change.p,
        low=change.relative(change.low), high=change.relative(change.high),
        mark=(UP if change.value > 0 else DOWN) if significant(change) else "",
    )  # fmt: skip
    claim = [Cell(one.claimed, "percent"), Cell(math.nan, words=one.verdict)]
    return [own, *[Cell(one.paper)] * told, changed, *claim * claimed]
