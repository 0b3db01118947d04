"""Whether a better teacher makes a better student: each teacher against its students' gain."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from kdrec.report.cells import Cell, Row, Table
from kdrec.report.chosen import Cohort
from kdrec.report.collect import Finished
from kdrec.report.compare import Column
from kdrec.report.entries import labels_apart
from kdrec.report.paired import Mean, per_seed
from kdrec.report.preset import Preset
from kdrec.report.rows import fill


@dataclass(frozen=True, slots=True)
class Taught:
    """One teacher and what one method made of it.

    Args:
        teacher: The teacher's label.
        method: Name of the row.
        quality: The teacher's value of each column.
        gain: For each column the student's gain over the preset's baseline, over its seeds.
        base: For each column the baseline.
        n_runs: Students' runs.
    """

    teacher: str
    method: str
    quality: Sequence[float]
    gain: Sequence[Mean]
    base: Sequence[float]
    n_runs: int


def taught(cohort: Cohort, preset: Preset) -> tuple[list[Taught], list[str]]:
    """A line for each teacher (also each teacher's seed) and method, the best teachers last.

    The remarks say which runs are missing, and which of several settings are shown.
    """
    teachers = {run.identity: run for run in cohort.candidates if run.labels["role"] == "teacher"}
    students: dict[str, list[Finished]] = defaultdict(list)
    for run in cohort.candidates:
        identity = str(run.labels.get("teacher_identity") or "")
        if run.labels["role"] == "student" and identity in teachers:
            students[identity].append(run)
    names = dict(zip(students, _names([teachers[identity] for identity in students]), strict=True))
    base = cohort.row(preset.baseline)
    specs = [
        row.spec
        for row in cohort.rows
        if row.spec.name != preset.baseline and not row.spec.is_teacher
    ]
    found, remarks = [], list(base.remarks)
    for identity, members in students.items():
        own = _of_one(preset, teachers[identity])
        for row in fill(specs, cohort.student, members, [], own, cohort.foreseen):
            remarks += [f"{names[identity]}: {remark}" for remark in row.remarks]
            if row.entry is None:
                continue
            gains, alone = [], []
            for column in preset.columns:
                ours, theirs = per_seed(row.entry, column.key), per_seed(base.entry, column.key)
                shared = sorted(set(ours) & set(theirs))
                gains.append(Mean.of([ours[seed] - theirs[seed] for seed in shared]))
                alone.append(Mean.of([theirs[seed] for seed in shared]).value)
            quality = [_value(teachers[identity], column) for column in preset.columns]
            n_runs = len(row.entry.runs)
            found.append(Taught(names[identity], row.spec.name, quality, gains, alone, n_runs))
    return sorted(found, key=lambda one: (one.quality, one.teacher, one.method)), remarks


def _of_one(preset: Preset, teacher: Finished) -> Preset:
    """The preset as it asks of one teacher's students, which have no other teacher's seeds."""
    asked = preset.teacher_seeds or ()
    its = [seed for seed in asked if seed == teacher.labels.get("teacher_seed")]
    return replace(preset, teacher_seeds=its) if its else preset


def _value(run: Finished, column: Column) -> float:
    return run.metrics.get(column.key, math.nan)


def _names(teachers: Sequence[Finished]) -> list[str]:
    """The teachers' models, with the settings and seeds in which they differ."""
    by_model: dict[str, list[Finished]] = defaultdict(list)
    for run in teachers:
        by_model[str(run.labels["model"])].append(run)
    named = {}
    for model, several in by_model.items():
        seeds = len({run.labels.get("seed") for run in several}) > 1
        for label, run in zip(labels_apart(model, several), several, strict=True):
            named[run.identity] = f"{label} seed={run.labels.get('seed')}" if seeds else label
    return [named[run.identity] for run in teachers]


def table(cohort: Cohort, preset: Preset) -> Table:
    """A row a teacher and method: the teacher's quality, the student's relative gain."""
    rows = []
    lines, remarks = taught(cohort, preset)
    for one in lines:
        cells = []
        for quality, gain, base in zip(one.quality, one.gain, one.base, strict=True):
            low, high = (end / base if base else math.nan for end in (gain.low, gain.high))
            value = gain.value / base if base else math.nan
            cells += [Cell(quality), Cell(value, "relative", low=low, high=high)]
        rows.append(Row(f"{one.teacher}: {one.method}", "student", one.n_runs, cells))
    columns = [
        title
        for column in preset.columns
        for title in (f"teacher's {column.title}", f"gain in {column.title}")
    ]
    keys = [column.key for column in preset.columns for _ in range(2)]
    absent = [row.spec.name for row in cohort.rows if row.entry is None]
    notes = [f"Gain: against {preset.baseline}, with the 95 % t interval over its seeds."]
    notes += remarks
    notes += [f"No runs of: {'; '.join(absent)}."] if absent else []
    title = preset.caption or "The teacher's quality and the student's gain"
    return Table(preset.name, title, columns, keys, rows, notes)
