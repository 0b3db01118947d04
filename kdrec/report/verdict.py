"""What our runs say to a claim of a paper, in one of five phrases."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

CONFIRMED = "same sign and significant"
SAME = "same sign"
NEITHER = "no difference"
OPPOSITE = "opposite"
NO_CLAIM = ""
VERDICTS = (CONFIRMED, SAME, NEITHER, OPPOSITE)

ALPHA = 0.05
FEWEST_SEEDS = 3
"""Shared seeds from which on the interval over seeds has a say: that of two is 12.7 standard
errors to each side, and would refuse nearly everything."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A row minus the preset's baseline (the student alone, `none`, unless it names another).

    Over the seeds that both have.

    Args:
        value: Mean over seeds of the difference, NaN if they share none.
        low: Lower end of the 95 % t interval over seeds, NaN below two.
        high: Upper end.
        n_seeds: Shared seeds.
        base: The baseline, mean over these seeds.
        users: Mean difference over users, their values averaged over seeds.
        p: Two-sided p-value of `users` (paired bootstrap over users), NaN if unknown.
    """

    value: float
    low: float
    high: float
    n_seeds: int
    base: float
    users: float
    p: float

    def relative(self, value: float) -> float:
        """`value` as a share of the baseline."""
        return value / self.base if self.base else math.nan


def significant(ours: Difference) -> bool:
    """Whether a difference would hold for other users and, as far as can be said, other seeds.

    Both must be so: the p-value over users, already adjusted for the number of rows, is below
    5 %, with the mean over users on the same side of zero as the mean over seeds; and, where there
    are three shared seeds or more, the 95 % t interval of the per-seed differences leaves zero out.
    """
    if not ours.p < ALPHA or np.sign(ours.users) != np.sign(ours.value):
        return False
    return ours.n_seeds < FEWEST_SEEDS or ours.low > 0 or ours.high < 0


def verdict(claim: float, ours: Difference) -> str:
    """Our difference against the sign that the paper claims.

    | our difference | significant | not significant |
    |---|---|---|
    | on the claim's side of zero | `same sign and significant` | `same sign` |
    | zero, or on the other side | `opposite` | `no difference` |

    Args:
        claim: The paper's method minus its number for the baseline; NaN or 0: it claims nothing.
        ours: The same from our runs, with an adjusted p-value.

    Returns:
        One of `VERDICTS`, or "" where there is no claim or no difference of ours.
    """
    if not math.isfinite(claim) or claim == 0 or not math.isfinite(ours.value):
        return NO_CLAIM
    if np.sign(ours.value) == np.sign(claim):
        return CONFIRMED if significant(ours) else SAME
    return OPPOSITE if significant(ours) else NEITHER
