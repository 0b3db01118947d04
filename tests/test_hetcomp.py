from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch

from kdrec.data.interactions import Interactions
from kdrec.errors import UsageError
from kdrec.methods.base import Teacher
from kdrec.methods.curriculum import Curriculum
from kdrec.methods.hetcomp import HetComp
from kdrec.models.base import Batch, EmbeddingScorer, Vectors
from kdrec.models.bprmf import BPRMF
from kdrec.seeding import torch_stream
from tests.program import kd
from tests.test_pipeline import DATA, DISTILL, runs
from tests.worlds import random_interactions
from tests.worlds import random_vectors as vectors

CPU = torch.device("cpu")
OPTIONS = {
    "top": 20, "positives": 3, "temperature": 10.0, "alpha": 1.05, "shrink": 0.995,
    "rank_every": 2, "depth": 10, "gain": "teacher", "done": 1.0, "set_weight": 0.01,
    "rank_weight": 0.005, "clamp": 40.0, "seed": 0, "batch_size": 7, "device": CPU,
}  # fmt: skip


def one(train: Interactions, *seeds: int) -> Teacher:
    """A teacher whose checkpoints are the models of these seeds."""
    trajectory = tuple(EmbeddingScorer(vectors(train, seed)) for seed in seeds)
    return Teacher(trajectory[-1], None, trajectory=trajectory)


def two(train: Interactions) -> Teacher:
    members = (one(train, 1, 2, 3), one(train, 4, 5))
    return Teacher(members[0].scorer, None, members=members)


def make(train: Interactions, teacher: Teacher | None = None, **options: object) -> HetComp:
    return HetComp(train, teacher or two(train), **{**OPTIONS, **options})  # type: ignore[arg-type]


def bprmf(train: Interactions) -> BPRMF:
    return BPRMF(train, dim=4, generator=torch_stream(0, "init"))


def step(number: int = 0, of: int = 1) -> Batch:
    anyone = torch.zeros(1, dtype=torch.int64)
    return Batch(anyone, anyone, anyone, number, of)


def ranked(train: Interactions, scorer: EmbeddingScorer, user: int) -> list[int]:
    """Unseen items, best first, by a loop."""
    seen = set(train.items[train.users == user].tolist())
    scores = scorer.scores(torch.arange(train.n_users))[user]
    return sorted(set(range(train.n_items)) - seen, key=lambda item: -float(scores[item]))


def fused(orders: list[list[int]], temperature: float = 10.0, cut: int = 20) -> dict[int, float]:
    """Importance of each item among the first `cut` of any order."""
    found: dict[int, float] = {}
    for order in orders:
        for rank, item in enumerate(order[:cut]):
            found[item] = found.get(item, 0.0) + math.exp(-rank / temperature)
    return found


