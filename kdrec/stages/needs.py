"""Whether a teacher gives what a method needs, asked before anything is trained."""

from __future__ import annotations

from omegaconf import DictConfig

from kdrec.errors import UsageError
from kdrec.methods.base import NEEDS
from kdrec.models.base import Backbone, Embedder
from kdrec.stages.debias import teacher_config
from kdrec.stages.instances import get_class
from kdrec.stages.members import single_configs, teacher_name

HINTS = {
    "vectors": "teacher=bprmf and teacher=lightgcn have vectors; `kdrec list methods` says what "
    "each method needs.",
    "trajectory": "Leave out what is computed in closed form (ease, itempop) or learnt otherwise: "
    "teacher=bprmf and teacher=lightgcn keep checkpoints.",
    "training": "Use a single teacher that is learnt by gradient descent: teacher=bprmf or "
    "teacher=lightgcn.",
}
"""What to do where a teacher is not of the kind that a method needs."""


def check_needs(cfg: DictConfig) -> None:
    """Holds `method.needs` against the teacher's kind.

    `method.vectors_if` names options of the distiller that take the teacher's vectors unless they
    are 0.

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
    for option in cfg.method.get("vectors_if") or ():
        if cfg.method.distiller[option] and not has["vectors"]:
            raise UsageError(
                f"method={cfg.method.name} with method.distiller.{option}="
                f"{cfg.method.distiller[option]} needs {NEEDS['vectors']}, and teacher={name} is "
                "none.",
                f"Leave out method.distiller.{option}, or use teacher=bprmf, which has vectors.",
            )
    if not has[needs]:
        who = f"teacher={name}"
        if needs == "trajectory" and len(members) > 1:
            who = f"{' and '.join(computed)} in {who}"
        raise UsageError(
            f"method={cfg.method.name} needs {NEEDS[needs]}, and {who} is none.",
            HINTS[needs],
        )
    if needs == "trajectory" and cfg.teacher_fit.checkpoints < 2:
        raise UsageError(
            f"method={cfg.method.name} needs {NEEDS[needs]}, and teacher_fit.checkpoints="
            f"{cfg.teacher_fit.checkpoints} keeps none but the last.",
            "Add teacher_fit.checkpoints=4.",
        )
