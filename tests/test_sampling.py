from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch

from kdrec.data.interactions import Interactions
from kdrec.data.sampling import NegativeSampler
from kdrec.errors import KdrecError
from kdrec.seeding import torch_stream
from tests.worlds import random_interactions

CPU = torch.device("cpu")


@pytest.mark.parametrize("density", [0.02, 0.5, 0.8])
def test_a_negative_is_never_a_training_pair(density: float) -> None:
    train = random_interactions(density=density)
    users = torch.arange(train.n_users).repeat(200)
    items = NegativeSampler(train, device=CPU).sample(users, torch_stream(0, "negatives"))
    keys = users.numpy() * train.n_items + items.numpy()
    assert int(items.min()) >= 0
    assert int(items.max()) < train.n_items
    assert not np.isin(keys, train.keys()).any()


def test_negatives_are_uniform_over_the_rest() -> None:
    train = random_interactions(users=3, items=20, density=0.4)
    users = torch.full((20_000,), 1)
    items = NegativeSampler(train, device=CPU).sample(users, torch_stream(0, "negatives"))
    own = train.items[train.users == 1]
    counts = np.delete(np.bincount(items.numpy(), minlength=20), own)
    assert scipy.stats.chisquare(counts).pvalue > 1e-3


def test_it_agrees_with_a_list_of_the_rest() -> None:
    train = random_interactions(users=5, items=12, density=0.5)
    sampler = NegativeSampler(train, device=CPU)
    users = torch.arange(5).repeat(50)
    drawn = sampler.sample(users, torch_stream(1, "x"))
    uniform = torch.rand(len(users), generator=torch_stream(1, "x"), dtype=torch.float64)
    for user, number, item in zip(users.tolist(), uniform.tolist(), drawn.tolist(), strict=True):
        own = set(train.items[train.users == user].tolist())
        rest = [candidate for candidate in range(12) if candidate not in own]
        assert item == rest[int(number * len(rest))]


def test_negatives_of_all_pairs_are_those_drawn_in_their_order() -> None:
    train = random_interactions()
    sampler = NegativeSampler(train, device=CPU)
    order = torch.randperm(len(train), generator=torch_stream(0, "order"))
    users = torch.from_numpy(train.users)[order]
    drawn = sampler.sample(users, torch_stream(2, "x"))
    assert torch.equal(sampler.of_pairs(order, torch_stream(2, "x")), drawn)


def test_a_user_with_every_item_is_refused() -> None:
    train = Interactions.from_pairs(
        np.array([0, 1, 1, 1]), np.array([0, 0, 1, 2]), n_users=2, n_items=3
    )
    with pytest.raises(KdrecError, match=r"index 1 .* has all 3 items"):
        NegativeSampler(train, device=CPU)
