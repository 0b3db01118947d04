"""Which runs are one row (they differ in seeds alone), and which rows may share a table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kdrec.artifacts import setting_text
from kdrec.digests import canonical, digest
from kdrec.evaluation.significance import over_seeds
from kdrec.report.collect import Finished

Key = tuple[str, str, str, str, str]
_SHORT = {"method.n_groups": "K"}
_ABSENT = object()


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One row: a model, or a method with its settings, over its seeds.

    Args:
        label: Its name within the block.
        role: `teacher` or `student`.
        runs: The runs, which differ in seeds alone.
    """

    label: str
    role: str
    runs: Sequence[Finished]

    @property
    def method(self) -> str:
        """Name of the method, "" for a teacher."""
        return str(self.runs[0].labels["method"])

    def over_runs(self, key: Key) -> tuple[float, float, int]:
        """Mean, deviation and number of one metric's values."""
        return over_seeds([run.metrics[key] for run in self.runs if key in run.metrics])


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Rows that are alike in all that must be alike: data, protocol, evaluation, student.

    Args:
        dataset: Name of the data set.
        protocol: Name of the protocol.
        student: Model of the students, "" where there are teachers alone.
        dim: Its width.
        data: Digest of what determined the split.
        evaluation: Digest of the evaluation.
        entries: Teachers first, then `none`, then the methods.
    """

    dataset: str
    protocol: str
    student: str
    dim: int | None
    data: str
    evaluation: str
    entries: Sequence[Entry]

    @property
    def students(self) -> list[Entry]:
        """The rows that are compared with each other."""
        return [entry for entry in self.entries if entry.role == "student"]

    def baseline(self) -> Entry | None:
        """The student without a method.

        Where there are several, with unlike settings, it is the one that is best on validation.
        """
        alone = [entry for entry in self.students if entry.method == "none"]
        return max(alone, key=on_validation, default=None)

    def teacher_of(self, entry: Entry) -> Entry | None:
        """The row that holds the teachers of these students, if all of them are in it.

        Students without a method have none; they are held against the block's teacher if it has
        just one row of them.
        """
        teachers = [other for other in self.entries if other.role == "teacher"]
        if entry.method == "none":
            return teachers[0] if len(teachers) == 1 else None
        wanted = {run.labels.get("teacher_identity") for run in entry.runs}
        fitting = (one for one in teachers if wanted <= {run.identity for run in one.runs})
        return next(fitting, None)


def judged_by(key: Key) -> tuple[bool, int]:
    """Sorts metrics by how far they are from NDCG@20, which training stops on."""
    name, _, cutoff = key[4].partition("@")
    return (name != "ndcg", abs(int(cutoff or 0) - 20))


def on_validation(entry: Entry) -> tuple[float, int]:
    """Mean on validation of the metric nearest to what training stops on, and the runs."""
    keys = sorted({key for run in entry.runs for key in run.metrics if key[0] == "valid"})
    keys.sort(key=judged_by)
    return (entry.over_runs(keys[0])[0] if keys else 0.0, len(entry.runs))


def blocks(runs: Sequence[Finished]) -> list[Block]:
    """Parts the runs into blocks. A teacher is in every block whose students learnt from it."""
    surroundings: dict[tuple[Any, ...], list[Finished]] = defaultdict(list)
    for run, data in zip(runs, data_keys(runs), strict=True):
        surroundings[(run.labels["dataset"], run.labels["protocol"], data, run.evaluation)].append(
            run
        )
    found = []
    for (dataset, protocol, data, evaluation), alike in sorted(surroundings.items()):
        students: dict[tuple[str, int | None], list[Finished]] = defaultdict(list)
        teachers = [run for run in alike if run.labels["role"] == "teacher"]
        for run in alike:
            if run.labels["role"] != "teacher":
                students[(str(run.labels["model"]), run.labels.get("dim"))].append(run)
        used: set[str] = set()
        for (model, dim), members in sorted(students.items(), key=str):
            wanted = {str(run.labels.get("teacher_identity")) for run in members}
            own = [run for run in teachers if run.identity in wanted]
            own = own or ([] if any(w for w in wanted) else teachers)
            used |= {run.identity for run in own}
            rows = _entries([*own, *members])
            found.append(Block(dataset, protocol, model, dim, data, evaluation, rows))
        if rest := [run for run in teachers if run.identity not in used]:
            found.append(Block(dataset, protocol, "", None, data, evaluation, _entries(rest)))
    return found


def data_keys(runs: Sequence[Finished]) -> list[str]:
    """A key of each run's data.

    Splits that differ by their seed alone may be averaged; if one seed has two splits, something
    else differs, and the split itself is made part of the key.
    """
    splits: dict[tuple[str, Any], set[str]] = defaultdict(set)
    for run in runs:
        splits[(run.data, run.labels.get("split_seed"))].add(run.labels["split"])
    unlike = {data for (data, _), of_seed in splits.items() if len(of_seed) > 1}
    return [
        digest([run.data, run.labels["split"]]) if run.data in unlike else run.data for run in runs
    ]


def _entries(runs: Iterable[Finished]) -> list[Entry]:
    rows: dict[tuple[str, str, str], list[Finished]] = defaultdict(list)
    for run in runs:
        labels = run.labels
        name = f"teacher {labels['model']}" if labels["role"] == "teacher" else labels["method"]
        rows[(name, str(labels.get("teacher", "")), canonical(run.settings))].append(run)
    kin: dict[str, list[list[Finished]]] = defaultdict(list)
    for (name, _, _), members in rows.items():
        kin[name].append(members)
    entries = []
    for name, several in kin.items():
        names = labels_apart(name, [members[0] for members in several])
        for label, members in zip(names, several, strict=True):
            role = "teacher" if members[0].labels["role"] == "teacher" else "student"
            entries.append(Entry(label, role, members))
    return sorted(
        entries, key=lambda entry: (entry.role != "teacher", entry.method != "none", entry.label)
    )


def labels_apart(name: str, several: Sequence[Finished]) -> list[str]:
    """The name, and behind it the settings in which these runs differ."""
    settings = [_told_apart(run) for run in several]
    keys = sorted({key for one in settings for key in one}, key=_rank)
    differ = [
        key for key in keys if len({_comparable(one.get(key, _ABSENT)) for one in settings}) > 1
    ]
    return [
        " ".join(
            [name, *(f"{short_name(key)}={setting_text(one[key])}" for key in differ if key in one)]
        )
        for one in settings
    ]


def _comparable(value: object) -> str:
    """Canonical JSON, or a word that no JSON is for a value that is absent."""
    return "absent" if value is _ABSENT else canonical(value)


def _told_apart(run: Finished) -> Mapping[str, Any]:
    own = {} if run.labels["role"] == "teacher" else {"teacher": run.labels.get("teacher", "")}
    return {**own, **run.settings}


def _rank(key: str) -> tuple[int, str]:
    first = ("method.n_groups", "teacher", "fit.weight", "fit.lr", "fit.l2")
    return (first.index(key) if key in first else len(first), key)


def short_name(key: str) -> str:
    """`fit.lr` is `lr`, `method.n_groups` is `K`, `teacher_fit.lr` is `teacher_lr`."""
    if key in _SHORT:
        return _SHORT[key]
    head, _, tail = key.rpartition(".")
    return f"teacher_{tail}" if head.startswith("teacher") else tail
