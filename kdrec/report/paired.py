"""A row's runs seed by seed, and its difference from a baseline with two kinds of doubt."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from kdrec.evaluation.significance import holm, t_interval
from kdrec.report.collect import Finished
from kdrec.report.compare import Column, PerUser, compare
from kdrec.report.entries import Entry, Key
from kdrec.report.verdict import Difference

LEVEL = 0.95
_UNKNOWN = Difference(math.nan, math.nan, math.nan, 0, math.nan, math.nan, math.nan)


@dataclass(frozen=True, slots=True)
class Mean:
    """A value over seeds.

    Args:
        value: Mean over seeds, NaN without any.
        low: Lower end of the 95 % t interval, NaN below two seeds.
        high: Upper end.
        n_seeds: How many.
    """

    value: float
    low: float
    high: float
    n_seeds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Mean:
        """Of one value a seed."""
        if not values:
            return cls(math.nan, math.nan, math.nan, 0)
        return cls(float(np.mean(values)), *t_interval(values, level=LEVEL), len(values))


def _seed(run: Finished) -> tuple[str, str]:
    return str(run.labels.get("split_seed")), str(run.labels.get("seed"))


def per_seed(entry: Entry | None, key: Key) -> dict[tuple[str, str], float]:
    """One value a (split seed, seed) of the student, the mean over its teachers' seeds."""
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for run in entry.runs if entry is not None else ():
        if key in run.metrics:
            found[_seed(run)].append(run.metrics[key])
    return {seed: float(np.mean(values)) for seed, values in sorted(found.items())}


def mean(entry: Entry | None, key: Key) -> Mean:
    """The row's value over seeds."""
    return Mean.of(list(per_seed(entry, key).values()))


class Against:
    """Rows against a baseline: `preset.baseline`, by default the student alone.

    Args:
        base: The baseline, None if it has no runs.
        columns: The values that are compared.
        per_user: Where the users' values come from.
        n_boot: Bootstrap resamples.
        seed: Seed of the bootstrap.
    """

    def __init__(
        self,
        base: Entry | None,
        columns: Sequence[Column],
        per_user: PerUser,
        *,
        n_boot: int,
        seed: int,
    ) -> None:
        self.base, self.columns, self.per_user = base, columns, per_user
        self.n_boot, self.seed = n_boot, seed

    def differences(self, entries: Sequence[Entry | None]) -> list[list[Difference]]:
        """For each row a difference a column; p-values are Holm's over the rows."""
        raw = [self.one(entry) for entry in entries]
        if not raw:
            return []
        p = np.array([[one.p for one in row] for row in raw], dtype=np.float64)
        adjusted = np.apply_along_axis(holm, 0, p) if p.size else p
        return [
            [replace(one, p=float(q)) for one, q in zip(row, of_row, strict=True)]
            for row, of_row in zip(raw, adjusted, strict=True)
        ]

    def one(self, entry: Entry | None) -> list[Difference]:
        """One row's differences, over the seeds that both have; p-values as they are."""
        if entry is None or self.base is None or entry is self.base:
            return [_UNKNOWN] * len(self.columns)
        shared = {_seed(run) for run in entry.runs} & {_seed(run) for run in self.base.runs}
        ours, theirs = (_only(one, shared) for one in (entry, self.base))
        if ours is None or theirs is None:
            return [_UNKNOWN] * len(self.columns)
        first, second = self.per_user.frame(ours), self.per_user.frame(theirs)
        users = p = np.full(len(self.columns), np.nan)
        if first is not None and second is not None:
            found = compare(
                first, second, self.columns, n_boot=self.n_boot, level=LEVEL, seed=self.seed
            )
            users, p = found.mean, found.p
        return [
            _difference(
                per_seed(ours, column.key), per_seed(theirs, column.key), float(u), float(q)
            )
            for column, u, q in zip(self.columns, users, p, strict=True)
        ]


def _only(entry: Entry, seeds: set[tuple[str, str]]) -> Entry | None:
    """The entry with its runs of these seeds, the very same if that is all of them."""
    runs = [run for run in entry.runs if _seed(run) in seeds]
    if len(runs) == len(entry.runs):
        return entry
    return Entry(entry.label, entry.role, runs) if runs else None


def _difference(
    ours: dict[tuple[str, str], float], theirs: dict[tuple[str, str], float], users: float, p: float
) -> Difference:
    shared = sorted(set(ours) & set(theirs))
    if not shared:
        return _UNKNOWN
    change = Mean.of([ours[seed] - theirs[seed] for seed in shared])
    base = float(np.mean([theirs[seed] for seed in shared]))
    return Difference(change.value, change.low, change.high, change.n_seeds, base, users, p)
