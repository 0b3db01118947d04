from __future__ import annotations

import itertools
import math
from functools import partial

import numpy as np
import pytest
import scipy.stats
import torch

from kdrec.data.interactions import Interactions
from kdrec.errors import UsageError
from kdrec.kernels.listwise import list_loss
from kdrec.methods.base import Teacher
from kdrec.methods.de import DE
from kdrec.methods.derrd import DERRD
from kdrec.methods.ranked_lists import BestItems, OtherItems
from kdrec.methods.rrd import RRD
from kdrec.methods.soft_labels import GroupPools
from kdrec.models.base import Batch, EmbeddingScorer, Vectors
from kdrec.models.bprmf import BPRMF
from kdrec.seeding import torch_stream
from tests.worlds import random_interactions
from tests.worlds import random_vectors as vectors

CPU = torch.device("cpu")
OPTIONS = {
    "n_interesting": 5, "n_uninteresting": 4, "temperature": 3.0, "pool": 12, "sampling": "paper",
    "redraw": "epoch", "sigmoid": False, "ir_weight": 0.0, "ir_interesting": 3,
    "ir_uninteresting": 4, "visits": "batch", "seed": 0, "batch_size": 7, "device": CPU,
}  # fmt: skip


def make(train: Interactions, **options: object) -> RRD:
    scorer = EmbeddingScorer(vectors(train))
    return RRD(train, Teacher(scorer, scorer), **{**OPTIONS, **options})  # type: ignore[arg-type]


def bprmf(train: Interactions) -> BPRMF:
    return BPRMF(train, dim=4, generator=torch_stream(0, "init"))


def step(users: list[int], items: list[int] | None = None) -> Batch:
    them = torch.tensor(users)
    return Batch(them, them if items is None else torch.tensor(items), them, 0, 1)


def naive(listed: list[float], rest: list[float]) -> float:
    total = 0.0
    for k, score in enumerate(listed):
        total += math.log(sum(map(math.exp, [*listed[k:], *rest]))) - score
    return total


def test_the_list_loss_is_a_sum_of_log_likelihoods_and_so_is_its_gradient() -> None:
    generator = torch_stream(0, "scores")
    scores = torch.randn(4, 7, generator=generator, dtype=torch.float64).requires_grad_()
    there = torch.ones(4, 7, dtype=torch.bool)
    there[1, 2:4] = False  # two listed of four
    there[2, 4:] = False  # no others
    there[3, :4] = False  # nothing listed
    expected = [
        naive(scores[row, :4][there[row, :4]].tolist(), scores[row, 4:][there[row, 4:]].tolist())
        for row in range(4)
    ]
    assert list_loss(scores, there, 4).tolist() == pytest.approx(expected)
    assert expected[3] == 0
    assert torch.autograd.gradcheck(lambda table: list_loss(table, there, 4), (scores,))
    there[:] = False
    assert torch.autograd.gradcheck(lambda table: list_loss(table, there, 4), (scores,))


def test_no_score_is_too_large_for_the_list_loss() -> None:
    scores = torch.tensor([[-3e4, 2e4, 900.0, 1e4]], requires_grad=True)
    loss = list_loss(scores, torch.ones(1, 4, dtype=torch.bool), 3)
    assert float(loss.detach()) == pytest.approx(5e4 + 9100)
    loss.backward()  # type: ignore[no-untyped-call]
    assert scores.grad is not None
    assert scores.grad[0].tolist() == pytest.approx([-1, 1, -1, 1], abs=1e-3)


@pytest.mark.parametrize("sigmoid", [False, True])
def test_a_steps_loss_is_the_papers_sum_over_its_unique_users(sigmoid: bool) -> None:
    train = random_interactions(density=0.15)
    method, of = make(train, sigmoid=sigmoid), vectors(train, seed=5)
    method.begin_epoch(1, torch_stream(0, "distil"), bprmf(train))
    teacher = EmbeddingScorer(vectors(train)).scores(torch.arange(train.n_users))
    total = 0.0
    for user in (3, 8):
        lists = method.users.lists[user].tolist()
        seen = set(train.items[train.users == user].tolist())
        ranked = [i for i in teacher[user].argsort(descending=True).tolist() if i not in seen]
        best, others = lists[:5], lists[5:]
        assert [ranked.index(item) for item in best] == sorted(ranked.index(i) for i in best)
        assert set(best) <= set(ranked[:12])
        assert set(others) <= set(ranked[12:])
        assert (len(set(best)), len(set(others))) == (5, 4)
        scores = of.items @ of.users[user]
        scores = scores.sigmoid() if sigmoid else scores
        total += naive(scores[best].tolist(), scores[others].tolist())
    assert float(method.loss(step([3, 8, 3, 3]), of)) == pytest.approx(total / 4)


