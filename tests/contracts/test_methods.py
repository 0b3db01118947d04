"""Every file in conf/method must build a distiller that keeps these promises."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from kdrec.data.interactions import Split
from kdrec.data.sampling import NegativeSampler
from kdrec.methods.base import Distiller, Teacher
from kdrec.models.base import Batch, Embedder, frozen
from kdrec.models.bprmf import BPRMF
from kdrec.seeding import torch_stream
from tests.conftest import ROOT
from tests.worlds import blocks

CPU = torch.device("cpu")
FOLDER = ROOT / "conf" / "method"


def load(name: str) -> DictConfig:
    """The method's file over those that its defaults name, as Hydra would merge them."""
    cfg: Any = OmegaConf.load(FOLDER / f"{name}.yaml")
    bases = [load(base) for base in cfg.pop("defaults", []) if base != "_self_"]
    merged = OmegaConf.merge(*bases, cfg)
    assert isinstance(merged, DictConfig)
    return merged


METHODS = sorted(
    path.stem for path in FOLDER.glob("*.yaml") if load(path.stem).method.distiller is not None
)


def teacher(split: Split) -> Teacher:
    scorer = frozen(BPRMF(split.train, dim=12, generator=torch_stream(7, "init")))
    assert isinstance(scorer, Embedder)
    return Teacher(scorer, scorer)


def build(name: str, split: Split, of: Teacher) -> Distiller:
    distiller: Distiller = instantiate(load(name), _convert_="all")["method"]["distiller"](
        split.train, of, seed=0, batch_size=16, device=CPU
    )
    return distiller


def batch(split: Split, step: int = 0, n_steps: int = 1) -> Batch:
    users, items = (torch.from_numpy(part) for part in (split.train.users, split.train.items))
    negatives = NegativeSampler(split.train, device=CPU).sample(users, torch_stream(0, "n"))
    return Batch(users, items, negatives, step, n_steps)


def student(split: Split) -> BPRMF:
    return BPRMF(split.train, dim=4, generator=torch_stream(0, "init"))


@pytest.mark.parametrize("name", METHODS)
def test_the_loss_is_finite_and_teaches_the_student(name: str) -> None:
    split = blocks()
    model, distiller = student(split), build(name, split, teacher(split))
    distiller.begin_epoch(1, torch_stream(0, "distil"))
    loss = distiller.loss(batch(split), model.embed())
    assert loss.shape == ()
    assert bool(torch.isfinite(loss))
    loss.backward()
    for table in (model.user_table, model.item_table):
        assert table.grad is not None
        assert bool(torch.isfinite(table.grad).all())
        assert float(table.grad.abs().sum()) > 0
    assert all(part.grad is not None for part in distiller.parameters())


@pytest.mark.parametrize("name", METHODS)
def test_the_teacher_is_not_touched(name: str) -> None:
    split = blocks()
    of = teacher(split)
    before = of.scorer.scores(torch.arange(split.n_users)).clone()
    model, distiller = student(split), build(name, split, of)
    optimiser = torch.optim.Adam([*model.parameters(), *distiller.parameters()], lr=0.1)
    for epoch in (1, 2):
        distiller.begin_epoch(epoch, torch_stream(0, "distil"))
        optimiser.zero_grad()
        distiller.loss(batch(split), model.embed()).backward()
        optimiser.step()
    assert torch.equal(before, of.scorer.scores(torch.arange(split.n_users)))


@pytest.mark.parametrize("name", METHODS)
def test_the_epoch_hook_depends_on_its_generator_alone(name: str) -> None:
    split = blocks()
    of, losses = teacher(split), []
    for seed in (0, 0, 1):
        distiller = build(name, split, of)
        distiller.begin_epoch(1, torch_stream(seed, "distil"))
        losses.append(float(distiller.loss(batch(split), student(split).embed()).detach()))
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]


@pytest.mark.parametrize("name", METHODS)
def test_following_the_loss_brings_the_student_to_the_teacher(name: str) -> None:
    split = blocks()
    of = teacher(split)
    model, distiller = student(split), build(name, split, of)
    optimiser = torch.optim.Adam([*model.parameters(), *distiller.parameters()], lr=0.05)
    values = []
    draw = torch_stream(0, "distil")
    for epoch in range(1, 41):
        distiller.begin_epoch(epoch, draw)
        loss = distiller.loss(batch(split), model.embed())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        values.append(float(loss.detach()))
    assert sum(values[-5:]) < 0.8 * sum(values[:5])
