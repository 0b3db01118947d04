"""An experiment file from a configuration: what sets it apart from the plain command."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from kdrec.artifacts import atomic_path
from kdrec.stages.context import Plain, plain
from kdrec.tuning.space import typed

_OF_STUDENT = ("student", "student_dim", "method", "fit", "seed", "lr", "l2")
_NO_GROUPS = ("hydra", "role", "experiment", "tuned")
_NOT_OF_RESULT = ("hydra", "output_dir", "data_dir", "device", "threads", "force", "upstream",
                  "share", "allow_code")  # fmt: skip


def chosen(group: str) -> str:
    """What this command chose of a group."""
    return str(HydraConfig.get().runtime.choices[group])


def choices() -> dict[str, str]:
    """What this command chose of every group that `kdrec distill` has, too."""
    found = HydraConfig.get().runtime.choices
    return {
        str(group): str(choice)
        for group, choice in found.items()
        if choice not in (None, "null") and str(group).partition("/")[0] not in _NO_GROUPS
    }


def write_experiment(
    path: Path, cfg: DictConfig, *, settings: Iterable[str], what: str, for_teacher: bool
) -> None:
    """Writes `cfg` as an experiment of `kdrec distill`.

    The file has the choice of each group, the settings, and whatever else differs from the plain
    command with these choices. Where things lie and what they run on is left out.

    Args:
        path: The file.
        cfg: Of `kdrec distill`.
        settings: Keys that are written even where they have their default.
        what: One line for `kdrec list`.
        for_teacher: Leave out what is the student's.
    """
    left_out = {*_NOT_OF_RESULT, *(_OF_STUDENT if for_teacher else ())}
    picked = _picked(cfg)
    differs = difference(_raw(cfg), _raw(_plain_command(picked)))
    body = {key: value for key, value in differs.items() if key not in left_out}
    defaults = [
        {f"override /{group}": choice} for group, choice in picked.items() if group not in left_out
    ]
    content = OmegaConf.create({"defaults": defaults})
    for key in settings:
        OmegaConf.update(content, key, OmegaConf.select(cfg, key))
    text = OmegaConf.to_yaml(OmegaConf.merge(content, body))
    with atomic_path(path) as temporary:
        temporary.write_text(f"# @package _global_\n# {what}\n{text}", "utf-8")


def write_settings(path: Path, cfg: DictConfig, *, settings: Iterable[str], what: str) -> None:
    """Writes the settings alone, to be combined with any command: `tuned=NAME`.

    Args:
        path: The file.
        cfg: Of `kdrec distill`.
        settings: Keys.
        what: One line.
    """
    content = OmegaConf.create()
    for key in settings:
        OmegaConf.update(content, key, OmegaConf.select(cfg, key))
    with atomic_path(path) as temporary:
        temporary.write_text(
            f"# @package _global_\n# {what}\n{OmegaConf.to_yaml(content)}", "utf-8"
        )


def schedule(cfg: DictConfig, group: str, told: Iterable[str]) -> str:
    """`fit paper`, with what is not as the plain command has it: `fit paper (epochs=5)`.

    Args:
        cfg: Of `kdrec distill`.
        group: "fit" or "teacher_fit".
        told: Keys, of the command line or of the group, that are told elsewhere.
    """
    ours, theirs = (plain(one[group]) for one in (cfg, _plain_command(_picked(cfg))))
    left_out = {key.removeprefix(f"{group}.") for key in told}
    differs = {key: value for key, value in difference(ours, theirs).items() if key not in left_out}
    return f"{group} {chosen(group)}" + (f" ({' '.join(typed(differs))})" if differs else "")


def _picked(cfg: DictConfig) -> Plain:
    """The choice of each group, the metrics if all of them have a file."""
    picked: Plain = dict(choices())
    metrics = [str(name) for name in cfg.metric]  # Hydra does not tell: several may be chosen
    if set(metrics) <= set(GlobalHydra.instance().config_loader().get_group_options("metric")):
        picked["metric"] = metrics
    return picked


def _plain_command(picked: Mapping[str, Any]) -> DictConfig:
    """`kdrec distill` with these choices and nothing else."""
    lines = [f"{group}={_word(choice)}" for group, choice in picked.items()]
    loader = GlobalHydra.instance().config_loader()
    return loader.load_configuration("distill", lines, RunMode.RUN)


def difference(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Plain:
    """What `ours` has and `theirs` has not, or has otherwise."""
    found: Plain = {}
    for key, value in ours.items():
        other = theirs.get(key)
        if isinstance(value, Mapping) and isinstance(other, Mapping):
            below = difference(value, other)
            if below:
                found[key] = below
        elif key not in theirs or value != other:
            found[key] = value
    return found


def _raw(cfg: DictConfig) -> Plain:
    content: Any = OmegaConf.to_container(cfg, resolve=False)
    return {str(key): value for key, value in content.items()}


def _word(choice: object) -> str:
    return f"[{','.join(map(str, choice))}]" if isinstance(choice, list) else str(choice)
