"""A teacher: trained, evaluated and kept, or found."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from omegaconf import DictConfig

from kdrec.artifacts import Run
from kdrec.digests import digest
from kdrec.errors import KdrecError, StorageError
from kdrec.locks import lock
from kdrec.methods.base import Teacher
from kdrec.models.base import Backbone, Embedder, frozen
from kdrec.models.ensemble import Ensemble
from kdrec.stages.context import Context, Plain, flat, plain, repeated
from kdrec.stages.debias import teacher_config, teacher_settings
from kdrec.stages.instances import instantiate
from kdrec.stages.members import (
    is_ensemble,
    is_learnt,
    member_configs,
    single_configs,
    teacher_name,
)
from kdrec.stages.models import (
    VERSION,
    evaluated,
    fit_options,
    found_or_made,
    labels,
    model_identity,
    obtain,
    train_model,
)
from kdrec.stages.output import show_run
from kdrec.stages.preprocess import Data, Identified, ensure_split
from kdrec.stages.weights import finished_run, load_model, load_trajectory, publish, trained_run


def teacher_identity(cfg: DictConfig, data: Identified) -> str:
    """What determines the teacher, as a digest; an ensemble's is made of its members'."""
    if is_ensemble(cfg.teacher):
        members = [teacher_identity(one, data) for one in member_configs(cfg).values()]
        how = str(cfg.teacher.ensemble)
        return digest({"kind": "ensemble", "version": VERSION, "members": members, "ensemble": how})
    return model_identity(
        "teacher",
        data,
        plain(teacher_config(cfg)),
        fit_options(cfg.teacher_fit),
        cfg.teacher_seed,
        None,
    )


def teacher_is_trained(cfg: DictConfig, context: Context, data: Data) -> bool:
    """Whether the weights of the teacher, or of all its members, are there."""
    identities = (teacher_identity(one, data) for one in single_configs(cfg))
    return all(trained_run(context, identity) is not None for identity in identities)


def how_to_train(cfg: DictConfig, overrides: list[str]) -> str:
    """Which command makes the teacher of a `kdrec distill` command.

    The checkpoints of its training may have been asked for by the method.
    """
    again = ("dataset", "protocol", "teacher", "teacher_fit", "teacher_dim", "ensemble",
             "debias", "split_seed", "evaluation", "metric", "data_dir", "output_dir",
             "share", "allow_code")  # fmt: skip
    own = ("teacher_lr", "teacher_l2", "teacher_seed")
    words = repeated(overrides, (*again, *own))
    if words is None:
        return "Run the same command with upstream=make."
    words = [word.removeprefix("teacher_") if word.startswith(own) else word for word in words]
    kept, key = cfg.teacher_fit.get("checkpoints"), "teacher_fit.checkpoints"
    if kept and not any(word.startswith(f"{key}=") for word in words):
        words.append(f"{key}={kept}")
    return " ".join(["Run: kdrec train", *words])


def describe_teacher(cfg: DictConfig, data: Data, identity: str) -> Plain:
    """What the manifest says of a teacher."""
    name = teacher_name(cfg)
    fit = flat("teacher_fit", fit_options(cfg.teacher_fit)) if is_learnt(cfg) else {}
    return {
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
        "settings": teacher_settings(cfg) | fit,
        "seeds": {"split": cfg.split_seed, "teacher": cfg.teacher_seed},
        "parents": {"split": {"identity": data.identity, "folder": str(data.folder)}},
    }


def ensure_teacher(
    cfg: DictConfig, context: Context, data: Data, *, own: bool = False, redo: bool = False
) -> Run:
    """The teacher's finished run, made if it is not there.

    The members of an ensemble are teachers of their own, which other runs find again; what is made
    of them here is the evaluation.

    Raises:
        KdrecError: If it is missing and `upstream=require`.
    """
    identity, name = teacher_identity(cfg, data), teacher_name(cfg)
    describe = describe_teacher(cfg, data, identity)
    if is_ensemble(cfg.teacher):
        describe["parents"] |= _ensure_members(cfg, context, data, redo=redo and not own)
    with lock(context.lock_file(identity), f"the teacher {name}"):
        if context.require and not own and finished_run(context, identity) is None:
            raise KdrecError(
                f"The teacher {name} is missing, and upstream=require.",
                how_to_train(cfg, context.overrides),
            )
        if is_ensemble(cfg.teacher):
            return _obtain_ensemble(
                cfg, context, data, identity=identity, describe=describe, own=own, redo=redo
            )
        model = teacher_config(cfg)
        return obtain(
            context,
            cfg,
            data,
            command="train",
            identity=identity,
            own=own,
            redo=redo,
            describe=describe,
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


def _ensure_members(cfg: DictConfig, context: Context, data: Data, *, redo: bool) -> Plain:
    """Trains the members whose weights are not there; returns the manifest's word of each."""
    parents = {}
    for name, one in member_configs(cfg).items():
        run = None if redo else trained_run(context, teacher_identity(one, data))
        if run is None:
            run = ensure_teacher(one, replace(context, config=plain(one)), data, redo=redo)
        else:
            publish(context, run)
        parents[f"teacher {name}"] = {"identity": run.identity, "folder": str(run.folder)}
    return parents


