from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch

from kdrec.data.interactions import Interactions
from kdrec.methods.soft_labels import rank_all, ranks_of, scores_at
from kdrec.models.base import EmbeddingScorer, Vectors
from kdrec.seeding import torch_stream
from tests.worlds import random_interactions

CPU = torch.device("cpu")


@pytest.mark.parametrize("depth", [1, 9, 1000])
def test_ranks_are_places_in_the_sorted_list_of_unseen_items(depth: int) -> None:
    train = random_interactions(density=0.2)
    draw = torch_stream(0, "vectors")
    scorer = EmbeddingScorer(
        Vectors(torch.randn(30, 4, generator=draw), torch.randn(50, 4, generator=draw))
    )
    items = torch.randint(-1, 50, (30, 12), generator=draw)
    ranks = ranks_of(scorer, train, items, depth=depth, batch_size=7)
    scores = scorer.scores(torch.arange(30))
    last = min(depth, 50)
    for user in range(30):
        seen = set(train.items[train.users == user].tolist())
        order = sorted(set(range(50)) - seen, key=lambda item: -scores[user, item])
        for place, item in enumerate(items[user].tolist()):
            expected = order.index(item) if item in order else last
            assert int(ranks[user, place]) == min(expected, last)


def test_all_unseen_items_are_one_pool() -> None:
    train = random_interactions(density=0.2)
    draw = torch_stream(0, "vectors")
    scorer = EmbeddingScorer(
        Vectors(torch.randn(30, 4, generator=draw), torch.randn(50, 4, generator=draw))
    )
    pools = rank_all(
        scorer, train, pool=10, batch_size=7, generator=torch_stream(0, "t"), device=CPU
    )
    assert pools.items.shape == (30, 1, 10)
    ranks = ranks_of(scorer, train, pools.items[:, 0], depth=20, batch_size=7)
    assert torch.equal(ranks, torch.arange(10).expand(30, 10))


@pytest.mark.parametrize("n_users", [3, 8, 29, 30])
def test_no_digit_of_a_score_depends_on_how_many_users_are_scored_at_once(n_users: int) -> None:
    draw = torch_stream(0, "vectors")
    scorer = EmbeddingScorer(
        Vectors(torch.randn(30, 40, generator=draw), torch.randn(50, 40, generator=draw))
    )
    everything = torch.arange(50).expand(n_users, -1)
    found = [
        scores_at(scorer, everything, n_items=50, batch_size=batch_size)
        for batch_size in range(1, 32)
    ]
    assert all(torch.equal(one, found[0]) for one in found)


def test_the_order_of_equal_scores_is_random() -> None:
    users, items = np.zeros(5, np.int64), np.array([0, 3, 4, 11, 19])
    train = Interactions.from_pairs(users, items, n_users=2, n_items=20)
    constant = EmbeddingScorer(Vectors(torch.ones(2, 3), torch.ones(20, 3)))
    found = [
        rank_all(
            constant, train, pool=20, batch_size=7, generator=torch_stream(seed, "t"), device=CPU
        ).items[0, 0, :15]
        for seed in range(900)
    ]
    unseen = sorted(set(range(20)) - set(items.tolist()))
    assert all(sorted(order.tolist()) == unseen for order in found)
    for place in (0, 7, 14):
        counts = np.bincount([int(order[place]) for order in found], minlength=20)
        assert scipy.stats.chisquare(counts[unseen]).pvalue > 1e-3
