"""What a teacher's configuration is of: one model, or an ensemble of several."""

from __future__ import annotations

from omegaconf import DictConfig, OmegaConf, open_dict

from kdrec.models.base import ClosedForm
from kdrec.models.ensemble import Ensemble
from kdrec.stages.context import target_name
from kdrec.stages.debias import debiased
from kdrec.stages.instances import get_class


def is_ensemble(model: DictConfig) -> bool:
    """Whether a model's configuration is that of several."""
    return issubclass(get_class(model["_target_"]), Ensemble)


def teacher_name(cfg: DictConfig) -> str:
    """`bprmf`, `bprmf+lightgcn` for an ensemble, `bprmf+pd` for a debiased one."""
    if is_ensemble(cfg.teacher):
        return "+".join(teacher_name(one) for one in member_configs(cfg).values())
    return debiased(cfg, target_name(cfg.teacher))


def member_configs(cfg: DictConfig) -> dict[str, DictConfig]:
    """The configuration with each member of the ensemble in turn as its teacher, by name.

    A member is then an ordinary teacher, the same as without the others. They are sorted: in
    which order they were named makes no other teacher.
    """
    found = {}
    for name in sorted(cfg.teacher.members):
        alone = OmegaConf.create(cfg)
        assert isinstance(alone, DictConfig)  # noqa: S101  (narrows the type)
        with open_dict(alone):
            alone.teacher = cfg.teacher.members[name]
            alone.pop("ensemble", None)
        found[str(name)] = alone
    return found


def single_configs(cfg: DictConfig) -> list[DictConfig]:
    """The configurations of the teachers that are models: the members', or the one as it is."""
    return list(member_configs(cfg).values()) if is_ensemble(cfg.teacher) else [cfg]


def is_learnt(cfg: DictConfig) -> bool:
    """Whether a teacher, or a member of it, is learnt by gradient descent, so that its fit counts.

    A closed form is computed from the training pairs alone.
    """
    return any(
        not issubclass(get_class(one.teacher["_target_"]), ClosedForm)
        for one in single_configs(cfg)
    )