def _obtain_ensemble(
    cfg: DictConfig,
    context: Context,
    data: Data,
    *,
    identity: str,
    describe: Plain,
    own: bool,
    redo: bool,
) -> Run:
    """The finished run of an ensemble whose members are trained: its evaluation."""

    def make() -> Run:
        with context.new_run("train", identity, own=own) as record:
            model = _load_ensemble(cfg, context, data).scorer
            assert isinstance(model, Ensemble)  # noqa: S101  (narrows the type)
            members = sorted(cfg.teacher.members)
            training = {"ensemble": str(cfg.teacher.ensemble), "members": members}
            return evaluated(record, cfg, data, model, describe=describe, training=training)

    return found_or_made(context, cfg, identity, describe, redo=redo, make=make)


def _load_ensemble(cfg: DictConfig, context: Context, data: Data) -> Teacher:
    members = {}
    for name, one in member_configs(cfg).items():
        run = trained_run(context, teacher_identity(one, data))
        if run is None:
            raise StorageError(
                f"The weights of the teacher {name} are gone.",
                how_to_train(cfg, context.overrides),
            )
        members[name] = load_teacher(one, context, data, run)
    scorer = Ensemble(
        data.prepared.split.train,
        members={name: member.scorer for name, member in members.items()},
        ensemble=cfg.teacher.ensemble,
    )
    return Teacher(scorer=scorer, embedder=None, members=tuple(members.values()))


def load_teacher(cfg: DictConfig, context: Context, data: Data, run: Run) -> Teacher:
    """The teacher as methods see it: frozen."""
    if is_ensemble(cfg.teacher):
        return _load_ensemble(cfg, context, data)
    trained = trained_run(context, run.identity)
    if trained is None:
        raise StorageError(
            f"The weights of the teacher {run.folder} are gone.",
            f"{how_to_train(cfg, context.overrides)} force=true",
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
        trajectory=load_trajectory(trained, config, data, context.device, scorer),
        fresh=fresh if isinstance(model, Backbone) else None,
    )


def check(cfg: DictConfig) -> None:
    """Refuses a teacher that cannot be made, before anything is.

    Raises:
        UsageError: If a teacher in closed form is to be debiased.
    """
    for one in single_configs(cfg):
        teacher_config(one)


def run(cfg: DictConfig) -> float | None:
    """`kdrec train`: makes the teacher and shows its tables; returns its validation NDCG."""
    check(cfg)
    context = Context.of(cfg)
    data = ensure_split(cfg, context)
    finished = ensure_teacher(cfg, context, data, own=True, redo=context.force)
    return show_run(finished, context)
