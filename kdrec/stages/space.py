"""From the configuration to the space of a search, and from a point of it to a configuration."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    ChoiceSweep,
    IntervalSweep,
    Override,
    QuotedString,
    RangeSweep,
    Sweep,
)
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict

from kdrec.errors import UsageError
from kdrec.stages.context import plain
from kdrec.tuning.space import FORMS, Choice, Dimension, Interval, Settings, Space, Value, merged

_ABSENT = object()
_NEVER = ("seed", "teacher_seed", "fit.cutoff", "teacher_fit.cutoff")
"""What changes a result without being a setting: the luck, and the measure itself."""


def dimension(key: str, text: str) -> Dimension:
    """The values that a search string stands for: `tag(log, interval(0.001, 1))`.

    Raises:
        UsageError: If it cannot be read, or is no space of single values.
    """
    try:
        (override,) = OverridesParser.create().parse_overrides([f"{key}={text}"])
    except HydraException as error:
        raise UsageError(f"tune.space.{key}={text} cannot be read.", FORMS) from error
    value = override.value()
    try:
        if isinstance(value, IntervalSweep):
            return _interval(value)
        return Choice(tuple(_values(override)))
    except UsageError as error:
        raise UsageError(f"tune.space.{key}={text}: {error.what}", error.hint or FORMS) from error


def _interval(sweep: IntervalSweep) -> Interval:
    if sweep.tags - {"log"}:
        raise UsageError(f"there is no tag {', '.join(sorted(sweep.tags))}.", "There is: log.")
    low, high = sweep.start, sweep.end
    if low is None or high is None:
        raise UsageError("an interval needs two ends.")
    whole = isinstance(low, int) and isinstance(high, int)
    return Interval(low, high, log="log" in sweep.tags, whole=whole)


def _values(override: Override) -> Iterable[Value]:
    sweep = override.value()
    several = isinstance(sweep, ChoiceSweep | RangeSweep)
    if isinstance(sweep, Sweep) and not several:
        raise UsageError("this is no list of values.")
    if getattr(sweep, "tags", None):
        raise UsageError("only an interval has a tag.")
    if getattr(sweep, "shuffle", False):
        raise UsageError("shuffled values would be another space each time.")
    for value in override.sweep_iterator() if several else [sweep]:
        single = value.text if isinstance(value, QuotedString) else value
        if not isinstance(single, bool | int | float | str):
            raise UsageError(f"{single} is no single value.")
        yield single


def configured(cfg: DictConfig, keys: Iterable[str]) -> dict[str, Value]:
    """The present value of each key.

    Raises:
        UsageError: If a key is not there, or is no single setting.
    """
    found = {}
    for key in keys:
        value = OmegaConf.select(cfg, key, default=_ABSENT)
        if value is _ABSENT:
            raise UsageError(
                f"tune.space.{key}: this configuration has no key {key!r}.",
                "All keys are shown by: kdrec tune --cfg job",
            )
        if OmegaConf.is_config(value):
            raise UsageError(
                f"tune.space.{key}: {key} is no single setting.",
                "Search each choice of a group by itself: kdrec tune -m ...",
            )
        if key in _NEVER:
            raise UsageError(
                f"tune.space.{key}: {key} is not to be searched.",
                "It would choose the luck or the measure in place of a setting.",
            )
        found[key] = value
    return found


def search_space(cfg: DictConfig, identity: Callable[[DictConfig], str]) -> dict[str, Dimension]:
    """What the configuration asks to search, without the keys that change nothing.

    Args:
        cfg: Of the command, with `role`, `method` and `tune`.
        identity: What determines the model of a configuration.

    Raises:
        UsageError: If something is wrong with it, if nothing is left of it, or if it has a key of
            the user's own that changes nothing.
    """
    texts = merged(plain(cfg))
    own = merged({"role": {"name": ""}, "tune": plain(cfg.tune)})
    found = {}
    values = configured(cfg, texts)
    for key, text in texts.items():
        one = _typed(dimension(key, text), values[key])
        if len({identity(with_settings(cfg, {key: end})) for end in (*one.ends, values[key])}) > 1:
            found[key] = one
        elif key in own and one.ends[0] != one.ends[1]:
            raise UsageError(
                f"tune.space.{key}: {key} changes nothing in what is trained here.",
                f"Take it out: tune.space.{key}=null",
            )
    if not found:
        raise UsageError(
            "There is nothing to search: the space is empty.",
            "Give a key and its values: tune.space.lr='choice(0.01,0.001)'",
        )
    return found


def _typed(one: Dimension, value: object) -> Dimension:
    """Whole numbers as the floats that the setting is: 20 and 20.0 would be two models."""
    if not isinstance(one, Choice) or not isinstance(value, float):
        return one
    return Choice(tuple(float(v) if type(v) is int else v for v in one.values))


def with_settings(cfg: DictConfig, settings: Settings) -> DictConfig:
    """The configuration of the ordinary command with these settings; `${...}` follow them."""
    trial = copy.deepcopy(cfg)
    for key, value in settings.items():
        OmegaConf.update(trial, key, value)
    with open_dict(trial):
        for key in ("tune", "role"):
            trial.pop(key, None)
    return trial


def described(space: Space) -> dict[str, Any]:
    """The space in plain values, for its identity."""
    return {
        key: list(one.values) if isinstance(one, Choice)
        else {"low": one.low, "high": one.high, "log": one.log, "whole": one.whole}
        for key, one in space.items()
    }  # fmt: skip
