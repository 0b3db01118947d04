"""Grouped evaluation: groups, bins, exposure, targets."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from kdrec.data.groups import consistency, popular_items
from kdrec.data.interactions import Interactions, Split
from kdrec.errors import KdrecError, UsageError
from kdrec.evaluation import beyond, metrics
from kdrec.evaluation.grouped import evaluate, quick

METRICS = {"recall": metrics.recall, "ndcg": metrics.ndcg}


class Table:
    def __init__(self, table):
        self.table = torch.as_tensor(np.asarray(table, np.float32))

    def scores(self, users):
        return self.table[users]


def pairs(mask):
    users, items = np.nonzero(mask)
    return Interactions.from_pairs(users, items, n_users=mask.shape[0], n_items=mask.shape[1])


def world(seed=0, n_users=90, n_items=70, *, unbiased=True):
    """Items fall in popularity; the last ten are never in training; some users have no test."""
    rng = np.random.default_rng(seed)
    drawn = rng.random((n_users, n_items))
    chance = 0.5 / (1 + np.arange(n_items) / 6)
    train = drawn < chance
    train[:, -10:] = False
    train[0] = False  # a user without training pairs
    valid = ~train & (rng.random(drawn.shape) < 0.03)
    test = ~train & ~valid & (rng.random(drawn.shape) < 0.06)
    test[0, :3], valid[0, :3] = True, False
    test[5:15] = False
    fair = ~train & ~valid & (rng.random(drawn.shape) < 0.05)
    return Split(pairs(train), pairs(valid), pairs(test), pairs(fair) if unbiased else None)


run = partial(
    evaluate,
    metrics=METRICS,
    cutoffs=[5, 10],
    item_groups=2,
    user_bins=3,
    popular_mass=0.5,
    seed=0,
    batch_size=32,
)


@pytest.fixture(scope="module")
def split():
    return world()


@pytest.fixture(scope="module")
def scorer():
    return Table(np.random.default_rng(1).normal(size=(90, 70)))


@pytest.fixture(scope="module")
def result(scorer, split):
    return run(scorer, split)


def value(summary, **where):
    rows = summary
    for name, wanted in where.items():
        rows = rows[rows[name] == wanted]
    assert len(rows) == 1, rows
    return rows["value"].iloc[0]


def of_target(result, target):
    return result.per_user[result.per_user["target"] == target]


def test_every_row_is_there_once_and_finite(result):
    keys = ["target", "scope", "group", "form", "metric"]
    assert not result.summary.duplicated(keys).any()
    assert np.isfinite(result.summary["value"]).all()
    assert set(result.summary["target"]) == {"test", "unbiased", "valid"}
    assert set(result.summary["scope"]) == {"all", "items", "activeness", "consistency", "beyond"}


def test_users_without_a_test_item_are_skipped_and_counted(result, split):
    evaluated = int((split.test.user_counts() > 0).sum())
    assert evaluated < 81
    row = {"target": "test", "scope": "all"}
    assert value(result.summary, **row, metric="users") == evaluated
    assert value(result.summary, **row, metric="users_skipped") == 90 - evaluated
    assert len(of_target(result, "test")) == len(result.topk.users) == evaluated
    assert of_target(result, "test")["n_relevant"].sum() == len(split.test)


def test_nothing_known_is_recommended(result, split):
    for part in (split.train, split.valid):
        keys = result.topk.users[:, None] * part.n_items + result.topk.items
        assert not np.isin(keys, part.keys()).any()


def test_the_means_are_those_of_the_users(result):
    users = of_target(result, "test")
    expected = users["recall@10"].mean()
    assert value(result.summary, target="test", scope="all", metric="recall@10") == pytest.approx(
        expected
    )
    for group in ("popular", "unpopular", "cold"):
        column = users[f"recall@10|{group}"]
        assert (column.notna() == (users[f"n_relevant|{group}"] > 0)).all()
        at = {"target": "test", "scope": "items", "group": group, "metric": "recall@10"}
        assert value(result.summary, **at, form="eligible") == pytest.approx(column.mean())
        diluted = column.sum() / len(users)
        assert value(result.summary, **at, form="diluted") == pytest.approx(diluted)
        assert diluted < column.mean()


def naive_group_recall(table, split, groups, group, k):
    """The definition of METHODS, user by user."""
    out = {}
    for user in range(split.n_users):
        known = set(split.train.items[split.train.users == user])
        known |= set(split.valid.items[split.valid.users == user])
        test = set(split.test.items[split.test.users == user])
        relevant = {item for item in test if groups[item] == group}
        ranked = sorted(set(range(split.n_items)) - known, key=lambda item: -table[user, item])
        if relevant:
            out[user] = len(relevant & set(ranked[:k])) / len(relevant)
    return out


@pytest.mark.parametrize(("number", "name"), [(0, "popular"), (1, "unpopular"), (-1, "cold")])
def test_group_recall_equals_a_loop_over_users(scorer, split, result, number, name):
    from kdrec.data.groups import popularity_groups

    groups = popularity_groups(split.train.item_counts(), 2)
    expected = naive_group_recall(scorer.table.numpy(), split, groups, number, 10)
    users = of_target(result, "test").set_index("user")[f"recall@10|{name}"].dropna()
    assert users.to_dict() == pytest.approx(expected)
    assert len(expected) > 3


def test_groups_that_cover_all_items_recombine_to_the_total(result):
    users = of_target(result, "test")
    total = sum(
        users[f"recall@5|{group}"].fillna(0) * users[f"n_relevant|{group}"]
        for group in ("popular", "unpopular", "cold")
    )
    np.testing.assert_allclose(total / users["n_relevant"], users["recall@5"])


def test_bins_have_equal_numbers_of_users_and_recombine(result, split):
    users = of_target(result, "test")
    sizes = users["activeness"].value_counts()
    assert set(sizes.index) == {"head", "2", "tail"}
    assert sizes.max() - sizes.min() <= 1
    counts = split.train.user_counts()[users["user"]]
    head, tail = (counts[users["activeness"] == name] for name in ("head", "tail"))
    assert head.min() >= tail.max()
    rows = result.summary.query("target == 'test' and scope == 'activeness'")
    rows = rows[rows["metric"] == "ndcg@10"]
    total = (rows["value"] * rows["n_users"]).sum() / rows["n_users"].sum()
    assert total == pytest.approx(users["ndcg@10"].mean())


def test_a_user_without_training_pairs_is_in_no_consistency_bin(result):
    users = of_target(result, "test").set_index("user")
    assert users.loc[0, "consistency"] == ""
    assert users.loc[0, "activeness"] == "tail"
    rows = result.summary.query("target == 'test' and scope == 'consistency'")
    rows = rows[rows["metric"] == "recall@5"]
    assert rows["n_users"].sum() == len(users) - 1


def test_exposure_and_shares_are_shares(result, split):
    rows = result.summary.query("target == 'test' and scope == 'beyond'")
    for metric in (
        "exposure@5",
        "ideal_exposure@10",
        "share_in_test",
        "share_in_train",
        "share_of_items",
    ):
        assert rows[rows["metric"] == metric]["value"].sum() == pytest.approx(1), metric
    at = {"target": "test", "scope": "beyond"}
    cold = split.test.items[split.train.item_counts()[split.test.items] == 0]
    share = value(result.summary, **at, group="cold", metric="share_in_test")
    assert share == pytest.approx(len(cold) / len(split.test))
    never = (split.train.item_counts() == 0).mean()
    assert value(result.summary, **at, group="cold", metric="share_of_items") == never


def test_a_perfect_scorer_is_perfect_and_exposes_as_the_ideal_does(split):
    table = np.zeros((90, 70))
    table[split.test.users, split.test.items] = 1
    perfect = run(Table(table), split)
    most = int(split.test.user_counts().max())
    assert most <= 10  # so that recall@10 can be 1
    for group in ("popular", "unpopular", "cold"):
        at = {"target": "test", "scope": "items", "group": group, "form": "eligible"}
        assert value(perfect.summary, **at, metric="recall@10") == 1
    assert value(perfect.summary, target="test", scope="all", metric="ndcg@5") == 1
    lists = np.where(perfect.topk.scores > 0, perfect.topk.items, -1)
    counts = split.train.item_counts()
    from kdrec.data.groups import popularity_groups

    groups = np.where(counts > 0, popularity_groups(counts, 2), 2)
    rows = perfect.summary.query("target == 'test' and metric == 'ideal_exposure@10'")
    np.testing.assert_allclose(beyond.exposure(lists, groups, 3), rows["value"])


def test_a_constant_scorer_gets_chance_in_every_group():
    split = world(seed=7, n_users=3000)
    result = run(Table(np.zeros((3000, 70))), split)
    users = of_target(result, "test")
    known = split.train.user_counts() + split.valid.user_counts()
    chance = (10 / (70 - known[users["user"]])).clip(max=1)
    for group in ("popular", "unpopular", "cold"):
        has = users[f"n_relevant|{group}"] > 0
        column = users[f"recall@10|{group}"][has]
        error = column.std() / np.sqrt(has.sum())
        assert abs(column.mean() - chance[has].mean()) < 4 * error, group


def test_the_unbiased_target_masks_the_test_pairs_and_drops_shared_ones(scorer, split, result):
    users = of_target(result, "unbiased")
    shared = np.intersect1d(split.unbiased.keys(), split.test.keys())
    assert len(shared)
    assert users["n_relevant"].sum() == len(split.unbiased) - len(shared)
    perfect = np.zeros((90, 70))
    perfect[split.unbiased.users, split.unbiased.items] = 1
    perfect[split.test.users, split.test.items] = 2  # known by then, so out of the way
    assert value(
        run(Table(perfect), split).summary, target="unbiased", scope="all", metric="ndcg@10"
    ) == pytest.approx(1)
    assert value(result.summary, target="unbiased", scope="all", metric="ndcg@10") < 0.5


def test_valid_is_what_quick_says(scorer, split, result):
    seen = quick(
        scorer, split.valid, mask=[split.train], metrics=METRICS, cutoffs=[5, 10], seed=0,
        batch_size=17,
    )  # fmt: skip
    assert set(seen) == {"recall@5", "recall@10", "ndcg@5", "ndcg@10"}
    for metric, mean in seen.items():
        assert value(result.summary, target="valid", metric=metric) == pytest.approx(mean)


def test_beside_accuracy_equals_its_definition(result, split):
    items = result.topk.items[:, :5]
    counts = split.train.item_counts()
    at = {"target": "test", "scope": "beyond", "group": "all"}
    popularity = np.mean([counts[row].mean() for row in items])
    assert value(result.summary, **at, metric="avg_popularity@5") == pytest.approx(popularity)
    coverage = len(set(items.ravel().tolist())) / 70
    assert value(result.summary, **at, metric="coverage@5") == pytest.approx(coverage)
    times = np.bincount(items.ravel(), minlength=70)
    pairwise = np.abs(times[:, None] - times[None]).sum() / (2 * 70**2 * times.mean())
    assert value(result.summary, **at, metric="gini@5") == pytest.approx(pairwise)
    popular = popular_items(counts, 0.5)
    tail = np.mean([(~popular[row]).mean() for row in items])
    assert value(result.summary, **at, metric="long_tail@5") == pytest.approx(tail)


def test_exposures_by_hand():
    lists = np.array([[0, 1, 2], [2, -1, -1]])
    np.testing.assert_allclose(beyond.exposure(lists, np.array([0, 1, 1]), 2), [1 / 4, 3 / 4])
    relevant = np.array([[3, 1], [0, 1]])  # the first user's best two are any two of four
    np.testing.assert_allclose(beyond.ideal_exposure(relevant, 2), [1.5 / 3, 1.5 / 3])


def test_the_popular_items_are_the_smallest_set_with_the_mass():
    counts = np.array([1, 2, 0, 1])
    assert popular_items(counts, 0.5).tolist() == [False, True, False, False]
    assert popular_items(counts, 0.51).tolist() == [True, True, False, False]
    assert popular_items(counts, 1.0).tolist() == [True, True, False, True]


@pytest.mark.parametrize("mass", [0.1, 0.5, 0.8, 1.0])
def test_popular_items_are_those_of_consistency(split, mass):
    popular = popular_items(split.train.item_counts(), mass)
    own = np.bincount(split.train.users[popular[split.train.items]], minlength=90)
    counts = split.train.user_counts()
    some = counts > 0
    np.testing.assert_allclose(own[some] / counts[some], consistency(split.train, mass)[some])


@pytest.mark.parametrize(("n_groups", "names"), [(1, ["1"]), (4, ["1", "2", "3", "4"])])
def test_any_number_of_groups(scorer, split, n_groups, names):
    summary = run(scorer, split, item_groups=n_groups, user_bins=2).summary
    assert list(summary[summary["scope"] == "items"]["group"].unique()) == [*names, "cold"]
    assert set(summary[summary["scope"] == "activeness"]["group"]) == {"head", "tail"}


def test_a_group_that_no_user_has_an_item_of_has_no_mean(scorer):
    split = world(unbiased=False)
    seen = split.train.item_counts()[split.test.items] > 0
    test = Interactions(split.test.users[seen], split.test.items[seen], 90, 70)
    summary = run(scorer, Split(split.train, split.valid, test)).summary
    cold = summary[(summary["group"] == "cold") & (summary["scope"] == "items")]
    assert set(cold["form"]) == {"diluted"}
    assert (cold["value"] == 0).all()
    assert set(summary["target"]) == {"test", "valid"}


def test_nothing_to_evaluate_is_refused(scorer, split):
    empty = Interactions.from_pairs(np.array([]), np.array([]), n_users=90, n_items=70)
    with pytest.raises(KdrecError, match="test part of the split has no interactions"):
        run(scorer, Split(split.train, split.valid, empty))
    with pytest.raises(UsageError, match="Cut-offs"):
        run(scorer, split, cutoffs=[0, 5])
    with pytest.raises(UsageError, match="no metric"):
        run(scorer, split, metrics={})
