from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from kdrec.data.interactions import Interactions
from kdrec.data.sampling import NegativeSampler
from kdrec.methods.base import Distiller, Teacher
from kdrec.methods.visits import (
    HalfItems,
    Items,
    PerInteraction,
    Unique,
    Visits,
    When,
    expected_steps,
)
from kdrec.models.base import Batch, EmbeddingScorer, Vectors
from kdrec.models.bprmf import BPRMF
from kdrec.seeding import torch_stream
from kdrec.training.trainer import batches
from tests.contracts.test_methods import load
from tests.waits import Seen

CPU = torch.device("cpu")
BATCH_SIZE, N_STEPS = 30, 5


def world() -> Interactions:
    """150 pairs, some users and items without one, some with many: five steps of thirty pairs."""
    rng = np.random.default_rng(3)
    keys = rng.choice(25 * 40, size=400, replace=False)
    keys = keys[np.argsort(rng.random(400) * (1 + keys // 40), kind="stable")[:150]]
    return Interactions.from_pairs(keys // 40, keys % 40, n_users=30, n_items=50)


TRAIN = world()


def epochs(n: int) -> Iterator[list[Batch]]:
    draw, sampler = torch_stream(0, "pairs"), NegativeSampler(TRAIN, device=CPU)
    epoch = batches(TRAIN, sampler, BATCH_SIZE, draw, CPU)
    for _ in range(n):
        yield list(epoch())


def vectors(dim: int, seed: int) -> Vectors:
    draw = torch_stream(seed, "vectors")
    sizes = (TRAIN.n_users, TRAIN.n_items)
    return Vectors(*(0.5 * torch.randn(size, dim, generator=draw) for size in sizes))


def test_the_world_has_what_can_go_wrong() -> None:
    assert len(TRAIN) == BATCH_SIZE * N_STEPS
    users, items = TRAIN.user_counts(), TRAIN.item_counts()
    assert min(users.min(), items.min()) == 0
    assert users.max() > 8


def all_visits(when: When) -> dict[str, Visits]:
    return {
        "interactions": PerInteraction(TRAIN, when),
        "users": Unique(TRAIN, when, CPU),
        "positives": Unique(TRAIN, when, CPU, of="positives"),
        "items": Items(TRAIN, when, CPU),
        "half items": HalfItems(TRAIN, when, CPU),
    }


@pytest.mark.parametrize("name", list(all_visits("once")))
def test_once_weighs_each_id_as_often_as_batches_visit_it(name: str) -> None:
    once, each = all_visits("once")[name], all_visits("batch")[name]
    n = once.ids.n
    once.begin_epoch(torch_stream(0, "order"))
    weights, seen = torch.zeros(n), torch.zeros(n, dtype=torch.int64)
    for step in range(N_STEPS):
        nothing = torch.empty(0, dtype=torch.int64)
        ids, weight = once.of_step(Batch(nothing, nothing, nothing, step, N_STEPS))
        weights.index_add_(0, ids, weight)
        seen.index_add_(0, ids, torch.ones_like(ids))
    assert bool((seen == 1).all())
    found = []
    for epoch in epochs(4000):
        total = torch.zeros(n)
        for batch in epoch:
            ids, weight = each.of_step(batch)
            total.index_add_(0, ids, weight)
        found.append(total)
    of = torch.stack(found).double()
    error = of.std(0) / math.sqrt(len(of))
    assert bool(((of.mean(0) - weights).abs() <= 4.5 * error + 1e-6).all())
    assert float((error / weights.clamp(min=1e-9))[weights > 0.05].max()) < 0.03


@pytest.mark.parametrize("name", list(all_visits("batch")))
def test_the_ids_of_a_batch_are_found_without_a_wait(name: str) -> None:
    (batch, *_) = next(epochs(1))
    visits = all_visits("batch")[name]
    with Seen() as seen:
        visits.of_step(batch)
    assert seen.names
    assert seen.waits() == set()


def test_expected_steps_are_exact_and_close_to_the_law_of_independent_draws() -> None:
    counts = np.array([0, 1, 3, 8, 18])  # 30 pairs in steps of 10
    exact = [3 * (1 - math.comb(30 - n, 10) / math.comb(30, 10)) for n in counts.tolist()]
    assert expected_steps(counts, 3).tolist() == pytest.approx(exact)
    assert expected_steps(counts, 1).tolist() == [0, 1, 1, 1, 1]
    assert expected_steps(np.array([25, 5]), 3)[0] == 3  # no ten of thirty pairs avoid these 25
    many = np.array([1, 20, 400, 98_000 - 421])
    independent = 48 * (1 - (1 - 1 / 48) ** many)
    assert expected_steps(many, 48).tolist() == pytest.approx(independent, rel=5e-3)


@pytest.mark.filterwarnings("error")
def test_an_item_that_is_every_pairs_negative_is_in_every_step() -> None:
    train = Interactions.from_pairs(np.arange(6), np.zeros(6, np.int64), n_users=6, n_items=2)
    assert HalfItems(train, "once", CPU).expected(3).tolist() == pytest.approx([1.5, 1.5])
    assert Items(train, "once", CPU).expected(3).tolist() == pytest.approx([3, 3])


def test_a_batch_of_more_interactions_than_users_has_each_user_once() -> None:
    users = torch.arange(20).repeat(4)
    ids, weights = Unique(TRAIN, "batch", CPU).of_step(Batch(users, users, users, 0, 1))
    assert ids.tolist() == list(range(30))
    assert weights.tolist() == pytest.approx([1 / 80] * 20 + [0] * 10)


#: Options that take chance out of the steps, so that only who is visited differs, and the item
#: sides; and the places of the option.
CASES = {
    "unkd_official": ([], [""]),
    "rd": (["warm_up=0"], [""]),
    "rrd": (["ir_weight=0.5"], [""]),
    "de": (["n_experts=1"], [""]),
    "derrd": (["de.n_experts=1", "rrd_weight=0.1"], ["de.", "rrd."]),
    "pckd": (["de.n_experts=1", "alpha=1.0"], ["de."]),
    "dcd": (["item_weight=0.5", "floor=1.0e-5"], [""]),
    "rcekd": ([], [""]),
}


def build(name: str, when: When) -> tuple[Distiller, BPRMF]:
    options, places = CASES[name]
    cfg = OmegaConf.merge({"student": {"dim": 4}, "fit": {"epochs": 1000}}, load(name))
    changes = [*options, *(f"{place}visits={when}" for place in places)]
    cfg.merge_with_dotlist([f"method.distiller.{change}" for change in changes])
    of = EmbeddingScorer(vectors(7, 1))
    method = instantiate(cfg, _convert_="all")["method"]["distiller"](
        TRAIN, Teacher(of, of), seed=0, batch_size=16, device=CPU
    )
    model = BPRMF(TRAIN, dim=4, generator=torch_stream(0, "init"))
    method.begin_epoch(1, torch_stream(0, "distil"), model)
    return method, model


@pytest.mark.parametrize("name", list(CASES))
def test_once_is_the_mean_of_batch_where_the_student_stands_still(name: str) -> None:
    student = vectors(4, 2)
    means: dict[str, np.ndarray] = {}
    for when, n in (("once", 2), ("batch", 250)):
        method, _ = build(name, when)  # type: ignore[arg-type]
        with torch.no_grad():
            means[when] = np.array([
                np.mean([float(method.loss(batch, student)) for batch in epoch])
                for epoch in epochs(n)
            ])  # fmt: skip
    once, found = means["once"], means["batch"]
    assert once[0] == pytest.approx(once[1], rel=1e-5)  # whatever the batches are
    error = found.std(ddof=1) / math.sqrt(len(found))
    assert abs(found.mean() - once[0]) <= 4 * error + 1e-6 * abs(once[0])
    assert error < 0.01 * abs(once[0])
