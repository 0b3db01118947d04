from __future__ import annotations

import pytest
import torch

from kdrec.methods.soft_labels import rank_all, ranks_of
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
