"""The only training loop: a teacher or a student, with or without a distiller."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdrec.data.interactions import Interactions, Split
from kdrec.data.sampling import NegativeSampler
from kdrec.errors import KdrecError
from kdrec.evaluation.grouped import quick
from kdrec.evaluation.metrics import ndcg
from kdrec.methods.base import Distiller
from kdrec.models.base import Backbone, Batch, frozen
from kdrec.progress import Field, task
from kdrec.ranges import Count, NonNegative, Positive, check_ranges
from kdrec.seeding import torch_stream
from kdrec.training.stopping import EarlyStopping

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FitResult:
    """How a training went.

    Args:
        best_epoch: The epoch whose parameters the model has now.
        best_value: Its validation NDCG.
        epochs: How many were run.
        history: A row for each evaluation.
        seconds: Wall time.
    """

    best_epoch: int
    best_value: float
    epochs: int
    history: list[dict[str, float]]
    seconds: float


def batches(
    train: Interactions,
    sampler: NegativeSampler,
    batch_size: int,
    generator: torch.Generator,
    device: torch.device,
) -> Callable[[], Iterator[Batch]]:
    """An epoch's batches: every training pair once, in random order, with one fresh negative."""
    users = torch.from_numpy(train.users).to(device)
    items = torch.from_numpy(train.items).to(device)
    n_steps = math.ceil(len(train) / batch_size)

    def epoch() -> Iterator[Batch]:
        order = torch.randperm(len(train), generator=generator, device=device)
        shuffled, positives = users[order], items[order]
        negatives = sampler.sample(shuffled, generator)
        for step in range(n_steps):
            part = slice(step * batch_size, (step + 1) * batch_size)
            yield Batch(shuffled[part], positives[part], negatives[part], step, n_steps)

    return epoch


def gradient_ratio(first: Tensor, second: Tensor, parameters: list[nn.Parameter]) -> float:
    """Norm of the gradient of `second` over that of `first`; the graph is kept."""
    norms = []
    for loss in (second, first):
        grads = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        squares = [grad.square().sum() for grad in grads if grad is not None]
        norms.append(float(torch.stack(squares).sum().sqrt()) if squares else 0.0)
    return norms[0] / norms[1] if norms[1] > 0 else math.inf


def fit(
    model: Backbone,
    distiller: Distiller | None,
    split: Split,
    *,
    name: str,
    lr: Positive,
    l2: NonNegative,
    batch_size: Count,
    epochs: Count,
    eval_every: Count,
    patience: Count,
    cutoff: Count,
    weight: NonNegative,
    seed: int,
    eval_batch_size: int,
    device: torch.device,
) -> FitResult:
    """Trains until validation NDCG has not risen for `patience` epochs; keeps the best epoch.

    Minimises `model.loss + weight * distiller.loss` with Adam.

    Args:
        model: Teacher or student; ends with the parameters of its best epoch.
        distiller: None to learn from data alone.
        split: Training and validation pairs; the test pairs are not looked at.
        name: What the progress display calls it.
        lr: Learning rate of Adam.
        l2: Weight of the L2 penalty on the rows of a batch.
        batch_size: Interactions in a step.
        epochs: The most that are run.
        eval_every: Epochs between evaluations.
        patience: Epochs without a rise after which training stops.
        cutoff: Of the validation NDCG.
        weight: Of the distillation loss, the lambda of the papers.
        seed: Of the order of the pairs, the negatives and the distiller's draws.
        eval_batch_size: Users scored at once.
        device: Where to train; the model is moved there.

    Raises:
        UsageError: If an option is out of its range.
        KdrecError: If the split has no validation pairs, or if a loss is not finite.
    """
    check_ranges(fit, locals())
    if not len(split.valid):
        raise KdrecError(
            "The split has no validation pairs, so training cannot choose its epoch.",
            "Take a protocol that holds some out, or users with more pairs: protocol=paper needs 6 "
            "(dataset.filters.min_user=6).",
        )
    model.to(device)
    trainer = _Trainer(model, distiller, split, lr, l2, batch_size, weight, seed, device)
    stopping = EarlyStopping(patience)
    history: list[dict[str, float]] = []
    started = time.monotonic()
    epoch, metric = 0, f"ndcg@{cutoff}"
    with task(name, total=epochs, unit="epoch") as progress:
        for epoch in range(1, epochs + 1):
            evaluate = epoch % eval_every == 0 or epoch == epochs
            losses = trainer.epoch(epoch, with_ratio=evaluate)
            if not all(math.isfinite(losses[part]) for part in ("loss", "distillation")):
                raise KdrecError(
                    f"{name}: the loss is not finite in epoch {epoch} (data {losses['loss']}, "
                    f"distillation {losses['distillation']}).",
                    f"Lower the learning rate (lr={lr}) or the distillation weight ({weight}).",
                )
            total = losses["loss"] + weight * losses["distillation"]
            if not evaluate:
                progress.advance(loss=total)
                continue
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
            elapsed = time.monotonic() - started
            history.append({"epoch": float(epoch), metric: value, **losses, "seconds": elapsed})
            stop = stopping.update(value, epoch, model)
            shown: dict[str, Field] = {f"valid {metric}": value, "best": stopping.best_value}
            progress.advance(1, loss=total, **shown)
            if stop:
                break
    stopping.restore(model)
    return FitResult(
        stopping.best_epoch, stopping.best_value, epoch, history, time.monotonic() - started
    )


class _Trainer:
    """One model's optimiser and random streams; runs an epoch at a time."""

    def __init__(
        self,
        model: Backbone,
        distiller: Distiller | None,
        split: Split,
        lr: float,
        l2: float,
        batch_size: int,
        weight: float,
        seed: int,
        device: torch.device,
    ) -> None:
        self.model, self.distiller = model, distiller
        self.l2, self.weight, self.device = l2, weight, device
        self.own_parameters = list(model.parameters())
        extra = [] if distiller is None else list(distiller.to(device).parameters())
        self.optimiser = torch.optim.Adam([*self.own_parameters, *extra], lr=lr, fused=True)
        self.distil_draw = torch_stream(seed, "distil", device=device.type)
        draw = torch_stream(seed, "pairs", device=device.type)
        sampler = NegativeSampler(split.train, device=device)
        self.batches = batches(split.train, sampler, batch_size, draw, device)

    def epoch(self, epoch: int, *, with_ratio: bool) -> dict[str, float]:
        """Mean data and distillation loss of the epoch, and the ratio of their gradients."""
        if self.distiller is not None:
            self.distiller.begin_epoch(epoch, self.distil_draw)
        sums = torch.zeros(2, device=self.device)
        ratio = 0.0
        n_steps = 1
        for batch in self.batches():
            n_steps = batch.n_steps
            vectors = self.model.embed()
            loss = self.model.loss(batch, vectors, self.l2)
            sums[0] += loss.detach()
            if self.distiller is not None:
                distilled = self.distiller.loss(batch, vectors)
                sums[1] += distilled.detach()
                if with_ratio and batch.step == 0:
                    ratio = gradient_ratio(loss, distilled, self.own_parameters)
                loss = loss + self.weight * distilled
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimiser.step()
        data, distillation = (sums / n_steps).tolist()
        return {"loss": data, "distillation": distillation, "gradient_ratio": ratio}
