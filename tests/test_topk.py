"""Full ranking: masks, fair ties, bad scores."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdrec.data.interactions import Interactions
from kdrec.errors import KdrecError
from kdrec.evaluation.tiebreak import tie_hash
from kdrec.evaluation.topk import hits, top_k
from kdrec.models.base import EmbeddingScorer, Vectors


class Table:
    """A scorer that looks its scores up."""

    def __init__(self, table):
        self.table = torch.as_tensor(table)

    def scores(self, users):
        return self.table[users]


def pairs(mask):
    users, items = np.nonzero(mask)
    return Interactions.from_pairs(users, items, n_users=mask.shape[0], n_items=mask.shape[1])


def naive_top_k(table, users, k, masked, seed):
    out = []
    for user in users:
        free = np.flatnonzero(~masked[user])
        keys = tie_hash(torch.tensor(int(user)), torch.as_tensor(free), seed).numpy()
        ranked = sorted(zip(-table[user, free], -keys.astype(object), free, strict=True))
        out.append(([item for _, _, item in ranked] + [-1] * k)[:k])
    return np.array(out, dtype=np.int64).reshape(len(users), k)


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n_users=st.integers(1, 7),
    n_items=st.integers(1, 25),
    k=st.integers(1, 30),
    levels=st.integers(1, 12),
    batch_size=st.integers(1, 8),
)
def test_equals_a_sort_user_by_user(seed, n_users, n_items, k, levels, batch_size):
    rng = np.random.default_rng(seed)
    table = rng.integers(0, levels, (n_users, n_items)).astype(np.float32)
    first, second = rng.random((2, n_users, n_items)) < 0.25
    users = rng.permutation(n_users)
    found = top_k(
        Table(table), users, k, mask=[pairs(first), pairs(second)], seed=seed, batch_size=batch_size
    )
    expected = naive_top_k(table, users, k, first | second, seed)
    np.testing.assert_array_equal(found.items, expected)
    scores = np.where(expected >= 0, table[users[:, None], expected], -np.inf)
    np.testing.assert_array_equal(found.scores, scores)


def test_a_dot_product_scorer_is_ranked_like_its_scores():
    generator = torch.Generator().manual_seed(0)
    vectors = Vectors(
        torch.randn(9, 4, generator=generator), torch.randn(50, 4, generator=generator)
    )
    scorer = EmbeddingScorer(vectors)
    mask = [pairs(np.random.default_rng(0).random((9, 50)) < 0.3)]
    users = np.arange(9)
    fast = top_k(scorer, users, 10, mask=mask, seed=0, batch_size=4)
    slow = top_k(Table(scorer.scores(torch.arange(9))), users, 10, mask=mask, seed=0, batch_size=4)
    np.testing.assert_array_equal(fast.items, slow.items)


def test_a_scorer_that_overrides_its_scores_is_believed():
    class Reversed(EmbeddingScorer):
        def scores(self, users):
            return -super().scores(users)

    vectors = Vectors(torch.ones(1, 1), torch.tensor([[1.0], [3.0], [2.0]]))
    found = top_k(Reversed(vectors), np.array([0]), 3, mask=[], seed=0, batch_size=1)
    assert found.items.tolist() == [[0, 2, 1]]


def test_nothing_masked_is_returned_and_the_scorer_is_left_alone():
    rng = np.random.default_rng(1)
    table = torch.as_tensor(rng.normal(size=(40, 60)).astype(np.float32))
    before = table.clone()
    masked = rng.random((40, 60)) < 0.5

    class Shared:
        def scores(self, users):
            return table[users[0] : users[-1] + 1]  # a view of its own memory

    found = top_k(Shared(), np.arange(40), 20, mask=[pairs(masked)], seed=0, batch_size=16)
    assert not masked[np.arange(40)[:, None], found.items].any()
    assert torch.equal(table, before)


def test_too_few_candidates_are_padded():
    masked = np.array([[True, True, False], [True, True, True]])
    found = top_k(
        Table(np.ones((2, 3))), np.arange(2), 2, mask=[pairs(masked)], seed=0, batch_size=2
    )
    assert found.items.tolist() == [[2, -1], [-1, -1]]
    assert found.scores.tolist() == [[1.0, -np.inf], [-np.inf, -np.inf]]


def test_a_constant_scorer_gets_k_of_the_candidates():
    n_users, n_items, k = 3000, 200, 20
    rng = np.random.default_rng(2)
    masked = np.zeros((n_users, n_items), bool)
    masked[:, 100:150] = True  # 150 candidates
    target = np.zeros_like(masked)
    target[:, :3] = True  # the luck of the item order would find all three
    target[np.arange(n_users), 199 - rng.integers(0, 40, n_users)] = True
    found = top_k(
        Table(np.zeros((n_users, n_items))), np.arange(n_users), k,
        mask=[pairs(masked)], seed=0, batch_size=512,
    )  # fmt: skip
    got = hits(found, pairs(target))
    recall = got.sum(axis=1) / 4
    chance = k / 150
    assert abs(recall.mean() - chance) < 4 * recall.std() / np.sqrt(n_users)
    per_item = np.bincount(found.items.ravel(), minlength=n_items) / n_users
    deviation = np.sqrt(chance * (1 - chance) / n_users)
    assert np.abs(per_item[~masked[0]] - chance).max() < 5 * deviation
    by_place = got.mean(axis=0)
    assert np.abs(by_place - 4 / 150).max() < 5 * np.sqrt(4 / 150 / n_users)


def test_ties_depend_on_the_seed_and_the_user_alone():
    scorer, users = Table(np.zeros((50, 100))), np.arange(50)
    first = top_k(scorer, users, 10, mask=[], seed=0, batch_size=50)
    again = top_k(scorer, users[::-1], 10, mask=[], seed=0, batch_size=7)
    other = top_k(scorer, users, 10, mask=[], seed=1, batch_size=50)
    np.testing.assert_array_equal(first.items, again.items[::-1])
    assert (first.items != other.items).mean() > 0.9
    assert len({tuple(row) for row in first.items.tolist()}) == 50


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_refused(bad):
    table = np.zeros((6, 5), np.float32)
    table[4, [1, 3]] = bad
    with pytest.raises(KdrecError, match="User 4 has 2 scores that are NaN or infinite") as caught:
        top_k(Table(table), np.arange(6), 2, mask=[], seed=0, batch_size=3)
    assert "lr" in caught.value.hint


def test_scores_of_a_wrong_shape_are_refused():
    mask = [pairs(np.zeros((3, 9), bool))]
    with pytest.raises(KdrecError, match=r"shape \(3, 8\) for 3 users and 9 items"):
        top_k(Table(np.zeros((3, 8))), np.arange(3), 2, mask=mask, seed=0, batch_size=3)


def test_hits_are_the_pairs_of_the_user():
    target = Interactions.from_pairs(np.array([0, 0, 1]), np.array([1, 3, 3]), n_users=3, n_items=4)
    table = np.array([[4, 3, 2, 1], [4, 3, 2, 1], [4, 3, 2, 1]], np.float32)
    found = top_k(Table(table), np.arange(3), 4, mask=[], seed=0, batch_size=8)
    assert hits(found, target).astype(int).tolist() == [[0, 1, 0, 1], [0, 0, 0, 1], [0, 0, 0, 0]]


def test_an_empty_place_is_no_hit_of_the_user_before():
    target = Interactions.from_pairs(np.array([0]), np.array([2]), n_users=2, n_items=3)
    masked = np.array([[False] * 3, [True] * 3])
    found = top_k(
        Table(np.ones((2, 3))), np.arange(2), 3, mask=[pairs(masked)], seed=0, batch_size=2
    )
    assert hits(found, target).sum(axis=1).tolist() == [1, 0]
