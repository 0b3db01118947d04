from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from kdrec.errors import KdrecError, UsageError
from kdrec.kernels import mixture as mixtures
from kdrec.kernels.grouped import grouped_linear
from kdrec.kernels.mixture import mixture
from kdrec.methods.base import Teacher
from kdrec.methods.de import DE
from kdrec.methods.experts import Experts
from kdrec.models.base import Batch, EmbeddingScorer, Vectors
from kdrec.models.bprmf import BPRMF
from kdrec.seeding import torch_stream
from tests.waits import Seen
from tests.worlds import random_interactions

CPU = torch.device("cpu")
TRAIN = random_interactions()
OPTIONS = {
    "student_dim": 4, "n_experts": 6, "expert": "relu_inside", "first_temperature": 1.0,
    "last_temperature": 1e-10, "anneal_epochs": 10, "visits": "batch", "seed": 0,
    "batch_size": 7, "device": CPU,
}  # fmt: skip
BATCH = Batch(
    torch.tensor([3, 3, 8, 0, 8]),
    torch.tensor([5, 6, 5, 5, 9]),
    torch.tensor([1, 1, 5, 20, 20]),
    0,
    1,
)


def vectors(dim: int, seed: int = 0) -> Vectors:
    generator = torch_stream(seed, "vectors")
    return Vectors(*(torch.randn(n, dim, generator=generator) for n in (30, 50)))


def make(**options: object) -> DE:
    scorer = EmbeddingScorer(vectors(7))
    return DE(TRAIN, Teacher(scorer, scorer), **{**OPTIONS, **options})  # type: ignore[arg-type]


def student() -> BPRMF:
    return BPRMF(TRAIN, dim=4, generator=torch_stream(0, "init"))


def naive(experts: Experts, s: Tensor, z: Tensor) -> Tensor:
    out = torch.zeros(experts.targets.shape[1])
    for m in range(experts.n_experts):
        hidden = s @ experts.first[m] + experts.first_bias[m]
        if experts.relu_inside:
            out = out + z[m] * (
                functional.relu(hidden) @ experts.second[m] + experts.second_bias[m]
            )
        else:
            out = out + z[m] * functional.relu(hidden @ experts.second[m] + experts.second_bias[m])
    return out


@pytest.mark.parametrize("expert", ["relu_inside", "relu_last"])
@pytest.mark.parametrize("epoch", [1, 4, 11])
@pytest.mark.parametrize("n_experts", [1, 6])
@pytest.mark.parametrize("routes", [True, False])
def test_the_loss_is_the_papers_over_the_batch(
    expert: str, epoch: int, n_experts: int, routes: bool
) -> None:
    method, of = make(expert=expert, n_experts=n_experts), vectors(4, 5)
    method.users.routes = method.items.routes = routes
    method.begin_epoch(epoch, torch_stream(1, "d"), student())
    draw = torch_stream(1, "d")
    shares = [
        experts.shares(ids, method.temperature, draw)
        for experts, ids in ((method.users, BATCH.users), (method.items, BATCH.pairs()))
    ]
    total = 0.0
    seen: set[tuple[str, int]] = set()
    for name, experts, ids, table, z in (
        ("user", method.users, BATCH.users, of.users, shares[0]),
        ("positive", method.items, BATCH.positives, of.items, shares[1][:5]),
        ("negative", method.items, BATCH.negatives, of.items, shares[1][5:]),
    ):
        for place, index in enumerate(ids.tolist()):
            if (name, index) in seen:
                continue
            seen.add((name, index))
            off = experts.targets[index] - naive(experts, table[index], z[place])
            total += (1.0 if name == "user" else 0.5) * float(off.detach().square().sum())
    assert len(seen) == 3 + 3 + 3
    assert float(method.loss(BATCH, of).detach()) == pytest.approx(total / 5, rel=1e-5)


