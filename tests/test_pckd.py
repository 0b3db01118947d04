from __future__ import annotations

import itertools
import math
from functools import partial

import numpy as np
import pytest
import torch

from kdrec.errors import UsageError
from kdrec.methods.base import Teacher
from kdrec.methods.de import DE
from kdrec.methods.pckd import PCKD, list_term, pair_term
from kdrec.models.base import Batch, EmbeddingScorer, Vectors
from kdrec.models.bprmf import BPRMF
from kdrec.seeding import torch_stream
from tests.test_de import naive
from tests.worlds import random_interactions

CPU = torch.device("cpu")
TRAIN = random_interactions()
DE_PART = partial(
    DE, student_dim=4, n_experts=1, expert="relu_inside", first_temperature=1.0,
    last_temperature=0.1, anneal_epochs=5, visits="batch",
)  # fmt: skip
OPTIONS = {
    "de": DE_PART, "regulariser": "list", "alpha": 0.1, "n_items": 3, "tau": 0.5,
    "temperature": 3.0, "pool": 12, "seed": 0, "batch_size": 7, "device": CPU,
}  # fmt: skip
USERS, WEIGHTS = torch.tensor([3, 8, 3]), torch.tensor([0.5, 2.0, 0.0])
BATCH = Batch(USERS, torch.tensor([1, 2, 3]), torch.tensor([4, 4, 5]), 0, 1)


def vectors(dim: int, seed: int = 0) -> Vectors:
    generator = torch_stream(seed, "vectors")
    return Vectors(*(torch.randn(n, dim, generator=generator) for n in (30, 50)))


def make(**options: object) -> PCKD:
    scorer = EmbeddingScorer(vectors(7))
    method = PCKD(TRAIN, Teacher(scorer, scorer), **{**OPTIONS, **options})  # type: ignore[arg-type]
    student = BPRMF(TRAIN, dim=4, generator=torch_stream(0, "init"))
    method.begin_epoch(1, torch_stream(1, "distil"), student)
    return method


def term(kind: str, before: list[float], after: list[float], tau: float) -> float:
    if kind == "pair":
        return sum(
            math.log1p(math.exp(-(before[a] - before[b]) * (after[a] - after[b])))
            for a, b in itertools.combinations(range(len(before)), 2)
        )
    weights = [[math.exp(score / tau) for score in scores] for scores in (before, after)]
    target, found = ([one / sum(part) for one in part] for part in weights)
    return -sum(t * math.log(f) for t, f in zip(target, found, strict=True))


@pytest.mark.parametrize("kind", ["list", "pair"])
def test_the_regulariser_is_its_formula_weighted_over_users(kind: str) -> None:
    method, of = make(regulariser=kind), vectors(4, 5)
    total, one = 0.0, torch.ones(1)
    for user, weight in ((3, 0.5), (8, 2.0)):
        items = method.drawn[user].tolist()
        mine = naive(method.de.users, of.users[user], one)
        theirs = [naive(method.de.items, of.items[item], one) for item in items]
        before = [float(of.users[user] @ of.items[item]) for item in items]
        total += weight * term(kind, before, [float((mine @ one).detach()) for one in theirs], 0.5)
    assert float(method.consistency(USERS, WEIGHTS, of).detach()) == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("kind", ["list", "pair"])
def test_items_that_are_not_there_do_not_count(kind: str) -> None:
    loss = list_term if kind == "list" else pair_term
    before, after = (
        torch.tensor([[1.0, -2.0, 9.0], [3, 4, 5]]),
        torch.tensor([[0.5, 1, 9], [1, 2, 3.0]]),
    )
    there = torch.tensor([[True, True, False], [False, False, False]])
    found = loss(before, after, there, 0.5).tolist()
    assert found == pytest.approx([term(kind, [1, -2], [0.5, 1], 0.5), 0])


@pytest.mark.parametrize("kind", ["list", "pair"])
def test_the_regulariser_trains_the_projectors_alone(kind: str) -> None:
    method = make(regulariser=kind, de=partial(DE_PART, n_experts=4))
    of = Vectors(*(part.requires_grad_() for part in vectors(4, 5)))
    method.consistency(USERS, WEIGHTS, of).backward()  # type: ignore[no-untyped-call]
    assert [part.grad for part in of] == [None, None]
    for parameter in method.parameters():
        assert parameter.grad is not None
        assert float(parameter.grad.abs().sum()) > 0


def test_the_loss_adds_alpha_times_the_regulariser_to_de() -> None:
    method, of = make(), vectors(4, 5)
    of_de = float(method.de.loss(BATCH, of).detach())
    more = method.consistency(*method.de.visit_users.of_step(BATCH), of)
    assert float(method.loss(BATCH, of).detach()) == pytest.approx(
        of_de + 0.1 * float(more.detach())
    )


@pytest.mark.parametrize("kind", ["list", "pair"])
def test_following_the_regulariser_restores_the_students_order(kind: str) -> None:
    method, of = make(regulariser=kind, n_items=6, tau=1.0), vectors(4, 5)
    optimiser = torch.optim.Adam(method.parameters(), lr=0.02)
    users = torch.arange(30)
    items = method.drawn.long()
    before = torch.bmm(of.items[items], of.users.unsqueeze(2)).squeeze(2)

    def agreement() -> float:
        with torch.no_grad():
            mine, theirs = method.de.users(of.users, torch.ones(30, 1), users >= 0), of.items[items]
            flat = theirs.flatten(0, 1)
            projected = method.de.items(flat, torch.ones(len(flat), 1), flat[:, 0] == flat[:, 0])
            after = torch.bmm(projected.view(30, 6, -1), mine.unsqueeze(2)).squeeze(2)
            same = (before.unsqueeze(1) > before.unsqueeze(2)) == (
                after.unsqueeze(1) > after.unsqueeze(2)
            )
            return float(same.float().mean())

    first = agreement()
    for _ in range(150):
        optimiser.zero_grad()
        method.consistency(users, torch.ones(30), of).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    assert first < 0.75
    assert agreement() > 0.9


def test_items_are_drawn_in_each_epoch() -> None:
    method, student = make(), BPRMF(TRAIN, dim=4, generator=torch_stream(0, "init"))
    first = method.drawn.clone()
    method.begin_epoch(2, torch_stream(2, "distil"), student)
    assert float((method.drawn != first).any(1).float().mean()) > 0.5


def test_a_step_without_a_user_has_no_regulariser() -> None:
    method = make(de=partial(DE_PART, visits="once"))
    steps = [Batch(USERS, USERS, USERS, number, 100) for number in range(100)]
    assert min(len(method.de.visit_users.of_step(of)[0]) for of in steps) == 0
    losses = [float(method.loss(of, vectors(4, 5)).detach()) for of in steps]
    assert np.isfinite(losses).all()
    more = [method.consistency(*method.de.visit_users.of_step(of), vectors(4, 5)) for of in steps]
    whole = method.consistency(*method.de.visit_users.of_step(BATCH), vectors(4, 5))
    assert float(whole.detach()) > 0
    assert sum(float(part.detach() > 0) for part in more) == 30


@pytest.mark.parametrize(
    ("option", "value"),
    [("alpha", -1.0), ("n_items", 1), ("tau", 0.0), ("temperature", 0.0), ("pool", 1)],
)
def test_options_out_of_range_are_refused(option: str, value: float) -> None:
    with pytest.raises(UsageError, match=f"{option}="):
        make(**{option: value})