def pools(sizes: list[int], width: int) -> GroupPools:
    items = torch.arange(width, dtype=torch.int32).repeat(len(sizes), 1, 1)
    there = torch.arange(width) < torch.tensor(sizes).view(-1, 1, 1)
    return GroupPools(items.masked_fill(~there, -1), torch.tensor(sizes).unsqueeze(1))


def test_best_items_are_drawn_one_after_another_by_the_law_of_their_rank() -> None:
    n = 60_000
    drawn = BestItems(pools([5] * n, 6), 2, 2.0).draw(torch_stream(0, "x"))
    assert bool((drawn[:, 0] < drawn[:, 1]).all())
    weight = np.exp(-np.arange(5) / 2)
    law = weight / weight.sum()
    expected = {
        (a, b): law[a] * law[b] / (1 - law[a]) + law[b] * law[a] / (1 - law[b])
        for a, b in itertools.combinations(range(5), 2)
    }
    counts = [int(((drawn[:, 0] == a) & (drawn[:, 1] == b)).sum()) for a, b in expected]
    assert scipy.stats.chisquare(counts, np.array(list(expected.values())) * n).pvalue > 1e-3


def test_a_short_pool_is_taken_whole_and_in_order() -> None:
    drawn = BestItems(pools([0, 2, 9], 9), 4, 3.0).draw(torch_stream(0, "x"))
    assert drawn[0].tolist() == [-1] * 4
    assert drawn[1].tolist() == [0, 1, -1, -1]
    assert len(set(drawn[2].tolist())) == 4
    whole = BestItems(pools([0, 2, 9], 9), 4, None).draw(torch_stream(0, "x"))
    assert whole.tolist() == [[-1] * 4, [0, 1, -1, -1], [0, 1, 2, 3]]


def test_other_items_are_uniform_without_replacement_outside_training_and_pool() -> None:
    n = 30_000
    train = Interactions.from_pairs(np.arange(n), np.full(n, 5), n_users=n, n_items=9)
    drawn = OtherItems(pools([3] * n, 4), train, 2).draw(torch_stream(0, "x"))
    pairs = list(itertools.permutations([3, 4, 6, 7, 8], 2))
    counts = [int(((drawn[:, 0] == a) & (drawn[:, 1] == b)).sum()) for a, b in pairs]
    assert sum(counts) == n
    sets = [counts[i] + counts[pairs.index((b, a))] for i, (a, b) in enumerate(pairs) if a < b]
    assert len(sets) == 10
    assert scipy.stats.chisquare(sets).pvalue > 1e-3


def test_users_with_few_or_no_other_items_have_what_there_is() -> None:
    users = np.repeat([0, 1, 2], [4, 3, 1])
    items = np.array([3, 4, 5, 6, 3, 4, 5, 3])
    train = Interactions.from_pairs(users, items, n_users=3, n_items=7)
    drawn = OtherItems(pools([3, 3, 3], 3), train, 3).draw(torch_stream(0, "x"))
    assert drawn[0].tolist() == [-1, -1, -1]
    assert drawn[1].tolist() == [6, -1, -1]
    assert sorted(drawn[2].tolist()) == [4, 5, 6]


def test_a_list_may_have_no_uninteresting_items() -> None:
    train = random_interactions()
    method, of = make(train, n_uninteresting=0), vectors(train, seed=5)
    method.begin_epoch(1, torch_stream(0, "distil"), bprmf(train))
    total = 0.0
    for user in (3, 8):
        listed = method.users.lists[user].tolist()
        assert len(listed) == 5
        total += naive([float(of.users[user] @ of.items[item]) for item in listed], [])
    of.users.requires_grad_()
    loss = method.loss(step([3, 8]), of)
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss.detach()) == pytest.approx(total / 2)
    assert of.users.grad is not None
    assert bool(torch.isfinite(of.users.grad).all())


def test_lists_are_drawn_in_each_epoch_or_once() -> None:
    train = random_interactions()
    for redraw, same in (("epoch", False), ("never", True)):
        method, draw = make(train, redraw=redraw), torch_stream(0, "distil")
        lists = []
        for epoch in (1, 2):
            method.begin_epoch(epoch, draw, bprmf(train))
            lists.append(method.users.lists.clone())
        assert torch.equal(*lists) == same


