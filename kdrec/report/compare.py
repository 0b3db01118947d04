"""Paired differences between two rows, user by user, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from kdrec.errors import StorageError
from kdrec.evaluation.significance import Intervals, paired_bootstrap
from kdrec.report.entries import Entry, Key
from kdrec.seeding import stream

PER_USER = "per_user.parquet"


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table: which value, and how it is written.

    Args:
        title: Its heading.
        key: Target, scope, group, form and metric of the value.
        kind: `score`, `share` or `number`.
        ranked: Whether more is better, so that the best is marked.
    """

    title: str
    key: Key
    kind: str = "score"
    ranked: bool = True


class PerUser:
    """Per-user values of rows, averaged over the runs of one split; read once.

    Args:
        problems: Gets a sentence for each file that cannot be read.
    """

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        self._frames: dict[int, pd.DataFrame | None] = {}
        self._kept: list[Entry] = []

    def frame(self, entry: Entry) -> pd.DataFrame | None:
        """Rows by (split, target, user), or None if a run's values are missing."""
        if id(entry) not in self._frames:
            self._kept.append(entry)  # so that no other entry gets this id
            self._frames[id(entry)] = self._read(entry)
        return self._frames[id(entry)]

    def _read(self, entry: Entry) -> pd.DataFrame | None:
        parts = []
        for run in entry.runs:
            path = run.folder / PER_USER
            try:
                part = pd.read_parquet(run.file(PER_USER))
                part = part.drop(columns="user_id", errors="ignore")
                parts.append(part.assign(split=run.labels["split"]))
            except StorageError as error:
                self.problems.append(f"{error.what} No interval for {entry.label}.")
                return None
            except (OSError, ValueError, KeyError) as error:
                self.problems.append(
                    f"{path} cannot be read ({error}): no interval for {entry.label}."
                )
                return None
        whole = pd.concat(parts, ignore_index=True)
        keys = ["split", "target", "user"]
        numbers = whole.columns.drop([*keys, "activeness", "consistency"], errors="ignore")
        bins = whole.columns.intersection(["activeness", "consistency"])
        grouped = whole.groupby(keys, sort=True)
        return grouped[list(numbers)].mean().join(grouped[list(bins)].first())


def values(frame: pd.DataFrame, key: Key) -> pd.Series | None:
    """One value a (split, user) whose mean the table shows; None if it is not a mean of users."""
    target, scope, group, form, metric = key
    name = f"{metric}|{group}" if scope == "items" else metric
    if name not in frame or target not in frame.index.get_level_values("target"):
        return None
    part = frame.xs(target, level="target")
    series = part[name]
    if scope in ("activeness", "consistency"):
        return series[part[scope] == group]
    return series.fillna(0.0) if form == "diluted" else series


def compare(
    first: pd.DataFrame,
    second: pd.DataFrame,
    columns: Sequence[Column],
    *,
    n_boot: int,
    level: float,
    seed: int,
) -> Intervals:
    """Intervals of `first - second` for each column, over the users of the splits they share.

    The same users are drawn for every column and every pair of rows.
    """
    differences = {}
    users = pd.Index([], dtype=np.int64)
    for number, column in enumerate(columns):
        ours, theirs = values(first, column.key), values(second, column.key)
        if ours is not None and theirs is not None:
            one = (ours - theirs.reindex(ours.index)).groupby(level="user").mean()
            differences[number] = one
            users = users.union(one.index)
    matrix = np.full((len(users), len(columns)), np.nan)
    for number, one in differences.items():
        matrix[:, number] = one.reindex(users).to_numpy(dtype=np.float64)
    return paired_bootstrap(matrix, n_boot=n_boot, level=level, rng=stream(seed, "bootstrap"))
