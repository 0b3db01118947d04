from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from kdrec.data.interactions import Interactions, Split
from kdrec.errors import UsageError
from kdrec.kernels.draws import draw_columns, uniform
from kdrec.methods import bd
from kdrec.methods.base import Teacher
from kdrec.methods.bd import BD, ranks
from kdrec.models.base import Batch, EmbeddingScorer, Vectors
from kdrec.models.bprmf import BPRMF
from kdrec.seeding import torch_stream
from kdrec.training.trainer import Trainer
from tests.worlds import blocks, random_interactions

CPU = torch.device("cpu")
OPTIONS = {
    "teacher_weight": 0.3, "tau": 5.0, "student_scale": 0.05, "teacher_scale": 0.03,
    "rank_every": 1, "l2": 0.2, "sign_defect": False, "seed": 0, "batch_size": 7, "device": CPU,
}  # fmt: skip


def mf(train: Interactions, dim: int, seed: int) -> BPRMF:
    """Parameters large enough for clear ranks."""
    model = BPRMF(train, dim=dim, generator=torch_stream(seed, "init"))
    with torch.no_grad():
        for part in model.parameters():
            part.mul_(4)
    return model


def make(train: Interactions, **options: Any) -> BD:
    scorer = EmbeddingScorer(mf(train, 2, 9).embed())
    teacher = Teacher(scorer, None, fresh=lambda generator: mf(train, 6, 1))
    return BD(train, teacher, **{**OPTIONS, **options})


def batch(train: Interactions, *, seed: int = 0, n: int = 40) -> Batch:
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(len(train))[:n]
    users, items = torch.from_numpy(train.users[chosen]), torch.from_numpy(train.items[chosen])
    negatives = torch.from_numpy(rng.integers(0, train.n_items, len(chosen)))
    return Batch(users, items, negatives, 0, 1)


def ranks_by_hand(vectors: Vectors, train: Interactions, user: int) -> dict[int, int]:
    """Ranks of a user's unseen items, from 1 for the best."""
    scores = (vectors.users[user] @ vectors.items.T).tolist()
    seen = set(train.items[train.users == user].tolist())
    unseen = sorted(set(range(train.n_items)) - seen, key=lambda item: -scores[item])
    return {item: rank for rank, item in enumerate(unseen, start=1)}


def law_by_hand(method: BD, student: BPRMF, user: int, *, for_student: bool) -> dict[int, float]:
    train = method.train_pairs
    of_student = ranks_by_hand(student.embed(), train, user)
    of_teacher = ranks_by_hand(method.teacher.embed(), train, user)
    weights = {}
    for item, rank in of_student.items():
        if for_student:
            weights[item] = math.tanh(max(method.student_scale * (rank - of_teacher[item]), 0.0))
        else:
            weights[item] = math.exp(method.teacher_scale * (of_teacher[item] - rank))
    total = sum(weights.values())
    return {item: weight / total for item, weight in weights.items()}


def test_ranks_count_from_the_best() -> None:
    scores = torch.tensor([[0.1, 3.0, -torch.inf, 2.0]])
    assert ranks(scores).tolist() == [[2, 0, 3, 1]]


@pytest.mark.parametrize("side", [0, 1])
def test_items_are_drawn_by_the_law_of_the_paper(side: int) -> None:
    train = random_interactions(users=5, items=20, density=0.3)
    student, n = mf(train, 3, 2), 20_000
    method = make(train, rank_every=n)
    method.begin_epoch(1, torch_stream(0, "distil"), student)
    for user in range(5):
        mine = np.flatnonzero(train.users == user)
        drawn = method.drawn[:, torch.from_numpy(mine), side].flatten().numpy()
        law = law_by_hand(method, student, user, for_student=side == 0)
        share = np.bincount(drawn, minlength=20) / len(drawn)
        expected = np.array([law.get(item, 0.0) for item in range(20)])
        deviation = np.sqrt(expected * (1 - expected) / len(drawn))
        assert (np.abs(share - expected) <= 4.5 * deviation).all()
        assert (share > 0).sum() >= 5


def opposed(train: Interactions, best: int) -> tuple[BD, BPRMF]:
    """The method's teacher ranks one item first, a student that is its like but for that last."""
    method = make(train, rank_every=50, student_scale=10.0, teacher_scale=10.0)
    student = mf(train, 6, 1)
    with torch.no_grad():
        for model, sign in ((method.teacher, 1.0), (student, -1.0)):
            model.user_table[:, 0] = 1.0
            model.item_table[:, 0] = 0.0
            model.item_table[best, 0] = 1000.0 * sign
    return method, student


