"""A running mean of the parameters over epochs (Polyak and Juditsky, 1992)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """The mean of a model's parameters over its epochs, the latest counting most.

    After epoch t it moves towards the parameters by `max(1 - decay, 1 / t)`: a plain mean at first,
    an exponential one later. A large learning rate gets near a minimum soon and then circles it;
    the mean is nearer than any point of the circle.

    Args:
        model: Whose parameters.
        decay: From 0, the parameters as they are, to below 1.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._model, self._decay = model, decay
        self._mean: list[Tensor] = []

    @torch.no_grad()
    def update(self, epoch: int) -> None:
        """Takes in the parameters after an epoch, the first of which is 1."""
        if not self._decay:
            return
        parameters = [parameter.detach() for parameter in self._model.parameters()]
        if not self._mean:
            self._mean = [parameter.clone() for parameter in parameters]
            return
        for mean, parameter in zip(self._mean, parameters, strict=True):
            mean.lerp_(parameter, max(1 - self._decay, 1 / epoch))

    def snapshot(self) -> list[Tensor]:
        """The mean of each parameter; none before the first epoch, or without a decay."""
        return self._mean

    def resume(self, snapshot: list[Tensor]) -> None:
        """Goes on from a snapshot."""
        self._mean = snapshot

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The model has the mean for its parameters within the block."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        if not self._mean:
            return
        parameters = list(self._model.parameters())
        for place, (mean, parameter) in enumerate(zip(self._mean, parameters, strict=True)):
            self._mean[place], parameter.data = parameter.data, mean
