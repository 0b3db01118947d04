from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from kdrec.data.interactions import Interactions, Split
from kdrec.errors import KdrecError
from tests.worlds import random_interactions


def pairs(*given: tuple[int, int], n_users: int = 4, n_items: int = 5) -> Interactions:
    users, items = np.array(given, dtype=np.int64).reshape(-1, 2).T
    return Interactions.from_pairs(users, items, n_users=n_users, n_items=n_items)


def test_from_pairs_sorts_and_drops_repeats() -> None:
    made = pairs((2, 1), (0, 3), (2, 1), (0, 0))
    assert made.users.tolist() == [0, 0, 2]
    assert made.items.tolist() == [0, 3, 1]


def test_counts_and_pointers_cover_users_and_items_without_pairs() -> None:
    made = pairs((2, 1), (0, 3), (0, 1))
    assert made.user_counts().tolist() == [2, 0, 1, 0]
    assert made.item_counts().tolist() == [0, 2, 0, 1, 0]
    assert made.indptr().tolist() == [0, 2, 2, 3, 3]


@pytest.mark.parametrize(
    ("users", "items", "message"),
    [
        ([0, 0], [3, 1], "sorted"),
        ([0, 0], [1, 1], "unique"),
        ([0, 4], [1, 1], "user index lies outside 0..3"),
        ([0, 1], [1, 5], "item index lies outside 0..4"),
        ([0, 1], [-1, 2], "item index lies outside"),
        ([0], [1, 2], "same length"),
    ],
)
def test_wrong_arrays_are_refused(users: list[int], items: list[int], message: str) -> None:
    with pytest.raises(KdrecError, match=message):
        Interactions(np.array(users), np.array(items), 4, 5)


def test_interactions_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        pairs((0, 1)).n_users = 9  # type: ignore[misc]


def test_a_split_refuses_a_leak_and_an_empty_training_part() -> None:
    train, test, nothing = pairs((0, 1), (1, 2)), pairs((1, 2)), pairs()
    with pytest.raises(KdrecError, match="train and test parts of the split share 1 pairs"):
        Split(train, nothing, test)
    with pytest.raises(KdrecError, match="empty"):
        Split(nothing, nothing, test)


def test_the_digest_of_a_split_tells_its_parts_apart() -> None:
    a, b, c = pairs((0, 1)), pairs((0, 2)), pairs((0, 3))
    digests = {Split(a, b, c).digest, Split(a, c, b).digest, Split(b, a, c).digest}
    assert len(digests) == 3
    assert Split(a, b, c).digest == Split(a, b, c).digest


def test_union_is_the_set_union() -> None:
    first, second = (random_interactions(seed=seed) for seed in (1, 2))
    expected = set(first.keys().tolist()) | set(second.keys().tolist())
    assert set(first.union(second).keys().tolist()) == expected