def test_lists_are_the_items_of_highest_importance_at_each_users_checkpoints() -> None:
    train = random_interactions(users=12, items=60, density=0.15)
    method, teacher = make(train), two(train)
    method.curriculum.place[3] = torch.tensor([2, 1])
    method.curriculum.place[5] = torch.tensor([1, 0])
    method._take_lists()
    for user in range(12):
        at = {3: (2, 1), 5: (1, 0)}.get(user, (0, 0))
        orders = [
            ranked(train, member.trajectory[place], user)  # type: ignore[arg-type]
            for member, place in zip(teacher.members, at, strict=True)
        ]
        worth = fused(orders)
        expected = sorted(worth.values(), reverse=True)[:20]
        size = int(method.sizes[user])
        assert size == min(20, len(orders[0]) // 2)
        found = method.items[user, :size].tolist()
        assert len(set(found)) == size
        assert [worth[item] for item in found] == pytest.approx(expected[:size], rel=1e-5)


def test_one_teachers_list_is_its_own_ranking() -> None:
    train = random_interactions(users=12, items=60, density=0.15)
    teacher = one(train, 8, 9)
    method = make(train, teacher)
    for user in range(12):
        expected = ranked(train, teacher.trajectory[0], user)[:20]  # type: ignore[arg-type]
        assert method.items[user, : int(method.sizes[user])].tolist() == expected


def test_positives_are_the_training_items_that_finished_teachers_put_first() -> None:
    train = random_interactions(users=12, items=60, density=0.15)
    method, teacher = make(train), two(train)
    for user in range(12):
        mine = train.items[train.users == user].tolist()
        orders = [
            sorted(
                mine, key=lambda item: -float(member.scorer.scores(torch.tensor([user]))[0, item])
            )
            for member in teacher.members
        ]
        worth = fused(orders, cut=99)
        size = int(method.n_positives[user])
        assert size == min(3, len(mine))
        found = method.positives[user, :size].tolist()
        expected = sorted(worth.values(), reverse=True)[:size]
        assert [worth[item] for item in found] == pytest.approx(expected)


def masses(train: Interactions, student: Vectors, user: int, clamp: float) -> np.ndarray:
    scores = (student.users[user] @ student.items.T).numpy()
    return np.asarray(np.exp(np.clip(scores, -clamp, clamp)))


def ordered(mass: np.ndarray, items: list[int], rest: float) -> float:
    return sum(
        -math.log(mass[item] / (sum(mass[j] for j in items[k:]) + rest))
        for k, item in enumerate(items)
    )


@pytest.mark.parametrize("final", [False, True])
@pytest.mark.parametrize("clamp", [40.0, 0.7])
def test_an_epoch_of_the_loss_is_that_of_the_formulas(final: bool, clamp: float) -> None:
    train = random_interactions(users=12, items=60, density=0.15)
    method, student = make(train, clamp=clamp), vectors(train, 77)
    method.final = final
    method.begin_epoch(1, torch_stream(0, "distil"), bprmf(train))
    expected = 0.0
    for user in range(12):
        mass = masses(train, student, user, clamp)
        unseen = set(range(60)) - set(train.items[train.users == user].tolist())
        top = method.items[user, : int(method.sizes[user])].tolist()
        positives = method.positives[user, : int(method.n_positives[user])].tolist()

        def outside(items: list[int], mass=mass, unseen=unseen) -> float:  # type: ignore[no-untyped-def]
            return float(sum(mass[item] for item in unseen - set(items)))

        if final:
            half, tenth = top[:10], top[:2]
            expected += 0.005 * (
                ordered(mass, positives, outside(half))
                + ordered(mass, half, outside(half)) / 2
                + ordered(mass, tenth, outside(tenth)) / 2
            )
        else:
            rest = outside(top)
            expected += 0.01 * sum(
                -math.log(mass[item] / (mass[item] + rest)) for item in [*positives, *top]
            )
    for n_steps in (1, 4, 50):
        losses = [float(method.loss(step(s, n_steps), student)) for s in range(n_steps)]
        assert sum(losses) == pytest.approx(expected, rel=1e-6)


def test_huge_scores_and_users_without_room_give_finite_gradients() -> None:
    full = np.argwhere(np.arange(30)[None, :] < np.array([30, 29, 27, 1])[:, None])
    train = Interactions.from_pairs(full[:, 0], full[:, 1], n_users=5, n_items=30)
    method = make(train)
    for final in (False, True):
        method.final = final
        method.begin_epoch(1, torch_stream(0, "distil"), bprmf(train))
        student = [(1e4 * part).float().requires_grad_() for part in vectors(train, 3)]
        loss = method.loss(step(), Vectors(*student))
        loss.backward()
        assert bool(torch.isfinite(loss))
        assert all(
            part.grad is not None and bool(torch.isfinite(part.grad).all()) for part in student
        )
        mild = [part.float().requires_grad_() for part in vectors(train, 3)]
        method.loss(step(), Vectors(*mild)).backward()
        assert float(mild[1].grad.abs().sum()) > 0  # type: ignore[union-attr]


def ndcg(mine: list[int], theirs: list[int], depth: int, gain: str) -> float:
    worth = [2 ** math.exp(-t / 10) - 1 for t in range(depth)]
    best = sum(worth[t] / math.log2(t + 2) for t in range(min(depth, len(theirs))))
    found = 0.0
    for place, item in enumerate(mine[:depth]):
        if item in theirs[:depth]:
            t = theirs.index(item) if gain == "teacher" else place
            found += worth[t] / math.log2(place + 2)
    return found / best


@pytest.mark.parametrize("gain", ["teacher", "student"])
def test_users_move_on_as_the_rule_says(gain: str) -> None:
    n_users, n_items, n_checkpoints, depth = 40, 15, 4, 6
    rng = np.random.default_rng(0)

    def lists(*shape: int) -> torch.Tensor:
        orders = rng.random((*shape, n_items)).argsort(-1)[..., :depth]
        return torch.from_numpy(orders.astype(np.int32))

    trajectories, ends = lists(n_users, 2, n_checkpoints), [3, 1]
    course = Curriculum(
        trajectories, torch.tensor(ends), alpha=1.05, shrink=0.9, gain=gain, batch_size=7
    )
    at = np.zeros((n_users, 2), dtype=int)
    before = np.zeros((n_users, 2))
    moved = []
    for k in range(1, 9):
        student = lists(n_users)
        course.look(student, k)
        for user in range(n_users):
            for place, end in enumerate(ends):

                def distance(number: int, user=user, place=place, end=end) -> float:  # type: ignore[no-untyped-def]
                    theirs = trajectories[user, place, min(number, end)].tolist()
                    return 1 - ndcg(student[user].tolist(), theirs, depth, gain)  # noqa: B023

                now = distance(at[user, place] + 1)
                if k == 1:
                    before[user, place] = now
                elif at[user, place] < end:
                    ratio = before[user, place] / now if now > 0 else math.inf
                    if ratio > 1.05 * 0.9**k or ratio < 1:
                        at[user, place] += 1
                        before[user, place] = distance(at[user, place] + 1)
        assert course.place.tolist() == at.tolist(), k
        moved.append(at.sum())
    assert moved[0] == 0
    assert 0 < moved[1] <= moved[-1] == n_users * 4
    assert course.share_done() == 1.0


def test_the_curriculum_stays_while_the_student_does() -> None:
    lists = torch.arange(10, dtype=torch.int32).expand(5, 1, 3, 10)
    course = Curriculum(
        lists, torch.tensor([2]), alpha=1.05, shrink=1.0, gain="teacher", batch_size=2
    )
    far = (torch.arange(10, dtype=torch.int32) + 5).expand(5, -1)
    for k in (1, 2, 3):
        course.look(far, k)
    assert not bool(course.place.any())
    course.look((torch.arange(10, dtype=torch.int32) + 2).expand(5, -1), 4)
    assert bool((course.place == 1).all())


def test_the_objective_turns_to_order_when_the_curriculum_is_through() -> None:
    train = random_interactions(users=12, items=60, density=0.15)
    method, student = make(train, alpha=1e-6), bprmf(train)
    draw, shares = torch_stream(0, "distil"), []
    for epoch in range(1, 12):
        method.begin_epoch(epoch, draw, student)
        shares.append((epoch, method.curriculum.share_done(), method.final))
        told = {"steps_taken": shares[-1][1], "final_stage": float(method.final)}
        assert method.told() == told
    assert [share for epoch, share, _ in shares if epoch < 5] == [0.0] * 4
    assert [share for epoch, share, _ in shares if epoch in (5, 6, 7)] == [2 / 3, 2 / 3, 1.0]
    assert [final for *_, final in shares] == [False] * 6 + [True] * 5
    assert method.items[0, 0] in (
        ranked(train, member.scorer, 0)[0]
        for member in two(train).members  # type: ignore[arg-type]
    )


def test_users_are_visited_in_another_order_in_each_epoch() -> None:
    train = random_interactions(users=12, items=60, density=0.15)
    method, draw, orders = make(train), torch_stream(0, "distil"), []
    for epoch in (1, 2):
        method.begin_epoch(epoch, draw, bprmf(train))
        orders.append(method.order.tolist())
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(12))
    assert orders[0] != orders[1]


