"""The runs of a preset's rows: which of several unlike settings are shown."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from kdrec.digests import canonical
from kdrec.report.collect import Finished
from kdrec.report.entries import Entry, labels_apart
from kdrec.report.preset import Preset, RowSpec

Foreseen = Callable[[str, str, str, str], Mapping[str, Any]]
"""The settings that a preset's own command gives to a run of this data set, student's model, method
and teacher (as the labels of a run name them), by dotted name; none where that cannot be said."""

_NAMED = 4
"""The most that a remark names one by one, of settings left out and of missing runs."""


def nothing_foreseen(*_: str) -> Mapping[str, Any]:
    """Stands for the preset's command where there is none."""
    return {}


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


def of_teacher(key: str) -> bool:
    """Whether a setting is the teacher's."""
    return key.startswith(("teacher.", "teacher_"))


def as_foreseen(run: Finished, student: str, free: set[str], foreseen: Foreseen) -> bool:
    """Whether a run's own settings are those of the preset's command.

    Args:
        run: A student, whose teacher's settings are not asked for here, or a teacher.
        student: Model of the cohort's students.
        free: Settings that the rows fix or vary themselves, and that are not compared.
        foreseen: The preset's command.
    """
    teaches = run.labels["role"] == "teacher"
    method = "none" if teaches else str(run.labels["method"])
    teacher = str(run.labels.get("teacher") or "")
    wanted = {
        key: value
        for key, value in foreseen(str(run.labels["dataset"]), student, method, teacher).items()
        if of_teacher(key) == teaches and key not in free and key != "student.dim"
    }
    return bool(wanted) and all(
        _equal(run.settings[key], value) for key, value in wanted.items() if key in run.settings
    )


def fill(
    specs: Sequence[RowSpec],
    student: str,
    students: Sequence[Finished],
    teachers: Sequence[Finished],
    preset: Preset,
    foreseen: Foreseen = nothing_foreseen,
) -> list[Filled]:
    """The rows' runs. Settings are never mixed, neither within a row nor along what is varied.

    Where runs with unlike settings fit, those are taken whose settings are the ones that the
    preset's command gives (what the row fixes or varies itself is not asked), then those with the
    most runs; a remark says which and what is left out. How good the runs are never counts: that
    would favour what was tried most often. The settings behind varied rows are chosen once for
    all of them. Teachers are those that taught the students, if one of these had any.
    """
    found: dict[int, Filled] = {}
    together: dict[tuple[str, str], list[int]] = defaultdict(list)
    for place, spec in enumerate(specs):
        together[spec.series, spec.varied].append(place)
    taught = {str(run.labels.get("teacher_identity") or "") for run in students} - {""}
    for (series, varied), places in together.items():
        fitting: dict[int, list[Finished]] = {}
        for place in places:
            runs = teachers if specs[place].is_teacher else students
            own = [run for run in runs if belongs(run, specs[place], student)]
            if specs[place].is_teacher:
                own = [run for run in own if run.identity in taught] or own
            fitting[place] = [run for run in own if counts(run, preset)]
        free = {varied, *(key for place in places for key in specs[place].where)}
        every = [run for place in places for run in fitting[place]]
        kept, said = _chosen(series, every, student, varied, free, foreseen)
        for place in places:
            own = [run for run in fitting[place] if run in kept]
            # what is varied may bring other settings with it: another model has other options
            own, more = _chosen(specs[place].name, own, student, "", free, foreseen)
            found[place] = _filled(specs[place], own, [*said, *more], preset)
            said = []
    return [found[place] for place in range(len(specs))]


def _chosen(
    name: str,
    runs: Sequence[Finished],
    student: str,
    varied: str,
    free: set[str],
    foreseen: Foreseen,
) -> tuple[list[Finished], list[str]]:
    """The runs with one kind of settings, what is varied aside, and what to say of the choice."""
    kinds: dict[str, list[Finished]] = defaultdict(list)
    for run in runs:
        kinds[canonical(_kind(run, varied))].append(run)
    if len(kinds) < 2:
        return list(runs), []
    members = [kinds[key] for key in sorted(kinds)]
    likes = [as_foreseen(one[0], student, free, foreseen) for one in members]
    best = max(range(len(members)), key=lambda at: (likes[at], len(members[at]), -at))
    rivals = [one for one, like in zip(members, likes, strict=True) if like == likes[best]]
    why = "whose settings the preset's command gives" if likes[best] else ""
    if len(rivals) > 1:
        most = sum(len(one) == len(members[best]) for one in rivals) == 1
        first = "which has the most runs" if most else "the first of those with the most runs"
        why = f"{why} and {first}" if why else first
    names = labels_apart(name, [_without(one[0], varied) for one in members])
    others = [
        f"{label} ({_runs(len(one))})"
        for at, (label, one) in enumerate(zip(names, members, strict=True))
        if at != best
    ]
    told = "; ".join(others)
    if len(others) > _NAMED:  # a search has been here
        told = f"{len(others)} others ({_runs(len(runs) - len(members[best]))})"
    remark = (
        f"{name}: runs with {len(members)} unlike settings fit; shown is {names[best]}, {why}. "
        f"Left out: {told}."
    )
    return members[best], [remark]


def _kind(run: Finished, varied: str) -> list[Any]:
    """What is alike in runs that differ by what is varied, and by their seeds."""
    if varied == "teacher":
        return ["", {key: value for key, value in run.settings.items() if not of_teacher(key)}]
    return [run.labels.get("teacher"), dict(_without(run, varied).settings)]


def _without(run: Finished, varied: str) -> Finished:
    if varied not in run.settings:
        return run
    return replace(run, settings={k: v for k, v in run.settings.items() if k != varied})


def _filled(
    spec: RowSpec, runs: Sequence[Finished], remarks: Sequence[str], preset: Preset
) -> Filled:
    """The row, with a remark on the runs that it should have and has not."""
    if not runs:
        return Filled(spec, None, len(_seeds(spec, preset)), remarks)
    asked = {
        (split, *seeds)
        for split in {run.labels.get("split_seed") for run in runs}
        for seeds in _seeds(spec, preset)
    }
    missing = asked - {(run.labels.get("split_seed"), *_own(run, preset)) for run in runs}
    if missing:
        named = [_seed_text(one[1:]) for one in sorted(missing, key=str)]
        seeds = ", ".join(named[:_NAMED])
        seeds += f", {len(named) - _NAMED} more" if len(named) > _NAMED else ""
        lacks = f"{spec.name}: {len(missing)} of {len(asked)} runs are missing ({seeds})."
        remarks = [lacks, *remarks]
    role = "teacher" if spec.is_teacher else "student"
    return Filled(spec, Entry(spec.name, role, runs), len(asked), remarks)


def _runs(n: int) -> str:
    return "1 run" if n == 1 else f"{n} runs"


def counts(run: Finished, preset: Preset) -> bool:
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
