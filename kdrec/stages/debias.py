"""What `debias=` makes of the teacher's configuration."""

from __future__ import annotations

from omegaconf import DictConfig, OmegaConf

from kdrec.errors import UsageError
from kdrec.stages.context import Plain, flat, plain, target_name
from kdrec.stages.models import is_closed_form


def _chosen(cfg: DictConfig) -> Plain | None:
    """The debiasing model's options; None for `debias=none`, and for configs older than it."""
    found: Plain | None = plain(cfg.get("debias"))
    return found if found and found.get("_target_") else None


def teacher_config(cfg: DictConfig) -> DictConfig:
    """The model that a single teacher is: `teacher`, or `debias` with `teacher` inside.

    Raises:
        UsageError: If a teacher in closed form is to be debiased: it has no loss to change.
    """
    around = _chosen(cfg)
    if around is None:
        teacher: DictConfig = cfg.teacher
        return teacher
    inner = plain(cfg.teacher)
    if is_closed_form(inner):
        raise UsageError(
            f"debias={target_name(around)} changes how a teacher is trained, and "
            f"teacher={target_name(inner)} is computed in closed form.",
            "Use teacher=bprmf or teacher=lightgcn, or debias=none.",
        )
    return OmegaConf.create({**around, "inner": inner})


def debiased(cfg: DictConfig, name: str) -> str:
    """The name of a teacher with what `debias=` adds to it: `bprmf+pd`."""
    around = _chosen(cfg)
    return name if around is None else f"{name}+{target_name(around)}"


def teacher_settings(cfg: DictConfig) -> Plain:
    """The options of the teacher's model and of its debiasing, under dotted names."""
    return flat("teacher", plain(cfg.teacher)) | flat("teacher_debias", _chosen(cfg))