def test_the_student_learns_what_the_teacher_ranks_much_better() -> None:
    train = random_interactions(users=6, items=20, density=0.2)
    best = 7
    keep = train.items != best
    train = Interactions.from_pairs(train.users[keep], train.items[keep], n_users=6, n_items=20)
    method, student = opposed(train, best)
    method.begin_epoch(1, torch_stream(0, "distil"), student)
    assert bool((method.drawn[:, :, 0] == best).all())
    assert not bool((method.drawn[:, :, 1] == best).any())
    method, student = opposed(train, best)
    method.sign_defect = True
    method.begin_epoch(1, torch_stream(0, "distil"), student)
    assert not bool((method.drawn[:, :, 0] == best).any())
    assert bool((method.drawn[:, :, 1] == best).all())


def bce(logit: float, target: float) -> float:
    chance = 1 / (1 + math.exp(-logit))
    return -target * math.log(chance) - (1 - target) * math.log(1 - chance)


def test_the_loss_is_the_papers() -> None:
    train = random_interactions(density=0.2)
    method, student = make(train), mf(train, 3, 2)
    method.begin_epoch(1, torch_stream(0, "distil"), student)
    method.items = method.items.clone()
    method.items[::5] = -1
    of = batch(train)
    mine, own = ([part.detach() for part in one.embed()] for one in (student, method.teacher))
    total = 0.0
    for user, i, j in zip(
        of.users.tolist(), of.positives.tolist(), of.negatives.tolist(), strict=True
    ):
        (place,) = np.flatnonzero((train.users == user) & (train.items == i))
        learnt, taught = method.items[place].tolist()

        def s(item: int, of_user: int = user) -> float:
            return float(mine[0][of_user] @ mine[1][item])

        def t(item: int, of_user: int = user) -> float:
            return float(own[0][of_user] @ own[1][item])

        total += math.log1p(math.exp(t(j) - t(i)))
        for row in (own[0][user], own[1][i], own[1][j]):
            total += 0.2 / 2 * float(row.square().sum())
        if learnt >= 0:
            total += bce(s(learnt), 1 / (1 + math.exp(-t(learnt) / 5)))
            total += 0.3 * bce(t(taught), 1 / (1 + math.exp(-s(taught) / 5)))
    found = float(method.loss(of, student.embed()).detach())
    assert found == pytest.approx(total / len(of.users), rel=1e-5)


def gradients(method: BD, student: BPRMF, of: Batch) -> list[torch.Tensor]:
    parameters = [*student.parameters(), *method.teacher.parameters()]
    for part in parameters:
        part.grad = None
    method.loss(of, student.embed()).backward()
    return [part.grad.clone() for part in parameters]


def test_neither_learns_from_being_learnt_from() -> None:
    train = random_interactions(density=0.2)
    student, of = mf(train, 3, 2), batch(train)
    whole = make(train)
    whole.begin_epoch(1, torch_stream(0, "distil"), student)
    silent = make(train, teacher_weight=0.0)
    silent.items = whole.items
    with_it, without = (gradients(method, student, of) for method in (whole, silent))
    assert all(torch.equal(*pair) for pair in zip(with_it[:2], without[:2], strict=True))
    assert not any(torch.equal(*pair) for pair in zip(with_it[2:], without[2:], strict=True))
    alone = make(train).teacher
    alone.loss(of, alone.embed(), 0.2).backward()
    for part, found in zip(alone.parameters(), without[2:], strict=True):
        assert torch.allclose(part.grad, found, atol=1e-7)


def test_ranks_are_renewed_every_so_often_and_items_drawn_in_each_epoch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train = random_interactions()
    method, student, ranked = make(train, rank_every=3), mf(train, 3, 2), []
    plain = bd.frozen

    def counted(model: Any) -> Any:
        ranked.append(model)
        return plain(model)

    monkeypatch.setattr(bd, "frozen", counted)
    generator, items, times = torch_stream(0, "distil"), [], []
    for epoch in range(1, 8):
        method.begin_epoch(epoch, generator, student)
        items.append(method.items.clone())
        times.append(len(ranked))
    assert times == [2, 2, 2, 4, 4, 4, 6]
    assert ranked[0] is student
    assert ranked[1] is method.teacher
    assert not any(torch.equal(items[0], other) for other in items[1:])


