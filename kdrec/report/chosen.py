"""Which finished runs a preset's rows are made of, and which are missing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from kdrec.artifacts import canonical
from kdrec.report.collect import Finished
from kdrec.report.entries import Block, Entry, Key, data_keys, labels_apart, on_validation
from kdrec.report.preset import Preset, RowSpec


@dataclass(frozen=True, slots=True, eq=False)
class Filled:
    """One row of a preset with its runs.

    Args:
        spec: What was asked for.
        entry: Its runs, which differ in seeds alone; None if there are none.
        expected: Runs that the preset's seeds ask for, 0 if it names no seeds.
        remarks: What a reader must know of the choice, a sentence each.
    """

    spec: RowSpec
    entry: Entry | None
    expected: int = 0
    remarks: Sequence[str] = ()

    def count(self) -> str:
        """`no runs`, `2 of 3 runs`, or "" if nothing is missing."""
        n = len(self.entry.runs) if self.entry is not None else 0
        if n and n >= self.expected:
            return ""
        return f"{n} of {self.expected} runs" if self.expected else "no runs"


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
    """

    dataset: str
    protocol: str
    student: str
    dim: int | None
    data: str
    rows: Sequence[Filled]
    candidates: Sequence[Finished] = field(repr=False, default=())

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


def fits(run: Finished, where: Mapping[str, Any]) -> bool:
    """Whether a run has these labels and settings; a list means any of its values."""
    return all(
        any(_equal(run.labels.get(key, run.settings.get(key)), one) for one in _several(wanted))
        for key, wanted in where.items()
    )


def _several(wanted: Any) -> Sequence[Any]:
    return wanted if isinstance(wanted, list | tuple) else [wanted]


def _equal(found: Any, wanted: Any) -> bool:
    if isinstance(found, bool) or isinstance(wanted, bool):
        return found is wanted
    return bool(found == wanted)


def belongs(run: Finished, spec: RowSpec, student: str) -> bool:
    """Whether a run is one of a row's, in a cohort with students of this model."""
    where = dict(spec.where)
    if run.labels["role"] != where.pop("role", "student"):
        return False
    if where.get("teacher") == "any":
        del where["teacher"]
    elif "teacher" not in where and not (spec.is_teacher and "model" in where):
        where["teacher"] = ["", student]
    return (spec.is_teacher or run.labels["model"] == student) and fits(run, where)


def cohorts(runs: Sequence[Finished], preset: Preset, keys: Sequence[Key]) -> list[Cohort]:
    """A cohort for each data set, protocol and student of the preset, also without any run.

    Runs on other data of the same name (other filters, another file) or of another width are a
    cohort of their own. A run of which there are several evaluations is taken once, the newest
    that has all metrics.
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
            rows = [fill(one, student, students, teachers, preset) for one in preset.rows]
            candidates = [*teachers, *students]
            found.append(Cohort(dataset, protocol, student, dim, data, rows, candidates))
    return found


def _newest(runs: Sequence[Finished], keys: Sequence[Key]) -> list[Finished]:
    """Of each model the newest evaluation that has all metrics; `runs` are oldest first."""
    newest = {run.identity: run for run in runs if all(key in run.metrics for key in keys)}
    return list(newest.values())


def lacking(runs: Sequence[Finished], preset: Preset, keys: Sequence[Key]) -> list[str]:
    """A sentence for each run that would be in a row, had it been evaluated for it."""
    whole = {run.identity for run in _newest(runs, keys)}
    return [
        f"{run.folder} has no {_words(missing)}: kdrec evaluate run={run.identity[:8]} makes it."
        for run in {run.identity: run for run in runs}.values()
        if run.identity not in whole
        if run.labels["dataset"] in preset.datasets and run.labels["protocol"] in preset.protocols
        if any(belongs(run, row, student) for row in preset.rows for student in preset.students)
        if (missing := [key for key in keys if key not in run.metrics])
    ]


def _words(keys: Sequence[Key]) -> str:
    return ", ".join(" ".join([key[4], *([key[2]] if key[2] != "all" else [])]) for key in keys)


def fill(
    spec: RowSpec,
    student: str,
    students: Sequence[Finished],
    teachers: Sequence[Finished],
    preset: Preset,
) -> Filled:
    """The row's runs. Settings are never mixed.

    Where runs with unlike settings fit, those are taken that have most of the seeds asked for, and
    of several such the best on validation; a remark says so. Teachers are those that taught
    the students, if one of these had any.
    """
    if spec.is_teacher:
        taught = {str(run.labels.get("teacher_identity") or "") for run in students} - {""}
        fitting = [run for run in teachers if belongs(run, spec, student)]
        fitting = [run for run in fitting if run.identity in taught] or fitting
    else:
        fitting = [run for run in students if belongs(run, spec, student)]
    kinds: dict[str, list[Finished]] = defaultdict(list)
    for run in fitting:
        if _counts(run, preset):
            kinds[canonical([run.labels.get("teacher"), dict(run.settings)])].append(run)
    if not kinds:
        return Filled(spec, None, len(_seeds(spec, preset)))
    role = "teacher" if spec.is_teacher else "student"
    entries = [Entry(spec.name, role, members) for members in kinds.values()]
    best = max(entries, key=lambda one: (len(one.runs), on_validation(one)))
    asked = {
        (split, *seeds)
        for split in {run.labels.get("split_seed") for run in best.runs}
        for seeds in _seeds(spec, preset)
    }
    remarks = []
    if missing := asked - {(run.labels.get("split_seed"), *_own(run, preset)) for run in best.runs}:
        seeds = ", ".join(_seed_text(one[1:]) for one in sorted(missing, key=str))
        remarks.append(f"{spec.name}: {len(missing)} of {len(asked)} runs are missing ({seeds}).")
    if len(entries) > 1:
        names = labels_apart(spec.name, [one.runs[0] for one in entries])
        remarks.append(
            f"{spec.name}: runs with {len(entries)} unlike settings fit; shown is "
            f"{names[entries.index(best)]}, which has the most runs and, of such, the best "
            "validation."
        )
    return Filled(spec, best, len(asked), remarks)


def _counts(run: Finished, preset: Preset) -> bool:
    """Whether a run's seeds are among those asked for."""
    labels = run.labels
    of_teacher = preset.teacher_seeds is None or labels.get("teacher_seed") in (
        None, *preset.teacher_seeds
    )  # fmt: skip
    if labels["role"] == "teacher":
        return of_teacher
    return of_teacher and (preset.seeds is None or labels.get("seed") in preset.seeds)


def _seeds(spec: RowSpec, preset: Preset) -> list[tuple[Any, Any]]:
    """Student's and teacher's seeds that a row should have; none where the preset names none."""
    teachers: Sequence[Any] = preset.teacher_seeds or [None]
    if spec.is_teacher:
        return [(None, seed) for seed in preset.teacher_seeds or ()]
    if spec.where.get("method") == "none":
        teachers = [None]
    return list(product(preset.seeds or (), teachers))


def _own(run: Finished, preset: Preset) -> tuple[Any, Any]:
    """A run's seeds in the form of `_seeds`."""
    teacher = run.labels.get("teacher_seed") if preset.teacher_seeds else None
    return (None if run.labels["role"] == "teacher" else run.labels.get("seed")), teacher


def _seed_text(seeds: tuple[Any, Any]) -> str:
    names = zip(("seed", "teacher_seed"), seeds, strict=True)
    return " ".join(f"{name}={seed}" for name, seed in names if seed is not None)
