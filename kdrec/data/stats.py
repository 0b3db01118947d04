"""The statistics table of a data set and its split."""

from __future__ import annotations

import numpy as np

from kdrec.data.interactions import IntArray, Split


def gini(counts: IntArray) -> float:
    """Gini coefficient of non-negative counts: 0 all equal, towards 1 all in one.

    `G = sum_k (2k - n - 1) c_(k) / (n sum c)` with the counts in ascending order, k from 1.
    """
    total = int(counts.sum())
    n = len(counts)
    if not total:
        return 0.0
    weights = 2 * np.arange(1, n + 1) - n - 1
    return float((weights * np.sort(counts)).sum() / (n * total))


def top_share(counts: IntArray, share: float) -> float:
    """Part of the sum that the largest `share` of the counts hold (at least one of them)."""
    total = int(counts.sum())
    n_top = max(1, round(share * len(counts)))
    return float(np.sort(counts)[::-1][:n_top].sum() / total) if total else 0.0


def describe(split: Split) -> dict[str, object]:
    """Numbers of users, items and interactions, density, parts, means and skew.

    `density` is interactions / (users x items). Means, Gini and the share of the top items are
    over the interactions of all three parts; `*_without_training` count users and items that no
    training pair names.
    """
    parts = {"train": split.train, "valid": split.valid, "test": split.test}
    users = sum((part.user_counts() for part in parts.values()), np.zeros(split.n_users, np.int64))
    items = sum((part.item_counts() for part in parts.values()), np.zeros(split.n_items, np.int64))
    total = int(users.sum())
    table: dict[str, object] = {
        "users": split.n_users,
        "items": split.n_items,
        "interactions": total,
        "density": total / (split.n_users * split.n_items),
    }
    table |= {name: len(part) for name, part in parts.items()}
    if split.unbiased is not None:
        table["unbiased"] = len(split.unbiased)
    return table | {
        "users_with_test": int((split.test.user_counts() > 0).sum()),
        "users_with_valid": int((split.valid.user_counts() > 0).sum()),
        "users_without_training": int((split.train.user_counts() == 0).sum()),
        "items_without_training": int((split.train.item_counts() == 0).sum()),
        "mean_per_user": total / split.n_users,
        "median_per_user": float(np.median(users)),
        "mean_per_item": total / split.n_items,
        "median_per_item": float(np.median(items)),
        "gini_users": gini(users),
        "gini_items": gini(items),
        "share_of_top_1_percent_items": top_share(items, 0.01),
        "share_of_top_10_percent_items": top_share(items, 0.1),
    }