def test_training_items_are_never_drawn_and_nothing_where_all_agree() -> None:
    users = np.array([0, 0, 0, 1, 1, 1, 1, 2])
    items = np.array([0, 1, 2, 0, 1, 2, 3, 3])
    train = Interactions.from_pairs(users, items, n_users=4, n_items=4)
    method, student = make(train, rank_every=30), mf(train, 3, 2)
    method.begin_epoch(1, torch_stream(0, "distil"), student)
    of_user = torch.from_numpy(train.users)
    one_left = method.drawn[:, of_user == 0]
    assert bool((one_left[..., 0] == -1).all())
    assert bool((one_left[..., 1] == 3).all())
    assert bool((method.drawn[:, of_user == 1] == -1).all())
    assert set(method.drawn[:, of_user == 2].unique().tolist()) <= {-1, 0, 1, 2}
    same = mf(train, 6, 1)
    method = make(train)
    method.begin_epoch(1, torch_stream(0, "distil"), same)
    assert bool((method.items[:, 0] == -1).all())
    assert bool(torch.isfinite(method.loss(batch(train), same.embed())))


def test_the_weight_of_the_method_does_not_change_what_its_teacher_learns() -> None:
    split: Split = blocks()
    taught = []
    for weight in (1.0, 0.01):
        method = make(split.train, teacher_weight=0.0, l2=0.01, rank_every=10)
        student = mf(split.train, 3, 2)
        trainer = Trainer(
            student, method, split, optimiser="adam", lr=0.01, l2=0.01, batch_size=128,
            data_weight=1.0, weight=weight, seed=0, device=CPU,
        )  # fmt: skip
        before = method.teacher.item_table.detach().clone()
        for epoch in range(1, 6):
            trainer.epoch(epoch, with_ratio=epoch == 1)
        trainer.release()
        moved = method.teacher.item_table.detach() - before
        taught.append(moved)
    assert float(taught[0].abs().mean()) > 0.05
    assert torch.allclose(*taught, atol=2e-3)


def test_a_teacher_that_is_not_learnt_and_options_out_of_range_are_refused() -> None:
    train = random_interactions()
    scorer = EmbeddingScorer(mf(train, 2, 9).embed())
    with pytest.raises(UsageError, match="method=bd trains its teacher"):
        BD(train, Teacher(scorer, scorer), **OPTIONS)
    not_by_vectors = mf(train, 6, 1)
    not_by_vectors.ranks_by_vectors = False  # type: ignore[misc]
    with pytest.raises(UsageError, match="does not rank by them"):
        BD(train, Teacher(scorer, None, fresh=lambda _: not_by_vectors), **OPTIONS)
    for option, wrong in (
        ("tau", 0.0), ("teacher_weight", -1.0), ("student_scale", 0.0),
        ("teacher_scale", -0.1), ("rank_every", 0), ("l2", -1.0), ("tau", math.nan),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=option):
            make(train, **{option: wrong})


def test_columns_are_drawn_by_their_weight_in_the_row() -> None:
    weights = torch.tensor([[0.0, 2.0, 0.0, 6.0, 0.0], [0.0] * 5, [1e-30, 0.0, 0.0, 0.0, 3e-30]])
    rows = torch.arange(3).expand(40_000, 3)
    found = draw_columns(weights, rows, uniform(rows.shape, torch_stream(0, "d")))
    assert bool((found[:, 1] == -1).all())
    for row, law in ((0, [0, 0.25, 0, 0.75, 0]), (2, [0.25, 0, 0, 0, 0.75])):
        share = np.bincount(found[:, row].numpy(), minlength=5) / 40_000
        assert share == pytest.approx(law, abs=4.5 * math.sqrt(0.25 * 0.75 / 40_000))
        assert (share[np.array(law) == 0] == 0).all()


@pytest.mark.parametrize("real", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [1, 1000, 5000])
def test_the_largest_number_stays_in_its_row(n: int, real: torch.dtype) -> None:
    weights = torch.ones(n, 7)
    weights[:, -2:] = 0
    largest = torch.full((n,), 1 - torch.finfo(real).eps / 2, dtype=real)
    assert bool((draw_columns(weights, torch.arange(n), largest) == 4).all())


def test_a_draw_does_not_depend_on_the_rows_beside_it() -> None:
    draw = torch_stream(0, "d")
    weights, rows = (
        torch.rand(900, 40, generator=draw),
        torch.randint(900, (20_000,), generator=draw),
    )
    numbers = uniform(rows.shape, draw)
    whole = draw_columns(weights, rows, numbers.clone())
    late = rows >= 600
    part = draw_columns(weights[600:], rows[late] - 600, numbers[late])
    assert torch.equal(part, whole[late])
