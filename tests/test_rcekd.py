from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch

from kdrec.data.interactions import Interactions
from kdrec.errors import UsageError
from kdrec.methods.base import Teacher
from kdrec.methods.rcekd import RCEKD
from kdrec.models.base import Batch, EmbeddingScorer, Vectors
from kdrec.models.bprmf import BPRMF
from kdrec.seeding import torch_stream
from tests.worlds import random_interactions, random_vectors

CPU = torch.device("cpu")
OPTIONS = {
    "n_top": 6, "n_drawn": 5, "student_pool": 15, "temperature": 2.0, "draw_scale": 3.0,
    "beta": 3.0, "gamma": "overlap", "counted": "below", "mask_train": True,
    "rank_every": 1, "visits": "batch", "seed": 0, "batch_size": 7, "device": CPU,
}  # fmt: skip


vectors = partial(random_vectors, real=torch.float32)


def make(train: Interactions, **options: object) -> RCEKD:
    teacher = Teacher(EmbeddingScorer(vectors(train)), None)
    return RCEKD(train, teacher, **{**OPTIONS, **options})  # type: ignore[arg-type]


def bprmf(train: Interactions, seed: int = 0) -> BPRMF:
    """A student that knows something of the teacher, so that their lists overlap."""
    model = BPRMF(train, dim=4, generator=torch_stream(seed, "init"))
    of = vectors(train)
    noise = vectors(train, seed=seed + 9)
    with torch.no_grad():
        model.user_table.copy_(of.users + 0.5 * noise.users)
        model.item_table.copy_(of.items + 0.5 * noise.items)
    return model


def step(users: torch.Tensor) -> Batch:
    return Batch(users, users, users, 0, 1)


def ranking(train: Interactions, user: int, scores: torch.Tensor, *, mask: bool) -> list[int]:
    seen = set(train.items[train.users == user].tolist()) if mask else set()
    rest = [item for item in range(train.n_items) if item not in seen]
    return sorted(rest, key=lambda item: -float(scores[user, item]))


def cross_entropy(items: list[int], t: torch.Tensor, s: torch.Tensor, temperature: float) -> float:
    p = [math.exp(float(t[item]) / temperature) for item in items]
    q = [math.exp(float(s[item]) / temperature) for item in items]
    return -sum(one / sum(p) * math.log(other / sum(q)) for one, other in zip(p, q, strict=True))


def drawn_items(method: RCEKD, user: int) -> list[int]:
    columns = method.items[user, method.split : -method.best.shape[1]]
    return columns[columns >= 0].tolist()


@pytest.mark.parametrize("gamma", ["overlap", "sampled"])
@pytest.mark.parametrize("mask", [True, False])
def test_the_loss_is_the_papers(gamma: str, mask: bool) -> None:
    train = random_interactions(density=0.2)
    method, model = make(train, gamma=gamma, mask_train=mask), bprmf(train)
    method.begin_epoch(1, torch_stream(0, "distil"), model)
    everyone = torch.arange(train.n_users)
    t, ranked_by = EmbeddingScorer(vectors(train)).scores(everyone), model.scores(everyone).detach()
    student = vectors(train, seed=5)
    s = student.users @ student.items.T
    users = torch.tensor([3, 8, 3, 11, 20])
    losses, gammas = [], []
    for user in users.tolist():
        by_teacher = ranking(train, user, t, mask=mask)[:6]
        by_student = ranking(train, user, ranked_by, mask=mask)
        drawn = drawn_items(method, user)
        assert len(set(drawn)) == 5
        assert set(drawn) <= set(by_student[:15])
        a = set(drawn) | (set(by_teacher) - set(by_student[:6]))
        other = by_student[:6] if gamma == "overlap" else drawn
        g = math.exp(-3.0 * len(set(by_teacher) & set(other)) / 6)
        gammas.append(g)
        losses.append(
            (1 - g) * cross_entropy(by_student[:6], t[user], s[user], 2.0)
            + g * cross_entropy(sorted(a), t[user], s[user], 2.0)
        )
    assert 0 < min(gammas) < max(gammas)
    assert float(method.loss(step(users), student)) == pytest.approx(np.mean(losses), rel=1e-5)


def test_the_sets_have_no_item_twice() -> None:
    train = random_interactions(density=0.2)
    method = make(train)
    method.begin_epoch(1, torch_stream(0, "distil"), bprmf(train))
    for part in (method.items[:, : method.split], method.items[:, method.split :]):
        for row in part:
            there = row[row >= 0].tolist()
            assert len(there) == len(set(there))


@pytest.mark.parametrize(
    ("counted", "z"),
    [
        ("below", {1: 3, 5: 3, 0: 2, 4: 2, 2: 1}),  # item 3, beyond the pool of five, counts
        ("pool", {1: 3, 5: 2, 0: 2, 4: 1, 2: 1}),  # and here 1, 0 and 2 count themselves
    ],
)
def test_items_are_drawn_by_how_many_of_the_teachers_best_are_below(
    counted: str, z: dict[int, int]
) -> None:
    """One item a user: its law is that of all users with the same rankings."""
    n = 40_000
    few = np.zeros(0, np.int64)
    train = Interactions.from_pairs(few, few, n_users=n, n_items=7)
    # The teacher's best four are 0, 1, 2 and 3; the student ranks 1 5 0 4 2 6 3.
    by_teacher = torch.tensor([[7.0], [6.0], [5.0], [4.0], [3.0], [2.0], [1.0]])
    by_student = torch.tensor([[5.0], [7.0], [3.0], [1.0], [4.0], [6.0], [2.0]])
    users = torch.ones(n, 1)
    model = BPRMF(train, dim=1, generator=torch_stream(0, "init"))
    with torch.no_grad():
        model.user_table.copy_(users)
        model.item_table.copy_(by_student)
    method = RCEKD(
        train,
        Teacher(EmbeddingScorer(Vectors(users, by_teacher)), None),
        **{
            **OPTIONS, "n_top": 4, "n_drawn": 1, "student_pool": 5, "counted": counted,
            "draw_scale": 1.5, "batch_size": 4096,
        },  # type: ignore[arg-type]
    )  # fmt: skip
    method.begin_epoch(1, torch_stream(0, "distil"), model)
    weights = np.zeros(7)
    for item, below in z.items():
        weights[item] = math.exp(below / 1.5)
    exact = weights / weights.sum()
    found = np.bincount(method.items[:, method.split], minlength=7) / n
    assert (np.abs(found - exact) <= 4.5 * np.sqrt(exact * (1 - exact) / n) + 1e-9).all()


