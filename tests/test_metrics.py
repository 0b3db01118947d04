"""Metrics: fractions worked by hand, properties, an independent library."""

from __future__ import annotations

from fractions import Fraction

import ir_measures
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdrec.data.interactions import Interactions
from kdrec.errors import KdrecError
from kdrec.evaluation import metrics
from kdrec.evaluation.topk import hits, top_k

ALL = {
    "recall": metrics.recall,
    "precision": metrics.precision,
    "hit_rate": metrics.hit_rate,
    "ndcg": metrics.ndcg,
    "mrr": metrics.mrr,
    "map": metrics.average_precision,
}
each = pytest.mark.parametrize("metric", ALL.values(), ids=ALL)


def one(metric, row, n_relevant):
    return float(metric(np.array([row], bool), np.array([n_relevant]))[0])


def test_hand_worked_fractions():
    row, n_relevant = [0, 1, 0, 1, 0], 3
    assert one(metrics.recall, row, n_relevant) == pytest.approx(Fraction(2, 3))
    assert one(metrics.precision, row, n_relevant) == pytest.approx(Fraction(2, 5))
    assert one(metrics.hit_rate, row, n_relevant) == 1
    assert one(metrics.mrr, row, n_relevant) == Fraction(1, 2)
    expected = (Fraction(1, 2) + Fraction(2, 4)) / 3
    assert one(metrics.average_precision, row, n_relevant) == pytest.approx(expected)
    gain, ideal = 1 / np.log2(3) + 1 / np.log2(5), 1 + 1 / np.log2(3) + 1 / 2
    assert one(metrics.ndcg, row, n_relevant) == pytest.approx(gain / ideal)


def test_recall_has_no_minimum_in_its_divisor_and_the_ideal_list_has():
    assert one(metrics.recall, [1, 1], 8) == 0.25
    assert one(metrics.ndcg, [1, 1], 8) == pytest.approx(1)


@each
def test_a_user_without_a_relevant_item_has_no_value(metric):
    values = metric(np.zeros((2, 3), bool), np.array([0, 2]))
    assert np.isnan(values[0])
    assert values[1] == 0


@each
@pytest.mark.parametrize(
    ("found", "n_relevant"),
    [
        (np.ones((1, 2), bool), np.array([1])),
        (np.ones((2, 2), bool), np.array([3])),
        (np.ones((1, 0), bool), np.array([3])),
    ],
)
def test_input_that_cannot_be_is_refused(metric, found, n_relevant):
    with pytest.raises(KdrecError):
        metric(found, n_relevant)


lists = st.lists(st.booleans(), min_size=1, max_size=12)


@each
@settings(max_examples=60, deadline=None)
@given(row=lists, more=st.integers(0, 5))
def test_range_best_and_worst(metric, row, more):
    n_relevant = max(1, sum(row) + more)
    value = one(metric, row, n_relevant)
    assert 0 <= value <= 1 + 1e-12
    k = len(row)
    best = one(metric, [place < n_relevant for place in range(k)], n_relevant)
    assert best >= value - 1e-12
    assert one(metric, [False] * k, n_relevant) == 0
    if metric in (metrics.ndcg, metrics.mrr, metrics.hit_rate):
        assert best == pytest.approx(1)


@each
@settings(max_examples=60, deadline=None)
@given(row=lists, more=st.integers(0, 5), data=st.data())
def test_a_better_rank_never_scores_lower(metric, row, more, data):
    place = data.draw(st.integers(0, len(row) - 1))
    better = data.draw(st.integers(0, place))
    moved = list(row)
    moved[better], moved[place] = row[place] or row[better], row[place] and row[better]
    n_relevant = max(1, sum(row) + more)
    assert one(metric, moved, n_relevant) >= one(metric, row, n_relevant) - 1e-12


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1000), n_groups=st.integers(1, 4))
def test_groups_that_cover_all_items_recombine_to_the_total(seed, n_groups):
    rng = np.random.default_rng(seed)
    found = rng.random((20, 8)) < 0.3
    group = rng.integers(0, n_groups, found.shape)
    hits_of = np.stack([(found & (group == g)).sum(axis=1) for g in range(n_groups)], axis=1)
    relevant = hits_of + rng.integers(0, 4, hits_of.shape)
    total = relevant.sum(axis=1)
    parts = np.stack(
        [metrics.recall(found & (group == g), relevant[:, g]) for g in range(n_groups)], axis=1
    )
    weighted = np.nansum(parts * relevant, axis=1)
    whole = metrics.recall(found, total)
    some = total > 0
    np.testing.assert_allclose(weighted[some] / total[some], whole[some])


