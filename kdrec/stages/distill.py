"""A student: trained from data and the teacher's soft labels, evaluated and kept, or found."""

from __future__ import annotations

from functools import partial

from omegaconf import DictConfig

from kdrec.artifacts import Run
from kdrec.errors import UsageError
from kdrec.locks import lock
from kdrec.methods.base import Distiller
from kdrec.stages.context import Context, Plain, flat, options, plain, target_name
from kdrec.stages.debias import teacher_settings
from kdrec.stages.instances import instantiate
from kdrec.stages.members import teacher_name
from kdrec.stages.models import (
    fit_options,
    is_closed_form,
    labels,
    model_identity,
    obtain,
    train_model,
)
from kdrec.stages.needs import check_needs
from kdrec.stages.output import show_run
from kdrec.stages.preprocess import Data, Identified, ensure_split
from kdrec.stages.train import ensure_teacher, load_teacher, teacher_identity
from kdrec.stages.weights import trained_run


def make_distiller(cfg: DictConfig, context: Context, data: Data, teacher: Run) -> Distiller:
    """The method, with the teacher's soft labels ready."""
    distiller: Distiller = instantiate(cfg.method.distiller, _convert_="all")(
        data.prepared.split.train,
        load_teacher(cfg, context, data, teacher),
        seed=cfg.seed,
        batch_size=cfg.evaluation.batch_size,
        device=context.device,
    )
    return distiller


def student_fit(cfg: DictConfig) -> Plain:
    """The training options that matter: without a method there is nothing to weigh."""
    fit = fit_options(cfg.fit)
    if cfg.method.distiller is None:
        del fit["data_weight"], fit["weight"]
    return fit


def student_identity(cfg: DictConfig, data: Identified) -> str:
    """What determines the student, as a digest; its teacher only if there is a method."""
    distillation = None
    if cfg.method.distiller is not None:
        method = options(plain(cfg.method.distiller))
        distillation = {"method": method, "teacher": teacher_identity(cfg, data)}
    return model_identity(
        "student", data, plain(cfg.student), student_fit(cfg), cfg.seed, distillation
    )


def check(cfg: DictConfig) -> None:
    """Refuses what cannot be trained, before anything is.

    Raises:
        UsageError: If the student is a closed form, or the teacher not what the method needs.
    """
    student = plain(cfg.student)
    if is_closed_form(student):
        raise UsageError(
            f"student={target_name(student)} is computed in closed form and cannot learn from "
            "soft labels.",
            "Use student=bprmf or student=lightgcn; as a teacher it is fine.",
        )
    if cfg.method.distiller is not None:
        check_needs(cfg)


def ensure_student(
    cfg: DictConfig, context: Context, data: Data, *, own: bool = False, redo: bool = False
) -> Run:
    """The student's finished run, made if it is not there; its teacher is made before it.

    Without a method the student depends on no teacher, and none is made; nor is one where the
    student is trained already.
    """
    check(cfg)
    student = plain(cfg.student)
    name, method = target_name(student), str(cfg.method.name)
    distils = cfg.method.distiller is not None
    identity = student_identity(cfg, data)
    trained = trained_run(context, identity)
    parents = {"split": {"identity": data.identity, "folder": str(data.folder)}}
    teacher = None
    if trained is not None and not redo:
        parents = dict(trained.manifest["parents"])
    elif distils:
        teacher = ensure_teacher(cfg, context, data)
        parents["teacher"] = {"identity": teacher.identity, "folder": str(teacher.folder)}
    settings = flat("student", student) | flat("fit", student_fit(cfg))
    if distils:
        settings |= flat("method", plain(cfg.method.distiller))
        settings |= teacher_settings(cfg)
        settings |= flat("teacher_fit", fit_options(cfg.teacher_fit))
    title = f"student {name}, method {method}"
    with lock(context.lock_file(identity), title):
        return obtain(
            context,
            cfg,
            data,
            command="distill",
            identity=identity,
            own=own,
            redo=redo,
            describe={
                "labels": labels(
                    cfg,
                    data,
                    name=title,
                    role="student",
                    model=name,
                    dim=student.get("dim"),
                    method=method,
                    teacher=teacher_name(cfg) if distils else "",
                    teacher_identity=teacher_identity(cfg, data) if distils else "",
                    seed=cfg.seed,
                    teacher_seed=cfg.teacher_seed if distils else None,
                ),
                "settings": settings,
                "seeds": {"split": cfg.split_seed, "student": cfg.seed}
                | ({"teacher": cfg.teacher_seed} if distils else {}),
                "parents": parents,
            },
            model_cfg=cfg.student,
            train=partial(
                train_model,
                cfg.student,
                cfg.fit,
                cfg,
                data.prepared.split,
                name=title,
                seed=cfg.seed,
                distiller=partial(make_distiller, cfg, context, data, teacher)
                if teacher is not None
                else None,
                device=context.device,
            ),
        )


def run(cfg: DictConfig) -> float | None:
    """`kdrec distill`: makes the student and shows its tables; returns its validation NDCG."""
    check(cfg)
    context = Context.of(cfg)
    data = ensure_split(cfg, context)
    finished = ensure_student(cfg, context, data, own=True, redo=context.force)
    return show_run(finished, context)
