from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch

from kdrec.data.interactions import Interactions
from kdrec.errors import UsageError
from kdrec.methods.base import Teacher
from kdrec.methods.dcd import DCD
from kdrec.models.base import Batch, EmbeddingScorer, Vectors
from kdrec.models.bprmf import BPRMF
from kdrec.seeding import torch_stream
from tests.worlds import random_interactions, random_vectors

CPU = torch.device("cpu")
OPTIONS = {
    "n_items": 4, "pool": 20, "temperature": 5.0, "floor": 0.0, "ranked": "catalogue",
    "rank_every": 1, "visits": "batch", "item_weight": 0.0, "seed": 0, "batch_size": 7,
    "device": CPU,
}  # fmt: skip


vectors = partial(random_vectors, real=torch.float32)


def make(train: Interactions, **options: object) -> DCD:
    teacher = Teacher(EmbeddingScorer(vectors(train)), None)
    return DCD(train, teacher, **{**OPTIONS, **options})  # type: ignore[arg-type]


def bprmf(train: Interactions, seed: int = 0) -> BPRMF:
    return BPRMF(train, dim=4, generator=torch_stream(seed, "init"))


def step(users: torch.Tensor) -> Batch:
    return Batch(users, users, users, 0, 1)


def unseen(train: Interactions, user: int, scores: torch.Tensor) -> list[int]:
    """The items that the user has not in training, best first."""
    seen = set(train.items[train.users == user].tolist())
    rest = [item for item in range(train.n_items) if item not in seen]
    return sorted(rest, key=lambda item: -float(scores[user, item]))


def naive_gaps(train: Interactions, model: BPRMF, ranked: str) -> list[dict[int, int]]:
    everyone = torch.arange(train.n_users)
    by_teacher = EmbeddingScorer(vectors(train)).scores(everyone)
    by_student = model.scores(everyone).detach()
    found = []
    for user in range(train.n_users):
        pool = unseen(train, user, by_teacher)[:20]
        order = unseen(train, user, by_student)
        if ranked == "pool":
            order = [item for item in order if item in pool]
        found.append({item: order.index(item) - place for place, item in enumerate(pool)})
    return found


def naive_list_loss(ordered: list[float], others: list[float]) -> float:
    total = 0.0
    for place, score in enumerate(ordered):
        below = [*ordered[place:], *others]
        total += math.log(sum(math.exp(one) for one in below)) - score
    return total


@pytest.mark.parametrize("ranked", ["catalogue", "pool"])
def test_gaps_are_differences_of_ranks_of_unseen_items(ranked: str) -> None:
    train = random_interactions(density=0.15)
    method, model = make(train, ranked=ranked, temperature=50.0), bprmf(train)
    method.begin_epoch(1, torch_stream(0, "distil"), model)
    for user, gaps in enumerate(naive_gaps(train, model, ranked)):
        found = zip(method.users.pool[user].tolist(), method.users.gap[user].tolist(), strict=True)
        assert {item: gap for item, gap in found if item >= 0} == gaps
    if ranked == "pool":
        assert not method.users.gap.sum(1).any()


def test_counting_ranks_up_to_a_depth_leaves_the_weights_as_they_are() -> None:
    train = random_interactions(users=10, items=400, density=0.05)
    method, model = make(train, temperature=2.0), bprmf(train)
    method.begin_epoch(1, torch_stream(0, "distil"), model)
    assert int(method.users.gap.max()) <= 40
    everything = naive_gaps(train, model, "catalogue")
    assert max(max(gaps.values()) for gaps in everything) > 100
    for user, gaps in enumerate(everything):
        found = (method.users.gap[user] / 2).tanh()
        assert torch.equal(found, (torch.tensor(list(gaps.values())) / 2).tanh())


def test_under_estimated_items_are_in_the_teachers_order_and_over_estimated_ones_apart() -> None:
    train = random_interactions(density=0.15)
    method, model = make(train), bprmf(train)
    method.begin_epoch(1, torch_stream(0, "distil"), model)
    for user, gaps in enumerate(naive_gaps(train, model, "catalogue")):
        under, over = (part[part >= 0].tolist() for part in method.users.lists[user].chunk(2))
        places = [list(gaps).index(item) for item in under]
        assert places == sorted(set(places))
        assert len(set(over)) == len(over)
        assert all(gaps[item] > 0 for item in under)
        assert all(gaps[item] < 0 for item in over)
        assert len(under) == min(4, sum(gap > 0 for gap in gaps.values()))
        assert len(over) == min(4, sum(gap < 0 for gap in gaps.values()))


def test_items_are_drawn_by_the_hyperbolic_tangent_of_their_gap() -> None:
    """One item a user: its law is the weights', of all users with the same rankings."""
    n = 40_000
    few = np.zeros(0, np.int64)
    train = Interactions.from_pairs(few, few, n_users=n, n_items=6)
    users = torch.ones(n, 1)
    by_teacher = torch.tensor([[6.0], [5.0], [4.0], [3.0], [2.0], [1.0]])
    by_student = torch.tensor([[4.0], [1.0], [5.0], [6.0], [2.0], [3.0]])
    gaps = np.array([2, 4, -1, -3, 0, -2])
    model = BPRMF(train, dim=1, generator=torch_stream(0, "init"))
    with torch.no_grad():
        model.user_table.copy_(users)
        model.item_table.copy_(by_student)
    for floor in (0.0, 0.05):
        method = DCD(
            train,
            Teacher(EmbeddingScorer(Vectors(users, by_teacher)), None),
            **{**OPTIONS, "n_items": 1, "floor": floor, "batch_size": 4096},  # type: ignore[arg-type]
        )
        method.begin_epoch(1, torch_stream(0, "distil"), model)
        for column, sign in ((0, 1), (1, -1)):
            weights = np.maximum(np.tanh(np.maximum(sign * gaps / 5.0, 0)), floor)
            exact = weights / weights.sum()
            found = np.bincount(method.users.lists[:, column], minlength=6) / n
            assert (np.abs(found - exact) <= 4.5 * np.sqrt(exact * (1 - exact) / n) + 1e-9).all()


