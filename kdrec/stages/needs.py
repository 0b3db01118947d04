"""Whether a teacher gives what a method needs, asked before anything is trained."""

from __future__ import annotations

from hydra.utils import get_class
from omegaconf import DictConfig

from kdrec.errors import UsageError
from kdrec.methods.base import NEEDS
from kdrec.models.base import Backbone, Embedder
from kdrec.stages.debias import teacher_config
from kdrec.stages.members import single_configs, teacher_name


def check_needs(cfg: DictConfig) -> None:
    """Holds `method.needs` against the teacher's kind.

    Raises:
        UsageError: If the method cannot work with this teacher.
    """
    needs, name = str(cfg.method.get("needs")), teacher_name(cfg)
    if needs not in NEEDS:
        raise UsageError(f"method.needs={needs} is unknown.", f"It is one of {', '.join(NEEDS)}.")
    members = {
        teacher_name(one): get_class(teacher_config(one)["_target_"]) for one in single_configs(cfg)
    }
    kind = members[name] if name in members else get_class(cfg.teacher["_target_"])
    computed = [member for member, each in members.items() if not issubclass(each, Backbone)]
    has = {
        "scores": True,
        "vectors": issubclass(kind, Embedder) and getattr(kind, "ranks_by_vectors", True),
        "trajectory": not computed,
        "training": issubclass(kind, Backbone) and kind.ranks_by_vectors,
    }
    if not has[needs]:
        who = f"teacher={name}"
        if needs == "trajectory" and len(members) > 1:
            who = f"{' and '.join(computed)} in {who}"
        raise UsageError(
            f"method={cfg.method.name} needs {NEEDS[needs]}, and {who} is none.",
            "`kdrec list methods` says what each method needs; teacher=bprmf has vectors.",
        )
    if needs == "trajectory" and cfg.teacher_fit.checkpoints < 2:
        raise UsageError(
            f"method={cfg.method.name} needs {NEEDS[needs]}, and teacher_fit.checkpoints="
            f"{cfg.teacher_fit.checkpoints} keeps none but the last.",
            "Add teacher_fit.checkpoints=4.",
        )
