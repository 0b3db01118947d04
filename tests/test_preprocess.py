"""Filters in their order, indices, the unbiased test set, statistics; and the published counts."""

from __future__ import annotations

import logging
from functools import partial

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdrec.data import amazon, citeulike, movielens, splits
from kdrec.data.preprocess import prepare
from kdrec.data.raw import RawData
from kdrec.data.stats import gini, top_share
from kdrec.errors import KdrecError, UsageError

PAPER = partial(splits.ratio, test=0.1, valid=0.1)
NOTHING = {"min_rating": None, "min_user": 0, "min_item": 0, "core": False}


def make(raw, **change):
    if not isinstance(raw, RawData):
        raw = RawData(pd.DataFrame(raw))
    options = NOTHING | {"protocol": PAPER, "seed": 0} | change
    return prepare(raw, **options)


def pairs(prepared):
    """All pairs with their original ids."""
    users, items = prepared.users["id"].to_numpy(), prepared.items["id"].to_numpy()
    split = prepared.split
    return {
        (user, item)
        for part in (split.train, split.valid, split.test)
        for user, item in zip(users[part.users], items[part.items], strict=True)
    }


@pytest.mark.parametrize(
    ("reader", "path", "filters", "counts"),
    [
        (citeulike, "citeulike-t/users.dat", {"min_user": 5}, (5219, 25181, 125580)),
        (amazon, "amazon-apps/Apps_for_Android.txt.gz", {"min_user": 20}, (3898, 11797, 128105)),
        (movielens, "ml-1m/ratings_all.tsv.gz", {"min_user": 20}, (6040, 3706, 1000209)),
        (movielens, "ml-1m/ratings_all.tsv.gz", {"min_rating": 4}, (6038, 3533, 575281)),
        (movielens, "ml-100k/u.data", {}, (943, 1682, 100000)),
    ],
)
def test_the_published_counts(shared, reader, path, filters, counts):
    prepared = make(reader.read([shared / path]), **filters)
    stats = prepared.stats
    assert (stats["users"], stats["items"], stats["interactions"]) == counts
    assert sum(stats[part] for part in ("train", "valid", "test")) == counts[2]


def test_threshold_drops_what_has_no_rating_and_says_so(caplog):
    raw = {"user": [0, 0, 1, 1], "item": [0, 1, 0, 1], "rating": [4.0, 3.0, np.nan, 5.0]}
    assert pairs(make(raw)) == {(0, 0), (0, 1), (1, 0), (1, 1)}
    with caplog.at_level(logging.WARNING):
        prepared = make(raw, min_rating=4)
    assert pairs(prepared) == {(0, 0), (1, 1)}
    assert "1 of 4 rows have no rating" in caplog.text
    assert prepared.stats["dropped"]["min_rating"] == 2


def test_threshold_comes_before_duplicates():
    raw = {"user": [0, 0, 1], "item": [0, 0, 0], "rating": [1.0, 5.0, 5.0], "timestamp": [1, 2, 3]}
    assert pairs(make(raw, min_rating=4)) == {(0, 0), (1, 0)}


@pytest.mark.parametrize("column", ["timestamp", "order"])
def test_the_earliest_of_duplicates_stays(column):
    # item 0 is first taken at time 1 and again at 9: by first times 0, 1, 2 come in this order
    raw = {"user": [0] * 4, "item": [0, 1, 2, 0], column: [9, 2, 3, 1]}
    prepared = make(raw, protocol=splits.leave_one_out)
    ids = prepared.items["id"].to_numpy()
    assert ids[prepared.split.test.items].tolist() == [2]
    assert ids[prepared.split.valid.items].tolist() == [1]
    assert prepared.stats["dropped"]["duplicates"] == 1


def test_a_duplicate_without_a_time_counts_as_latest():
    raw = {"user": [0] * 4, "item": [0, 0, 1, 2], "timestamp": [np.nan, 1.0, 2.0, 3.0]}
    prepared = make(raw, protocol=splits.leave_one_out)
    assert prepared.items["id"].to_numpy()[prepared.split.train.items].tolist() == [0]


def test_a_published_split_may_not_contradict_itself():
    raw = {"user": [0, 0], "item": [0, 0], "split": ["train", "test"]}
    with pytest.raises(KdrecError, match="1 pairs are in more than one part"):
        make(raw, protocol=partial(splits.given, valid=0.1))


EVENTS = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), min_size=1, max_size=60)


def naive_filter(events, min_user, min_item, core):
    kept = set(events)
    while True:
        users = [user for user, _ in kept]
        items = [item for _, item in kept]
        keep = {
            (user, item)
            for user, item in kept
            if users.count(user) >= min_user and items.count(item) >= min_item
        }
        if not core or keep == kept:
            return keep
        kept = keep


@settings(deadline=None, max_examples=150)
@given(EVENTS, st.integers(0, 4), st.integers(0, 4), st.booleans())
def test_minimum_counts_agree_with_a_loop(events, min_user, min_item, core):
    raw = {"user": [user for user, _ in events], "item": [item for _, item in events]}
    expected = naive_filter(events, min_user, min_item, core)
    options = {"min_user": min_user, "min_item": min_item, "core": core}
    if not expected:
        with pytest.raises(UsageError, match="leaves none"):
            make(raw, **options)
    else:
        assert pairs(make(raw, **options)) == expected


