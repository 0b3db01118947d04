from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch

from kdrec import progress
from kdrec.data.interactions import Interactions
from kdrec.errors import UsageError
from kdrec.methods.base import Teacher
from kdrec.methods.cd import CD
from kdrec.methods.soft_labels import score_moments, scores_at
from kdrec.models.base import Batch, EmbeddingScorer, Vectors
from kdrec.models.bprmf import BPRMF
from kdrec.seeding import torch_stream
from tests.test_without_replacement import law
from tests.worlds import random_interactions, random_vectors

CPU = torch.device("cpu")
OPTIONS = {
    "n_items": 8, "temperature": 4.0, "pool": 20, "guide": "student", "rank_every": 1,
    "draw": "epoch", "distinct": True, "better_of": 1, "t1": 2.0, "t2": 0.3, "scale": "none",
    "norm": "paper", "seed": 0, "batch_size": 7, "device": CPU,
}  # fmt: skip


vectors = partial(random_vectors, real=torch.float32)


def make(train: Interactions, **options: object) -> CD:
    teacher = Teacher(EmbeddingScorer(vectors(train)), None)
    return CD(train, teacher, **{**OPTIONS, **options})  # type: ignore[arg-type]


def bprmf(train: Interactions, seed: int = 0) -> BPRMF:
    return BPRMF(train, dim=4, generator=torch_stream(seed, "init"))


def begin(method: CD, train: Interactions, epoch: int = 1, *, student: int = 0) -> None:
    method.begin_epoch(epoch, torch_stream(epoch, "distil"), bprmf(train, student))


def step(users: torch.Tensor, number: int = 0, of: int = 1) -> Batch:
    return Batch(users, users, users, number, of)


def drawn(method: CD, user: int) -> list[int]:
    return method.items[user][method.share[user] > 0].tolist()


def ranked(train: Interactions, scorer: EmbeddingScorer, user: int) -> list[int]:
    scores = scorer.scores(torch.tensor([user]))[0]
    seen = set(train.items[train.users == user].tolist())
    return sorted((i for i in range(train.n_items) if i not in seen), key=lambda i: -scores[i])


def naive(method: CD, train: Interactions, student: Vectors, user: int) -> list[float]:
    """The paper's cross-entropy of each drawn item, less the entropy."""
    teacher = vectors(train)
    losses = []
    for item in drawn(method, user):
        t = float(teacher.users[user] @ teacher.items[item])
        q = 1 / (1 + math.exp(-(t + 0.3) / 2.0))
        p = 1 / (1 + math.exp(-float(student.users[user] @ student.items[item])))
        cross = -q * math.log(p) - (1 - q) * math.log(1 - p)
        losses.append(cross + q * math.log(q) + (1 - q) * math.log(1 - q))
    return losses


@pytest.mark.parametrize("guide", ["student", "teacher"])
def test_an_epoch_of_the_papers_loss_is_the_sum_over_items_and_the_mean_over_users(
    guide: str,
) -> None:
    train = random_interactions()
    method = make(train, guide=guide)
    begin(method, train)
    student = vectors(train, seed=5)
    each = [naive(method, train, student, user) for user in range(train.n_users)]
    assert {len(losses) for losses in each} == {8}
    expected = sum(map(sum, each)) / train.n_users
    anyone = torch.zeros(1, dtype=torch.int64)
    for n_steps in (1, 4, 100):
        losses = [float(method.loss(step(anyone, s, n_steps), student)) for s in range(n_steps)]
        assert np.mean(losses) == pytest.approx(expected, rel=1e-5)


def test_the_official_norm_is_the_mean_over_items_and_over_the_batch() -> None:
    train = random_interactions()
    method = make(train, norm="official", distinct=False, better_of=2, guide="teacher")
    begin(method, train)
    student = vectors(train, seed=5)
    users = torch.tensor([3, 3, 8])
    expected = np.mean([np.mean(naive(method, train, student, user)) for user in users.tolist()])
    assert float(method.loss(step(users), student)) == pytest.approx(expected, rel=1e-5)


