"""What the lists are made of, beside how accurate they are."""

from __future__ import annotations

import numpy as np

from kdrec.data.interactions import IntArray
from kdrec.evaluation.metrics import FloatArray


def list_mean(items: IntArray, values: FloatArray) -> FloatArray:
    """The mean of an item's property over each user's list; NaN for an empty list. [n].

    Args:
        items: Lists, -1 for an empty place. Shape [n, k].
        values: The property. Shape [n_items].
    """
    filled = items >= 0
    total = np.where(filled, values[items], 0.0).sum(axis=1)
    places = filled.sum(axis=1)
    means = np.full(len(items), np.nan)
    np.divide(total, places, out=means, where=places > 0)
    return means


def exposure(items: IntArray, groups: IntArray, n_groups: int) -> FloatArray:
    """Share of each group in all filled places of all lists. Shape [n_groups].

    Args:
        items: Lists, -1 for an empty place. Shape [n, k].
        groups: Group of each item, in `0..n_groups-1`. Shape [n_items].
        n_groups: Number of groups.
    """
    counts = np.bincount(groups[items[items >= 0]], minlength=n_groups)
    return counts / max(int(counts.sum()), 1)


def ideal_exposure(relevant: IntArray, k: int) -> FloatArray:
    """What `exposure` is for the best lists. Shape [n_groups].

    The best list of a user with n relevant items has `min(k, n)` places filled by them; of more
    than k, any k are as good, and the expected share is taken.

    Args:
        relevant: Relevant items of each user in each group. Shape [n, n_groups].
        k: Length of the lists.
    """
    total = relevant.sum(axis=1, keepdims=True)
    places = relevant * (np.minimum(total, k) / np.maximum(total, 1))
    share: FloatArray = places.sum(axis=0) / max(float(places.sum()), 1.0)
    return share


def recommended(items: IntArray, n_items: int) -> IntArray:
    """How often each item is in a list. Shape [n_items]."""
    return np.bincount(items[items >= 0], minlength=n_items).astype(np.int64)
