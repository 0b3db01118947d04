"""Whether a teacher gives what a method needs, asked before anything is trained."""

from __future__ import annotations

from hydra.utils import get_class
from omegaconf import DictConfig

from kdrec.errors import UsageError
from kdrec.methods.base import NEEDS
from kdrec.models.base import Backbone, Embedder
from kdrec.stages.debias import teacher_config, teacher_name


def check_needs(cfg: DictConfig) -> None:
    """Holds `method.needs` against the teacher's kind.

    Raises:
        UsageError: If the method cannot work with this teacher.
    """
    needs, name = str(cfg.method.needs), teacher_name(cfg)
    if needs not in NEEDS:
        raise UsageError(f"method.needs={needs} is unknown.", f"It is one of {', '.join(NEEDS)}.")
    kind = get_class(teacher_config(cfg)["_target_"])
    has = {
        "scores": True,
        "vectors": issubclass(kind, Embedder) and getattr(kind, "ranks_by_vectors", True),
        "trajectory": False,
        "training": issubclass(kind, Backbone),
    }
    if not has[needs]:
        raise UsageError(
            f"method={cfg.method.name} needs {NEEDS[needs]}, and the teacher {name} is none.",
            "`kdrec list methods` says what each method needs; teacher=bprmf has vectors.",
        )
