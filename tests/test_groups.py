"""Groups of items and of users, against loops that say the same."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdrec.data import citeulike, groups, splits
from kdrec.data.interactions import Interactions
from kdrec.data.preprocess import prepare
from kdrec.errors import UsageError

COUNTS = st.lists(st.integers(0, 60), min_size=1, max_size=60)


def naive_groups(counts, n_groups):
    """The greedy rule, item by item."""
    order = sorted((i for i, c in enumerate(counts) if c > 0), key=lambda i: -counts[i])
    total = sum(counts)
    made, current, running = [], [], 0
    for item in order:
        if current and n_groups * (running + counts[item]) > total:
            made.append(current)
            current, running = [], 0
        current.append(item)
        running += counts[item]
    if current and (2 * n_groups * running > total or not made):
        made.append(current)
    elif current:
        made[-1] += current
    labels = [-1] * len(counts)
    for group, members in enumerate(made):
        for item in members:
            labels[item] = min(group, n_groups - 1)
    return labels


@settings(deadline=None, max_examples=300)
@given(COUNTS, st.integers(1, 8))
def test_popularity_groups_are_the_greedy_rule(counts, n_groups):
    found = groups.popularity_groups(np.array(counts), n_groups)
    assert found.tolist() == naive_groups(counts, n_groups)


@settings(deadline=None, max_examples=100)
@given(COUNTS, st.integers(1, 8))
def test_popularity_groups_fall_in_popularity_and_leave_out_the_unseen(counts, n_groups):
    counts = np.array(counts)
    found = groups.popularity_groups(counts, n_groups)
    assert ((found == -1) == (counts == 0)).all()
    made = np.unique(found[found >= 0])
    assert made.tolist() == list(range(len(made)))
    assert len(made) <= n_groups
    for group in made[1:]:
        assert counts[found == group].max() <= counts[found == group - 1].min()


def test_popularity_groups_by_hand():
    # a = 10: 9 | 4 4 | 3 3 (7 > 5: a group); ties keep their order
    assert groups.popularity_groups(np.array([3, 9, 4, 0, 4, 3]), 2).tolist() == [1, 0, 1, -1, 1, 1]
    # a = 6: the first alone exceeds it and is a group; 1 + 1 is left over, 2 <= 3: it joins
    assert groups.popularity_groups(np.array([10, 1, 1]), 2).tolist() == [0, 0, 0]
    # a = 4: 2 is not above a / 2
    assert groups.popularity_groups(np.array([6, 2]), 2).tolist() == [0, 0]
    # a = 4: 4 | 3 | 3 | 2 would be four
    assert groups.popularity_groups(np.array([4, 3, 3, 2]), 3).tolist() == [0, 1, 2, 2]


def test_popularity_groups_of_nothing_and_of_no_groups():
    assert groups.popularity_groups(np.zeros(3, np.int64), 2).tolist() == [-1, -1, -1]
    with pytest.raises(UsageError, match="at least 1, got 0"):
        groups.popularity_groups(np.array([1]), 0)


def test_popularity_groups_of_citeulike(shared):
    official = partial(splits.official, holdout=0.2, valid_users=0.2)
    prepared = prepare(
        citeulike.read([shared / "citeulike-t" / "users.dat"]),
        min_rating=None,
        min_user=5,
        min_item=0,
        core=False,
        protocol=official,
        seed=0,
    )
    counts = prepared.split.train.item_counts()
    found = groups.popularity_groups(counts, 2)
    assert len(prepared.split.train) == 98_405
    assert np.abs(np.bincount(found + 1) - [1_294, 3_305, 20_582]).max() < 150
    sums = np.bincount(found[found >= 0], weights=counts[found >= 0])
    assert np.ptp(sums) < 0.01 * sums.sum()


@settings(deadline=None, max_examples=50)
@given(COUNTS, st.integers(1, 8), st.integers(0, 5))
def test_random_groups_have_the_same_sizes_and_the_same_strangers(counts, n_groups, seed):
    found = groups.popularity_groups(np.array(counts), n_groups)
    control = groups.random_groups(found, np.random.default_rng(seed))
    assert (np.bincount(found + 1) == np.bincount(control + 1)).all()
    assert ((found == -1) == (control == -1)).all()


def test_random_groups_are_random():
    found = groups.popularity_groups(np.arange(1, 1001), 4)
    before = found.copy()
    control = groups.random_groups(found, np.random.default_rng(0))
    assert (found == before).all(), "the argument is left alone"
    assert (control != found).mean() > 0.3


def test_activeness_and_consistency_by_hand():
    # item counts 3, 2, 1: two items cover half of the six
    pairs = np.array([(0, 0), (0, 1), (1, 0), (2, 0), (2, 1), (2, 2)])
    train = Interactions.from_pairs(pairs[:, 0], pairs[:, 1], n_users=4, n_items=4)
    assert groups.activeness(train).tolist() == [2, 1, 3, 0]
    half = groups.consistency(train, 0.5)
    assert half[:3] == pytest.approx([1 / 2, 1, 1 / 3])
    assert np.isnan(half[3]), "nothing is known of a user without a training pair"
    assert groups.consistency(train, 0.6)[:3] == pytest.approx([1, 1, 2 / 3])
    assert groups.consistency(train, 1.0)[:3] == pytest.approx([1, 1, 1])
    with pytest.raises(UsageError, match=r"got 1\.5"):
        groups.consistency(train, 1.5)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=50), st.integers(1, 7), st.data())
def test_user_bins_are_equal_and_fall(values, n_bins, data):
    values = np.array(values, dtype=np.float64)
    drawn = data.draw(st.sets(st.integers(0, len(values) - 1)))
    users = np.array(sorted(drawn), dtype=np.int64)
    bins = groups.equal_user_bins(values, n_bins, users)
    outside = np.setdiff1d(np.arange(len(values)), users)
    assert (bins[outside] == -1).all()
    assert (bins[users] >= 0).all()
    sizes = np.bincount(bins[users], minlength=n_bins)
    assert sizes.max() - sizes.min() <= 1
    for user in users:
        higher = users[values[users] > values[user]]
        assert (bins[higher] <= bins[user]).all()


def test_user_bins_break_ties_by_the_user_and_nothing_else():
    values = np.ones(1000)
    users = np.arange(1000)
    bins = groups.equal_user_bins(values, 5, users)
    assert (bins == groups.equal_user_bins(values, 5, users[::-1].copy())).all()
    halves = np.bincount(bins[:500], minlength=5)
    assert halves.min() > 70, "the order of the indices does not decide"


def test_user_bins_leave_out_nan():
    values = np.array([3.0, np.nan, 1.0])
    assert groups.equal_user_bins(values, 2, np.arange(3)).tolist() == [0, -1, 1]
    with pytest.raises(UsageError, match="at least 1, got 0"):
        groups.equal_user_bins(values, 0, np.arange(3))