@pytest.mark.parametrize("expert", ["relu_inside", "relu_last"])
@pytest.mark.parametrize("temperature", [1.0, 0.05, 1e-10])
def test_routed_rows_give_what_all_experts_give(expert: str, temperature: float) -> None:
    method = make(expert=expert, first_temperature=temperature, last_temperature=temperature)
    found = []
    for routes in (True, False):
        of = Vectors(*(part.requires_grad_() for part in vectors(4, 5)))
        for experts in (method.users, method.items):
            experts.routes = routes
        method.begin_epoch(1, torch_stream(1, "d"), student())
        method.zero_grad()
        loss = method.loss(BATCH, of)
        loss.backward()  # type: ignore[no-untyped-call]
        grads = [part.grad for part in (*of, *method.parameters())]
        assert all(grad is not None for grad in grads)
        found.append([loss.detach(), *(grad.clone() for grad in grads if grad is not None)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_all_experts_at_once_wait_for_nothing() -> None:
    method = make()
    method.users.routes = method.items.routes = False
    method.begin_epoch(1, torch_stream(1, "d"), student())
    with Seen() as seen:
        method.loss(BATCH, vectors(4)).backward()  # type: ignore[no-untyped-call]
    assert seen.waits() == set()


@pytest.mark.parametrize("block", [1, 3, 64])
def test_a_mixture_and_its_gradient_are_those_of_each_row_and_network(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mixtures, "_BLOCK", block)
    draw = torch_stream(0, "mixture")
    shapes = [(7, 2), (7, 4), (4, 2, 3), (4, 3), (4, 3, 5), (4, 5)]
    rows, shares, first, first_bias, second, second_bias = tensors = [
        torch.randn(shape, generator=draw, dtype=torch.float64, requires_grad=True)
        for shape in shapes
    ]
    expected = torch.zeros(7, 5, dtype=torch.float64)
    for m in range(4):
        out = (rows @ first[m] + first_bias[m]).relu() @ second[m] + second_bias[m]
        expected = expected + shares[:, m : m + 1] * out
    torch.testing.assert_close(mixture(*tensors), expected)
    assert torch.autograd.gradcheck(mixture, tensors)


def test_a_grouped_product_and_its_gradient_are_those_of_each_row() -> None:
    generator = torch_stream(0, "grouped")
    rows, weight, bias = (
        torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()
        for shape in ((6, 3), (4, 3, 2), (4, 2))
    )
    sizes = [2, 0, 3, 1]
    expected = [rows[row] @ weight[m] + bias[m] for row, m in enumerate([0, 0, 2, 2, 2, 3])]
    torch.testing.assert_close(grouped_linear(rows, weight, bias, sizes), torch.stack(expected))
    assert torch.autograd.gradcheck(lambda *a: grouped_linear(*a, sizes), (rows, weight, bias))


def test_an_expert_is_chosen_as_often_as_its_gate_says() -> None:
    experts = make().users
    draw, ids = torch_stream(0, "gates"), torch.full((40_000,), 9)
    chosen = experts.shares(ids, 1e-10, draw).detach()
    law = (experts.targets[9] @ experts.gate + experts.gate_bias).softmax(0).detach()
    assert float((chosen.max(1).values > 1 - 1e-6).float().mean()) == 1
    torch.testing.assert_close(chosen.mean(0), law, rtol=0, atol=4 * 0.5 / math.sqrt(40_000))
    soft = experts.shares(ids, 1e6, draw).detach()
    torch.testing.assert_close(soft, torch.full_like(soft, 1 / 6), rtol=1e-3, atol=0)


def test_the_temperature_falls_geometrically_and_then_stays() -> None:
    method, found = make(), []
    for epoch in (1, 2, 6, 11, 500):
        method.begin_epoch(epoch, torch_stream(0, "d"), student())
        found.append(method.temperature)
    assert found == pytest.approx([1, 0.1, 1e-5, 1e-10, 1e-10])


def test_experts_of_the_published_variant_are_never_negative() -> None:
    method, used = make(expert="relu_last"), torch.ones(30, dtype=torch.bool)
    method.begin_epoch(1, torch_stream(0, "d"), student())
    out = method.project(method.users, torch.arange(30), vectors(4).users, used).detach()
    assert float(out.min()) >= 0
    assert float(out.max()) > 0


def test_a_teacher_without_vectors_and_a_student_of_another_width_are_refused() -> None:
    with pytest.raises(UsageError, match="teacher with vectors"):
        DE(TRAIN, Teacher(EmbeddingScorer(vectors(7)), None), **OPTIONS)  # type: ignore[arg-type]
    method = make()
    method.begin_epoch(1, torch_stream(0, "d"), student())
    with pytest.raises(KdrecError, match="student_dim"):
        method.loss(BATCH, vectors(5))


@pytest.mark.parametrize(
    ("option", "value"),
    [("n_experts", 0), ("first_temperature", 0.0), ("last_temperature", math.nan),
     ("anneal_epochs", 0), ("student_dim", 0)],
)  # fmt: skip
def test_options_out_of_range_are_refused(option: str, value: float) -> None:
    with pytest.raises(UsageError, match=f"{option}="):
        make(**{option: value})
