"""Every file in conf/model must build a model that keeps these promises."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file
from torch import nn

from kdrec.data.interactions import Split
from kdrec.data.sampling import NegativeSampler
from kdrec.evaluation.topk import top_k
from kdrec.models.base import Backbone, Batch, ClosedForm, Embedder, frozen
from kdrec.seeding import torch_stream
from kdrec.training.loop import fit
from tests.conftest import ROOT
from tests.worlds import blocks

CPU = torch.device("cpu")
MODELS = sorted(path.stem for path in (ROOT / "conf" / "model").glob("*.yaml"))


def build(name: str, split: Split, seed: int = 0) -> nn.Module:
    if name == "ials" and importlib.util.find_spec("implicit") is None:
        pytest.skip("the extra 'ials' is not installed")
    cfg = OmegaConf.load(ROOT / "conf" / "model" / f"{name}.yaml")
    model: nn.Module = instantiate(cfg)(train=split.train, generator=torch_stream(seed, "init"))
    return model


def trained(name: str, split: Split) -> nn.Module:
    model = build(name, split)
    if isinstance(model, ClosedForm):
        model.fit()
        return model
    assert isinstance(model, Backbone)
    options = {
        "optimiser": "adam",
        "lr_factor": 1.0,
        "average": 0.0,
        "lr": 0.02,
        "l2": 1e-3,
        "batch_size": 128,
    }
    fit(
        model, None, split, name=name, epochs=40, eval_every=5, patience=40, cutoff=5,
        checkpoints=0, data_weight=1.0, weight=0.0, seed=0, eval_batch_size=16, device=CPU,
        **options,
    )  # fmt: skip
    return model


def batch(split: Split) -> Batch:
    users = torch.from_numpy(split.train.users)
    sampler = NegativeSampler(split.train, device=CPU)
    return Batch(
        users,
        torch.from_numpy(split.train.items),
        sampler.sample(users, torch_stream(0, "n")),
        0,
        1,
    )


@pytest.mark.parametrize("name", MODELS)
def test_scores_have_their_shape_and_are_finite(name: str) -> None:
    split = blocks()
    scores = frozen(trained(name, split)).scores(torch.tensor([3, 0, 3]))
    assert scores.shape == (3, split.n_items)
    assert bool(torch.isfinite(scores).all())
    assert torch.allclose(scores[0], scores[2])


@pytest.mark.parametrize("name", MODELS)
def test_vectors_give_the_scores(name: str) -> None:
    scorer = frozen(trained(name, blocks()))
    if not isinstance(scorer, Embedder):
        assert name in ("ease", "itempop")
        return
    users, items = scorer.embed()
    assert torch.allclose(scorer.scores(torch.arange(5)), users[:5] @ items.T, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_gradients_reach_all_parameters(name: str) -> None:
    split = blocks()
    model = build(name, split)
    if not isinstance(model, Backbone):
        assert isinstance(model, ClosedForm)
        assert list(model.parameters()) == []
        return
    model.loss(batch(split), model.embed(), 1e-3).backward()
    for parameter in model.parameters():
        assert parameter.grad is not None
        assert bool(torch.isfinite(parameter.grad).all())
        assert float(parameter.grad.abs().sum()) > 0


@pytest.mark.parametrize("name", MODELS)
def test_the_same_seed_gives_the_same_bytes(name: str) -> None:
    first, second = (trained(name, blocks()).state_dict() for _ in range(2))
    assert all(torch.equal(first[key], second[key]) for key in first)
    other = build(name, blocks(), seed=1)
    if list(other.parameters()):
        assert not torch.equal(*(next(build(name, blocks(), s).parameters()) for s in (0, 1)))


@pytest.mark.parametrize("name", MODELS)
def test_saved_and_loaded_it_recommends_the_same(name: str, tmp_path: Path) -> None:
    split = blocks()
    model, fresh = trained(name, split), build(name, split, seed=9)
    save_file(dict(model.state_dict()), tmp_path / "m.safetensors")
    fresh.load_state_dict(load_file(tmp_path / "m.safetensors"))
    users = np.arange(split.n_users)
    lists = [
        top_k(frozen(one), users, 5, mask=[split.train], seed=0, batch_size=16).items
        for one in (model, fresh)
    ]
    assert (lists[0] == lists[1]).all()


@pytest.mark.parametrize("name", [name for name in MODELS if name != "itempop"])
def test_it_recovers_what_was_held_out_of_a_block(name: str) -> None:
    split = blocks()
    users = np.unique(split.test.users)
    lists = top_k(
        frozen(trained(name, split)), users, 5, mask=[split.train, split.valid], seed=0,
        batch_size=16,
    ).items  # fmt: skip
    in_block = (lists % 2) == (users % 2)[:, None]
    assert in_block.mean() > 0.85
