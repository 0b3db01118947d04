"""Intervals, p-values, deviations."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from kdrec.errors import KdrecError
from kdrec.evaluation.significance import holm, over_seeds, paired_bootstrap


def boot(differences, n_boot=2000, seed=0, level=0.95):
    return paired_bootstrap(
        np.asarray(differences, float), n_boot=n_boot, level=level, rng=np.random.default_rng(seed)
    )


def naive_bootstrap(differences, n_boot, rng):
    n = len(differences)
    means = [np.nanmean(differences[rng.integers(0, n, n)], axis=0) for _ in range(n_boot)]
    return np.quantile(means, [0.025, 0.975], axis=0)


def test_equals_a_loop_over_resamples():
    rng = np.random.default_rng(0)
    differences = rng.normal(0.1, 1, (57, 3))
    differences[rng.random(differences.shape) < 0.3] = np.nan
    ours = boot(differences, n_boot=400, seed=5)
    low, high = naive_bootstrap(differences, 400, np.random.default_rng(5))
    np.testing.assert_allclose(ours.low, low)
    np.testing.assert_allclose(ours.high, high)
    np.testing.assert_allclose(ours.mean, np.nanmean(differences, axis=0))
    np.testing.assert_array_equal(ours.n_users, np.isfinite(differences).sum(axis=0))


def test_chunks_change_nothing(monkeypatch):
    differences = np.random.default_rng(0).normal(size=(50, 2))
    whole = boot(differences, n_boot=100)
    monkeypatch.setattr("kdrec.evaluation.significance._CHUNK", 350)
    parts = boot(differences, n_boot=100)
    np.testing.assert_allclose(whole.low, parts.low)
    np.testing.assert_allclose(whole.p, parts.p)


def test_agrees_with_the_t_test_where_that_is_right():
    rng = np.random.default_rng(1)
    differences = rng.normal(0.04, 1, (4000, 1))
    ours = boot(differences, n_boot=4000)
    theirs = scipy.stats.ttest_1samp(differences[:, 0], 0)
    interval = theirs.confidence_interval(0.95)
    assert ours.low[0] == pytest.approx(interval.low, abs=0.003)
    assert ours.high[0] == pytest.approx(interval.high, abs=0.003)
    assert ours.p[0] == pytest.approx(theirs.pvalue, abs=0.02)


def test_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(2)
    worlds = rng.exponential(1, (300, 400)) - 1  # mean 0, skewed
    result = boot(worlds, n_boot=500)  # the same users in each column, 400 columns
    covered = ((result.low <= 0) & (result.high >= 0)).mean()
    assert 0.91 < covered < 0.975
    assert 0.02 < (result.p < 0.05).mean() < 0.09


def test_no_difference_is_certain_to_be_none():
    result = boot(np.zeros((30, 1)))
    assert (result.mean[0], result.low[0], result.high[0], result.p[0]) == (0, 0, 0, 1)


def test_a_difference_for_everyone_has_the_smallest_p():
    result = boot(np.full((30, 1), 0.5), n_boot=999)
    assert result.p[0] == pytest.approx(2 / 1000)
    assert result.low[0] == result.high[0] == 0.5


def test_a_column_without_users_has_no_interval():
    result = boot(np.column_stack([np.ones(5), np.full(5, np.nan)]))
    assert result.n_users.tolist() == [5, 0]
    assert np.isnan([result.mean[1], result.low[1], result.high[1], result.p[1]]).all()
    empty = boot(np.empty((0, 1)))
    assert np.isnan([empty.mean[0], empty.p[0]]).all()


def test_the_same_seed_gives_the_same_interval():
    differences = np.random.default_rng(0).normal(size=(50, 1))
    assert boot(differences, seed=1).low[0] == boot(differences, seed=1).low[0]
    assert boot(differences, seed=1).low[0] != boot(differences, seed=2).low[0]


@pytest.mark.parametrize(("n_boot", "level"), [(0, 0.95), (10, 1.0), (10, 95)])
def test_sizes_that_make_no_sense_are_refused(n_boot, level):
    with pytest.raises(KdrecError, match="bootstrap"):
        boot(np.zeros((3, 1)), n_boot=n_boot, level=level)


def test_mean_and_deviation_over_seeds():
    assert over_seeds([1.0, 2.0, 4.0]) == (pytest.approx(7 / 3), pytest.approx(1.527525), 3)
    mean, spread, n = over_seeds([0.5, float("nan")])
    assert (mean, n) == (0.5, 1)
    assert np.isnan(spread)
    assert np.isnan(over_seeds([])[0])


def test_holm_by_hand():
    adjusted = holm(np.array([0.01, 0.04, np.nan, 0.03, 0.9]))
    np.testing.assert_allclose(adjusted, [0.04, 0.09, np.nan, 0.09, 0.9])
    assert holm(np.array([0.6, 0.7])).tolist() == [1.0, 1.0]


def test_too_few_users_have_a_mean_but_no_interval():
    values = np.full((200, 2), np.nan)
    values[:9, 0] = values[:10, 1] = 0.5
    result = boot(values)
    assert result.mean.tolist() == [0.5, 0.5]
    assert np.isnan(result.p).tolist() == [True, False]
    assert np.isnan(result.low).tolist() == [True, False]
