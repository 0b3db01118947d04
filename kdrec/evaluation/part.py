"""One target of an evaluation: its per-user columns, and the rows that sum them up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from kdrec.data.groups import popular_items, popularity_groups
from kdrec.data.interactions import IntArray, Interactions
from kdrec.data.stats import gini
from kdrec.evaluation import beyond
from kdrec.evaluation.metrics import BoolArray, FloatArray, Metric
from kdrec.evaluation.topk import TopK, hits

COLD = "cold"
Row = tuple[str, str, str, str, str, float, int]
Columns = Mapping[str, FloatArray | IntArray]


def group_names(n_groups: int) -> list[str]:
    """Names of item groups, the most popular first."""
    if n_groups == 2:
        return ["popular", "unpopular"]
    return [str(number + 1) for number in range(n_groups)]


def bin_names(n_bins: int) -> list[str]:
    """Names of user bins, the highest value first."""
    if n_bins == 1:
        return ["all"]
    return ["head", *(str(number) for number in range(2, n_bins)), "tail"]


@dataclass(frozen=True, slots=True, eq=False)
class Catalogue:
    """The items as training shows them.

    Args:
        counts: Training interactions of each item. Shape [n_items].
        groups: Group of each item; the last group is that of items never seen. Shape [n_items].
        names: Names of the groups.
        long_tail: Items outside the smallest set that covers the popular mass. Shape [n_items].
    """

    counts: IntArray
    groups: IntArray
    names: list[str]
    long_tail: BoolArray

    @classmethod
    def of(cls, train: Interactions, item_groups: int, popular_mass: float) -> Catalogue:
        """Groups the items by their training counts."""
        counts = train.item_counts()
        groups = popularity_groups(counts, item_groups)
        found = int(groups.max()) + 1
        return cls(
            counts,
            np.where(groups < 0, found, groups),
            [*group_names(found), COLD],
            ~popular_items(counts, popular_mass),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """The lists of one target's users, against that target.

    Args:
        name: Name of the target.
        target: Its pairs.
        lists: Lists of the users that have pairs, as long as the longest cut-off.
        catalogue: The items.
        metrics: Name to per-user function.
        cutoffs: Lengths of the list.
    """

    name: str
    target: Interactions
    lists: TopK
    catalogue: Catalogue
    metrics: Mapping[str, Metric]
    cutoffs: tuple[int, ...]

    def relevant(self) -> IntArray:
        """Relevant items of each user in each group. Shape [n, n_groups]."""
        n_groups = len(self.catalogue.names)
        rows = np.searchsorted(self.lists.users, self.target.users)
        cells = rows * n_groups + self.catalogue.groups[self.target.items]
        counts = np.bincount(cells, minlength=len(self.lists.users) * n_groups)
        return counts.reshape(-1, n_groups).astype(np.int64)

    def columns(self) -> dict[str, FloatArray | IntArray]:
        """Per-user values by name, in the order of `lists.users`."""
        found = hits(self.lists, self.target)
        relevant = self.relevant()
        columns: dict[str, FloatArray | IntArray] = {"n_relevant": relevant.sum(axis=1)}
        columns |= self._metric_columns(found, columns["n_relevant"], "")
        popularity = self.catalogue.counts.astype(np.float64)
        for k in self.cutoffs:
            items = self.lists.items[:, :k]
            columns[f"avg_popularity@{k}"] = beyond.list_mean(items, popularity)
            columns[f"long_tail@{k}"] = beyond.list_mean(
                items, self.catalogue.long_tail.astype(np.float64)
            )
        of_item = self.catalogue.groups[self.lists.items]
        for number, name in enumerate(self.catalogue.names):
            of_group = relevant[:, number]
            columns[f"n_relevant|{name}"] = of_group
            columns |= self._metric_columns(found & (of_item == number), of_group, f"|{name}")
        return columns

    def _metric_columns(
        self, found: BoolArray, n_relevant: IntArray | FloatArray, suffix: str
    ) -> dict[str, FloatArray]:
        return {
            f"{name}@{k}{suffix}": metric(found[:, :k], n_relevant.astype(np.int64))
            for name, metric in self.metrics.items()
            for k in self.cutoffs
        }

    def _labels(self) -> list[str]:
        return [f"{name}@{k}" for name in self.metrics for k in self.cutoffs]

    def overall(self, columns: Columns) -> Iterator[Row]:
        """Means over all users, and how many were evaluated and skipped."""
        n = len(self.lists.users)
        for label in self._labels():
            yield self.name, "all", "all", "", label, float(columns[label].mean()), n
        yield self.name, "all", "all", "", "users", float(n), n
        yield self.name, "all", "all", "", "users_skipped", float(self.target.n_users - n), n

    def by_item_group(self, columns: Columns) -> Iterator[Row]:
        """Means in both forms; `eligible` is left out of a group that no user has an item of.

        `eligible` averages over the users with a relevant item of the group; `diluted` divides
        the same sum by all users, as the published code of UnKD does.
        """
        n = len(self.lists.users)
        for group in self.catalogue.names:
            eligible = columns[f"n_relevant|{group}"] > 0
            count = int(eligible.sum())
            for label in self._labels():
                total = float(columns[f"{label}|{group}"][eligible].sum())
                if count:
                    yield self.name, "items", group, "eligible", label, total / count, count
                yield self.name, "items", group, "diluted", label, total / n, n

    def by_user_group(self, columns: Columns, scope: str, bins: IntArray, n_bins: int) -> list[Row]:
        """Means over the users of each bin; a bin without a user is left out."""
        return [
            (self.name, scope, name, "", label, float(columns[label][bins == number].mean()), count)
            for number, name in enumerate(bin_names(n_bins))
            if (count := int((bins == number).sum()))
            for label in self._labels()
        ]

    def beyond(self, columns: Columns) -> Iterator[Row]:
        """Exposure of the groups against their shares, and the lists' make-up."""
        n, names, groups = len(self.lists.users), self.catalogue.names, self.catalogue.groups
        relevant = self.relevant()
        n_items = len(groups)
        shares = {
            "share_in_test": relevant.sum(axis=0) / relevant.sum(),
            "share_in_train": np.bincount(groups, self.catalogue.counts, len(names))
            / self.catalogue.counts.sum(),
            "share_of_items": np.bincount(groups, minlength=len(names)) / n_items,
        }
        whole = {}
        for k in self.cutoffs:
            items = self.lists.items[:, :k]
            shares[f"exposure@{k}"] = beyond.exposure(items, groups, len(names))
            shares[f"ideal_exposure@{k}"] = beyond.ideal_exposure(relevant, k)
            times = beyond.recommended(items, n_items)
            whole[f"gini@{k}"] = gini(times)
            whole[f"coverage@{k}"] = float(np.count_nonzero(times)) / n_items
            for label in (f"avg_popularity@{k}", f"long_tail@{k}"):
                filled = columns[label][np.isfinite(columns[label])]
                whole[label] = float(filled.mean()) if len(filled) else 0.0
        for label, values in shares.items():
            for name, value in zip(names, values, strict=True):
                yield self.name, "beyond", name, "", label, float(value), n
        for label, value in whole.items():
            yield self.name, "beyond", "all", "", label, value, n
