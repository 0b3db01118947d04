"""Checks a command line's overrides before anything runs.

Hydra alone accepts `lr=abc` and lets `_partial_` nodes take any key; and what it refuses, it
refuses at length. Here every key and every value, of a sweep too, is held against the config
that is to be overridden, and against the signatures of the code that will take it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from hydra.core.config_loader import ConfigLoader
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kdrec import trust
from kdrec.cli import hidden, several, trusted, unknown
from kdrec.cli.composed import check_config, choices, explain, job_part, look_up, plain, type_of
from kdrec.cli.signatures import locate, options, target_nodes
from kdrec.cli.values import check_value, did_you_mean
from kdrec.errors import UsageError
from kdrec.ranges import Natural

__all__ = ["Checker", "check_config"]


class Checked(NamedTuple):
    """What a right command line comes to.

    Args:
        config: The composed config, Hydra's own node included; of a sweep the first job's.
        jobs: The overrides of every job.
    """

    config: DictConfig
    jobs: list[list[str]]


@dataclass(frozen=True)
class Checker:
    """What the overrides of one command line are checked against.

    Args:
        loader: Hydra's loader over the command line's config folders.
        config_name: The primary config.
        command: What the user typed before the overrides, for the messages.
        multirun: Whether `K=1,2` means two runs.
        deep: Whether to import targets and hold their options against their signatures.
        shown: Whether the config is to be shown, and nothing to run.
    """

    loader: ConfigLoader
    config_name: str
    command: str
    multirun: bool = False
    deep: bool = True
    shown: bool = False

    def check(self, lines: Sequence[str]) -> Checked:
        """Checks all overrides: every element of every sweep, but not every combination.

        Raises:
            UsageError: Something is wrong with an override.
        """
        parsed = [self.parse(line) for line in lines]
        if not self.multirun and any(override.is_sweep_override() for override in parsed):
            several.allow(parsed, self._load, shown=self.shown)
            return replace(self, multirun=True).check(lines)
        groups = [override for override in parsed if self._is_group(override)]
        for override in groups:
            self._check_option(override)
        rest = [override for override in parsed if override not in groups]
        hydra = [several.elements(o)[0] for o in rest if o.is_hydra_override()]
        for choice in several.variations([several.elements(override) for override in groups]):
            reference = self._compose([*choice, *hydra], groups)
            trusted.check(reference)
            hidden.check(self.loader, reference)
            several.check_presets(groups, reference)
            for override in rest:
                if not override.is_hydra_override():
                    self._check_override(override, reference)
        first = self._compose([several.elements(override)[0] for override in parsed], groups)
        trusted.check(first)
        hidden.check(self.loader, first)
        for override in rest:
            for value in several.values(override):
                trust.check(
                    {override.key_or_group.rpartition(".")[2]: value}, str(override.input_line)
                )
        more = several.own_sweep(first, parsed) if self.multirun or several.asks(first) else []
        if more:
            return replace(self, multirun=True).check([*lines, *more])
        if self.deep:
            check_config(job_part(first))
        jobs = itertools.product(*(several.elements(override) for override in parsed))
        return Checked(first, [list(job) for job in jobs])

    def composed(self, lines: Sequence[str]) -> DictConfig:
        """The config of right overrides, without Hydra's own node.

        Raises:
            UsageError: If Hydra refuses them.
        """
        return job_part(self._load(list(lines)))

    def parse(self, line: str) -> Override:
        """One override.

        Raises:
            UsageError: It cannot be read.
        """
        parser = OverridesParser.create(config_loader=self.loader)
        try:
            (override,) = parser.parse_overrides([line])
        except HydraException as error:
            raise unknown.malformed(line, self._owners(line)) from error
        return override

    def _owners(self, option: str) -> list[str]:
        blank = self._load([])
        return [group for group in choices(blank) if option in self._options(group)]

    def _options(self, group: str) -> list[str]:
        return self.loader.get_group_options(group, config_name=self.config_name)

    def _is_group(self, override: Override) -> bool:
        name = override.key_or_group
        if "." in name or isinstance(override.value(), dict):
            return False
        folders = self.loader.get_group_options(name, ObjectType.GROUP, self.config_name)
        return bool(folders or self._options(name))

    def _check_option(self, override: Override) -> None:
        group, known = override.key_or_group, self._options(override.key_or_group)
        if override.is_delete() or None in several.values(override):
            if choices(self._load([])).get(group) is not None:
                which = did_you_mean("none", known, f"{group} is one of")
                raise UsageError(f"{self.command} cannot do without {group}.", which)
            if override.is_delete():
                return
            raise UsageError(f"{override.input_line} chooses none.", f"Write '~{group}' instead.")
        for value in several.values(override):
            for name in value if isinstance(value, list) else [value]:
                if isinstance(name, str) and "/" not in name and name not in known:
                    raise UsageError(
                        f"There is no {group} {name!r}.",
                        did_you_mean(name, known, f"{group} is one of"),
                    )

    def _check_override(self, override: Override, reference: DictConfig) -> None:
        key, content = override.key_or_group, plain(reference)
        found, default = look_up(content, key)
        if not found:
            if override.is_add() or override.is_force_add():
                return
            raise unknown.key(key, reference, self.command, self.loader, self.config_name)
        if not override.is_delete():
            for value in several.values(override):
                self._check_value(key, value, default, reference)

    def _check_value(self, key: str, value: Any, default: Any, reference: DictConfig) -> None:
        if isinstance(value, str) and "${" in value:
            return  # held against the signatures when it is resolved
        if isinstance(default, dict) and isinstance(value, dict):
            for name, part in value.items():
                if name not in default:
                    names = [str(known) for known in default]
                    raise UsageError(
                        f"There is no {key}.{name}.", did_you_mean(str(name), names, "It has")
                    )
                self._check_value(f"{key}.{name}", part, default[name], reference)
            return
        for annotation in self._annotations(key, default, reference):
            check_value(key, value, annotation)

    def _annotations(self, key: str, default: Any, reference: DictConfig) -> list[Any]:
        """What the value goes into: options of targets, else what the default is."""
        if self.deep:
            annotations = list(_consumers(key, plain(reference)))
            if annotations:
                return annotations
        if key == "seed" or key.endswith("_seed"):
            return [Natural]
        if isinstance(default, str) and "${" in default:
            try:
                default = OmegaConf.select(reference, key)
            except OmegaConfBaseException:
                return []
            if OmegaConf.is_config(default):
                default = OmegaConf.to_container(default, resolve=False)
        return [] if default is None or default == "???" else [type_of(default)]

    def _compose(self, lines: list[str], groups: Sequence[Override]) -> DictConfig:
        try:
            return self._load(lines)
        except UsageError:
            changed = [o for o in groups if not o.is_add() and o.package is None]
            known = choices(self._load([])) if changed else {}
            for override in changed:
                self._check_group(override, known)
            raise

    def _check_group(self, override: Override, known: dict[str, Any]) -> None:
        group, value = override.key_or_group, str(override.input_line).partition("=")[2]
        if group in known or group.startswith("hydra/"):
            return
        mine = set(self._options(group))
        owners = [other for other in known if mine & set(self._options(other))]
        hint = f"Did you mean {' or '.join(f'{owner}={value}' for owner in owners)}?"
        raise UsageError(
            f"{self.command} has no {group}=.", hint if owners else f"It has {', '.join(known)}."
        )

    def _load(self, lines: list[str]) -> DictConfig:
        try:
            return self.loader.load_configuration(self.config_name, lines, RunMode.RUN)
        except (HydraException, OmegaConfBaseException, ValueError) as error:
            raise explain(error) from error


def _consumers(key: str, content: dict[str, Any]) -> Iterator[Any]:
    """The annotations of the options that are this key, or are written as `${key}`."""
    for path, node in target_nodes(content):
        for name, value in node.items():
            if f"{path}.{name}" == key or value == f"${{{key}}}":
                known, _ = options(locate(str(node["_target_"])))
                if name in known:
                    yield known[name]
