from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file

from kdrec.data.interactions import Interactions, Split
from kdrec.data.sampling import NegativeSampler
from kdrec.errors import UsageError
from kdrec.evaluation.topk import top_k
from kdrec.models.base import Backbone, Batch, Embedder, EmbeddingScorer, Vectors, frozen
from kdrec.models.bprmf import BPRMF
from kdrec.models.lightgcn import LightGCN
from kdrec.models.pd import PD, elu_plus_one, popularity
from kdrec.models.pda import PDA
from kdrec.seeding import torch_stream
from kdrec.training.loop import fit
from tests.conftest import ROOT
from tests.worlds import blocks, random_interactions

CPU = torch.device("cpu")
INNER = {
    "bprmf": partial(BPRMF, dim=4),
    "lightgcn": partial(LightGCN, dim=4, n_layers=2, init_std=0.5),
}
PD_OPTIONS = {
    "gamma": 0.3, "popularity": "scaled", "floor": 1e-9, "link": "elu", "soft_label": "elu",
}  # fmt: skip
PDA_OPTIONS = {
    "gamma": 0.3, "rank_gamma": 0.2, "popularity": "scaled", "floor": 1e-9, "link": "elu",
}  # fmt: skip
FILES = ["pd", "pda"]


def make(train: Interactions, inner: str = "bprmf", **options: Any) -> PD:
    return PD(
        train, inner=INNER[inner], generator=torch_stream(0, "init"), **{**PD_OPTIONS, **options}
    )


def make_pda(train: Interactions, **options: Any) -> PDA:
    return PDA(
        train, inner=INNER["bprmf"], generator=torch_stream(0, "init"),
        **{**PDA_OPTIONS, **options},
    )  # fmt: skip


def batch(train: Interactions, n: int = 25) -> Batch:
    users, items = torch.from_numpy(train.users)[:n], torch.from_numpy(train.items)[:n]
    negatives = NegativeSampler(train, device=CPU).sample(users, torch_stream(0, "n"))
    return Batch(users, items, negatives, 0, 1)


def triples(of: Batch) -> list[tuple[int, int, int]]:
    return list(zip(of.users.tolist(), of.positives.tolist(), of.negatives.tolist(), strict=True))


def spread(model: Backbone) -> Backbone:
    """Parameters large enough for scores on both sides of 0."""
    with torch.no_grad():
        for part in model.parameters():
            part.copy_(torch.randn(part.shape, generator=torch_stream(3, "wide")))
    return model


def m_by_hand(train: Interactions, kind: str, floor: float) -> list[float]:
    counts = [1 + int((train.items == item).sum()) for item in range(train.n_items)]
    share = [count / sum(counts) for count in counts]
    if kind == "ratio":
        return share
    low, high = min(share), max(share)
    return [max((one - low) / (high - low), floor) for one in share]


@pytest.mark.parametrize("inner", INNER)
@pytest.mark.parametrize("kind", ["scaled", "ratio"])
@pytest.mark.parametrize("link", ["elu", "relu"])
@pytest.mark.parametrize("floor", [0.0, 0.01])
def test_the_loss_is_the_papers(inner: str, kind: str, link: str, floor: float) -> None:
    train = random_interactions(users=9, items=14, density=0.3)
    model = spread(make(train, inner, popularity=kind, link=link, floor=floor))
    of, l2 = batch(train), 0.7
    users, items = (part.detach() for part in model.embed())
    m = m_by_hand(train, kind, floor)

    def p(user: int, item: int) -> float:
        s = float(users[user] @ items[item])
        below = math.exp(s) - 1 if link == "elu" else 0.0
        return ((s if s > 0 else below) + 1) * m[item] ** 0.3

    total = 0.0
    for user, i, j in triples(of):
        total += math.log1p(math.exp(p(user, j) - p(user, i)))
    parameters = dict(model.inner.named_parameters())
    if inner == "bprmf":
        user_rows, item_rows = parameters["user_table"], parameters["item_table"]
    else:
        user_rows, item_rows = parameters["table"][:9], parameters["table"][9:]
    for user, i, j in triples(of):
        for row in (user_rows[user], item_rows[i], item_rows[j]):
            total += l2 / 2 * float(row.detach().square().sum())
    found = float(model.loss(of, model.embed(), l2).detach())
    assert found == pytest.approx(total / len(of.users), rel=1e-5)