@pytest.mark.parametrize(("counted", "last"), [("below", 19), ("pool", 30)])
def test_as_published_z_ends_at_fifty(counted: str, last: int) -> None:
    """The teacher's sixty are the student's last of eighty: the first twenty have z = 60, or 50."""
    train = Interactions.from_pairs(
        np.zeros(0, np.int64), np.zeros(0, np.int64), n_users=1, n_items=80
    )
    model = BPRMF(train, dim=1, generator=torch_stream(0, "init"))
    with torch.no_grad():
        model.user_table.fill_(1)
        model.item_table.copy_(-torch.arange(80.0)[:, None])
    by_teacher = Vectors(torch.ones(1, 1), torch.arange(80.0)[:, None])
    method = RCEKD(
        train,
        Teacher(EmbeddingScorer(by_teacher), None),
        **{
            **OPTIONS, "n_top": 60, "n_drawn": 20, "student_pool": 80, "counted": counted,
            "draw_scale": 0.05,
        },  # type: ignore[arg-type]
    )  # fmt: skip
    method.begin_epoch(1, torch_stream(0, "distil"), model)
    # At so small a scale only items of the largest z are drawn: down to rank 31 it is 50 or more.
    drawn = set(drawn_items(method, 0))
    assert len(drawn) == 20
    assert drawn <= set(range(last + 1))
    assert (max(drawn) == 19) == (last == 19)


def test_the_gradient_is_that_of_cross_entropy() -> None:
    """`(softmax(s / tau) - p) / tau`, weighted, of each score."""
    train = random_interactions(density=0.2)
    method, model = make(train), bprmf(train)
    method.begin_epoch(1, torch_stream(0, "distil"), model)
    users = torch.ones(train.n_users, 1, requires_grad=True)
    items = torch.zeros(train.n_items, 1, requires_grad=True)
    method.loss(step(torch.tensor([4])), Vectors(users, items)).backward()
    expected = torch.zeros(train.n_items)
    for part in (slice(0, method.split), slice(method.split, None)):
        chosen, target = method.items[4, part], method.target[4, part]
        there = chosen >= 0
        even = target[there].sum() / there.sum()
        expected.index_add_(0, chosen[there].long(), (even - target[there]) / 2.0)
    assert items.grad is not None
    torch.testing.assert_close(items.grad[:, 0], expected)


def test_short_lists_and_users_without_candidates() -> None:
    users, items = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 1, 2, 0, 1, 0])
    train = Interactions.from_pairs(users, items, n_users=3, n_items=3)
    method = make(train)
    method.begin_epoch(1, torch_stream(0, "distil"), bprmf(train))
    assert bool((method.items[0] < 0).all())
    student = vectors(train, seed=5)
    student.users.requires_grad_()
    method.loss(step(torch.tensor([0, 0])), student).backward()
    assert student.users.grad is not None
    assert not bool(student.users.grad.any())
    loss = method.loss(step(torch.tensor([0, 1, 2])), student).detach()
    assert bool(torch.isfinite(loss))
    assert float(loss) > 0


def test_large_scores_are_no_overflow() -> None:
    train = random_interactions(density=0.2)
    users, items = vectors(train)
    huge = Teacher(EmbeddingScorer(Vectors(users * 1e3, items * 1e3)), None)
    method = RCEKD(train, huge, **{**OPTIONS, "temperature": 0.1})  # type: ignore[arg-type]
    model = bprmf(train)
    with torch.no_grad():
        model.item_table.mul_(1e4)
    method.begin_epoch(1, torch_stream(0, "distil"), model)
    loss = method.loss(step(torch.arange(train.n_users)), model.embed())
    loss.backward()
    assert bool(torch.isfinite(loss.detach()))
    assert model.user_table.grad is not None
    assert bool(torch.isfinite(model.user_table.grad).all())


def test_the_student_ranks_in_some_epochs_and_items_are_drawn_in_each() -> None:
    train = random_interactions(density=0.15)
    method, draw = make(train, rank_every=2), torch_stream(0, "distil")
    listed, items = [], []
    for epoch in (1, 2, 3):
        method.begin_epoch(epoch, draw, bprmf(train, seed=epoch))
        listed.append(method.listed.clone())
        items.append(method.items.clone())
    assert torch.equal(listed[0], listed[1])
    assert not torch.equal(listed[1], listed[2])
    assert not torch.equal(items[0], items[1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_top": 0}, "n_top=0"),
        ({"n_drawn": 0}, "n_drawn=0"),
        ({"student_pool": 5}, "student_pool=5 is too short for n_top=6"),
        ({"temperature": 0.0}, "temperature="),
        ({"draw_scale": 0.0}, "draw_scale="),
        ({"beta": -1.0}, "beta="),
        ({"rank_every": 0}, "rank_every=0"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make(random_interactions(), **options)
