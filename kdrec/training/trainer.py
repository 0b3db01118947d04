"""An epoch of training: its batches, its steps, and what is kept between them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from kdrec.data.interactions import Interactions, Split
from kdrec.data.sampling import NegativeSampler
from kdrec.errors import UsageError
from kdrec.kernels.adam import LazyAdam
from kdrec.kernels.rows import drop_gradient, keep_gradient
from kdrec.kernels.threads import few_threads
from kdrec.methods.base import Distiller
from kdrec.models.base import Backbone, Batch
from kdrec.seeding import torch_stream


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
        self.optimiser: LazyAdam | torch.optim.Adam
        if optimiser == "lazy_adam":
            self.optimiser = LazyAdam(self.parameters, lr)
        elif optimiser == "adam":
            self.optimiser = torch.optim.Adam(self.parameters, lr=lr, fused=True)
        else:
            raise UsageError(f"optimiser={optimiser} is unknown.", "Use adam or lazy_adam.")
        self.distil_draw = torch_stream(seed, "distil", device=str(device))
        draw = torch_stream(seed, "pairs", device=str(device))
        sampler = NegativeSampler(split.train, device=device)
        self.batches = batches(split.train, sampler, batch_size, draw, device)

    def epoch(self, epoch: int, *, with_ratio: bool) -> dict[str, float]:
        """Mean data and distillation loss of the epoch, and the ratio of their gradients."""
        if self.distiller is not None:
            self.distiller.begin_epoch(epoch, self.distil_draw, self.model)
        sums = torch.zeros(2, device=self.device)
        ratio = torch.zeros((), device=self.device)
        n_steps = 1
        for batch in self.batches():
            n_steps = batch.n_steps
            vectors = self.model.embed()
            loss = self.model.loss(batch, vectors, self.l2)
            sums[0] += loss.detach()
            if self.distiller is not None:
                compare = with_ratio and batch.step == 0
                with torch.set_grad_enabled(self.weight > 0 or compare):
                    distilled = self.distiller.loss(batch, vectors)
                sums[1] += distilled.detach()
                if compare:
                    ratio = self.gradient_ratio(loss, distilled)
                if self.data_weight != 1:
                    loss = self.data_weight * loss
                if self.weight > 0:
                    loss = loss + self.weight * distilled
            loss.backward()  # type: ignore[no-untyped-call]
            with few_threads(self.numbers, calls=1):
                self.optimiser.step()
                self.clear()
        found = torch.cat([sums / n_steps, ratio.unsqueeze(0)]).tolist()
        return dict(zip(("loss", "distillation", "gradient_ratio"), found, strict=True))

    def clear(self) -> None:
        """Makes all gradients zero."""
        for gradient in self.gradients:
            gradient.clear()

    def release(self) -> None:
        """Gives the gradients' memory back."""
        for parameter in self.parameters:
            drop_gradient(parameter)

    def gradient_ratio(self, loss: Tensor, distilled: Tensor) -> Tensor:
        """Norm of the gradient of `distilled` over that of `loss`; the graph is kept."""
        norms = []
        for part in (distilled, loss):
            part.backward(retain_graph=True)  # type: ignore[no-untyped-call]
            grads = [one.grad for one in self.own_parameters if one.grad is not None]
            norms.append(torch.nn.utils.get_total_norm(grads))
            self.clear()
        return torch.where(norms[1] > 0, norms[0] / norms[1], math.inf)
