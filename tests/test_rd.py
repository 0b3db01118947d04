from __future__ import annotations

import math

import pytest
import torch

from kdrec.data.interactions import Interactions
from kdrec.errors import UsageError
from kdrec.kernels.dots import dots
from kdrec.methods.base import Teacher
from kdrec.methods.rd import RD
from kdrec.models.base import Batch, EmbeddingScorer, Vectors
from kdrec.models.bprmf import BPRMF
from kdrec.seeding import torch_stream
from tests.worlds import random_interactions
from tests.worlds import random_vectors as vectors

CPU = torch.device("cpu")
OPTIONS = {
    "n_items": 6, "decay": 3.0, "n_negatives": 20, "mu": 0.05, "warm_up": 2, "norm": "paper",
    "visits": "batch", "seed": 0, "batch_size": 7, "device": CPU,
}  # fmt: skip
USERS = torch.tensor([3, 3, 8, 11, 0])


def make(train: Interactions, **options: object) -> RD:
    teacher = Teacher(EmbeddingScorer(vectors(train)), None)
    return RD(train, teacher, **{**OPTIONS, **options})  # type: ignore[arg-type]


def begin(method: RD, train: Interactions, epoch: int, seed: int = 0) -> None:
    student = BPRMF(train, dim=4, generator=torch_stream(0, "init"))
    method.begin_epoch(epoch, torch_stream(seed, "distil"), student)


def step(users: torch.Tensor) -> Batch:
    return Batch(users, users, users, 0, 1)


def naive(
    train: Interactions, method: RD, student: Vectors, *, k: int, hybrid: bool, official: bool
) -> float:
    """The paper's formulas, word by word."""
    teacher = vectors(train)
    decay, mu, n = OPTIONS["decay"], OPTIONS["mu"], OPTIONS["n_negatives"]
    total = 0.0
    for user in USERS.tolist():
        seen = set(train.items[train.users == user].tolist())
        rest = [item for item in range(train.n_items) if item not in seen]
        best = sorted(rest, key=lambda item: -float(teacher.users[user] @ teacher.items[item]))[:k]
        all_of = sum(math.exp(-j / decay) for j in range(1, k + 1))  # type: ignore[operator]
        weights, losses = [], []
        for place, item in enumerate(best, start=1):
            score = float(student.users[user] @ student.items[item])
            weight = math.exp(-place / decay) / all_of  # type: ignore[operator]
            if hybrid:
                assert method.negatives is not None
                others = method.negatives[user].tolist()
                above = sum(float(student.users[user] @ student.items[i]) > score for i in others)
                rank = math.floor((train.n_items - 1) * above / n) + official  # type: ignore[operator]
                weight *= math.tanh(max(mu * (rank - (place - 1)), 0))  # type: ignore[operator]
            weights.append(weight)
            losses.append(math.log1p(math.exp(-score)))
        if official:
            whole = k * (sum(weights) or 1.0)
            weights = [weight / whole for weight in weights]
        total += sum(w * one for w, one in zip(weights, losses, strict=True))
    return total / len(USERS)


@pytest.mark.parametrize("official", [False, True])
@pytest.mark.parametrize("hybrid", [False, True])
@pytest.mark.parametrize("k", [6, 48])
def test_the_loss_is_the_papers(k: int, hybrid: bool, official: bool) -> None:
    train = random_interactions()
    method = make(train, n_items=k, norm="official" if official else "paper")
    begin(method, train, 3 if hybrid else 2)
    student = vectors(train, seed=5)
    expected = naive(train, method, student, k=k, hybrid=hybrid, official=official)
    assert float(method.loss(step(USERS), student)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("n_steps", [1, 4, 100])
def test_an_epoch_over_users_has_the_mean_over_interactions(n_steps: int) -> None:
    train = random_interactions()
    student = vectors(train, seed=5).users.float(), vectors(train, seed=5).items.float()
    losses = []
    for visits in ("once", "batch"):
        method = make(train, visits=visits)
        begin(method, train, 3)
        everyone = torch.from_numpy(train.users)
        steps = range(n_steps if visits == "once" else 1)
        each = [
            method.loss(Batch(everyone, everyone, everyone, step, len(steps)), Vectors(*student))
            for step in steps
        ]
        losses.append(float(torch.stack(each).mean()))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_the_weights_have_no_gradient() -> None:
    train = random_interactions()
    method = make(train)
    begin(method, train, 3)
    users, items = vectors(train, seed=5)
    users.requires_grad_()
    method.loss(step(USERS), Vectors(users, items)).backward()
    expected = torch.zeros_like(users)
    for user in USERS.tolist():
        one = torch.tensor([user])
        chosen = method.items[user].long()
        # As the method does: a negative that is the item itself must not be above by a last bit.
        scores = dots(users.detach(), items, one, chosen.unsqueeze(0))
        weights = method._weights(one, scores, Vectors(users.detach(), items))
        expected[user] += (-weights * torch.sigmoid(-scores)).squeeze(0) @ items[chosen]
    assert users.grad is not None
    assert torch.allclose(users.grad, expected / len(USERS), rtol=1e-5)


def test_negatives_are_uniform_outside_training_and_new_in_each_epoch() -> None:
    train = random_interactions(users=6, items=20, density=0.3)
    method = make(train, n_negatives=4000)
    begin(method, train, 1)
    assert method.negatives is None
    drawn = []
    for seed in (0, 0, 1):
        begin(method, train, 3, seed)
        assert method.negatives is not None
        drawn.append(method.negatives)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    for user in range(6):
        seen = train.items[train.users == user]
        counts = torch.bincount(drawn[0][user].long(), minlength=20).double()
        free = torch.ones(20, dtype=torch.bool)
        free[seen] = False
        assert not bool(counts[~free].any())
        expected = 4000 / int(free.sum())
        chi = float(((counts[free] - expected).square() / expected).sum())
        assert chi < 60  # at most 19 degrees of freedom: p < 4e-6


def test_a_short_list_has_no_item_from_training() -> None:
    train = random_interactions(users=4, items=8, density=0.6)
    method = make(train, n_items=50, warm_up=0)
    begin(method, train, 1)
    users, items = vectors(train, seed=5)
    items.requires_grad_()
    for user in range(4):
        items.grad = None
        method.loss(step(torch.tensor([user])), Vectors(users, items)).backward()
        assert items.grad is not None
        seen = torch.from_numpy(train.items[train.users == user])
        assert bool(torch.isfinite(items.grad).all())
        assert not bool(items.grad[seen].any())


def test_scores_beyond_the_range_of_exp_stay_finite() -> None:
    train = random_interactions()
    method = make(train, warm_up=0)
    begin(method, train, 1)
    users, items = vectors(train, seed=5)
    assert math.isfinite(float(method.loss(step(USERS), Vectors(1e3 * users, 1e3 * items))))


@pytest.mark.parametrize(
    "options",
    [{"n_items": 0}, {"decay": 0.0}, {"n_negatives": 0}, {"mu": 0.0}, {"warm_up": -1}],
)
def test_options_out_of_range_are_refused(options: dict[str, object]) -> None:
    (name,) = options
    with pytest.raises(UsageError, match=f"{name}="):
        make(random_interactions(), **options)
