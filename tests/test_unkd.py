from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from kdrec.data.groups import popularity_groups
from kdrec.data.interactions import Interactions
from kdrec.errors import KdrecError, UsageError
from kdrec.methods.base import Teacher
from kdrec.methods.soft_labels import rank_within_groups
from kdrec.methods.unkd import UnKD, pairs_per_group
from kdrec.models.base import Batch, EmbeddingScorer, Vectors
from kdrec.models.bprmf import BPRMF
from kdrec.seeding import torch_stream
from tests.worlds import random_interactions
from tests.worlds import random_vectors as vectors

CPU = torch.device("cpu")
OPTIONS = {
    "n_groups": 3, "grouping": "popularity", "n_pairs": 9, "mu": 4.0, "pool": 1000,
    "norm": "paper", "visits": "batch", "swap_defect": False,
    "seed": 0, "batch_size": 7, "device": CPU,
}  # fmt: skip


def make(train: Interactions, **options: object) -> UnKD:
    teacher = Teacher(EmbeddingScorer(vectors(train)), None)
    return UnKD(train, teacher, **{**OPTIONS, **options})  # type: ignore[arg-type]


def bprmf(train: Interactions) -> BPRMF:
    return BPRMF(train, dim=4, generator=torch_stream(0, "init"))


def step(users: torch.Tensor, number: int = 0, of: int = 1) -> Batch:
    return Batch(users, users, users, number, of)


def test_pairs_are_shared_as_in_the_published_code() -> None:
    totals = {k: sum(pairs_per_group(30, k)) for k in range(2, 11)}
    assert totals == {2: 30, 3: 30, 4: 32, 5: 30, 6: 30, 7: 30, 8: 32, 9: 30, 10: 30}
    totals = {k: sum(pairs_per_group(40, k)) for k in range(2, 11)}
    assert totals == {2: 40, 3: 40, 4: 40, 5: 40, 6: 42, 7: 42, 8: 40, 9: 40, 10: 40}
    assert pairs_per_group(30, 7) == [5, 5, 4, 4, 4, 4, 4]
    assert pairs_per_group(30, 9) == [4, 4, 4, 3, 3, 3, 3, 3, 3]


@pytest.mark.parametrize("pool", [3, 1000])
@pytest.mark.parametrize("real", [torch.float32, torch.float64])
def test_pools_are_each_group_sorted_by_the_teacher(pool: int, real: torch.dtype) -> None:
    train = random_interactions(users=12, items=30, density=0.25)
    groups = popularity_groups(train.item_counts(), 3)
    teacher = EmbeddingScorer(vectors(train, real=real))
    pools = rank_within_groups(
        teacher, train, groups, pool=pool, batch_size=5, generator=torch_stream(0, "t"), device=CPU
    )
    scores = teacher.scores(torch.arange(12)).numpy()
    for user in range(12):
        seen = set(train.items[train.users == user].tolist())
        for group in range(3):
            rest = [i for i in range(30) if groups[i] == group and i not in seen]
            expected = sorted(rest, key=lambda item: -scores[user, item])[:pool]
            size = int(pools.sizes[user, group])
            assert pools.items[user, group, :size].tolist() == expected
            assert bool((pools.items[user, group, size:] == -1).all())


def test_soft_labels_of_a_broken_teacher_are_refused() -> None:
    train = random_interactions()
    users, items = vectors(train)
    users[7] = torch.nan
    groups = popularity_groups(train.item_counts(), 2)
    with pytest.raises(KdrecError, match=r"User 7 has 50 scores"):
        rank_within_groups(
            EmbeddingScorer(Vectors(users, items)), train, groups, pool=9, batch_size=5,
            generator=torch_stream(0, "t"), device=CPU,
        )  # fmt: skip


def test_pairs_lie_in_one_group_outside_training_in_the_teachers_order() -> None:
    train = random_interactions(density=0.15)
    method = make(train)
    method.begin_epoch(1, torch_stream(0, "distil"), bprmf(train))
    scores = EmbeddingScorer(vectors(train)).scores(torch.arange(train.n_users))
    keys = set(train.keys().tolist())
    seen_groups = set()
    betters, worses = method.pairs.chunk(2, dim=1)
    for user in range(train.n_users):
        for pair in range(betters.shape[1]):
            if not method.valid[user, pair]:
                continue
            better, worse = int(betters[user, pair]), int(worses[user, pair])
            assert method.groups[better] == method.groups[worse] == method.pair_group[pair]
            assert scores[user, better] > scores[user, worse]
            assert user * train.n_items + better not in keys
            assert user * train.n_items + worse not in keys
            seen_groups.add(int(method.groups[better]))
    assert seen_groups == {0, 1, 2}


def test_items_never_seen_in_training_are_no_soft_label() -> None:
    users, items = np.array([0, 0, 1, 2, 2]), np.array([0, 1, 0, 2, 3])
    train = Interactions.from_pairs(users, items, n_users=3, n_items=40)
    method = make(train, n_groups=2)
    assert sorted(set(method.pools.items.unique().tolist()) - {-1}) == [0, 1, 2, 3]


