"""How sure a difference is: intervals over users and over seeds, several comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from kdrec.errors import KdrecError
from kdrec.evaluation.metrics import FloatArray

_CHUNK = 1 << 22

FEWEST = 10
"""Users below which a difference gets no interval."""


@dataclass(frozen=True, slots=True, eq=False)
class Intervals:
    """The differences of several columns, each with its bootstrap interval.

    Args:
        mean: Mean difference over the users that have one. Shape [m].
        low: Lower end of the percentile interval. Shape [m].
        high: Upper end. Shape [m].
        p: Two-sided p-value. Shape [m].
        n_users: Users with a difference. Shape [m].
    """

    mean: FloatArray
    low: FloatArray
    high: FloatArray
    p: FloatArray
    n_users: FloatArray


def paired_bootstrap(
    differences: FloatArray, *, n_boot: int, level: float, rng: np.random.Generator
) -> Intervals:
    """Percentile bootstrap of mean paired differences over users (Efron & Tibshirani, 1993).

    Users are drawn with replacement, the same for every column, so that columns remain
    comparable. A user for whom a column is NaN (no test item in that group) is drawn too and
    counts nowhere in it. The p-value inverts the interval: twice the smaller share of resamples
    at or beyond zero, `(1 + count) / (1 + n_boot)` so that it is never 0, at most 1. A resample
    without a user of the column counts on both sides. With fewer than ten users there is no
    interval and no p-value: so few cannot stand for others.

    Args:
        differences: Value of one method minus that of the other. Shape [n, m], NaN where a user
            has none.
        n_boot: Number of resamples.
        level: Coverage of the interval, such as 0.95.
        rng: Draws the users.

    Raises:
        KdrecError: If a size is not positive or the level lies outside 0..1.
    """
    if differences.ndim != 2 or n_boot < 1 or not 0 < level < 1:
        raise KdrecError(
            f"A bootstrap needs differences [users, columns], n_boot > 0 and a level in 0..1, got "
            f"shape {differences.shape}, n_boot={n_boot}, level={level}."
        )
    n, m = differences.shape
    present = np.isfinite(differences)
    values = np.where(present, differences, 0.0)
    n_users = present.sum(axis=0).astype(np.float64)
    mean = _ratio(values.sum(axis=0), n_users)
    if not n:
        nothing = np.full(m, np.nan)
        return Intervals(mean, nothing, nothing, nothing, n_users)
    stacked = np.hstack([values, present])
    resampled = np.empty((n_boot, m))
    step = max(1, _CHUNK // n)
    for start in range(0, n_boot, step):
        size = min(step, n_boot - start)
        drawn = rng.integers(0, n, size=(size, n)) + n * np.arange(size)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n)
        sums = weights.astype(np.float64) @ stacked
        resampled[start : start + size] = _ratio(sums[:, :m], sums[:, m:])
    tail = (1 - level) / 2
    low, high = np.full(m, np.nan), np.full(m, np.nan)
    p = np.full(m, np.nan)
    usable = n_users >= FEWEST
    if usable.any():
        low[usable], high[usable] = np.nanquantile(resampled[:, usable], [tail, 1 - tail], axis=0)
    unknown = np.isnan(resampled)
    extreme = np.minimum(
        (unknown | (resampled <= 0)).sum(axis=0), (unknown | (resampled >= 0)).sum(axis=0)
    )
    p[usable] = np.minimum(1.0, 2 * (1 + extreme[usable]) / (1 + n_boot))
    return Intervals(mean, low, high, p, n_users)


def _ratio(total: FloatArray, count: FloatArray) -> FloatArray:
    values = np.full(total.shape, np.nan)
    np.divide(total, count, out=values, where=count > 0)
    return values


def over_seeds(values: Sequence[float]) -> tuple[float, float, int]:
    """Mean, standard deviation (divisor n - 1; NaN for one value) and number of the values."""
    array = np.asarray(values, dtype=np.float64)
    array = array[np.isfinite(array)]
    if not len(array):
        return float("nan"), float("nan"), 0
    spread = float(array.std(ddof=1)) if len(array) > 1 else float("nan")
    return float(array.mean()), spread, len(array)


def holm(p_values: FloatArray) -> FloatArray:
    """Holm's step-down adjustment for several comparisons (Scand. J. Stat. 6, 1979).

    The i-th smallest of m p-values is multiplied by `m - i + 1`; the results are made monotone
    and cut at 1. NaN stays NaN and does not count as a comparison.
    """
    p = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full(p.shape, np.nan)
    tested = np.flatnonzero(np.isfinite(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    factors = len(order) - np.arange(len(order))
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * factors))
    return adjusted


def t_interval(values: Sequence[float], *, level: float) -> tuple[float, float]:
    """Student's t interval of the mean of few values, such as one a seed.

    `mean ± t * sd / sqrt(n)` with the `(1 + level) / 2` quantile of the t distribution with
    `n - 1` degrees of freedom; NaN for fewer than two values. It takes the values for normally
    distributed.
    """
    mean, spread, n = over_seeds(values)
    if n < 2:
        return float("nan"), float("nan")
    half = float(stdtrit(n - 1, (1 + level) / 2)) * spread / n**0.5
    return mean - half, mean + half
