"""An epoch of training: its batches, its steps, and what is kept between them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdrec.data.interactions import Interactions, Split
from kdrec.data.sampling import NegativeSampler
from kdrec.errors import UsageError
from kdrec.kernels.adam import DenseAdam, LazyAdam
from kdrec.kernels.rows import drop_gradient, keep_gradient
from kdrec.kernels.threads import few_threads
from kdrec.methods.base import Distiller, parts
from kdrec.models.base import Backbone, Batch
from kdrec.seeding import torch_stream
from kdrec.training.losses import Losses


def batches(
    train: Interactions,
    sampler: NegativeSampler,
    batch_size: int,
    generator: torch.Generator,
    device: torch.device,
) -> Callable[[], Iterator[Batch]]:
    """An epoch's batches: every training pair once, in random order, with one fresh negative.

    Args:
        train: The pairs, n of them.
        sampler: Draws the negatives.
        batch_size: Pairs in a batch; the last may have fewer.
        generator: On the device.
        device: Where the batches are.
    """
    users = torch.from_numpy(train.users).to(device)
    items = torch.from_numpy(train.items).to(device)
    n_steps = math.ceil(len(train) / batch_size)

    def epoch() -> Iterator[Batch]:
        order = torch.randperm(len(train), generator=generator, device=device)
        shuffled, positives = users.index_select(0, order), items.index_select(0, order)
        negatives = sampler.of_pairs(order, generator)
        for step in range(n_steps):
            part = slice(step * batch_size, (step + 1) * batch_size)
            yield Batch(shuffled[part], positives[part], negatives[part], step, n_steps)

    return epoch


class Trainer:
    """One model's optimiser and random streams; runs an epoch at a time.

    Within an epoch everything stays on the device, and nothing waits for it. A parameter of which
    a step makes no use has a gradient of zero, so that Adam's momentum moves it on.

    Args:
        model: Teacher or student, on the device.
        distiller: None to learn from data alone.
        split: Training pairs.
        optimiser: "adam" or "lazy_adam".
        lr: Learning rate.
        l2: Weight of the L2 penalty.
        batch_size: Interactions in a step.
        data_weight: Of the model's own loss.
        weight: Of the distillation loss; at 0 it is computed for the record alone.
        seed: Of the pairs and of the distiller's draws.
        device: Where all is.

    Raises:
        UsageError: If the optimiser is unknown.
    """

    def __init__(
        self,
        model: Backbone,
        distiller: Distiller | None,
        split: Split,
        *,
        optimiser: str,
        lr: float,
        l2: float,
        batch_size: int,
        data_weight: float,
        weight: float,
        seed: int,
        device: torch.device,
    ) -> None:
        self.model, self.distiller = model, distiller
        self.l2, self.data_weight, self.weight, self.device = l2, data_weight, weight, device
        self.own_parameters = list(model.parameters())
        self.parameters = list(self.own_parameters)
        if distiller is not None:
            theirs = distiller.to(device).parameters()
            self.parameters += [parameter for parameter in theirs if parameter.requires_grad]
        self.numbers = sum(parameter.numel() for parameter in self.parameters)
        self.gradients = [keep_gradient(parameter) for parameter in self.parameters]
        self.optimiser: LazyAdam | DenseAdam
        if optimiser == "lazy_adam":
            self.optimiser = LazyAdam(self.parameters, lr)
        elif optimiser == "adam":
            self.optimiser = DenseAdam(self.parameters, lr)
        else:
            raise UsageError(f"optimiser={optimiser} is unknown.", "Use adam or lazy_adam.")
        self.distil_draw = torch_stream(seed, "distil", device=str(device))
        self.pairs_draw = torch_stream(seed, "pairs", device=str(device))
        sampler = NegativeSampler(split.train, device=device)
        self.batches = batches(split.train, sampler, batch_size, self.pairs_draw, device)
        self.n_steps = math.ceil(len(split.train) / batch_size)

    def epoch(self, epoch: int, *, with_ratio: bool) -> Losses:
        """Data and distillation loss of the epoch's steps, and the ratio of their gradients."""
        if self.distiller is not None:
            self.distiller.begin_epoch(epoch, self.distil_draw, self.model)
        losses = torch.zeros((2, self.n_steps), device=self.device)
        ratio = torch.zeros((), device=self.device)
        for batch in self.batches():
            vectors = self.model.embed()
            loss = self.model.loss(batch, vectors, self.l2)
            losses[0, batch.step] = loss.detach()
            if self.distiller is not None:
                compare = with_ratio and batch.step == 0
                with torch.set_grad_enabled(self.weight > 0 or compare):
                    distilled = self.distiller.loss(batch, vectors)
                losses[1, batch.step] = distilled.detach()
                if compare:
                    ratio = self.gradient_ratio(loss, distilled)
                if self.data_weight != 1:
                    loss = self.data_weight * loss
                if self.weight > 0:
                    loss = loss + self.weight * distilled
            loss.backward()
            with few_threads(self.numbers, calls=1):
                self.optimiser.step()
                self.clear()
        *found, last = torch.cat([losses.view(-1), ratio.unsqueeze(0)]).tolist()
        return Losses(np.array(found, dtype=np.float32).reshape(2, -1), last)

    def clear(self) -> None:
        """Makes all gradients zero."""
        for gradient in self.gradients:
            gradient.clear()

    def fits(self) -> dict[str, Any]:
        """What a snapshot must be of to be this trainer's: device, names and shapes."""
        found: dict[str, Any] = {
            "device": self.device.type,
            "optimiser": type(self.optimiser).__name__,
            "model": {name: _shape(part) for name, part in self.model.state_dict().items()},
            "learnt": [_shape(parameter) for parameter in self.parameters],
        }
        if self.distiller is not None:
            found["method"] = {
                name: [type(part).__name__, *sorted(part.snapshot())]
                for name, part in parts(self.distiller).items()
            }
        return found

    def snapshot(self) -> dict[str, Any]:
        """All that the next epochs depend on, at the end of one."""
        methods = {} if self.distiller is None else parts(self.distiller)
        return {
            "model": dict(self.model.state_dict()),
            "learnt": self.parameters[len(self.own_parameters) :],
            "optimiser": self.optimiser.state_dict(),
            "draws": [draw.get_state() for draw in (self.pairs_draw, self.distil_draw)],
            "method": {name: part.snapshot() for name, part in methods.items()},
        }

    def resume(self, snapshot: Mapping[str, Any]) -> None:
        """Goes on from a snapshot, of a trainer that was made as this one was."""
        self.model.load_state_dict(snapshot["model"])
        with torch.no_grad():
            theirs = self.parameters[len(self.own_parameters) :]
            for parameter, value in zip(theirs, snapshot["learnt"], strict=True):
                parameter.copy_(value)
        self.optimiser.load_state_dict(snapshot["optimiser"])
        for draw, value in zip((self.pairs_draw, self.distil_draw), snapshot["draws"], strict=True):
            draw.set_state(value.cpu())
        if self.distiller is not None:
            for name, part in parts(self.distiller).items():
                part.resume(snapshot["method"][name])

    def release(self) -> None:
        """Gives the gradients' memory back."""
        for parameter in self.parameters:
            drop_gradient(parameter)

    def gradient_ratio(self, loss: Tensor, distilled: Tensor) -> Tensor:
        """Norm of the gradient of `distilled` over that of `loss`; the graph is kept."""
        norms = []
        for part in (distilled, loss):
            part.backward(retain_graph=True)
            norms.append(
                _norm_of_all([one.grad for one in self.own_parameters if one.grad is not None])
            )
            self.clear()
        return torch.where(norms[1] > 0, norms[0] / norms[1], math.inf)


def _norm_of_all(parts: list[Tensor]) -> Tensor:
    """Euclidean norm of all tensors as one vector; zero of none. Torch has it from 2.6 on."""
    norms = [torch.linalg.vector_norm(part) for part in parts]
    return torch.linalg.vector_norm(torch.stack(norms)) if norms else torch.zeros(())


def _shape(part: Tensor) -> str:
    """`float32 [40, 4]`."""
    return f"{str(part.dtype).removeprefix('torch.')} {list(part.shape)}"
