"""Ranking metrics, one value a user.

Each takes the hits of the lists, [n, k] with the best place first, and the number of relevant
items of each user, [n]; each returns [n], NaN for a user without a relevant item. The cut-off is
the width of `hits`. A group is a mask: keep only the group's hits and relevant items, and call
the same function.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from kdrec.data.interactions import IntArray
from kdrec.errors import KdrecError

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]


class Metric(Protocol):
    """Hits [n, k] and relevant items [n] to values [n]."""

    def __call__(self, hits: BoolArray, n_relevant: IntArray) -> FloatArray:
        """One value a user."""
        ...


def _per_user(total: NDArray[np.number], divisor: NDArray[np.number]) -> FloatArray:
    """`total / divisor`, NaN where the divisor is zero."""
    values = np.full(len(total), np.nan)
    np.divide(total, divisor, out=values, where=divisor > 0)
    return values


def _where_relevant(values: FloatArray, n_relevant: IntArray) -> FloatArray:
    return np.where(n_relevant > 0, values, np.nan).astype(np.float64)


def _check(hits: BoolArray, n_relevant: IntArray) -> None:
    if hits.ndim != 2 or n_relevant.shape != hits.shape[:1] or not hits.shape[1]:
        raise KdrecError(
            f"A metric needs hits [users, k] and relevant items [users], "
            f"got shapes {hits.shape} and {n_relevant.shape}."
        )
    if bool(np.any(hits.sum(axis=1) > n_relevant)):
        raise KdrecError("A user has more hits than relevant items; is an item listed twice?")


def recall(hits: BoolArray, n_relevant: IntArray) -> FloatArray:
    """`hits / relevant`, without `min(k, relevant)` in the divisor."""
    _check(hits, n_relevant)
    return _per_user(hits.sum(axis=1), n_relevant)


def precision(hits: BoolArray, n_relevant: IntArray) -> FloatArray:
    """`hits / k`, also where a user has fewer than k candidates."""
    _check(hits, n_relevant)
    return _where_relevant(hits.sum(axis=1) / hits.shape[1], n_relevant)


def hit_rate(hits: BoolArray, n_relevant: IntArray) -> FloatArray:
    """1 if there is a hit, else 0."""
    _check(hits, n_relevant)
    return _where_relevant((hits.sum(axis=1) > 0).astype(np.float64), n_relevant)


def ndcg(hits: BoolArray, n_relevant: IntArray) -> FloatArray:
    """`DCG / IDCG` with gain 1 and discount `1 / log2(place + 1)`.

    The ideal list has `min(k, relevant)` hits.
    """
    _check(hits, n_relevant)
    discount = 1.0 / np.log2(np.arange(2, hits.shape[1] + 2))
    ideal = np.concatenate([[0.0], np.cumsum(discount)])
    return _per_user(hits @ discount, ideal[np.minimum(n_relevant, hits.shape[1])])


def mrr(hits: BoolArray, n_relevant: IntArray) -> FloatArray:
    """`1 / place of the first hit`, 0 without a hit in the first k."""
    _check(hits, n_relevant)
    first = (hits.sum(axis=1) > 0) / (hits.argmax(axis=1) + 1.0)
    return _where_relevant(first, n_relevant)


def average_precision(hits: BoolArray, n_relevant: IntArray) -> FloatArray:
    """The mean over relevant items of the precision at their place, 0 beyond k.

    The divisor is the number of relevant items, as in trec_eval, not `min(k, relevant)`.
    """
    _check(hits, n_relevant)
    precisions = hits.cumsum(axis=1) / np.arange(1, hits.shape[1] + 1)
    return _per_user((precisions * hits).sum(axis=1), n_relevant)