def short() -> Interactions:
    """Users who have 30, 29, 10 and 3 of 30 items: pools are empty, of one item, short."""
    rng = np.random.default_rng(0)
    items = [rng.permutation(30)[:n] for n in (30, 29, 10, 3)]
    users = np.repeat(np.arange(4), [len(of) for of in items])
    return Interactions.from_pairs(users, np.concatenate(items), n_users=4, n_items=30)


WORLDS = [random_interactions(density=0.15), short()]


def test_short_pools_have_no_pairs() -> None:
    method = make(WORLDS[1])
    assert not method.valid[:2].any()
    assert bool(method.valid[2:].any(1).all())
    assert method.pools.sizes.sum(1).tolist() == [0, 1, 20, 27]


@pytest.mark.parametrize("train", WORLDS, ids=["long", "short"])
def test_an_epoch_of_the_papers_loss_is_equation_5(train: Interactions) -> None:
    method = make(train)
    method.begin_epoch(1, torch_stream(0, "distil"), bprmf(train))
    student = vectors(train, seed=5)
    total = 0.0
    better, worse = method.pairs.chunk(2, dim=1)
    for user in range(train.n_users):
        for pair in range(better.shape[1]):
            if method.valid[user, pair]:
                plus = student.items[better[user, pair]]
                minus = student.items[worse[user, pair]]
                total += math.log1p(math.exp(-float(student.users[user] @ (plus - minus))))
    expected = total / train.n_users
    anyone = torch.zeros(1, dtype=torch.int64)
    for n_steps in (1, 4, 100):
        losses = [float(method.loss(step(anyone, s, n_steps), student)) for s in range(n_steps)]
        assert np.mean(losses) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("train", WORLDS, ids=["long", "short"])
def test_the_official_norm_is_the_mean_over_pairs_and_over_the_batch(train: Interactions) -> None:
    method = make(train, norm="official")
    method.begin_epoch(1, torch_stream(0, "distil"), bprmf(train))
    student = vectors(train, seed=5)
    users = torch.tensor([3, 3, 2, 1, 0])
    better, worse = method.pairs.chunk(2, dim=1)
    each = []
    for user in users.tolist():
        losses = [
            math.log1p(
                math.exp(-float(student.users[user] @ (student.items[b] - student.items[w])))
            )
            for b, w, ok in zip(better[user], worse[user], method.valid[user], strict=True)
            if ok
        ]
        each.append(np.mean(losses) if losses else 0.0)
    assert float(method.loss(step(users), student)) == pytest.approx(np.mean(each), rel=1e-6)


def gradient(method: UnKD, train: Interactions) -> torch.Tensor:
    method.begin_epoch(1, torch_stream(0, "distil"), bprmf(train))
    users, items = vectors(train, seed=5)
    items.requires_grad_()
    method.loss(step(torch.arange(train.n_users)), Vectors(users, items)).backward()
    assert items.grad is not None
    return items.grad


def test_the_swap_defect_kills_half_of_the_pairs_and_halves_the_gradient() -> None:
    train = random_interactions(users=400, items=200, density=0.05)
    whole, defect = (
        make(train, n_pairs=30, mu=20.0),
        make(train, n_pairs=30, mu=20.0, swap_defect=True),
    )
    both = [gradient(method, train) for method in (whole, defect)]
    dead, alive = (torch.eq(*of.pairs.chunk(2, dim=1))[of.valid].float() for of in (defect, whole))
    assert 0.48 < float(dead.mean()) < 0.51
    assert not bool(alive.any())
    along = float((both[0] * both[1]).sum() / both[0].square().sum())
    assert along == pytest.approx(0.5, abs=0.02)


def test_random_groups_have_the_sizes_of_the_popularity_groups() -> None:
    train = random_interactions(items=80)
    popular, random = (make(train, grouping=kind).groups for kind in ("popularity", "random"))
    assert np.bincount(popular + 1).tolist() == np.bincount(random + 1).tolist()
    assert (popular != random).any()


def test_the_same_seed_draws_the_same_pairs() -> None:
    train = random_interactions()
    drawn = []
    for seed in (0, 0, 1):
        method = make(train)
        method.begin_epoch(1, torch_stream(seed, "distil"), bprmf(train))
        drawn.append(method.pairs)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_pairs_are_drawn_in_each_epoch() -> None:
    train = random_interactions()
    method, draw, drawn = make(train), torch_stream(0, "distil"), []
    for epoch in (1, 2):
        method.begin_epoch(epoch, draw, bprmf(train))
        drawn.append(method.pairs)
    changed = (drawn[0] != drawn[1]).view(train.n_users, 2, -1).any(1)[method.valid]
    assert 0.5 < float(changed.float().mean()) < 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_groups": 0}, "n_groups=0"),
        ({"n_pairs": 0}, "n_pairs=0"),
        ({"mu": 0.02}, "mu="),
        ({"mu": math.nan}, "mu="),
        ({"pool": 1}, "pool=1"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make(random_interactions(), **options)
