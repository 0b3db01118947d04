"""Several values on one line: whether they may be, and the runs that they stand for."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from hydra.core.override_parser.types import IntervalSweep, Override, QuotedString
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from kdrec.errors import UsageError

_PRESET = "experiment"


def allow(
    parsed: Sequence[Override], load: Callable[[list[str]], DictConfig], *, shown: bool
) -> None:
    """Refuses several values without `-m`, unless a preset on the line is itself a sweep.

    Args:
        parsed: The overrides, of which some are sweeps.
        load: Composes overrides.
        shown: Whether the config is to be shown, and nothing to run.

    Raises:
        UsageError: If they may not be.
    """
    sweeps = [override for override in parsed if override.is_sweep_override()]
    line = str(sweeps[0].input_line)
    if shown:
        raise UsageError(f"{line} is several values, and one config is shown.", "Give one of them.")
    with contextlib.suppress(UsageError):  # what is wrong is said once the line is one run
        config = load([elements(override)[0] for override in parsed])
        if asks(config) and _PRESET not in {override.key_or_group for override in sweeps}:
            return
    as_list = f", or write {line.replace('=', '=[', 1)}] for a list"
    raise UsageError(
        f"{line} is several values, but this is a single run.",
        f"Add -m to run each of them{as_list if sweeps[0].is_choice_sweep() else ''}.",
    )


def check_presets(groups: Sequence[Override], reference: DictConfig) -> None:
    """Refuses several presets of which one is a sweep: Hydra would pass over what it sweeps."""
    presets = [o for o in groups if o.key_or_group == _PRESET and len(elements(o)) > 1]
    if presets and asks(reference):
        what = f"{presets[0].input_line} are several presets, and one of them is a sweep by itself."
        raise UsageError(what, "Give each a command of its own.")


def asks(config: DictConfig) -> bool:
    """Whether the config itself asks for a sweep (`hydra.mode`)."""
    return bool(OmegaConf.select(config, "hydra.mode") == RunMode.MULTIRUN)


def own_sweep(config: DictConfig, parsed: Sequence[Override]) -> list[str]:
    """What the config itself sweeps over (`hydra.sweeper.params`), as overrides."""
    given = {override.key_or_group for override in parsed}
    params = OmegaConf.select(config, "hydra.sweeper.params") or {}
    return [f"{key}={value}" for key, value in params.items() if key.lstrip("+~") not in given]


def variations(sweeps: Sequence[list[str]]) -> Iterator[list[str]]:
    """The first of each, then the others one at a time."""
    base = [choices[0] for choices in sweeps]
    yield base
    for place, choices in enumerate(sweeps):
        for other in choices[1:]:
            yield [*base[:place], other, *base[place + 1 :]]


def elements(override: Override) -> list[str]:
    """The overrides that a sweep stands for; itself if it is none."""
    if override.is_discrete_sweep():
        key = override.get_key_element()
        found = [f"{key}={value}" for value in override.sweep_string_iterator()]
        if found:
            return found
        raise UsageError(f"{override.input_line} has no values.")
    value = override.value()
    if isinstance(value, IntervalSweep):
        return [f"{override.get_key_element()}={value.start}"]
    return [str(override.input_line)]


def values(override: Override) -> list[Any]:
    """The values that a sweep stands for; its own if it is none."""
    if override.is_discrete_sweep():
        return [_unquoted(value) for value in override.sweep_iterator()]
    value = override.value()
    return [value.start, value.end] if isinstance(value, IntervalSweep) else [value]


def _unquoted(value: object) -> object:
    if isinstance(value, list):
        return [_unquoted(item) for item in value]
    return value.text if isinstance(value, QuotedString) else value
