"""The distance of two topologies, and FTD, against the matrices of all pairs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from kdrec.errors import UsageError
from kdrec.kernels import topology
from kdrec.kernels.topology import (
    positive_topology_distance,
    topology_distance,
    topology_distance_within,
    unit_rows,
)
from kdrec.methods.base import Teacher
from kdrec.methods.ftd import FTD
from kdrec.models.base import Batch, EmbeddingScorer, Vectors
from kdrec.seeding import torch_stream
from tests.waits import Seen
from tests.worlds import random_interactions

CPU = torch.device("cpu")


def normal(*shape: int, seed: int, real: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch_stream(seed, "rows"), dtype=real)


def cosines(rows: Tensor, others: Tensor | None = None) -> Tensor:
    others = rows if others is None else others
    return torch.nn.functional.cosine_similarity(rows.unsqueeze(1), others.unsqueeze(0), dim=2)


def naive(teacher: Tensor, student: Tensor, counts: Tensor) -> Tensor:
    """The sum over the pairs that count, from the matrices of all pairs."""
    return ((cosines(teacher) - cosines(student)).square() * counts).sum()


def within(teacher: Tensor, student: Tensor, groups: Tensor) -> Tensor:
    """Less what the teacher has alone, which no parameter moves."""
    same = groups.unsqueeze(1) == groups
    return naive(teacher, student, same) - (cosines(teacher).square() * same).sum()


def positive(teacher: Tensor, student: Tensor, groups: Tensor) -> Tensor:
    same = groups.unsqueeze(1) == groups
    return naive(teacher, student, same & (cosines(teacher) > 0))


def test_a_worked_example() -> None:
    # Teacher: cosines 1 and 0. Student: the second at 60 degrees, the third against the first.
    teacher = torch.tensor([[2.0, 0.0], [0.0, 3.0], [1.0, 0.0]])
    student = torch.tensor([[1.0, 0.0], [1.0, 3.0**0.5], [-5.0, 0.0]])
    t, s = unit_rows(teacher), unit_rows(student)
    # Pairs (1,2): 0 and 1/2; (1,3): 1 and -1; (2,3): 0 and -1/2. Each in two orders. The teacher
    # alone has 1 for each with itself and for (1,3).
    assert float(topology_distance(t, s)) == pytest.approx(2 * (0.25 + 4 + 0.25) - 5)
    groups = torch.tensor([0, 1, 0])
    assert float(topology_distance_within(t, s, groups, 2)) == pytest.approx(2 * 4 - 5)
    alone = torch.zeros(3, dtype=torch.int64)
    assert float(positive_topology_distance(t, s, alone)) == pytest.approx(2 * 4)


@pytest.mark.parametrize("n", [1, 63, 64, 65, 300])
@pytest.mark.parametrize("n_groups", [1, 3, 70])
@pytest.mark.parametrize("skewed", [False, True])
@pytest.mark.parametrize("knows", [True, False])
def test_all_distances_and_their_gradients_are_those_of_all_pairs(
    n: int, n_groups: int, skewed: bool, knows: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topology, "_knows_groups", lambda _: knows)  # an accelerator's host not
    teacher, rows = normal(n, 7, seed=1), normal(n, 3, seed=2).requires_grad_()
    groups = torch.randint(n_groups, (n,), generator=torch_stream(3, "groups"))
    if skewed:
        groups = torch.where(groups > 0, n_groups - 1, 0)  # most groups empty, one large
    everyone = torch.zeros_like(groups)
    unit = unit_rows(teacher)
    p, q = normal(4, 7, seed=4), normal(4, 3, seed=5)
    units = unit_rows(p), unit_rows(q)

    def and_prototypes(teacher: Tensor, student: Tensor, groups: Tensor) -> Tensor:
        wanted, gap = cosines(teacher, p), cosines(teacher, p) - cosines(student, q)
        return within(teacher, student, groups) + gap.square().sum() - wanted.square().sum()

    for ours, theirs, of in (
        (
            lambda s: topology_distance_within(unit, s, groups, n_groups, units),
            and_prototypes,
            groups,
        ),
        (lambda s: topology_distance(unit, s), within, everyone),
        (lambda s: topology_distance_within(unit, s, groups, n_groups), within, groups),
        (lambda s: positive_topology_distance(unit, s, groups), positive, groups),
    ):
        value = ours(unit_rows(rows))  # type: ignore[no-untyped-call]
        wanted = theirs(teacher, rows, of)
        (gradient,), (wanted_gradient,) = (
            torch.autograd.grad(loss, rows) for loss in (value, wanted)
        )
        torch.testing.assert_close(value, wanted, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(gradient, wanted_gradient, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("n", [1, 300, 600])
def test_looking_at_all_pairs_gives_what_looking_at_those_of_a_group_gives(
    n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit, rows = unit_rows(normal(n, 7, seed=1)), unit_rows(normal(n, 3, seed=2)).requires_grad_()
    groups = torch.randint(3, (n,), generator=torch_stream(3, "groups"))
    values, gradients = [], []
    for knows in (True, False):
        monkeypatch.setattr(topology, "_knows_groups", lambda _, knows=knows: knows)
        values.append(positive_topology_distance(unit, rows, groups))
        gradients.append(torch.autograd.grad(values[-1], rows)[0])
    torch.testing.assert_close(*values, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-10)
    with Seen() as seen:
        positive_topology_distance(unit, rows, groups)
        topology_distance_within(unit, rows, groups, 3).backward()
    assert seen.waits() == set()


@pytest.mark.parametrize("kind", ["full", "within", "positive"])
def test_gradients_are_those_of_finite_differences(kind: str) -> None:
    unit, groups = unit_rows(normal(9, 5, seed=1)), torch.arange(9) % 2
    of: Any = {
        "full": lambda s: topology_distance(unit, unit_rows(s)),
        "within": lambda s: topology_distance_within(unit, unit_rows(s), groups, 2),
        "positive": lambda s: positive_topology_distance(unit, unit_rows(s), groups),
    }[kind]
    assert torch.autograd.gradcheck(of, [normal(9, 3, seed=2).requires_grad_()])


def test_rows_of_weight_0_do_not_count() -> None:
    teacher, student = normal(40, 7, seed=1), normal(40, 3, seed=2)
    weight = (torch.arange(40) % 3 > 0).double()
    groups = torch.arange(40) % 4
    t, s = unit_rows(teacher, weight), unit_rows(student, weight)
    kept = weight.bool()
    wanted = within(teacher[kept], student[kept], groups[kept])
    torch.testing.assert_close(topology_distance_within(t, s, groups, 4), wanted)
    wanted = positive(teacher[kept], student[kept], groups[kept])
    torch.testing.assert_close(positive_topology_distance(t, s, groups), wanted)


def test_a_row_of_zeros_has_no_cosine_and_a_finite_gradient() -> None:
    rows = torch.tensor([[0.0, 0.0], [0.0, 0.0], [3.0, 4.0]], requires_grad=True)
    value = topology_distance(unit_rows(torch.eye(3)), unit_rows(rows))
    value.backward()
    assert float(value.detach()) == pytest.approx(-1)  # the third is like itself, as the teacher's
    assert rows.grad is not None
    assert bool(torch.isfinite(rows.grad).all())


@pytest.mark.parametrize("noise", [1.0, 0.01])
def test_in_float32_little_is_lost_where_the_student_is_near_the_teacher(noise: float) -> None:
    # Of terms of n^2 / d = 1.6e6 noise of 0.01 leaves 3e2. The value has no more digits than its
    # own size allows; the gradient is what float32 Gram matrices would spoil.
    teacher = normal(4000, 10, seed=1)
    rows = teacher + noise * normal(4000, 10, seed=2)
    gap = unit_rows(teacher) @ unit_rows(teacher).T - unit_rows(rows) @ unit_rows(rows).T
    wanted = 4 * gap.neg() @ unit_rows(rows)
    alone = (unit_rows(teacher) @ unit_rows(teacher).T).square().sum()
    unit = unit_rows(rows.float()).requires_grad_()
    value = topology_distance(unit_rows(teacher.float()), unit)
    (gradient,) = torch.autograd.grad(value, unit)
    assert float(value.detach()) == pytest.approx(float(gap.square().sum() - alone), rel=1e-6)
    assert float((gradient - wanted).norm() / wanted.norm()) < 1e-5


def ftd(vectors: Vectors | None, norm: str) -> FTD:
    scorer = EmbeddingScorer(vectors or Vectors(torch.ones(1, 1), torch.ones(1, 1)))
    return FTD(
        random_interactions(), Teacher(scorer, scorer if vectors else None), norm=norm,  # type: ignore[arg-type]
        seed=0, batch_size=4, device=CPU,
    )  # fmt: skip


def test_ftd_compares_the_unique_users_and_items_of_a_step() -> None:
    teacher = Vectors(normal(30, 7, seed=1), normal(50, 7, seed=2))
    student = Vectors(*(normal(n, 3, seed=n).requires_grad_() for n in (30, 50)))
    users, positives, negatives = (
        torch.tensor(ids) for ids in ([4, 4, 9, 0], [7, 8, 7, 49], [8, 3, 2, 2])
    )
    step = Batch(users, positives, negatives, 0, 1)
    unique = ([0, 4, 9], [2, 3, 7, 8, 49])
    t, s = (torch.cat([of.users[unique[0]], of.items[unique[1]]]) for of in (teacher, student))
    wanted = within(t, s, torch.zeros(8))
    value = ftd(teacher, "sum").loss(step, student)
    torch.testing.assert_close(value, wanted)
    torch.testing.assert_close(ftd(teacher, "interactions").loss(step, student), wanted / 4)
    gradients = [torch.autograd.grad(wanted, part, retain_graph=True)[0] for part in student]
    value.backward()
    for part, gradient in zip(student, gradients, strict=True):
        torch.testing.assert_close(part.grad, gradient)


def test_a_teacher_without_vectors_is_refused() -> None:
    with pytest.raises(UsageError, match="needs its vectors"):
        ftd(None, "sum")
