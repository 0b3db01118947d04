"""What to try next: Optuna's TPE, as a function of what was tried and of a seed."""

from __future__ import annotations

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState, create_trial

from kdrec.seeding import stream
from kdrec.tuning.space import (
    Choice,
    Dimension,
    Interval,
    Settings,
    Space,
    Value,
    inside,
    points,
    same,
    size,
)

WORST = 0.0
"""What a failed trial counts as: no metric of ours is lower."""


def suggest(
    space: Space, history: list[FrozenTrial], *, first: Settings, seed: int
) -> dict[str, Value] | None:
    """The next point to try, or None if the space has no other.

    The Tree-structured Parzen Estimator (Bergstra et al., NeurIPS 2011) with Optuna's settings: ten
    random points, then those where the density of the better trials is high beside that of the
    others. Its generator is made anew for each number of trials, so that a search that was
    interrupted goes on as if it had not been. A failed trial counts as the worst, one under way is
    kept away from. In a space that can be counted no point comes twice: in place of one that was
    tried, one that was not is drawn evenly.

    Args:
        space: Where to draw from.
        history: All trials so far, in their order.
        first: Settings that the first trial takes where the space allows them.
        seed: Of the search.
    """
    number = len(history)
    draw = stream(seed, "tune", str(number))
    # in memory, so that nothing but the arguments counts
    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=int(draw.integers(2**32))),
    )
    study.add_trials([_counted(trial) for trial in history])
    kept = {} if history else inside(space, first)
    study.enqueue_trial(kept)
    asked = study.ask(distributions(space)).params
    found = {key: _tidy(dimension, asked[key]) for key, dimension in space.items()} | kept
    tried = [trial.params for trial in history]
    if size(space) is None or not any(same(found, other) for other in tried):
        return found
    untried = [point for point in points(space) if not any(same(point, one) for one in tried)]
    return untried[int(draw.integers(len(untried)))] if untried else None


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """The space in Optuna's words."""
    return {key: _distribution(dimension) for key, dimension in space.items()}


def _distribution(dimension: Dimension) -> BaseDistribution:
    if isinstance(dimension, Choice):
        return CategoricalDistribution(dimension.values)
    if dimension.whole:
        return IntDistribution(int(dimension.low), int(dimension.high), log=dimension.log)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log)


def _tidy(dimension: Dimension, value: Value) -> Value:
    return dimension.tidy(float(value)) if isinstance(dimension, Interval) else value


def _counted(trial: FrozenTrial) -> FrozenTrial:
    """The trial as the sampler is to see it."""
    if trial.state != TrialState.FAIL:
        return trial
    return create_trial(params=trial.params, distributions=trial.distributions, value=WORST)
