"""A model from its configuration to a finished run, and back: shared by teacher and student."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from omegaconf import DictConfig
from torch import nn

from kdrec.artifacts import Run, atomic_path
from kdrec.data.interactions import Split
from kdrec.digests import digest
from kdrec.errors import InterruptedTraining, UsageError
from kdrec.evaluation.grouped import Evaluation
from kdrec.methods.base import Distiller
from kdrec.models.base import Backbone, ClosedForm, frozen
from kdrec.stages.context import Context, Plain, Record, options, plain
from kdrec.stages.instances import get_class, instantiate
from kdrec.stages.memory import explained
from kdrec.stages.preprocess import Data, Identified
from kdrec.stages.weights import (
    build,
    finished_run,
    load_model,
    publish,
    save_model,
    trained_run,
)
from kdrec.training.loop import FitResult
from kdrec.training.unfinished import Unfinished

log = logging.getLogger(__name__)

#: Raised when the same configuration begins to give other numbers.
VERSION = 2


def is_closed_form(model: Plain) -> bool:
    """Whether a model configuration names one that is not learnt by gradient descent."""
    return issubclass(get_class(model["_target_"]), ClosedForm)


def fit_options(fit: DictConfig) -> Plain:
    """The training options that matter: `checkpoints` only where some are kept."""
    found: Plain = plain(fit)
    if not found.get("checkpoints"):
        found.pop("checkpoints", None)
    return found


def model_identity(
    role: str, data: Identified, model: Plain, fit: Plain, seed: int, distillation: Plain | None
) -> str:
    """What determines a trained model, as a digest."""
    return digest(
        {
            "kind": "model",
            "version": VERSION,
            "role": role,
            "split": data.identity,
            "model": options(model),
            "fit": None if is_closed_form(model) else options(fit),
            "seed": seed,
            "distillation": distillation,
        }
    )


def evaluation_digest(cfg: DictConfig) -> str:
    """What determines an evaluation, as a digest."""
    evaluation = options(plain(cfg.evaluation))
    del evaluation["batch_size"]
    return digest({"evaluation": evaluation, "metrics": plain(cfg.metric)})


def train_model(
    model_cfg: DictConfig,
    fit_cfg: DictConfig,
    cfg: DictConfig,
    split: Split,
    unfinished: Unfinished,
    *,
    name: str,
    seed: int,
    distiller: Callable[[], Distiller] | None,
    device: torch.device,
) -> tuple[nn.Module, FitResult | None]:
    """A trained model; a closed form is computed, and has no history."""
    model = build(model_cfg, split, seed)
    if isinstance(model, ClosedForm):
        log.info("%s: computing it in closed form", name)
        model.fit()
        return model.to(device), None
    if not isinstance(model, Backbone):
        raise UsageError(f"{name} is neither a Backbone nor a ClosedForm: {type(model).__name__}.")
    unweighted = {"data_weight": 1.0, "weight": 0.0} if distiller is None else {}
    result: FitResult = instantiate(fit_cfg)(
        model,
        distiller() if distiller is not None else None,
        split,
        name=name,
        seed=seed,
        eval_batch_size=cfg.evaluation.batch_size,
        device=device,
        unfinished=unfinished,
        **unweighted,
    )
    return model, result


def evaluate_model(
    model: nn.Module, cfg: DictConfig, split: Split, device: torch.device
) -> Evaluation:
    """The evaluation that the configuration asks for."""
    metrics = {name: instantiate(node) for name, node in cfg.metric.items()}
    evaluation: Evaluation = instantiate(cfg.evaluation, _convert_="all")(
        frozen(model.eval()), split, metrics=metrics, seed=0, device=str(device)
    )
    return evaluation


def write_evaluation(folder: Path, evaluation: Evaluation, data: Data) -> list[Plain]:
    """Writes lists, per-user values and tables with the original ids; returns the summary rows."""
    users, items = data.prepared.users, data.prepared.items
    topk = evaluation.topk
    depth = topk.items.shape[1]
    lists = pd.DataFrame(
        {
            "user": topk.users.repeat(depth),
            "item": topk.items.ravel(),
            "rank": list(range(1, depth + 1)) * len(topk.users),
            "score": topk.scores.ravel(),
        }
    )
    lists = lists[lists["item"] >= 0]
    lists.insert(1, "user_id", users["id"].to_numpy()[lists["user"]])
    lists.insert(3, "item_id", items["id"].to_numpy()[lists["item"]])
    per_user = evaluation.per_user.copy()
    per_user.insert(2, "user_id", users["id"].to_numpy()[per_user["user"]])
    for name, frame in (("topk", lists), ("per_user", per_user)):
        with atomic_path(folder / f"{name}.parquet") as path:
            frame.to_parquet(path, index=False)
    (folder / "tables").mkdir(exist_ok=True)
    for scope, part in evaluation.summary.groupby("scope", sort=False):
        with atomic_path(folder / "tables" / f"{scope}.csv") as path:
            part.to_csv(path, index=False)
    summary = evaluation.summary.astype({"value": object})
    known = summary.where(summary.notna(), None)
    return [{str(key): value for key, value in row.items()} for row in known.to_dict("records")]


def labels(cfg: DictConfig, data: Data, **more: Any) -> Plain:
    """What a report groups runs by."""
    return {
        "dataset": cfg.dataset.name,
        "protocol": cfg.protocol.name,
        "split": data.prepared.split.digest,
        "split_seed": cfg.split_seed,
        **more,
    }


def obtain(
    context: Context,
    cfg: DictConfig,
    data: Data,
    *,
    command: str,
    identity: str,
    own: bool,
    redo: bool,
    describe: Plain,
    model_cfg: DictConfig,
    train: Callable[[Unfinished], tuple[nn.Module, FitResult | None]],
) -> Run:
    """The finished run of a model with this evaluation: found, evaluated anew, or trained.

    Args:
        context: Where and how.
        cfg: The configuration, for the evaluation.
        data: The split.
        command: `train` or `distill`.
        identity: Of the model.
        own: Whether this is the command's own stage, whose run goes to Hydra's folder.
        redo: Make it again even if it is there.
        describe: `labels`, `settings` and `parents` for the manifest.
        model_cfg: Builds the model when it is loaded.
        train: Makes the model, or goes on with it.
    """
    unfinished, name = context.unfinished(identity), describe["labels"]["name"]

    def make() -> Run:
        trained = None if redo else trained_run(context, identity)
        if redo or trained is not None:
            unfinished.remove()
        with context.new_run(command, identity, own=own) as record:
            if trained is not None:
                model = load_model(trained, model_cfg, data, context.device)
                training: Plain = {**trained.manifest["training"], "from": str(trained.folder)}
            else:
                try:
                    with explained(cfg, f"training {name}", teacher=command == "train"):
                        model, result = train(unfinished)
                except InterruptedTraining as stop:
                    if redo:
                        raise InterruptedTraining(
                            stop.name, stop.epoch, stop.kept, forced=True
                        ) from None
                    raise
                training = save_model(record, model, result)
            with explained(cfg, f"evaluating {name}", teacher=command == "train"):
                return evaluated(record, cfg, data, model, describe=describe, training=training)

    run = found_or_made(context, cfg, identity, describe, redo=redo, make=make)
    unfinished.remove()
    return run


def found_or_made(
    context: Context,
    cfg: DictConfig,
    identity: str,
    describe: Plain,
    *,
    redo: bool,
    make: Callable[[], Run],
) -> Run:
    """The finished run of this identity and evaluation: found, or made by one machine for all.

    What is found here is published, too: it may have been made before there was a share.
    """
    whole = None if redo else _finished_already(context, cfg, identity, describe)
    if whole is not None:
        publish(context, whole)
        return whole
    with context.made_once(identity, describe["labels"]["name"]):
        if context.share is not None and not redo:  # another machine may have made it meanwhile
            whole = _finished_already(context, cfg, identity, describe)
        if whole is None:
            whole = make()
            publish(context, whole, replace=redo)
    return whole


def _finished_already(
    context: Context, cfg: DictConfig, identity: str, describe: Plain
) -> Run | None:
    """The finished run of this identity with the evaluation that the configuration asks for."""
    whole = finished_run(context, identity, evaluation=evaluation_digest(cfg))
    if whole is not None:
        log.info("%s is finished already: %s", describe["labels"]["name"], whole.folder)
    return whole


def evaluated(
    record: Record,
    cfg: DictConfig,
    data: Data,
    model: nn.Module,
    *,
    describe: Plain,
    training: Plain,
) -> Run:
    """Evaluates a model, writes that down and finishes its run."""
    evaluation = evaluate_model(model, cfg, data.prepared.split, record.context.device)
    rows = write_evaluation(record.folder, evaluation, data)
    return record.finish(
        evaluation=evaluation_digest(cfg),
        **describe,
        training=training,
        stats=data.prepared.stats,
        metrics=rows,
    )