def test_once_counts_users_and_items_on_the_same_pairs():
    # item 9 has one pair and goes; user 0 then has one, and stays unless core is asked for
    raw = {"user": [0, 0, 1, 1], "item": [1, 9, 1, 2], "timestamp": [0] * 4}
    raw = {
        key: [*value, *extra]
        for (key, value), extra in zip(raw.items(), ([2, 2], [1, 2], [0, 0]), strict=True)
    }
    assert pairs(make(raw, min_user=2, min_item=2)) == {(0, 1), (1, 1), (1, 2), (2, 1), (2, 2)}
    assert pairs(make(raw, min_user=2, min_item=2, core=True)) == {(1, 1), (1, 2), (2, 1), (2, 2)}


def test_indices_are_numbered_by_first_appearance_and_map_back():
    raw = {"user": ["z", "a", "z", "m"], "item": [30, 10, 10, 20]}
    prepared = make(raw, protocol=partial(splits.ratio, test=0.0, valid=0.0))
    assert prepared.users["id"].tolist() == ["z", "a", "m"]
    assert prepared.items["id"].tolist() == [30, 10, 20]
    assert pairs(prepared) == {("z", 30), ("a", 10), ("z", 10), ("m", 20)}


def test_left_out_pairs_leave_no_user_or_item_behind():
    raw = {"user": [0, 0, 0, 1], "item": [0, 1, 2, 9], "timestamp": [1, 2, 3, 3]}
    prepared = make(raw, protocol=partial(splits.temporal, test=0.25, valid=0.0))
    assert prepared.users["id"].tolist() == [0]
    assert prepared.items["id"].tolist() == [0, 1, 2]
    assert prepared.stats["dropped"]["protocol"] == 1


def test_the_unbiased_set_keeps_to_what_is_left_and_to_what_is_new():
    events = pd.DataFrame({"user": [5, 5, 6, 6, 7], "item": [1, 2, 1, 2, 3]})
    extra = pd.DataFrame({"user": [5, 5, 6, 7], "item": [3, 1, 8, 1]})
    prepared = make(RawData(events, extra), min_user=2)
    # user 7 and item 3 are filtered out, (5, 1) is observed, item 8 is unknown
    assert len(prepared.split.unbiased) == 0
    prepared = make(RawData(events, extra))
    users, items = prepared.users["id"].to_numpy(), prepared.items["id"].to_numpy()
    unbiased = prepared.split.unbiased
    assert set(zip(users[unbiased.users], items[unbiased.items], strict=True)) == {(5, 3), (7, 1)}


def test_the_seed_decides_the_split_and_nothing_else():
    rng = np.random.default_rng(0)
    raw = {"user": rng.integers(0, 50, 3000), "item": rng.integers(0, 200, 3000)}
    first, again, other = (make(raw, seed=seed) for seed in (0, 0, 1))
    assert first.split.digest == again.split.digest != other.split.digest
    assert pairs(first) == pairs(other)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"min_rating": 3}, "min_rating=3 needs ratings"),
        ({"min_user": 9}, "leaves none of 2 interactions"),
        ({"protocol": lambda frame, rng: np.zeros(5, np.int8)}, r"labels of shape \(5,\)"),
        ({"protocol": lambda frame, rng: np.full(len(frame), 7, np.int8)}, r"values \[7\]"),
    ],
)
def test_prepare_says_what_is_wrong(change, says):
    with pytest.raises(KdrecError, match=says):
        make({"user": [0, 0], "item": [1, 2]}, **change)


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        ({"user": [1]}, "columns user, item"),
        ({"user": [1], "item": [2], "text": ["x"]}, "columns user, item"),
        ({"user": [1, None], "item": [2, 2]}, "1 rows have no user id; the first is row 2"),
        ({"user": [], "item": []}, "no interactions"),
    ],
)
def test_raw_data_is_checked_when_it_is_made(frame, says):
    with pytest.raises(KdrecError, match=says):
        RawData(pd.DataFrame(frame))


def test_statistics_by_hand():
    raw = {"user": [0, 0, 0, 1], "item": [0, 1, 2, 0]}
    stats = make(raw, protocol=partial(splits.ratio, test=0.34, valid=0.0)).stats
    assert stats["density"] == pytest.approx(4 / 6)
    assert (stats["train"], stats["valid"], stats["test"]) == (3, 0, 1)
    assert (stats["mean_per_user"], stats["median_per_item"]) == (2, 1)
    assert stats["users_with_test"] == 1
    assert stats["gini_users"] == pytest.approx(0.25)


def test_gini_and_top_share():
    assert gini(np.array([5, 5, 5])) == pytest.approx(0)
    assert gini(np.array([0, 0, 0, 12])) == pytest.approx(3 / 4)
    counts = np.random.default_rng(0).integers(0, 30, 40)
    naive = np.abs(counts[:, None] - counts[None, :]).sum() / (2 * len(counts) * counts.sum())
    assert gini(counts) == pytest.approx(naive)
    assert top_share(np.array([1, 1, 7, 1]), 0.25) == pytest.approx(0.7)
    assert gini(np.zeros(3, np.int64)) == top_share(np.zeros(3, np.int64), 0.1) == 0


def test_fractions_of_a_second_keep_their_order():
    frame = pd.DataFrame({"user": [0] * 4, "item": [1, 2, 3, 4], "timestamp": [0.3, 0.1, 0.4, 0.2]})
    seen = []

    def protocol(frame, *, rng):
        seen.append(frame["timestamp"].tolist())
        return np.zeros(len(frame), dtype=np.int8)

    prepare(
        RawData(frame), min_rating=None, min_user=0, min_item=0, core=False, protocol=protocol,
        seed=0,
    )  # fmt: skip
    assert seen == [[0.3, 0.1, 0.4, 0.2]]
