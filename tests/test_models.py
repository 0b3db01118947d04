from __future__ import annotations

import numpy as np
import pytest
import torch

from kdrec.data.interactions import Interactions
from kdrec.errors import KdrecError, UsageError
from kdrec.models.ease import EASE
from kdrec.models.itempop import ItemPop
from kdrec.models.lightgcn import LightGCN, normalised_adjacency
from kdrec.seeding import torch_stream
from tests.worlds import random_interactions


def test_lightgcn_is_the_mean_of_dense_propagations() -> None:
    train = random_interactions(users=7, items=9, density=0.3)
    model = LightGCN(train, dim=4, n_layers=3, init_std=0.1, generator=torch_stream(0, "init"))
    adjacency = np.zeros((16, 16))
    for user, item in zip(train.users, train.items, strict=True):
        adjacency[user, 7 + item] = adjacency[7 + item, user] = 1
    degree = adjacency.sum(1)
    for row in range(16):
        for column in range(16):
            if adjacency[row, column]:
                adjacency[row, column] = 1 / np.sqrt(degree[row] * degree[column])
    assert np.allclose(normalised_adjacency(train).to_dense().numpy(), adjacency, atol=1e-6)
    layers = [model.table.detach().double().numpy()]
    for _ in range(3):
        layers.append(adjacency @ layers[-1])
    users, items = model.embed()
    assert np.allclose(torch.cat([users, items]).detach().numpy(), np.mean(layers, 0), atol=1e-6)
    weight = torch.randn(16, 4, generator=torch_stream(0, "w"))
    (torch.cat([users, items]) * weight).sum().backward()
    by_hand = (
        sum(np.linalg.matrix_power(adjacency, layer) for layer in range(4)) @ weight.numpy() / 4
    )
    assert np.allclose(model.table.grad.numpy(), by_hand, atol=1e-5)  # type: ignore[union-attr]


def ease_by_definition(train: Interactions, reg: float) -> np.ndarray:
    x = np.zeros((train.n_users, train.n_items))
    x[train.users, train.items] = 1
    p = np.linalg.inv(x.T @ x + reg * np.eye(train.n_items))
    b = np.eye(train.n_items) - p / np.diag(p)[None, :]
    np.fill_diagonal(b, 0)
    scores: np.ndarray = x @ b
    return scores


@pytest.mark.parametrize(("users", "items"), [(20, 35), (35, 20), (25, 25)])
def test_ease_is_its_definition_on_either_side(users: int, items: int) -> None:
    train = random_interactions(users=users, items=items, density=0.2)
    model = EASE(train, reg=3.0, generator=torch_stream(0, "init"))
    model.fit()
    scores = model.scores(torch.arange(users)).numpy()
    assert np.allclose(scores, ease_by_definition(train, 3.0), atol=1e-5)


def test_ease_says_what_it_needs_and_refuses_what_does_not_fit() -> None:
    train = random_interactions(users=20, items=35)
    with pytest.raises(KdrecError, match=r"20 x 20 .* 0\.0 GiB are free"):
        EASE(train, reg=3.0, generator=torch_stream(0, "i"), free_memory=lambda: 1000)
    with pytest.raises(UsageError, match="reg"):
        EASE(train, reg=0.0, generator=torch_stream(0, "i"))


def test_itempop_scores_are_counts() -> None:
    train = random_interactions()
    model = ItemPop(train, generator=torch_stream(0, "i"))
    model.fit()
    counts = [int((train.items == item).sum()) for item in range(train.n_items)]
    assert model.scores(torch.tensor([1, 4])).tolist() == [counts, counts]


@pytest.mark.parametrize("dim", [0, -3])
def test_a_width_below_one_is_refused(dim: int) -> None:
    with pytest.raises(KdrecError, match=f"dim={dim}"):
        LightGCN(
            random_interactions(), dim=dim, n_layers=1, init_std=0.1, generator=torch_stream(0, "i")
        )
