"""The only training loop: a teacher or a student, with or without a distiller."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch

from kdrec.data.interactions import Split
from kdrec.errors import InterruptedTraining, KdrecError
from kdrec.evaluation.grouped import quick
from kdrec.evaluation.metrics import ndcg
from kdrec.methods.base import Distiller
from kdrec.models.base import Backbone, frozen
from kdrec.progress import Field, task
from kdrec.ranges import Below1, Count, Natural, NonNegative, Positive, check_ranges
from kdrec.training.average import Average
from kdrec.training.course import Course
from kdrec.training.interruption import requests
from kdrec.training.losses import DivergedError
from kdrec.training.stopping import EarlyStopping
from kdrec.training.trainer import Trainer
from kdrec.training.trajectory import State, Trajectory
from kdrec.training.unfinished import Unfinished


@dataclass(frozen=True, slots=True)
class FitResult:
    """How a training went.

    Args:
        best_epoch: The epoch whose parameters the model has now.
        best_value: Its validation NDCG.
        epochs: How many were run.
        history: A row for each evaluation.
        seconds: Wall time, of all parts of a training that was interrupted.
        trajectory: Epoch and parameters of some states on the way to the best, itself last; empty
            if none were asked for.
        resumed: Epochs after which it was interrupted.
    """

    best_epoch: int
    best_value: float
    epochs: int
    history: list[dict[str, float]]
    seconds: float
    trajectory: list[tuple[int, State]] = field(default_factory=list)
    resumed: list[int] = field(default_factory=list)


def fit(
    model: Backbone,
    distiller: Distiller | None,
    split: Split,
    *,
    name: str,
    optimiser: Literal["adam", "lazy_adam"],
    lr: Positive,
    lr_factor: Positive,
    average: Below1,
    l2: NonNegative,
    batch_size: Count,
    epochs: Count,
    eval_every: Count,
    patience: Count,
    cutoff: Count,
    checkpoints: Natural,
    data_weight: NonNegative,
    weight: NonNegative,
    seed: int,
    eval_batch_size: int,
    device: torch.device,
    unfinished: Unfinished | None = None,
) -> FitResult:
    """Trains until validation NDCG has not risen for `patience` epochs; keeps the best epoch.

    Minimises `data_weight * model.loss + weight * distiller.loss`.

    With `unfinished` the training is kept now and then, at its end, and when Ctrl-C, SIGTERM or
    SIGHUP ask it to stop; it goes on from what is kept there, and ends with the bytes of one that
    was never interrupted.

    Args:
        model: Teacher or student; ends with the parameters of its best epoch.
        distiller: None to learn from data alone.
        split: Training and validation pairs; the test pairs are not looked at.
        name: What the progress display calls it.
        optimiser: "adam" moves every row in every step, "lazy_adam" those of the batch.
        lr: Learning rate.
        lr_factor: What the schedule multiplies it by.
        average: Decay of the running mean of the parameters over epochs, which is what is
            evaluated and kept; 0: the parameters themselves.
        l2: Weight of the L2 penalty on the rows of a batch.
        batch_size: Interactions in a step.
        epochs: The most that are run.
        eval_every: Epochs between evaluations.
        patience: Epochs without a rise after which training stops.
        cutoff: Of the validation NDCG.
        checkpoints: How many states are kept on the way to the best epoch, evenly spread, itself
            last; there are fewer if fewer were evaluated. 0: the best alone.
        data_weight: Of the model's own loss, its L2 penalty included.
        weight: Of the distillation loss, the lambda of the papers.
        seed: Of the order of the pairs, the negatives and the distiller's draws.
        eval_batch_size: Users scored at once.
        device: Where to train; the model is moved there.
        unfinished: Where the training is kept until its run is finished; None: nowhere.

    Raises:
        UsageError: If an option is out of its range.
        KdrecError: If the split has no validation pairs.
        DivergedError: If a loss is not finite; what was kept is removed.
        InterruptedTraining: If it was asked to stop.
    """
    check_ranges(fit, locals())
    if not len(split.valid):
        raise KdrecError(
            "The split has no validation pairs, so training cannot choose its epoch.",
            "Take a protocol that holds some out, or users with more pairs: protocol=paper needs 6 "
            "(dataset.filters.min_user=6).",
        )
    model.to(device)
    trainer = Trainer(
        model, distiller, split, optimiser=optimiser, lr=lr * lr_factor, l2=l2,
        batch_size=batch_size, data_weight=data_weight, weight=weight, seed=seed, device=device,
    )  # fmt: skip
    mean, stopping = Average(model, average), EarlyStopping(patience)
    course = Course(trainer, mean, stopping, Trajectory(checkpoints), split.digest)
    if unfinished is not None:
        course.resume(unfinished, name)
    metric = f"ndcg@{cutoff}"
    with (
        task(name, total=epochs, unit="epoch") as progress,
        requests(name, heard=unfinished is not None) as request,
    ):
        progress.skip(course.epoch)
        while not course.ended and not request.asked:
            epoch = course.epoch + 1
            evaluate = epoch % eval_every == 0 or epoch == epochs
            losses = trainer.epoch(epoch, with_ratio=evaluate)
            try:
                losses.check(name, epoch, lr=lr, lr_factor=lr_factor, weight=weight)
            except DivergedError:
                if unfinished is not None:
                    unfinished.remove()
                raise
            means = losses.means()
            total = data_weight * means["loss"] + weight * means["distillation"]
            mean.update(epoch)
            course.epoch, course.ended = epoch, epoch == epochs
            shown: dict[str, Field] = {"loss": total}
            if evaluate:
                with mean.in_place():
                    value = quick(
                        frozen(model),
                        split.valid,
                        mask=[split.train],
                        metrics={"ndcg": ndcg},
                        cutoffs=[cutoff],
                        seed=seed,
                        batch_size=eval_batch_size,
                        device=str(device),
                    )[metric]
                    course.ended |= stopping.update(value, epoch, model)
                    course.trajectory.update(epoch, model, best=stopping.best_epoch == epoch)
                row = {"epoch": float(epoch), metric: value, **means, "seconds": course.seconds}
                told = distiller.told() if distiller is not None else {}
                course.history.append(row | told | row)
                shown |= {f"valid {metric}": value, "best": stopping.best_value}
            if unfinished is not None and unfinished.due(epoch):
                course.save(unfinished)
            progress.advance(1, **shown)
        if unfinished is not None and unfinished.epoch != course.epoch:
            course.save(unfinished)
    if unfinished is not None and request.asked:
        raise InterruptedTraining(name, course.epoch, unfinished.epoch)
    trainer.release()
    stopping.restore(model)
    return FitResult(
        stopping.best_epoch, stopping.best_value, course.epoch, course.history, course.seconds,
        course.trajectory.spread(stopping.best_epoch, stopping.state), course.resumed,
    )  # fmt: skip