@pytest.mark.parametrize("inner", INNER)
def test_the_penalty_is_what_l2_adds_to_the_loss(inner: str) -> None:
    train = random_interactions()
    model = spread(INNER[inner](train=train, generator=torch_stream(0, "init")))
    of = batch(train)
    parts = []
    for loss in (
        lambda: model.loss(of, model.embed(), 0.3) - model.loss(of, model.embed(), 0.0).detach(),
        lambda: model.penalty(of, 0.3),
    ):
        model.zero_grad()
        value = loss()
        value.backward()
        parts.append((float(value.detach()), [part.grad.clone() for part in model.parameters()]))
    model.zero_grad()
    model.loss(of, model.embed(), 0.0).backward()
    data = [part.grad for part in model.parameters()]
    assert parts[0][0] == pytest.approx(parts[1][0], rel=1e-4)
    for with_data, alone, of_data in zip(parts[0][1], parts[1][1], data, strict=True):
        assert torch.allclose(with_data, alone + of_data, atol=1e-5)


def test_elu_plus_one_keeps_its_order_and_its_gradient() -> None:
    scores = torch.tensor([-80.0, -20.0, -19.9, -1.0, 0.0, 2.0], requires_grad=True)
    linked = elu_plus_one(scores)
    assert bool((linked.diff() > 0).all())
    assert linked[3:].tolist() == pytest.approx([math.exp(-1), 1.0, 3.0])
    linked.sum().backward()
    assert scores.grad is not None
    assert scores.grad[3:].tolist() == pytest.approx([math.exp(-1), 1.0, 1.0])


def test_equal_counts_are_no_popularity() -> None:
    train = Interactions.from_pairs(np.arange(4), np.arange(4), n_users=4, n_items=4)
    assert popularity(train, scaled=True, floor=0.0).tolist() == [1.0] * 4


def test_without_a_floor_the_rarest_items_learn_nothing_from_data() -> None:
    users, items = np.array([0, 0, 1, 1, 2]), np.array([0, 1, 0, 2, 0])
    train = Interactions.from_pairs(users, items, n_users=3, n_items=4)
    of = Batch(torch.tensor([0, 1]), torch.tensor([1, 0]), torch.tensor([3, 3]), 0, 1)
    moved = []
    for floor in (0.0, 1e-9):
        model = spread(make(train, floor=floor))
        model.loss(of, model.embed(), 0.0).backward()
        moved.append(float(model.inner.item_table.grad[3].abs().sum()))
    assert moved[0] == 0
    assert moved[1] > 0


def scores_by_hand(vectors: Vectors, weight: list[float]) -> torch.Tensor:
    raw = vectors.users @ vectors.items.T
    return torch.where(raw > 0, raw + 1, raw.exp()) * torch.tensor(weight)


def test_pd_ranks_as_its_vectors_do_by_either_score() -> None:
    train = random_interactions()
    users = torch.arange(train.n_users)
    lists = []
    for label in ("elu", "raw"):
        model = spread(make(train, soft_label=label))
        scorer = frozen(model)
        assert isinstance(scorer, Embedder)
        assert torch.equal(model.scores(users), scorer.scores(users))
        raw = scorer.embed().users @ scorer.embed().items.T
        expected = raw if label == "raw" else scores_by_hand(scorer.embed(), [1.0] * 50)
        assert torch.allclose(scorer.scores(users), expected, atol=1e-6)
        lists.append(
            top_k(scorer, users.numpy(), 9, mask=[train], seed=0, batch_size=7).items.tolist()
        )
    assert lists[0] == lists[1]


@pytest.mark.parametrize("link", ["elu", "relu"])
def test_soft_labels_keep_the_order_of_scores_below_0_whatever_the_link(link: str) -> None:
    train = random_interactions()
    model = spread(make(train, link=link, soft_label="elu"))
    users, items = (part.detach().double() for part in model.embed())
    raw = users @ items.T
    expected = torch.where(raw > 0, raw + 1, raw.exp()).float()
    assert 0.2 < float((raw < 0).float().mean()) < 0.8
    for scorer in (model, frozen(model)):
        found = scorer.scores(torch.arange(train.n_users)).detach()
        assert torch.allclose(found, expected, rtol=1e-4)