def test_a_floor_fills_the_lists() -> None:
    train = random_interactions(density=0.15)
    method = make(train, floor=1e-5, n_items=15)
    method.begin_epoch(1, torch_stream(0, "distil"), bprmf(train))
    assert bool((method.users.lists >= 0).all())


def test_the_loss_is_summed_over_different_users_and_divided_by_interactions() -> None:
    train = random_interactions(density=0.15)
    method = make(train, n_items=12)
    method.begin_epoch(1, torch_stream(0, "distil"), bprmf(train))
    student = vectors(train, seed=5)
    users = torch.tensor([3, 8, 3, 11, 8, 3])
    total = 0.0
    for user in (3, 8, 11):
        scores = (student.items @ student.users[user]).tolist()
        under, over = (part[part >= 0].tolist() for part in method.users.lists[user].chunk(2))
        total += naive_list_loss([scores[item] for item in under], [scores[item] for item in over])
    for repeats in (1, 20):  # a batch of fewer rows than there are users, and one of more
        loss = method.loss(step(users.repeat(repeats)), student)
        assert float(loss) == pytest.approx(total / 6 / repeats, rel=1e-5)


@pytest.mark.parametrize("ranked", ["catalogue", "pool"])
def test_the_item_side_is_the_user_side_turned_around(ranked: str) -> None:
    train = random_interactions(density=0.15)
    of = EmbeddingScorer(vectors(train))
    method = DCD(
        train,
        Teacher(of, of),
        **{**OPTIONS, "ranked": ranked, "item_weight": 0.5},  # type: ignore[arg-type]
    )
    method.begin_epoch(1, torch_stream(0, "distil"), bprmf(train))
    assert method.items is not None
    seen = set(zip(train.users.tolist(), train.items.tolist(), strict=True))
    by_teacher = of.scores(torch.arange(train.n_users))
    for item, row in enumerate(method.items.pool.tolist()):
        users = [user for user in range(train.n_users) if (user, item) not in seen]
        users.sort(key=lambda user: -float(by_teacher[user, item]))
        assert [user for user in row if user >= 0] == users[:20]
    student = vectors(train, seed=5)
    batch = Batch(torch.tensor([3, 8, 3]), torch.tensor([7, 7, 2]), torch.zeros(3), 0, 1)
    total = 0.0
    scores = student.users @ student.items.T
    for side, ids, table, weight in (
        (method.users, (3, 8), scores, 1.0),
        (method.items, (7, 2), scores.T, 0.5),
    ):
        for one in ids:
            under, over = (part[part >= 0].long() for part in side.lists[one].chunk(2))
            assert len(under) > 1
            found = naive_list_loss(table[one][under].tolist(), table[one][over].tolist())
            total += weight * found
    assert float(method.loss(batch, student)) == pytest.approx(total / 3, rel=1e-5)


def test_the_item_side_needs_vectors() -> None:
    with pytest.raises(UsageError, match="teacher with vectors"):
        make(random_interactions(), item_weight=0.5)


def test_the_size_of_scoring_batches_changes_no_draw() -> None:
    train = random_interactions(density=0.15)
    lists = []
    for size in (3, 1000):
        method = make(train, batch_size=size)
        method.begin_epoch(1, torch_stream(0, "distil"), bprmf(train))
        lists.append(method.users.lists)
    assert torch.equal(*lists)


def test_users_without_candidates_have_no_loss() -> None:
    users, items = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 1, 2, 0, 1, 0])
    train = Interactions.from_pairs(users, items, n_users=3, n_items=3)
    method = make(train, floor=1e-5)
    method.begin_epoch(1, torch_stream(0, "distil"), bprmf(train))
    assert (method.users.lists[0] < 0).all()
    student = vectors(train, seed=5)
    student.users.requires_grad_()
    method.loss(step(torch.tensor([0, 0])), student).backward()
    assert student.users.grad is not None
    assert not bool(student.users.grad.any())
    loss = method.loss(step(torch.tensor([0, 1, 2])), student)
    assert bool(torch.isfinite(loss))
    assert float(loss.detach()) > 0


@pytest.mark.parametrize("ranked", ["catalogue", "pool"])
def test_the_student_ranks_in_some_epochs_and_draws_in_each(ranked: str) -> None:
    train = random_interactions(density=0.15)
    method, draw = make(train, rank_every=2, ranked=ranked), torch_stream(0, "distil")
    gaps, lists = [], []
    for epoch in (1, 2, 3):
        method.begin_epoch(epoch, draw, bprmf(train, seed=epoch))
        gaps.append(method.users.gap)
        lists.append(method.users.lists.clone())
    assert torch.equal(gaps[0], gaps[1])
    assert not torch.equal(gaps[1], gaps[2])
    assert not torch.equal(lists[0], lists[1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_items": 0}, "n_items=0"),
        ({"pool": 1}, "pool=1"),
        ({"temperature": 0.0}, "temperature="),
        ({"floor": 1.0}, "floor="),
        ({"rank_every": 0}, "rank_every=0"),
        ({"item_weight": -0.5}, "item_weight="),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make(random_interactions(), **options)
