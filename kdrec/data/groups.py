"""Groups of items by popularity, and of users by activeness and consistency.

All are counted on the training pairs alone.
"""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

from kdrec.data.interactions import IntArray, Interactions
from kdrec.errors import UsageError

FloatArray = NDArray[np.float64]

log = logging.getLogger(__name__)


def popularity_groups(counts: IntArray, n_groups: int) -> IntArray:
    """Parts the items into groups of about equal popularity *sum*.

    The greedy rule of the published UnKD code. Items are taken by falling count, of equals the
    one with the lower index first (it was seen first). With `a = sum(counts) / n_groups`, an item
    that would lift the running sum above `a` closes the group without it and begins the next; an
    item that is above `a` by itself makes a group. What is left over at the end is a group if its
    sum is above `a / 2`, else it joins the last group.

    Departure: where the rule would make more than `n_groups` groups (the published code fails
    there), the surplus joins the last. It can make fewer, when a few items outweigh the rest.

    Args:
        counts: Training interactions of each item. Shape [n_items].
        n_groups: How many groups to aim at, K.

    Returns:
        The group of each item, 0 = most popular, -1 = never seen in training. Shape [n_items].

    Raises:
        UsageError: If `n_groups` is below 1.
    """
    if n_groups < 1:
        raise UsageError(
            f"The number of groups must be at least 1, got {n_groups}.",
            "Use K=4 for UnKD, evaluation.item_groups=2.",
        )
    groups = np.full(len(counts), -1, dtype=np.int64)
    order = np.argsort(-counts, kind="stable")
    order = order[counts[order] > 0]
    sums = np.cumsum(counts[order], dtype=np.int64)
    if not len(order):
        return groups
    total = int(sums[-1])
    starts = [0]
    while len(starts) <= n_groups:  # K steps, whatever the number of items
        base = int(sums[starts[-1] - 1]) if starts[-1] else 0
        # whole numbers: sum - base > total / K  <=>  sum > base + total // K
        end = int(np.searchsorted(sums, base + total // n_groups, side="right"))
        end = max(end, starts[-1] + 1)
        if end >= len(order):
            break
        starts.append(end)
    left_over = total - (int(sums[starts[-1] - 1]) if starts[-1] else 0)
    if len(starts) > 1 and 2 * n_groups * left_over <= total:
        starts.pop()
    starts = starts[:n_groups]
    sizes = np.diff([*starts, len(order)])
    groups[order] = np.repeat(np.arange(len(starts)), sizes)
    if len(starts) < n_groups:
        log.warning(
            "Only %d of %d groups of items could be made: %d items have training interactions.",
            len(starts), n_groups, len(order),
        )  # fmt: skip
    return groups


def random_groups(groups: IntArray, rng: np.random.Generator) -> IntArray:
    """Groups of the same sizes with random members: the control for grouping by popularity.

    Args:
        groups: A group for each item, -1 for none. Shape [n_items].
        rng: Where chance comes from.

    Returns:
        The same labels, permuted among the items that have one. Shape [n_items].
    """
    shuffled = groups.copy()
    grouped = groups >= 0
    shuffled[grouped] = rng.permutation(groups[grouped])
    return shuffled


def activeness(train: Interactions) -> FloatArray:
    """`a_u = |I_u+|`: the number of training pairs of each user. Shape [n_users]."""
    return train.user_counts().astype(np.float64)


def popular_items(counts: IntArray, mass: float) -> NDArray[np.bool_]:
    """The smallest set of items that covers the share `mass` of the training interactions.

    Args:
        counts: Training interactions of each item. Shape [n_items].
        mass: Share in (0, 1]; the item that crosses it is in the set. Of equally popular items the
            one with the lower index comes first.

    Raises:
        UsageError: If `mass` is outside (0, 1].
    """
    if not 0 < mass <= 1:
        raise UsageError(
            f"The mass of popular items must be above 0 and at most 1, got {mass}.",
            "Set evaluation.popular_mass=0.5.",
        )
    order = np.argsort(-counts, kind="stable")
    before = np.cumsum(counts[order]) - counts[order]
    popular = np.zeros(len(counts), dtype=np.bool_)
    popular[order] = (before < mass * counts.sum() - 1e-9) & (counts[order] > 0)
    return popular


def consistency(train: Interactions, mass: float) -> FloatArray:
    """`b_u = |I_u+ and Pop| / |I_u+|`: how much of a user's training pairs are popular items.

    `Pop` is `popular_items` for the share `mass`.

    Args:
        train: The training pairs.
        mass: Share of the interactions that the popular items cover, in (0, 1].

    Returns:
        A share for each user, NaN for users without a training pair. Shape [n_users].

    Raises:
        UsageError: If `mass` is outside (0, 1].
    """
    popular = popular_items(train.item_counts(), mass)
    hits = np.bincount(train.users[popular[train.items]], minlength=train.n_users)
    own = train.user_counts()
    shares = np.full(train.n_users, np.nan)
    np.divide(hits, own, out=shares, where=own > 0)
    return shares


def equal_user_bins(values: FloatArray, n_bins: int, users: IntArray) -> IntArray:
    """Parts users into bins of equal size by falling value; sizes differ by one at most.

    Ties are broken by a fixed hash of the user's index: neither the order of the file nor a seed
    decides.

    Args:
        values: A value for each user. Shape [n_users].
        n_bins: How many bins.
        users: The users to part, unique. Those whose value is NaN are in no bin.

    Returns:
        The bin of each user, 0 = highest values (head), `n_bins - 1` = lowest (tail), -1 = not
        parted. Shape [n_users].

    Raises:
        UsageError: If `n_bins` is below 1.
    """
    if n_bins < 1:
        raise UsageError(
            f"The number of user bins must be at least 1, got {n_bins}.",
            "Set evaluation.user_bins=5.",
        )
    bins = np.full(len(values), -1, dtype=np.int64)
    users = users[~np.isnan(values[users])]
    order = users[np.lexsort((_hash(users), -values[users]))]
    if len(order):
        bins[order] = np.arange(len(order)) * n_bins // len(order)
    return bins


def _hash(users: IntArray) -> NDArray[np.uint64]:
    """SplitMix64 of each index (Steele, Lea and Flood, 2014): a fixed, one-to-one scramble."""
    state = users.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
