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
from kdrec.methods.soft_labels import rank_all
from kdrec.models.base import Batch, Embedder, frozen
from kdrec.models.bprmf import BPRMF
from kdrec.seeding import torch_stream
from tests.conftest import ROOT
from tests.waits import Seen
from tests.worlds import blocks

CPU = torch.device("cpu")
FOLDER = ROOT / "conf" / "method"
DIM = 4  # of the student
#: Where less is asked: a long list in its order is unlikely with any four numbers, and what ends in
#: a ReLU cannot reach the teacher's negative coordinates.
#: More is asked where a constant is left out, by which the loss does not fall.
FALLS = {"rrd": 0.85, "derrd": 0.85, "derrd_legacy": 0.92, "ftd": 0.6, "htd": 0.7}


def load(name: str) -> DictConfig:
    """The method's file over those that its defaults name, as Hydra would merge them."""
    cfg: Any = OmegaConf.load(FOLDER / f"{name}.yaml")
    bases = [load(base) for base in cfg.pop("defaults", []) if base != "_self_"]
    merged = OmegaConf.merge(*bases, cfg)
    assert isinstance(merged, DictConfig)
    return merged


#: Methods, in any variant, of which the lists of teacher and student are compared, since the value
#: of the loss need not fall: dcd's is over what the student has wrong at the time, and most of
#: rcekd's is the entropy of this teacher's probabilities, which are nearly even.
JUDGED_BY_LISTS = {"dcd", "rcekd"}
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
    cfg = OmegaConf.merge(
        {"student": {"dim": DIM}, "fit": {"epochs": 1000}}, load(name)
    )  # as in a whole configuration
    distiller: Distiller = instantiate(cfg, _convert_="all")["method"]["distiller"](
        split.train, of, **{"seed": 0, "batch_size": 16, "device": CPU, **options}
    )
    return distiller


def disagreement(model: BPRMF, of: Teacher, split: Split) -> float:
    """Share of the teacher's ten best unseen items that are not among the student's."""
    lists = [
        rank_all(
            scorer, split.train, pool=10, batch_size=16, generator=torch_stream(0, "t"), device=CPU
        ).items[:, 0]
        for scorer in (of.scorer, frozen(model))
    ]
    both = (lists[0].unsqueeze(2) == lists[1].unsqueeze(1)).any(2)
    return 1 - float(both.float().mean())


def batch(split: Split, step: int = 0, n_steps: int = 1) -> Batch:
    users, items = (torch.from_numpy(part) for part in (split.train.users, split.train.items))
    negatives = NegativeSampler(split.train, device=CPU).sample(users, torch_stream(0, "n"))
    return Batch(users, items, negatives, step, n_steps)


def student(split: Split) -> BPRMF:
    return BPRMF(split.train, dim=DIM, generator=torch_stream(0, "init"))


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
    learnt = [part for part in distiller.parameters() if part.requires_grad]
    assert all(part.grad is not None for part in learnt)


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
def test_an_epoch_depends_on_its_generator_alone(name: str) -> None:
    split = blocks(users=20, items=1000)  # so many that no method draws all that it may
    of, losses, drew = teacher(split), [], False
    for seed in (0, 0, 1):
        model, distiller, draw = (
            student(split),
            build(name, split, of),
            torch_stream(seed, "distil"),
        )
        before = draw.get_state()
        distiller.begin_epoch(1, draw, model)
        first = batch(split, step=0, n_steps=2)
        losses.append(float(distiller.loss(first, model.embed()).detach()))
        drew = not torch.equal(before, draw.get_state())
    assert losses[0] == losses[1]
    assert (losses[0] != losses[2]) == drew


@pytest.mark.parametrize("name", METHODS)
def test_how_many_users_are_scored_at_once_changes_no_byte(name: str) -> None:
    split = blocks(users=51)  # a last batch of two, and of one
    of, found = teacher(split), []
    for batch_size in (7, 50, 1000):
        model, distiller = student(split), build(name, split, of, batch_size=batch_size)
        draw = torch_stream(0, "distil")
        losses = []
        for epoch in (1, 2):
            distiller.begin_epoch(epoch, draw, model)
            loss = distiller.loss(batch(split), model.embed())
            loss.backward()
            losses.append(loss.detach())
        found.append([*losses, model.user_table.grad, model.item_table.grad])
    for other in found[1:]:
        for one, same in zip(found[0], other, strict=True):
            assert one is not None
            assert same is not None
            assert torch.equal(one, same)


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
    split, base = blocks(), name.partition("_")[0]
    of = teacher(split)
    model, distiller = student(split), build(name, split, of, **HELD.get(base, {}))
    optimiser = torch.optim.Adam([*model.parameters(), *distiller.parameters()], lr=0.05)
    values = []
    draw = torch_stream(0, "distil")
    for epoch in range(1, 41):
        distiller.begin_epoch(epoch, draw, model)
        loss = distiller.loss(batch(split), model.embed())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        by_lists = base in JUDGED_BY_LISTS
        values.append(disagreement(model, of, split) if by_lists else float(loss.detach()))
    first, last = sum(values[:5]), sum(values[-5:])
    # A loss may be negative, where it is told without its constants.
    assert last < first - (1 - FALLS.get(name, 0.8)) * abs(first)