def test_the_gradient_is_that_of_the_cross_entropy_and_zero_at_the_soft_targets() -> None:
    train = random_interactions()
    method = make(train)
    begin(method, train)
    teacher = vectors(train)
    ones = torch.ones(train.n_users, 1), torch.ones(train.n_items, 1)
    right = Vectors(
        torch.cat([teacher.users / 2, 0.15 * ones[0]], 1), torch.cat([teacher.items, ones[1]], 1)
    )
    right.users.requires_grad_()
    loss = method.loss(step(torch.arange(train.n_users)), right)
    loss.backward()
    assert right.users.grad is not None
    assert float(loss.detach()) == pytest.approx(0, abs=1e-5)
    assert float(right.users.grad.abs().max()) < 1e-6
    users, items = vectors(train, seed=5)
    users.requires_grad_()
    method.loss(step(torch.arange(train.n_users)), Vectors(users, items)).backward()
    user, chosen = 4, items[method.items[4]]
    missing = torch.sigmoid(users.detach()[user] @ chosen.T) - torch.sigmoid(method.logits[user])
    assert users.grad is not None
    assert torch.allclose(users.grad[user], missing @ chosen / train.n_users, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("guide", ["student", "teacher"])
@pytest.mark.parametrize("distinct", [True, False])
def test_items_are_the_guides_first_ones_outside_training(guide: str, distinct: bool) -> None:
    train = random_interactions()
    method = make(train, guide=guide, distinct=distinct, temperature=1000.0)
    begin(method, train)
    own = bprmf(train).embed()
    guides = {"student": EmbeddingScorer(own), "teacher": EmbeddingScorer(vectors(train))}
    repeats = 0
    for user in range(train.n_users):
        items = drawn(method, user)
        assert set(items) <= set(ranked(train, guides[guide], user)[:20])
        repeats += len(items) - len(set(items))
    assert (repeats == 0) == distinct


@pytest.mark.parametrize("better_of", [1, 2])
def test_repeated_ranks_are_drawn_by_their_law(better_of: int) -> None:
    train = random_interactions(users=2, items=6, density=0.1)
    method = make(
        train, guide="teacher", distinct=False, better_of=better_of, n_items=20_000, pool=20_000,
        temperature=2.0,
    )  # fmt: skip
    begin(method, train)
    order = ranked(train, EmbeddingScorer(vectors(train)), 0)
    counts = torch.bincount(method.items[0], minlength=6)
    for rank, p in enumerate(law(len(order), 2.0, better_of)):
        found = float(counts[order[rank]]) / 20_000
        assert abs(found - p) < 5 * math.sqrt(p * (1 - p) / 20_000)


def test_users_with_few_items_or_none_left() -> None:
    users, items = np.divmod(np.arange(8), 4)
    keep = np.array([1, 1, 1, 1, 1, 0, 0, 1], bool)
    train = Interactions.from_pairs(users[keep], items[keep], n_users=2, n_items=4)
    for distinct in (True, False):
        method = make(train, distinct=distinct, scale="standardise")
        begin(method, train)
        assert drawn(method, 0) == []
        assert set(drawn(method, 1)) == {1, 2}
        users_, items_ = vectors(train, seed=5)
        users_.requires_grad_()
        method.loss(step(torch.arange(2)), Vectors(users_, items_)).backward()
        assert users_.grad is not None
        assert bool(torch.isfinite(users_.grad).all())
        assert not bool(users_.grad[0].any())


def test_the_student_is_ranked_when_due_and_items_are_drawn_in_each_epoch() -> None:
    train = random_interactions()
    method = make(train, rank_every=3)
    pools, items = [], []
    for epoch in range(1, 6):
        begin(method, train, epoch, student=epoch)
        assert method.pools is not None
        pools.append(method.pools.items)
        items.append(method.items)
    assert torch.equal(pools[0], pools[2])
    assert not torch.equal(pools[2], pools[3])
    assert torch.equal(pools[3], pools[4])
    assert not torch.equal(items[0], items[1])


@pytest.mark.parametrize("guide", ["student", "teacher"])
def test_items_can_be_drawn_once(guide: str) -> None:
    train = random_interactions()
    method = make(train, guide=guide, draw="once")
    begin(method, train, 1, student=1)
    first, order = method.items, method.users.order
    begin(method, train, 2, student=2)
    assert torch.equal(first, method.items)
    assert not torch.equal(order, method.users.order)


def test_standardised_scores_have_mean_0_and_deviation_1_over_the_unseen_items() -> None:
    train = random_interactions()
    method = make(train, scale="standardise", t1=1.0, t2=0.0, n_items=50, pool=50)
    begin(method, train)
    for user in range(train.n_users):
        logits = method.logits[user][method.share[user] > 0].double()
        assert len(logits) == train.n_items - int((train.users == user).sum())
        assert float(logits.mean()) == pytest.approx(0, abs=1e-5)
        assert float(logits.std(correction=0)) == pytest.approx(1, rel=1e-5)


def test_a_teacher_without_a_preference_is_no_preference() -> None:
    train = random_interactions()
    same = Vectors(torch.full((train.n_users, 1), 0.1), torch.full((train.n_items, 1), 7.7))
    scorer = EmbeddingScorer(same)
    _, deviation = score_moments(scorer, train, batch_size=7, device=CPU)
    assert not bool(deviation.any())
    options: dict[str, object] = {**OPTIONS, "scale": "standardise", "t2": 0.0}
    method = CD(train, Teacher(scorer, None), **options)  # type: ignore[arg-type]
    begin(method, train)
    assert not bool(method.logits.any())


def test_scores_of_some_items() -> None:
    train = random_interactions()
    scorer = EmbeddingScorer(vectors(train))
    items = torch.randint(-1, train.n_items, (train.n_users, 9), generator=torch_stream(0, "i"))
    found = scores_at(scorer, items, n_items=train.n_items, batch_size=7)
    expected = scorer.scores(torch.arange(train.n_users)).gather(1, items.clamp(min=0))
    assert torch.allclose(found, expected.masked_fill(items < 0, 0.0), rtol=1e-5, atol=1e-6)


def test_scores_beyond_the_range_of_exp_stay_finite() -> None:
    train = random_interactions()
    users, items = vectors(train)
    scorer = EmbeddingScorer(Vectors(1e4 * users, 1e4 * items))
    method = CD(train, Teacher(scorer, None), **OPTIONS)  # type: ignore[arg-type]
    begin(method, train)
    users, items = vectors(train, seed=5)
    student = Vectors(1e3 * users.requires_grad_(), 1e3 * items)
    loss = method.loss(step(torch.arange(train.n_users)), student)
    loss.backward()
    assert math.isfinite(float(loss.detach()))
    assert users.grad is not None
    assert bool(torch.isfinite(users.grad).all())


@pytest.mark.parametrize(
    "options",
    [
        {"n_items": 0}, {"temperature": 0.0}, {"pool": 7}, {"rank_every": 0}, {"better_of": 3},
        {"t1": 0.0}, {"t2": math.nan},
    ],
)  # fmt: skip
def test_options_out_of_range_are_refused(options: dict[str, object]) -> None:
    (name,) = options
    with pytest.raises(UsageError, match=f"{name}="):
        make(random_interactions(), **options)


@pytest.mark.parametrize("guide", ["student", "teacher"])
def test_rankings_by_the_student_show_no_progress(
    guide: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = []

    class Display(progress.Lines):
        def task(self, name: str, total: int | None, unit: str) -> progress.Task:
            shown.append(name)
            return super().task(name, total, unit)

    monkeypatch.setattr(progress, "_display", Display())
    train = random_interactions()
    begin(make(train, guide=guide), train)
    assert shown == {"student": [], "teacher": ["soft labels"]}[guide]
