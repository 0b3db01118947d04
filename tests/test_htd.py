"""HTD against loops over its groups, pairs and networks."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from kdrec.errors import UsageError
from kdrec.methods.base import Teacher
from kdrec.methods.experts import Experts
from kdrec.methods.htd import HTD
from kdrec.models.base import Batch, EmbeddingScorer, Vectors
from kdrec.models.bprmf import BPRMF
from kdrec.seeding import torch_stream
from tests.worlds import random_interactions

CPU = torch.device("cpu")
TRAIN = random_interactions()
K = 3
OPTIONS = {
    "student_dim": 3, "n_groups": K, "alpha": 0.5, "group_level": "second", "pairs": "all",
    "own_group": True, "prototype_gradient": False, "first_temperature": 1.0,
    "last_temperature": 1e-10, "anneal_epochs": 10, "norm": "sum", "visits": "batch", "seed": 0,
    "batch_size": 4, "device": CPU,
}  # fmt: skip
STEP = Batch(
    torch.tensor([4, 4, 9, 0, 21, 29, 3, 4]), torch.tensor([7, 8, 7, 49, 0, 11, 31, 6]),
    torch.tensor([8, 3, 2, 2, 45, 12, 20, 7]), 0, 1,
)  # fmt: skip

Groups = dict[tuple[int, int], tuple[int, int]]


def vectors(dim: int, seed: int) -> Vectors:
    draw = torch_stream(seed, "vectors")
    return Vectors(*(torch.randn(n, dim, generator=draw) for n in (TRAIN.n_users, TRAIN.n_items)))


TEACHER = vectors(7, 1)


def student() -> Vectors:
    return Vectors(*(part.requires_grad_() for part in vectors(3, 2)))


def make(epoch: int = 1, **options: object) -> HTD:
    scorer = EmbeddingScorer(TEACHER)
    method = HTD(TRAIN, Teacher(scorer, scorer), **{**OPTIONS, **options})  # type: ignore[arg-type]
    backbone = BPRMF(TRAIN, dim=3, generator=torch_stream(0, "init"))
    method.begin_epoch(epoch, torch_stream(0, "distil"), backbone)
    return method


def entities() -> list[tuple[int, int]]:
    """(0, user) and (1, item), each once."""
    users = [(0, user) for user in sorted(set(STEP.users.tolist()))]
    return users + [(1, item) for item in sorted(set(STEP.pairs().tolist()))]


def cosine(left: Tensor, right: Tensor) -> Tensor:
    return left @ right / (left.norm() * right.norm())


def group_of(method: HTD, kind: int, entity: int) -> tuple[int, int]:
    experts = (method.users, method.items)[kind]
    return kind, int((experts.targets[entity] @ experts.gate + experts.gate_bias).argmax())


def naive_topology(method: HTD, of: Vectors) -> Tensor:
    """L_TD in loops over pairs, groups and entities, without its constants."""
    groups = {which: group_of(method, *which) for which in entities()}
    return naive_entity_level(method, of, groups) + naive_group_level(method, of, groups)


def naive_entity_level(method: HTD, of: Vectors, groups: Groups) -> Tensor:
    total = torch.zeros(())
    for p in groups:
        for q in groups:
            wanted = cosine(TEACHER[p[0]][p[1]], TEACHER[q[0]][q[1]])
            if groups[p] == groups[q] and (method.pairs == "all" or wanted > 0):
                total = total + (wanted - cosine(of[p[0]][p[1]], of[q[0]][q[1]])) ** 2
                if method.pairs == "all":
                    total = total - wanted**2
    return total


def naive_group_level(method: HTD, of: Vectors, groups: Groups) -> Tensor:
    total = torch.zeros(())
    prototypes = {}
    for group in set(groups.values()):
        members = [which for which in groups if groups[which] == group]
        of_teacher, of_student = (
            torch.stack([space[kind][one] for kind, one in members]).mean(0)
            for space in (TEACHER, of)
        )
        if not method.prototype_gradient:
            of_student = of_student.detach()
        prototypes[group] = (of_teacher, of_student)
    for group, (of_teacher, of_student) in prototypes.items():
        if method.group_level == "first":
            for other_teacher, other_student in prototypes.values():
                wanted = cosine(of_teacher, other_teacher)
                total = total + (wanted - cosine(of_student, other_student)) ** 2 - wanted**2
        else:
            for which in groups:
                if method.own_group or groups[which] != group:
                    t, s = TEACHER[which[0]][which[1]], of[which[0]][which[1]]
                    wanted = cosine(of_teacher, t)
                    total = total + (wanted - cosine(of_student, s)) ** 2
                    if method.folds:
                        total = total - wanted**2
    return total


def assert_same(ours: Tensor, wanted: Tensor, of: Vectors) -> None:
    torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-4)
    gradients = torch.autograd.grad(wanted, list(of))
    ours.backward()
    for part, gradient in zip(of, gradients, strict=True):
        torch.testing.assert_close(part.grad, gradient, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"pairs": "positive"},
        {"own_group": False},
        {"own_group": False, "pairs": "positive"},
        {"group_level": "first"},
        {"group_level": "first", "prototype_gradient": True},
        {"prototype_gradient": True},
        {"n_groups": 1},
        {"n_groups": 40},
    ],
)
def test_the_topology_is_that_of_loops_over_groups_and_pairs(options: dict[str, object]) -> None:
    of = student()
    if options.get("n_groups") == 1:
        method = make(alpha=1.0, **options)
        twin = make(alpha=1.0, n_groups=2)
        for experts in (twin.users, twin.items):
            experts.gate.data.zero_()  # a tie of all: everyone is in the first group
            experts.gate_bias.data.zero_()
        assert_same(method.loss(STEP, of), naive_topology(twin, of), of)
        return
    method = make(alpha=1.0, **options)
    assert_same(method.loss(STEP, of), naive_topology(method, of), of)


def naive_assignment(method: HTD, experts: Experts, shares: Tensor, ids: Tensor, table: Tensor,
                     targets: Tensor) -> Tensor:  # fmt: skip
    """L_GA of the users or items in a loop over unique ids and networks."""
    total, seen = torch.zeros(()), set()
    for row, one in enumerate(ids.tolist()):
        if one in seen:
            continue
        seen.add(one)
        mixed = torch.zeros(targets.shape[1])
        for k in range(K):
            hidden = (table[one] @ experts.first[k] + experts.first_bias[k]).relu()
            mixed = mixed + shares[row, k] * (hidden @ experts.second[k] + experts.second_bias[k])
        total = total + (targets[one] - mixed).square().sum()
    return total


@pytest.mark.parametrize("epoch", [1, 6])
@pytest.mark.parametrize("alpha", [0.0, 0.25])
def test_the_loss_weighs_the_topology_and_the_assignment_to_groups(
    epoch: int, alpha: float
) -> None:
    of, method = student(), make(epoch, alpha=alpha)
    noise = torch.Generator()
    noise.set_state(method.noise.get_state())
    ours = method.loss(STEP, of)
    method.noise.set_state(noise.get_state())
    assignment = torch.zeros(())
    for experts, ids, table, targets in (
        (method.users, STEP.users, of.users, TEACHER.users),
        (method.items, STEP.pairs(), of.items, TEACHER.items),
    ):
        shares = experts.shares(ids, method.temperature, method.noise)
        assignment = assignment + naive_assignment(method, experts, shares, ids, table, targets)
    wanted = (1 - alpha) * assignment
    if alpha:
        wanted = wanted + alpha * naive_topology(method, of)
    assert_same(ours, wanted, of)
    assert float(make(epoch, alpha=alpha, norm="interactions").loss(STEP, of).detach()) == (
        pytest.approx(float(wanted.detach()) / len(STEP.users), rel=1e-4)
    )


def test_the_assignment_may_visit_each_user_and_item_once_an_epoch() -> None:
    of = student()
    method = make(alpha=0.0, n_groups=1, norm="interactions", visits="once")
    wanted = torch.zeros(())
    for experts, table, targets, visits in (
        (method.users, of.users, TEACHER.users, method.visit_users),
        (method.items, of.items, TEACHER.items, method.visit_items),
    ):
        hidden = (table @ experts.first[0] + experts.first_bias[0]).relu()
        off = targets - (hidden @ experts.second[0] + experts.second_bias[0])
        weights = torch.from_numpy(visits.expected(1) / len(TRAIN)).float()
        wanted = wanted + off.square().sum(1) @ weights
    assert_same(method.loss(STEP, of), wanted, of)


def test_the_temperature_falls_geometrically_and_stays() -> None:
    found = [make(epoch).temperature for epoch in (1, 2, 6, 11, 500)]
    assert found == pytest.approx([1, 0.1, 1e-5, 1e-10, 1e-10], rel=1e-6)


def test_at_the_end_each_row_draws_one_group_with_its_chance() -> None:
    method = make(11)
    ids = torch.zeros(20_000, dtype=torch.int64)
    shares = method.users.shares(ids, method.temperature, method.noise)
    assert float(shares.detach().amax(1).min()) == 1.0
    logits = TEACHER.users[0] @ method.users.gate + method.users.gate_bias
    chances = logits.softmax(0).detach().numpy()
    found = shares.detach().mean(0).numpy()
    error = np.sqrt(chances * (1 - chances) / len(ids))
    assert (np.abs(found - chances) < 4 * error).all()
    assert (np.abs(found - 1 / K) > 8 * error).any()


def test_with_alpha_1_the_gates_stay_as_they_started() -> None:
    method, of = make(alpha=1.0), student()
    method.loss(STEP, of).backward()
    assert all(part.grad is None for part in method.parameters())


def test_the_gates_learn_which_group_fits() -> None:
    method = make(alpha=0.0)
    method.loss(STEP, student()).backward()
    for experts in (method.users, method.items):
        assert experts.gate.grad is not None
        assert float(experts.gate.grad.abs().sum()) > 0


def test_prototypes_against_prototypes_teach_nothing_without_their_gradient() -> None:
    """As in the published code: a group of one entity leaves "first" without any gradient."""
    of = student()
    method = make(alpha=1.0, group_level="first", n_groups=1)
    one = Batch(STEP.users[:1], STEP.positives[:1], STEP.positives[:1], 0, 1)
    method.loss(one, of).backward()
    assert all(part.grad is not None and float(part.grad.abs().max()) < 1e-6 for part in of)
    of = student()
    method = make(alpha=1.0, group_level="first", n_groups=1, prototype_gradient=True)
    method.loss(one, of).backward()
    assert all(part.grad is not None and float(part.grad.abs().max()) > 1e-2 for part in of)


def test_steps_draw_anew_and_the_same_seed_draws_the_same() -> None:
    values = []
    for _ in range(2):
        method, of = make(alpha=0.0), student()
        values.append([float(method.loss(STEP, of).detach()) for _ in range(2)])
    assert values[0] == values[1]
    assert values[0][0] != values[0][1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_groups": 0}, "n_groups=0"),
        ({"student_dim": 0}, "student_dim=0"),
        ({"alpha": 1.5}, "alpha="),
        ({"alpha": math.nan}, "alpha="),
        ({"first_temperature": 0.0}, "first_temperature="),
        ({"last_temperature": -1.0}, "last_temperature="),
        ({"anneal_epochs": 0}, "anneal_epochs=0"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make(**options)