def test_pda_ranks_by_its_popularity_too_and_shows_no_vectors() -> None:
    train = random_interactions()
    users = torch.arange(train.n_users)
    model = spread(make_pda(train))
    scorer = frozen(model)
    assert not isinstance(scorer, Embedder)
    weight = [m**0.2 for m in m_by_hand(train, "scaled", 1e-9)]
    expected = scores_by_hand(model.embed(), weight)
    assert torch.allclose(scorer.scores(users), expected, rtol=1e-5)
    assert torch.equal(model.scores(users), scorer.scores(users))
    plain = spread(make(train))
    of = batch(train)
    losses = [one.loss(of, one.embed(), 0.1).detach() for one in (model, plain)]
    assert torch.equal(*losses)
    found = top_k(scorer, users.numpy(), 5, mask=[train], seed=0, batch_size=7).items
    seen = np.zeros(expected.shape, dtype=bool)
    seen[train.users, train.items] = True
    best = np.where(seen, -np.inf, expected.detach().numpy()).argsort(1)[:, ::-1][:, :5]
    assert (found == best).all()


def test_a_frozen_scorer_does_not_follow_its_model() -> None:
    train = random_interactions()
    for model in (make(train), make_pda(train)):
        scorer = frozen(model)
        before = scorer.scores(torch.arange(3)).clone()
        spread(model)
        assert torch.equal(before, scorer.scores(torch.arange(3)))


def debiased(name: str, split: Split, seed: int = 0) -> Backbone:
    cfg = OmegaConf.load(ROOT / "conf" / "debias" / f"{name}.yaml")
    inner = {"_target_": "kdrec.models.bprmf.BPRMF", "_partial_": True, "dim": 8}
    model: Backbone = instantiate(OmegaConf.merge(cfg, {"inner": inner}))(
        train=split.train, generator=torch_stream(seed, "init")
    )
    return model


def learn(model: Backbone, split: Split) -> Backbone:
    fit(
        model, None, split, name="m", optimiser="adam", lr=0.02, lr_factor=1.0, average=0.0,
        l2=1e-3, batch_size=128, epochs=60, eval_every=5, patience=60, cutoff=5, data_weight=1.0,
        weight=0.0, checkpoints=0, seed=0, eval_batch_size=16, device=CPU,
    )  # fmt: skip
    return model


@pytest.mark.parametrize("name", FILES)
def test_it_learns_saves_loads_and_repeats(name: str, tmp_path: Path) -> None:
    split = blocks()
    first, second = (learn(debiased(name, split), split) for _ in range(2))
    for key, part in first.state_dict().items():
        assert torch.equal(part, second.state_dict()[key])
    save_file(dict(first.state_dict()), tmp_path / "m.safetensors")
    fresh = debiased(name, split, seed=9)
    fresh.load_state_dict(load_file(tmp_path / "m.safetensors"))
    users = np.unique(split.test.users)
    lists = [
        top_k(
            frozen(one), users, 5, mask=[split.train, split.valid], seed=0, batch_size=16
        ).items
        for one in (first, fresh)
    ]  # fmt: skip
    assert (lists[0] == lists[1]).all()
    assert ((lists[0] % 2) == (users % 2)[:, None]).mean() > 0.85


def test_pd_recommends_what_is_rare_more_often_than_the_model_inside() -> None:
    rng = np.random.default_rng(0)
    chance = np.linspace(1, 0.05, 60) ** 2
    pairs = np.argwhere(rng.random((200, 60)) < chance * 0.6)
    part = rng.permutation(len(pairs)) % 10

    def of(mask: np.ndarray) -> Interactions:
        return Interactions.from_pairs(*pairs[mask].T, n_users=200, n_items=60)

    split = Split(of(part > 1), of(part == 1), of(part == 0))
    counts, found = split.train.item_counts(), []
    for model in (
        INNER["bprmf"](train=split.train, generator=torch_stream(0, "init")),
        make(split.train, gamma=0.25),
    ):
        scorer = frozen(learn(model, split))
        lists = top_k(scorer, np.arange(200), 5, mask=[split.train], seed=0, batch_size=50).items
        found.append(counts[lists].mean())
    assert found[1] < 0.9 * found[0]


@pytest.mark.parametrize("option", ["gamma", "floor"])
def test_options_out_of_range_are_refused(option: str) -> None:
    train = random_interactions()
    for wrong in (-0.1, 1.1, math.nan):
        with pytest.raises(UsageError, match=option):
            make(train, **{option: wrong})
        with pytest.raises(UsageError, match=option):
            make_pda(train, **{option: wrong})
    with pytest.raises(UsageError, match="rank_gamma"):
        make_pda(train, rank_gamma=2.0)


def test_a_scorer_of_vectors_is_still_that() -> None:
    scorer = frozen(INNER["bprmf"](train=random_interactions(), generator=torch_stream(0, "i")))
    assert type(scorer) is EmbeddingScorer
