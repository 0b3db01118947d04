"""Every file in conf/method must build a distiller that keeps these promises."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from kdrec.data.interactions import Split
from kdrec.data.sampling import NegativeSampler
from kdrec.methods.base import NEEDS, Distiller, Teacher
from kdrec.models.base import Batch, Embedder, frozen
from kdrec.models.bprmf import BPRMF
from kdrec.seeding import torch_stream
from tests.conftest import ROOT
from tests.waits import Seen
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
    def make(generator: torch.Generator) -> BPRMF:
        return BPRMF(split.train, dim=12, generator=generator)

    earlier, scorer = (frozen(make(torch_stream(seed, "init"))) for seed in (6, 7))
    assert isinstance(scorer, Embedder)
    return Teacher(scorer, scorer, trajectory=(earlier, scorer), fresh=make)


def build(name: str, split: Split, of: Teacher, **options: object) -> Distiller:
    distiller: Distiller = instantiate(load(name), _convert_="all")["method"]["distiller"](
        split.train, of, seed=0, batch_size=16, device=CPU, **options
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
    distiller.begin_epoch(1, torch_stream(0, "distil"), model)
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
        distiller.begin_epoch(epoch, torch_stream(0, "distil"), model)
        optimiser.zero_grad()
        distiller.loss(batch(split), model.embed()).backward()
        optimiser.step()
    assert torch.equal(before, of.scorer.scores(torch.arange(split.n_users)))


@pytest.mark.parametrize("name", METHODS)
def test_the_epoch_hook_depends_on_its_generator_alone(name: str) -> None:
    split = blocks()
    of, losses, drew = teacher(split), [], False
    for seed in (0, 0, 1):
        model, distiller, draw = (
            student(split),
            build(name, split, of),
            torch_stream(seed, "distil"),
        )
        before = draw.get_state()
        distiller.begin_epoch(1, draw, model)
        drew = not torch.equal(before, draw.get_state())
        # one step of four: a method may draw no more than the order in which users are visited
        losses.append(float(distiller.loss(batch(split, 0, 4), model.embed()).detach()))
    assert losses[0] == losses[1]
    assert (losses[0] != losses[2]) == drew


@pytest.mark.parametrize("name", METHODS)
def test_the_loss_waits_for_nothing(name: str) -> None:
    split = blocks()
    model, distiller = student(split), build(name, split, teacher(split))
    distiller.begin_epoch(1, torch_stream(0, "distil"), model)
    step = batch(split)
    with Seen() as seen:
        distiller.loss(step, model.embed()).backward()
    assert seen.names
    assert seen.waits() == set()


@pytest.mark.parametrize("name", METHODS)
def test_what_it_needs_is_said_and_true(name: str) -> None:
    split = blocks()
    needs = load(name).method.needs
    assert needs in NEEDS
    of = teacher(split)
    less = Teacher(
        of.scorer,
        of.embedder if needs == "vectors" else None,
        of.trajectory if needs == "trajectory" else (),
        fresh=of.fresh if needs == "training" else None,
    )
    build(name, split, less)


HELD: dict[str, dict[str, object]] = {"hetcomp": {"rank_every": 1000}}
"""Options with which a method that makes its task harder on the way keeps to its first one."""


@pytest.mark.parametrize("name", METHODS)
def test_following_the_loss_brings_the_student_to_the_teacher(name: str) -> None:
    split = blocks()
    of = teacher(split)
    model, distiller = student(split), build(name, split, of, **HELD.get(name, {}))
    optimiser = torch.optim.Adam([*model.parameters(), *distiller.parameters()], lr=0.05)
    values = []
    draw = torch_stream(0, "distil")
    for epoch in range(1, 41):
        distiller.begin_epoch(epoch, draw, model)
        loss = distiller.loss(batch(split), model.embed())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        values.append(float(loss.detach()))
    assert sum(values[-5:]) < 0.8 * sum(values[:5])
