"""Which finished runs a preset's rows are made of, and which are missing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import product

from kdrec.digests import canonical
from kdrec.report.collect import Finished
from kdrec.report.entries import Block, Key, data_keys, labels_apart
from kdrec.report.preset import Preset
from kdrec.report.rows import (
    Filled,
    Foreseen,
    as_foreseen,
    belongs,
    counts,
    fill,
    fits,
    nothing_foreseen,
    of_teacher,
)

_KEPT = "teacher_fit.checkpoints"
"""What is kept of a teacher's training changes nothing in what it has learnt."""


@dataclass(frozen=True, slots=True, eq=False)
class Cohort:
    """The rows of one data set, protocol and student: what may be compared.

    Args:
        dataset: Name of the data set.
        protocol: Name of the protocol.
        student: Model of the students.
        dim: Their width, None if there are no runs.
        data: Key of the split.
        rows: The preset's rows, in its order.
        candidates: All runs of this cohort that may be in a row.
        foreseen: The settings that the preset's command gives.
    """

    dataset: str
    protocol: str
    student: str
    dim: int | None
    data: str
    rows: Sequence[Filled]
    candidates: Sequence[Finished] = field(repr=False, default=())
    foreseen: Foreseen = nothing_foreseen

    @property
    def title(self) -> str:
        """Data set, protocol, student."""
        width = f", dim {self.dim}" if self.dim is not None else ""
        return f"{self.dataset} · protocol {self.protocol} · student {self.student}{width}"

    def block(self) -> Block:
        """As the files of a report name it."""
        entries = [row.entry for row in self.rows if row.entry is not None]
        return Block(self.dataset, self.protocol, self.student, self.dim, self.data, "", entries)

    def row(self, name: str) -> Filled:
        """The row of this name."""
        return next(row for row in self.rows if row.spec.name == name)


def cohorts(
    runs: Sequence[Finished],
    preset: Preset,
    keys: Sequence[Key],
    foreseen: Foreseen = nothing_foreseen,
) -> list[Cohort]:
    """A cohort for each data set, protocol and student of the preset, also without any run.

    Runs on other data of the same name (other filters, another file) or of another width are a
    cohort of their own, and the students of one teacher's name have learnt from it with one kind
    of settings. A run of which there are several evaluations is taken once, the newest that has
    all metrics.
    """
    usable = _newest(runs, keys)
    keyed = list(zip(usable, data_keys(usable), strict=True))
    found = []
    for dataset, protocol, student in product(preset.datasets, preset.protocols, preset.students):
        here = [
            (run, data)
            for run, data in keyed
            if (run.labels["dataset"], run.labels["protocol"]) == (dataset, protocol)
        ]
        mine = [
            (run, data)
            for run, data in here
            if run.labels["role"] == "student" and fits(run, preset.where)
            if any(belongs(run, row, student) for row in preset.rows)
        ]
        kinds = sorted({(data, run.labels.get("dim")) for run, data in mine}, key=str)
        for data, dim in kinds or [("", None)]:
            students = [run for run, its in mine if (its, run.labels.get("dim")) == (data, dim)]
            teachers = [
                run for run, its in here if run.labels["role"] == "teacher" and data in ("", its)
            ]
            alike: Sequence[Finished] = students
            remarks: Sequence[str] = ()
            if preset.table != "teachers":  # where each teacher is a line of its own
                alike, remarks = of_one_teacher(students, student, preset, foreseen)
            rows = fill(preset.rows, student, alike, teachers, preset, foreseen)
            if rows and remarks:
                rows[0] = replace(rows[0], remarks=[*remarks, *rows[0].remarks])
            candidates = [*teachers, *students]
            found.append(Cohort(dataset, protocol, student, dim, data, rows, candidates, foreseen))
    return found