def test_without_sampling_the_teachers_best_are_the_list() -> None:
    train = random_interactions()
    method = make(train, sampling="none")
    method.begin_epoch(1, torch_stream(0, "distil"), bprmf(train))
    assert torch.equal(method.users.lists[:, :5], method.users.best.items[:, :5])


def test_the_item_side_is_the_user_side_of_the_world_turned_round() -> None:
    train = random_interactions(density=0.15)
    method, of = make(train, ir_weight=0.5), vectors(train, seed=5)
    method.begin_epoch(1, torch_stream(0, "distil"), bprmf(train))
    assert method.items is not None
    teacher = vectors(train)
    total = 3 * float(method.users.loss(step([3, 8, 3]), of, sigmoid=False))
    for item in (7, 11):
        lists = method.items.lists[item].tolist()
        seen = set(train.users[train.items == item].tolist())
        order = (teacher.users @ teacher.items[item]).argsort(descending=True).tolist()
        ranked = [user for user in order if user not in seen]
        assert [ranked.index(user) for user in lists[:3]] == sorted(map(ranked.index, lists[:3]))
        assert set(lists[:3]) <= set(ranked[:12])
        assert set(lists[3:]) <= set(ranked[12:])
        scores = of.users @ of.items[item]
        total += 0.5 * naive(scores[lists[:3]].tolist(), scores[lists[3:]].tolist())
    assert float(method.loss(step([3, 8, 3], [7, 11, 7]), of)) == pytest.approx(total / 3)


def test_the_item_side_needs_vectors() -> None:
    train = random_interactions()
    of = Teacher(EmbeddingScorer(vectors(train)), None)
    with pytest.raises(UsageError, match=r"ir_weight=0\.5"):
        RRD(train, of, **{**OPTIONS, "ir_weight": 0.5})  # type: ignore[arg-type]


def test_a_student_as_wide_as_its_teacher_comes_to_rank_as_it_does() -> None:
    train = random_interactions(users=40, items=60)
    method = make(train, pool=30, n_interesting=15, n_uninteresting=15, temperature=10.0)
    teacher = EmbeddingScorer(vectors(train)).scores(torch.arange(40)).argsort(1, descending=True)
    model, draw = bprmf(train), torch_stream(0, "distil")
    optimiser = torch.optim.Adam(model.parameters(), lr=0.05)

    def agreement() -> float:
        mine = model.scores(torch.arange(40)).detach().argsort(1, descending=True)[:, :10]
        return float((mine.unsqueeze(2) == teacher[:, :10].unsqueeze(1)).any(2).float().mean())

    before = agreement()
    for epoch in range(1, 101):
        method.begin_epoch(epoch, draw, model)
        optimiser.zero_grad()
        method.loss(step(list(range(40))), model.embed()).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    assert before < 0.35
    assert agreement() > 0.6


def test_de_rrd_is_the_weighted_sum_of_its_parts() -> None:
    train = random_interactions()
    of = Vectors(*(part.float() for part in vectors(train, seed=5)))
    scorer = EmbeddingScorer(Vectors(*(part.float() for part in vectors(train, 7))))
    seeded = {key: OPTIONS[key] for key in ("seed", "batch_size", "device")}
    rrd = partial(RRD, **{k: v for k, v in OPTIONS.items() if k not in seeded})
    de = partial(
        DE, student_dim=4, n_experts=3, expert="relu_inside", first_temperature=1.0,
        last_temperature=0.1, anneal_epochs=5, visits="batch",
    )  # fmt: skip
    both = DERRD(train, Teacher(scorer, scorer), de=de, rrd=rrd, de_weight=0.3, rrd_weight=0.07,
                 **seeded)  # type: ignore[arg-type]  # fmt: skip
    both.begin_epoch(1, torch_stream(0, "distil"), bprmf(train))
    batch, state = step([3, 8, 3]), both.de.generator.get_state()
    whole = float(both.loss(batch, of).detach())
    both.de.generator.set_state(state)
    parts = [float(part.loss(batch, of).detach()) for part in (both.de, both.rrd)]
    assert whole == pytest.approx(0.3 * parts[0] + 0.07 * parts[1], rel=1e-5)
    assert min(parts) > 0


@pytest.mark.parametrize(
    ("option", "value"),
    [("n_interesting", 0), ("n_uninteresting", -1), ("temperature", 0.0), ("pool", 0),
     ("ir_weight", -1.0), ("ir_interesting", 0)],
)  # fmt: skip
def test_options_out_of_range_are_refused(option: str, value: float) -> None:
    with pytest.raises(UsageError, match=f"{option}="):
        make(random_interactions(), **{option: value})
