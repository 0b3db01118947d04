"""The settings that a preset's own command gives now, for the report to prefer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kdrec.cli.presets import choices
from kdrec.errors import KdrecError

_PARTS = {
    "student": "student",
    "fit": "fit",
    "method.distiller": "method",
    "teacher": "teacher",
    "teacher_fit": "teacher_fit",
    "debias": "teacher_debias",
}
"""Which node of a config the settings of a run come from, and what they are called there."""


@dataclass(frozen=True)
class Settings:
    """What `kdrec distill experiment=NAME` makes of a data set, a student, a method and a teacher.

    The files of `conf/tuned/` that go with these are taken where the preset chooses any. Where
    there is no such file, what `kdrec tune` would have chosen is left open.

    Args:
        experiment: Name of the preset.
        folders: Config folders, the first wins.
    """

    experiment: str
    folders: Sequence[Path]
    _known: dict[tuple[str, ...], Mapping[str, Any]] = field(default_factory=dict, init=False)

    def __call__(self, dataset: str, student: str, method: str, teacher: str) -> Mapping[str, Any]:
        """The settings by dotted name, as manifests have them; none if it cannot be composed."""
        names = (dataset, student, method, teacher)
        if names not in self._known:
            try:
                self._known[names] = self._compose(*names)
            except (KdrecError, OmegaConfBaseException):
                self._known[names] = {}  # a run of a file that is no longer there
        return self._known[names]

    def _compose(self, dataset: str, student: str, method: str, teacher: str) -> dict[str, Any]:
        from kdrec.cli.forward import checking  # noqa: PLC0415  (imports Hydra)
        from kdrec.cli.line import Line  # noqa: PLC0415

        teacher = teacher or student  # of a student alone, which has none
        debias = self._debias(teacher)
        teacher = "+".join(part for part in teacher.split("+") if part != debias)
        behind = f"-{debias}" if debias != "none" else ""
        words = [f"experiment={self.experiment}", f"dataset={dataset}", f"student={student}"]
        words += [f"method={method}", f"debias={debias}", f"teacher={teacher}"]
        tuned = {
            "tuned": f"{dataset}-{student}-{method}{behind}",
            "tuned/teacher": f"{dataset}-{teacher}{behind}",
        }
        chosen = {one.partition("=")[0] for one in choices(self.experiment, self.folders)}
        untuned = []
        for group in sorted(tuned.keys() & chosen):
            file = f"{tuned[group]}.yaml"
            there = any((folder / group / file).is_file() for folder in self.folders)
            untuned += [] if there else [group]
            words.append(f"{group}={tuned[group]}" if there else f"~{group}")
        words += [f"--config-dir={folder}" for folder in self.folders[1:]]
        line = Line.of(words)
        with checking("distill", line, deep=False) as checker:
            config = checker.composed(line.overrides)
        searched = {name for group in untuned for name in _searched(config, group)}
        return {key: value for key, value in _settings(config).items() if key not in searched}

    def _debias(self, teacher: str) -> str:
        known = {path.stem for one in self.folders for path in (one / "debias").glob("*.yaml")}
        return next((part for part in teacher.split("+") if part in known), "none")


def _searched(config: DictConfig, group: str) -> Iterator[str]:
    """The settings that a file of this group would have, as manifests name them."""
    fit = "fit" if group == "tuned" else "teacher_fit"
    yield from (f"{fit}.lr", f"{fit}.l2")
    if group == "tuned":
        for key in OmegaConf.select(config, "method.space") or {}:
            short = {"weight": "fit.weight", "K": "method.n_groups"}.get(str(key), str(key))
            yield short.replace("method.distiller.", "method.")


def _settings(config: DictConfig) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for node, name in _PARTS.items():
        part = OmegaConf.select(config, node)
        if OmegaConf.is_config(part):
            found |= dict(_flat(name, OmegaConf.to_container(part, resolve=True)))
    return found


def _flat(prefix: str, node: Any) -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, dict):
            yield from _flat(f"{prefix}.{key}", value)
        elif not str(key).startswith("_"):
            yield f"{prefix}.{key}", value