def test_a_teacher_of_one_checkpoint_is_at_its_end() -> None:
    train = random_interactions(users=12, items=60, density=0.15)
    assert make(train, one(train, 4)).final
    mixed = Teacher(one(train, 1).scorer, None, members=(one(train, 4), one(train, 1, 2)))
    assert not make(train, mixed).final


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top": 9}, "top=9"), ({"clamp": 41.0}, "clamp=41"), ({"alpha": 0.0}, "alpha=0"),
        ({"shrink": 1.5}, "shrink=1.5"), ({"rank_every": 0}, "rank_every=0"),
        ({"temperature": 0.0}, "temperature=0"), ({"done": 2.0}, "done=2"),
    ],
)  # fmt: skip
def test_options_out_of_range_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make(random_interactions(), **options)


def test_a_teacher_without_a_trajectory_is_refused() -> None:
    train = random_interactions()
    with pytest.raises(UsageError, match="checkpoints"):
        make(train, Teacher(EmbeddingScorer(vectors(train, 1)), None))


@pytest.mark.usefixtures("here")
def test_the_method_asks_for_checkpoints_and_learns_from_two_teachers() -> None:
    words = [*DISTILL, "teacher=[lightgcn,bprmf]", "teacher_fit.eval_every=2", "method=hetcomp",
             "fit.epochs=20", "method.distiller.rank_every=4"]  # fmt: skip
    kd("distill", *words)
    for model in ("lightgcn", "bprmf"):
        (teacher,) = runs(role="teacher", model=model)
        assert teacher.manifest["config"]["teacher_fit"]["checkpoints"] == 4
        assert 2 <= len(teacher.manifest["training"]["checkpoints"]) <= 4
    (student,) = runs(role="student")
    assert student.manifest["settings"]["fit.data_weight"] == 0.0
    history = pd.read_csv(student.file("history.csv"))
    assert history["ndcg@20"].max() > history["ndcg@20"].iloc[0]
    kd("distill", *words)
    assert len(runs()) == 4
    kd("distill", *words, "force=true")
    first, second = runs(role="student")
    name = "model.safetensors"
    assert first.manifest["artifacts"][name] == second.manifest["artifacts"][name]


@pytest.mark.usefixtures("here")
def test_a_closed_form_is_refused() -> None:
    result = kd("distill", *DATA, "teacher=ease", "method=hetcomp", status=2)
    assert "needs teachers with checkpoints of their training" in result.stderr