class Table:
    def __init__(self, table):
        self.table = table

    def scores(self, users):
        return self.table[users]


def random_world(seed, n_users=60, n_items=80, levels=9):
    import torch

    rng = np.random.default_rng(seed)
    table = torch.as_tensor(rng.integers(0, levels, (n_users, n_items)).astype(np.float32))
    chosen = rng.random((n_users, n_items))
    users, items = np.nonzero(chosen < 0.08)
    target = Interactions.from_pairs(users, items, n_users=n_users, n_items=n_items)
    users, items = np.nonzero(chosen > 0.9)
    train = Interactions.from_pairs(users, items, n_users=n_users, n_items=n_items)
    return Table(table), train, target


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("k", [1, 5, 10, 50])
def test_equal_to_ir_measures_on_rankings_with_ties(seed, k):
    scorer, train, target = random_world(seed)
    users = np.flatnonzero(target.user_counts())
    lists = top_k(scorer, users, k, mask=[train], seed=seed, batch_size=16)
    found, relevant = hits(lists, target), target.user_counts()[users]
    names = {
        "recall": ir_measures.R @ k,
        "precision": ir_measures.P @ k,
        "hit_rate": ir_measures.Success @ k,
        "ndcg": ir_measures.nDCG @ k,
        "mrr": ir_measures.RR @ k,
        "map": ir_measures.AP @ k,
    }
    qrels = pd.DataFrame(
        {"query_id": target.users.astype(str), "doc_id": target.items.astype(str), "relevance": 1}
    )
    # The order is handed over as scores without ties: breaking ties is our own affair.
    row, place = np.nonzero(lists.items >= 0)
    run = pd.DataFrame(
        {
            "query_id": users[row].astype(str),
            "doc_id": lists.items[row, place].astype(str),
            "score": 1000.0 - place,
        }
    )
    theirs = {
        (value.query_id, str(value.measure)): value.value
        for value in ir_measures.iter_calc(list(names.values()), qrels, run)
    }
    for name, measure in names.items():
        ours = ALL[name](found, relevant)
        expected = [theirs[str(user), str(measure)] for user in users]
        np.testing.assert_allclose(ours, expected, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("name", ALL)
def test_relabelling_the_items_changes_nothing(name):
    rng = np.random.default_rng(3)
    table = rng.permutation(30 * 40).reshape(30, 40).astype(np.float32)  # no ties
    import torch

    target = rng.random((30, 40)) < 0.1
    target[:, 0] = True
    labels = rng.permutation(40)
    values = []
    for columns in (np.arange(40), labels):
        users, items = np.nonzero(target[:, columns])
        pairs = Interactions.from_pairs(users, items, n_users=30, n_items=40)
        scorer = Table(torch.as_tensor(table[:, columns].copy()))
        lists = top_k(scorer, np.arange(30), 10, mask=[], seed=0, batch_size=30)
        values.append(ALL[name](hits(lists, pairs), pairs.user_counts()))
    np.testing.assert_array_equal(values[0], values[1])
    assert values[0].std() > 0


def test_every_metric_of_the_configuration_is_tested_here():
    from pathlib import Path

    import yaml

    folder = Path(__file__).parents[1] / "conf" / "metric"
    targets = {}
    for path in sorted(folder.glob("*.yaml")):
        assert path.read_text("utf-8").startswith("# ")
        for name, node in yaml.safe_load(path.read_text("utf-8")).items():
            assert name == path.stem
            targets[name] = node["_target_"]
    assert targets == {
        name: f"kdrec.evaluation.metrics.{metric.__name__}" for name, metric in ALL.items()
    }
