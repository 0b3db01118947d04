"""A teacher: trained, evaluated and kept, or found."""

from __future__ import annotations

from functools import partial

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig

from kdrec.artifacts import Run, find_run, lock
from kdrec.errors import KdrecError
from kdrec.methods.base import Teacher
from kdrec.models.base import Backbone, Embedder, frozen
from kdrec.stages.context import Context, flat, plain, repeated
from kdrec.stages.debias import teacher_config, teacher_name, teacher_settings
from kdrec.stages.models import (
    is_closed_form,
    labels,
    load_model,
    model_identity,
    obtain,
    train_model,
    trained_run,
)
from kdrec.stages.output import show_run
from kdrec.stages.preprocess import Data, ensure_split


def teacher_identity(cfg: DictConfig, data: Data) -> str:
    """What determines the teacher, as a digest."""
    return model_identity(
        "teacher", data, plain(teacher_config(cfg)), plain(cfg.teacher_fit), cfg.teacher_seed, None
    )


def how_to_train(overrides: list[str]) -> str:
    """Which command makes the teacher of a `kdrec distill` command."""
    again = ("dataset", "protocol", "teacher", "teacher_fit", "teacher_dim", "debias",
             "split_seed", "evaluation", "metric", "data_dir", "output_dir")  # fmt: skip
    own = ("teacher_lr", "teacher_l2", "teacher_seed")
    words = repeated(overrides, (*again, *own))
    if words is None:
        return "Run the same command with upstream=make."
    words = [word.removeprefix("teacher_") if word.startswith(own) else word for word in words]
    return " ".join(["Run: kdrec train", *words])


def ensure_teacher(
    cfg: DictConfig, context: Context, data: Data, *, own: bool = False, redo: bool = False
) -> Run:
    """The teacher's finished run, made if it is not there.

    Raises:
        KdrecError: If it is missing and `upstream=require`.
    """
    identity = teacher_identity(cfg, data)
    model, fit = teacher_config(cfg), plain(cfg.teacher_fit)
    name = teacher_name(cfg)
    with lock(context.lock_file(identity), f"the teacher {name}"):
        if context.require and not own and find_run(context.output_dir, identity) is None:
            raise KdrecError(
                f"The teacher {name} is missing, and upstream=require.",
                how_to_train(context.overrides),
            )
        return obtain(
            context,
            cfg,
            data,
            command="train",
            identity=identity,
            own=own,
            redo=redo,
            describe={
                "labels": labels(
                    cfg,
                    data,
                    name=f"teacher {name}",
                    role="teacher",
                    model=name,
                    dim=cfg.teacher.get("dim"),
                    method="",
                    teacher=name,
                    teacher_identity=identity,
                    seed=cfg.teacher_seed,
                    teacher_seed=cfg.teacher_seed,
                ),
                "settings": teacher_settings(cfg)
                | ({} if is_closed_form(plain(model)) else flat("teacher_fit", fit)),
                "seeds": {"split": cfg.split_seed, "teacher": cfg.teacher_seed},
                "parents": {"split": {"identity": data.identity, "folder": str(data.folder)}},
            },
            model_cfg=model,
            train=partial(
                train_model,
                model,
                cfg.teacher_fit,
                cfg,
                data.prepared.split,
                name=f"teacher {name}",
                seed=cfg.teacher_seed,
                distiller=None,
                device=context.device,
            ),
        )


def load_teacher(cfg: DictConfig, context: Context, data: Data, run: Run) -> Teacher:
    """The teacher as methods see it: frozen."""
    trained = trained_run(context, run.identity)
    if trained is None:
        raise KdrecError(
            f"The weights of the teacher {run.folder} are gone.",
            f"{how_to_train(context.overrides)} force=true",
        )
    config = teacher_config(cfg)
    model = load_model(trained, config, data, context.device)
    scorer = frozen(model)

    def fresh(generator: torch.Generator) -> Backbone:
        made: Backbone = instantiate(config)(train=data.prepared.split.train, generator=generator)
        return made.to(context.device)

    return Teacher(
        scorer=scorer,
        embedder=scorer if isinstance(scorer, Embedder) else None,
        fresh=fresh if isinstance(model, Backbone) else None,
    )


def run(cfg: DictConfig) -> float | None:
    """`kdrec train`: makes the teacher and shows its tables; returns its validation NDCG."""
    context = Context.of(cfg)
    data = ensure_split(cfg, context)
    finished = ensure_teacher(cfg, context, data, own=True, redo=context.force)
    return show_run(finished, context)
