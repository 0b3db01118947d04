"""Verdicts on made-up differences: each phrase, and each reason why it is not the next."""

from __future__ import annotations

import math

import pytest
from scipy import stats

from kdrec.evaluation.significance import t_interval
from kdrec.report.verdict import CONFIRMED, NEITHER, NO_CLAIM, OPPOSITE, SAME, Difference, verdict

NAN = math.nan


def ours(value=0.01, p=0.01, low=0.005, high=0.015, n_seeds=5, users=None):
    return Difference(value, low, high, n_seeds, 0.1, value if users is None else users, p)


@pytest.mark.parametrize(
    ("claim", "difference", "said"),
    [
        (0.02, ours(), CONFIRMED),
        (-0.02, ours(-0.01, low=-0.02, high=-0.001), CONFIRMED),
        (0.02, ours(p=0.2), SAME),  # not for other users
        (0.02, ours(p=0.05), SAME),  # the level itself is not below it
        (0.02, ours(low=-0.001), SAME),  # not for other seeds
        (0.02, ours(p=NAN), SAME),  # no users' values: nothing is known
        (0.02, ours(users=-0.001), SAME),  # users and seeds point to unlike sides
        (0.02, ours(low=NAN, high=NAN, n_seeds=1), CONFIRMED),  # one seed: users alone decide
        (0.02, ours(low=-0.1, high=0.1, n_seeds=2), CONFIRMED),
        (0.02, ours(low=-0.1, high=0.1, n_seeds=3), SAME),
        (0.02, ours(-0.01, low=-0.02, high=0.01), NEITHER),
        (0.02, ours(-0.01, p=0.3, low=-0.02, high=-0.001), NEITHER),
        (0.02, ours(0.0, p=1.0, low=0.0, high=0.0), NEITHER),
        (0.02, ours(-0.01, low=-0.02, high=-0.001), OPPOSITE),
        (-0.02, ours(), OPPOSITE),
        (NAN, ours(), NO_CLAIM),
        (0.0, ours(), NO_CLAIM),
        (0.02, ours(NAN, p=NAN, n_seeds=0), NO_CLAIM),
    ],
)
def test_each_verdict(claim, difference, said):
    assert verdict(claim, difference) == said


def test_t_interval_is_that_of_the_t_test():
    values = [0.11, 0.13, 0.12, 0.16]
    wanted = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert t_interval(values, level=0.95) == pytest.approx((wanted.low, wanted.high))
    assert all(math.isnan(end) for end in t_interval([0.1], level=0.95))
    assert t_interval([0.1, 0.1], level=0.95) == pytest.approx((0.1, 0.1))
