"""Adam over all rows, and over those that a step touches."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from kdrec.kernels.rows import RowGradient


class DenseAdam:
    """Adam (Kingma and Ba, ICLR 2015) in torch's fused form: every row moves in every step.

    `torch.optim.Adam(parameters, lr, fused=True)` to the bit. That class loads torch's compiler
    when the first one is made, which takes a process longer than a short training.

    Args:
        parameters: Float tensors on one device; a step passes over those without a gradient.
        lr: Learning rate.
        betas: Decay of the two moments.
        eps: Added to the root of the second.
    """

    def __init__(
        self,
        parameters: Sequence[nn.Parameter],
        lr: float,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        self.parameters, self.lr, self.betas, self.eps = list(parameters), lr, betas, eps
        # Each has its own count: a parameter's first step is that in which it first had a gradient.
        self._state = [
            (
                torch.zeros_like(one, requires_grad=False),
                torch.zeros_like(one, requires_grad=False),
                torch.zeros((), dtype=torch.float32, device=one.device),
            )
            for one in self.parameters
        ]

    @torch.no_grad()
    def step(self) -> None:
        """Moves all parameters that have a gradient."""
        moved = [
            (one, one.grad, *state)
            for one, state in zip(self.parameters, self._state, strict=True)
            if one.grad is not None
        ]
        if not moved:
            return
        values, gradients, first, second, steps = map(list, zip(*moved, strict=True))
        adam(
            values, gradients, first, second, [], steps, fused=True, amsgrad=False,
            beta1=self.betas[0], beta2=self.betas[1], lr=self.lr, weight_decay=0.0, eps=self.eps,
            maximize=False,
        )  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        """The moments and the number of steps of every parameter, as they stand."""
        return {"state": self._state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from there."""
        self._state = [tuple(one) for one in state["state"]]


class LazyAdam:
    """Adam that moves the rows that a step looked up, and leaves the others and their moments.

    Adam's dense form (Kingma and Ba, ICLR 2015) moves every row in every step, by the momentum
    of earlier ones, and costs the table; this one costs the batch. It is what
    `torch.optim.SparseAdam` does; a gradient that came by other means than lookups moves all rows.

    Args:
        parameters: With kept gradients (`kernels.rows.keep_gradient`).
        lr: Learning rate.
        betas: Decay of the two moments.
        eps: Added to the root of the second.
    """

    def __init__(
        self,
        parameters: Sequence[nn.Parameter],
        lr: float,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        self.parameters, self.lr, self.betas, self.eps = list(parameters), lr, betas, eps
        self._moments = [
            tuple(torch.zeros_like(one, requires_grad=False) for _ in self.betas)
            for one in self.parameters
        ]
        self._steps = 0

    @torch.no_grad()
    def step(self) -> None:
        """Moves the rows that have a gradient."""
        self._steps += 1
        for parameter, moments in zip(self.parameters, self._moments, strict=True):
            kept = RowGradient.of(parameter)
            if kept is None:
                raise TypeError("LazyAdam needs parameters with kept gradients.")
            if kept.everywhere:
                self._move(parameter, moments, kept.dense)
                continue
            # A row that stands in the index twice is computed twice, to the same end: that is
            # cheaper than to find it, and nothing waits for the device to count.
            index = kept.touched()
            if not len(index):
                continue
            rows = [table.index_select(0, index) for table in (parameter, *moments, kept.dense)]
            self._move(rows[0], (rows[1], rows[2]), rows[3])
            for table, new in zip((parameter, *moments), rows[:3], strict=True):
                table.index_copy_(0, index, new)

    def state_dict(self) -> dict[str, Any]:
        """The moments and the number of steps, as they stand."""
        return {"steps": self._steps, "moments": self._moments}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from there."""
        self._steps = state["steps"]
        self._moments = [tuple(moments) for moments in state["moments"]]

    def _move(self, values: Tensor, moments: tuple[Tensor, ...], gradient: Tensor) -> None:
        first, second = moments
        decay = [1 - beta**self._steps for beta in self.betas]
        first.lerp_(gradient, 1 - self.betas[0])
        second.mul_(self.betas[1]).addcmul_(gradient, gradient, value=1 - self.betas[1])
        root = second.sqrt().div_(math.sqrt(decay[1])).add_(self.eps)
        values.addcdiv_(first, root, value=-self.lr / decay[0])
