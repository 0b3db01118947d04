"""Protocols: disjoint by construction, right sizes, and each agrees with a loop."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, settings
from hypothesis import given as given_examples
from hypothesis import strategies as st

from kdrec.data import splits
from kdrec.errors import UsageError

SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=30)


def world(sizes, seed=0):
    """Users with these numbers of pairs, rows shuffled, times unique."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "user": np.repeat(np.arange(len(sizes)), sizes),
            "item": np.concatenate([np.arange(size) for size in sizes]),
        }
    )
    frame["timestamp"] = rng.permutation(len(frame))
    return frame.sample(frac=1, random_state=seed).reset_index(drop=True)


def counts(frame, labels, label):
    return np.bincount(frame["user"][labels == label], minlength=frame["user"].max() + 1)


def half_up(share, n):
    return math.floor(share * n + 0.5 + 1e-9)


@settings(deadline=None, max_examples=60)
@given_examples(SIZES, st.sampled_from([0.0, 0.1, 0.2, 0.5, 0.9]), st.sampled_from([0.0, 0.1, 0.6]))
@example([1, 2, 3], 0.9, 0.6)
def test_ratio_takes_the_rounded_share_of_each_user(sizes, test, valid):
    frame = world(sizes)
    labels = splits.ratio(frame, test=test, valid=valid, rng=np.random.default_rng(1))
    for user, n in enumerate(sizes):
        n_test = min(half_up(test, n), n - 1)
        n_valid = min(half_up(valid, n - n_test), n - n_test - 1)
        mine = labels[frame["user"] == user]
        assert np.bincount(mine, minlength=3).tolist() == [n - n_test - n_valid, n_valid, n_test]


def test_ratio_of_small_users_is_as_documented():
    sizes = list(range(1, 16))
    frame = world(sizes)
    labels = splits.ratio(frame, test=0.1, valid=0.1, rng=np.random.default_rng(0))
    assert counts(frame, labels, splits.TEST).tolist() == [0] * 4 + [1] * 10 + [2]
    assert counts(frame, labels, splits.VALID).tolist() == [0] * 5 + [1] * 10


def test_ratio_is_random_fair_and_repeatable():
    frame = world([10] * 2000)
    first, again, other = (
        splits.ratio(frame, test=0.1, valid=0.1, rng=np.random.default_rng(seed))
        for seed in (0, 0, 1)
    )
    assert (first == again).all()
    assert (first != other).mean() > 0.2
    per_item = np.bincount(frame["item"][first == splits.TEST], minlength=10)
    assert per_item.min() > 140, "each of a user's ten pairs is as likely as another"
    assert per_item.max() < 260


@settings(deadline=None, max_examples=40)
@given_examples(SIZES, st.sampled_from([0.0, 0.2, 0.5, 0.9]))
def test_official_parts_the_users(sizes, valid_users):
    frame = world(sizes)
    labels = splits.official(
        frame, holdout=0.2, valid_users=valid_users, rng=np.random.default_rng(2)
    )
    valid, test = (counts(frame, labels, label) for label in (splits.VALID, splits.TEST))
    held = [min(math.ceil(0.2 * n - 1e-9), n - 1) for n in sizes]
    assert (valid + test).tolist() == held
    assert not ((valid > 0) & (test > 0)).any(), "no user is both"
    chosen = half_up(valid_users, len(sizes))
    assert (valid > 0).sum() <= chosen
    if min(sizes) > 1:
        assert (valid > 0).sum() == chosen


def test_leave_one_out_goes_by_time():
    frame = world([1, 2, 3, 9])
    labels = splits.leave_one_out(frame, rng=np.random.default_rng(0))
    for user, n in enumerate([1, 2, 3, 9]):
        mine = labels[frame["user"] == user]
        by_time = mine[np.argsort(frame["timestamp"][frame["user"] == user].to_numpy())]
        expected = {1: [0], 2: [0, 2], 3: [0, 1, 2], 9: [0] * 7 + [1, 2]}[n]
        assert by_time.tolist() == expected


def test_leave_one_out_is_content_with_an_order_and_breaks_ties_by_chance():
    frame = world([5] * 400).rename(columns={"timestamp": "order"})
    assert (splits.leave_one_out(frame, rng=np.random.default_rng(0)) == splits.TEST).sum() == 400
    tied = frame.assign(order=0)
    labels = splits.leave_one_out(tied, rng=np.random.default_rng(0))
    assert np.bincount(tied["item"][labels == splits.TEST], minlength=5).min() > 40


def test_temporal_never_looks_ahead():
    frame = world([20] * 50)
    labels = splits.temporal(frame, test=0.1, valid=0.1, rng=np.random.default_rng(0))
    times = {label: frame["timestamp"][labels == label] for label in (0, 1, 2)}
    assert times[0].max() < times[1].min() <= times[1].max() < times[2].min()
    assert [len(times[label]) for label in (0, 1, 2)] == [810, 90, 100]


def test_temporal_keeps_a_second_together_and_leaves_out_unknown_users():
    frame = pd.DataFrame({"user": [0, 0, 0, 1, 0, 2], "item": [0, 1, 2, 0, 3, 1]})
    frame["timestamp"] = [1, 2, 3, 4, 4, 4]
    labels = splits.temporal(frame, test=0.2, valid=0.3, rng=np.random.default_rng(0))
    assert labels.tolist() == [0, 0, 1, -1, 2, -1]


def test_temporal_refuses_when_nothing_is_left():
    frame = world([5]).assign(timestamp=7)
    with pytest.raises(UsageError, match="1 different times"):
        splits.temporal(frame, test=0.1, valid=0.1, rng=np.random.default_rng(0))


def test_given_keeps_the_test_set_and_takes_validation_from_training():
    frame = world([20] * 10)
    frame["split"] = np.where(frame["item"] < 5, "test", "train")
    labels = splits.given(frame, valid=0.1, rng=np.random.default_rng(0))
    assert ((labels == splits.TEST) == (frame["split"] == "test")).all()
    assert counts(frame, labels, splits.VALID).tolist() == [half_up(0.1, 15)] * 10


def test_given_leaves_a_published_validation_part_alone():
    frame = world([20] * 10)
    frame["split"] = np.array(["train", "valid", "test"])[frame["item"] % 3]
    labels = splits.given(frame, valid=0.5, rng=np.random.default_rng(0))
    assert (labels == frame["item"].to_numpy() % 3).all()


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda f, r: splits.leave_one_out(f, rng=r), "needs times"),
        (lambda f, r: splits.temporal(f, test=0.1, valid=0.1, rng=r), "no times"),
        (
            lambda f, r: splits.temporal(f.assign(order=0), test=0.1, valid=0.1, rng=r),
            "only the order",
        ),
        (lambda f, r: splits.given(f, valid=0.1, rng=r), "split of its own"),
        (lambda f, r: splits.ratio(f, test=1.0, valid=0.1, rng=r), "share test.*1.0"),
        (lambda f, r: splits.ratio(f, test=0.1, valid=-0.1, rng=r), "share valid"),
        (lambda f, r: splits.leave_one_out(f.assign(timestamp=np.nan), rng=r), "12 of 12 have"),
    ],
)
def test_a_protocol_says_what_it_lacks(call, says):
    frame = world([5, 7]).drop(columns="timestamp")
    with pytest.raises(UsageError, match=says):
        call(frame, np.random.default_rng(0))