def of_one_teacher(
    students: Sequence[Finished], student: str, preset: Preset, foreseen: Foreseen
) -> tuple[list[Finished], list[str]]:
    """Those who learnt from one kind of each teacher, and what to say of the others.

    Rows whose teachers had unlike settings would be compared by their teachers. The kind is the
    one that most rows have; of several such the one that the preset's command gives, then that
    with the most runs. Settings that a row fixes or varies itself are not compared.
    """
    free = {key for row in preset.rows for key in (row.varied, *row.where)} | {_KEPT}
    kinds: dict[str, dict[str, list[Finished]]] = defaultdict(lambda: defaultdict(list))
    for run in students:
        own = {key: value for key, value in run.settings.items() if of_teacher(key)}
        own = {key: value for key, value in own.items() if key not in free}
        kinds[str(run.labels.get("teacher") or "")][canonical(own)].append(run)
    kept, remarks = list(kinds.pop("", {}).values()), []
    for name, several in sorted(kinds.items()):
        members = [several[key] for key in sorted(several)]
        shared = [_n_rows(one, student, preset) for one in members]
        like = [as_foreseen(_teacher_alone(one[0]), student, free, foreseen) for one in members]
        best = max(
            range(len(members)), key=lambda at: (shared[at], like[at], len(members[at]), -at)
        )
        kept.append(members[best])
        if len(members) > 1:
            names = labels_apart(f"teacher {name}", [_teacher_alone(one[0]) for one in members])
            others = [f"{one} ({_rows(n)})" for one, n in zip(names, shared, strict=True)]
            del others[best]
            remarks.append(
                f"Students of teachers with {len(members)} unlike settings fit; all shown are "
                f"those of {names[best]} ({_rows(shared[best])}). Left out: {'; '.join(others)}."
            )
    chosen = {run.identity for one in kept for run in one}
    return [run for run in students if run.identity in chosen], remarks


def _n_rows(runs: Sequence[Finished], student: str, preset: Preset) -> int:
    """How many of the preset's rows have one of these runs."""
    return sum(
        any(counts(run, preset) and belongs(run, row, student) for run in runs)
        for row in preset.rows
    )


def _rows(n: int) -> str:
    return "1 row" if n == 1 else f"{n} rows"


def _teacher_alone(run: Finished) -> Finished:
    """A student's run as its teacher's, with the teacher's settings alone."""
    settings = {
        key: value for key, value in run.settings.items() if of_teacher(key) and key != _KEPT
    }
    return replace(run, labels={**run.labels, "role": "teacher"}, settings=settings)


def _newest(runs: Sequence[Finished], keys: Sequence[Key]) -> list[Finished]:
    """Of each model the newest evaluation that has all metrics; `runs` are oldest first."""
    newest = {run.identity: run for run in runs if all(key in run.metrics for key in keys)}
    return list(newest.values())


def lacking(runs: Sequence[Finished], preset: Preset, keys: Sequence[Key]) -> list[str]:
    """What runs lack that would be in a row, had they been evaluated for it, and how to do that."""
    whole = {run.identity for run in _newest(runs, keys)}
    kinds: dict[tuple[Key, ...], list[Finished]] = defaultdict(list)
    for run in {run.identity: run for run in runs}.values():
        if (
            run.identity not in whole
            and run.labels["dataset"] in preset.datasets
            and run.labels["protocol"] in preset.protocols
            and any(belongs(run, row, one) for row in preset.rows for one in preset.students)
            and (missing := tuple(key for key in keys if key not in run.metrics))
        ):
            kinds[missing].append(run)
    return [_how_to_evaluate(missing, several, keys) for missing, several in kinds.items()]


def _how_to_evaluate(missing: Sequence[Key], runs: Sequence[Finished], keys: Sequence[Key]) -> str:
    one = len(runs) == 1
    who = str(runs[0].folder) if one else f"{len(runs)} runs, such as {runs[0].folder},"
    had = [key for run in runs for key in run.metrics]
    cutoffs = sorted({int(key[4].partition("@")[2]) for key in (*had, *keys) if "@" in key[4]})
    numbered = [int(key[2]) for key in missing if key[1] == "items" and key[2].isdecimal()]
    groups = f" evaluation.item_groups={max(3, *numbered)}" if numbered else ""
    names = ",".join(run.identity[:8] for run in runs)
    return (
        f"{who} {'has' if one else 'have'} no {_words(missing)}: kdrec evaluate "
        f"{'' if one else '-m '}run={names} "
        f"'evaluation.cutoffs=[{','.join(map(str, cutoffs))}]'{groups} makes it."
    )


def _words(keys: Sequence[Key]) -> str:
    return ", ".join(" ".join([key[4], *([key[2]] if key[2] != "all" else [])]) for key in keys)
