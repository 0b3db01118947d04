"""Experts that map a student's vectors to the teacher's, chosen by a gate on the teacher's."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from kdrec.data.interactions import IntArray
from kdrec.errors import KdrecError
from kdrec.kernels.draws import log_exponential
from kdrec.kernels.grouped import grouped_linear
from kdrec.kernels.mixture import mixture
from kdrec.ranges import Range

Temperature = Annotated[float, Range(1e-30)]
_NOTHING = 2.0**-24  # a share below half a unit in the last place of 1: adding it changes nothing
_MANY = 0.3  # share of (row, expert) pairs from which all experts at once are faster than in turn


def annealed(epoch: int, first: float, last: float, n_epochs: int) -> float:
    """The temperature of an epoch, from 1: geometrically to `last` after `n_epochs`, then that."""
    share = min(1.0, (epoch - 1) / n_epochs)
    ratio: float = last / first
    temperature: float = first * ratio**share
    return temperature


class Experts(nn.Module):
    """M two-layer networks and a gate, for the users or for the items.

    The gate's logits are `W t + b` with the teacher's vector t; Gumbel noise and a softmax at a
    temperature make of them the shares z of the experts, and the output is `sum_m z_m E_m(s)`.

    Two ways lead to the same sum. All experts at once: their hidden layers are scaled by z and
    mixed by one product of [B, M h] and [M h, d_t] (`kdrec.kernels.mixture`), so that nothing of
    M d_t numbers a row is made. Routed, on a CPU alone: each expert computes the rows in which its
    share is at least 2^-24, sorted by expert; what it leaves out is below the rounding of the sum.
    Near temperature 0 that is one expert a row, and with M = 30 ten times as fast. On a CPU rows
    that do not matter are not computed, either way.

    Args:
        targets: The teacher's vectors. Shape [n, d_t].
        student_dim: d_s.
        n_experts: M; with one there is no gate, and its share is 1.
        expert: "relu_inside" (Linear, ReLU, Linear) or "relu_last" (Linear, Linear, ReLU). Both
            have `(d_s + d_t) // 2` hidden units.
        generator: Draws the parameters, uniform on +-1/sqrt(inputs), as `nn.Linear` does.
    """

    def __init__(
        self,
        targets: Tensor,
        *,
        student_dim: int,
        n_experts: int,
        expert: Literal["relu_inside", "relu_last"],
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.targets, self.n_experts = targets, n_experts
        self.relu_inside = expert == "relu_inside"
        #: Whether rows may be routed; on an accelerator the host would wait for their numbers.
        self.routes = targets.device.type == "cpu"
        dim = targets.shape[1]
        hidden = (student_dim + dim) // 2

        def uniform(inputs: int, *shape: int) -> nn.Parameter:
            bound = inputs**-0.5
            drawn = torch.empty(*shape).uniform_(-bound, bound, generator=generator)
            return nn.Parameter(drawn.to(targets.device))

        self.first = uniform(student_dim, n_experts, student_dim, hidden)
        self.first_bias = uniform(student_dim, n_experts, hidden)
        self.second = uniform(hidden, n_experts, hidden, dim)
        self.second_bias = uniform(hidden, n_experts, dim)
        if n_experts > 1:
            self.gate = uniform(dim, dim, n_experts)
            self.gate_bias = uniform(dim, n_experts)

    def shares(self, ids: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
        """The experts' shares z for some users or items, [B] to [B, M]; rows sum to 1."""
        if self.n_experts == 1:
            return self.first.new_ones(len(ids), 1)
        logits = torch.addmm(self.gate_bias, self.targets.index_select(0, ids), self.gate)
        gumbel = log_exponential(logits.shape, generator).neg_()
        return ((logits + gumbel) / temperature).softmax(1)

    def forward(self, vectors: Tensor, shares: Tensor, used: Tensor) -> Tensor:
        """`sum_m z_m E_m(s)`.

        Args:
            vectors: The student's, s. Shape [B, d_s].
            shares: z. Shape [B, M].
            used: Which rows matter; the others may come out as 0. Shape [B], bool.

        Returns:
            [B, d_t].

        Raises:
            KdrecError: If the vectors have another width than the experts were made for.
        """
        if vectors.shape[1] != self.first.shape[1]:
            raise KdrecError(
                f"The student's vectors have {vectors.shape[1]} numbers, and the method was "
                f"made for {self.first.shape[1]}.",
                "Set method.distiller.student_dim to the width of the student's vectors.",
            )
        if self.routes:
            counted = (shares.detach() >= _NOTHING) & used.unsqueeze(1)
            expert, row = np.nonzero(counted.numpy().T)
            if len(row) < _MANY * shares.numel():
                return self._routed(vectors, shares, torch.from_numpy(row), expert)
            rows = torch.from_numpy(np.flatnonzero(used.numpy()))
            if len(rows) < len(used):
                found = self._all(vectors.index_select(0, rows), shares.index_select(0, rows))
                return found.new_zeros(len(used), found.shape[1]).index_copy(0, rows, found)
        return self._all(vectors, shares)

    def _routed(self, vectors: Tensor, shares: Tensor, row: Tensor, expert: IntArray) -> Tensor:
        """The sum over pairs of a row and an expert, sorted by expert."""
        sizes = np.bincount(expert, minlength=self.n_experts).tolist()
        hidden = grouped_linear(vectors.index_select(0, row), self.first, self.first_bias, sizes)
        if self.relu_inside:
            hidden = functional.relu(hidden, inplace=True)
        out = grouped_linear(hidden, self.second, self.second_bias, sizes)
        if not self.relu_inside:
            out = functional.relu(out, inplace=True)
        share = shares.view(-1).index_select(0, row * self.n_experts + torch.from_numpy(expert))
        total = out.new_zeros(len(vectors), out.shape[1])
        return total.index_add(0, row, out * share.unsqueeze(1))

    def _all(self, vectors: Tensor, shares: Tensor) -> Tensor:
        """The sum over all experts at once."""
        if self.relu_inside:
            return mixture(
                vectors, shares, self.first, self.first_bias, self.second, self.second_bias
            )
        n, _, width = self.first.shape
        first = self.first.transpose(0, 1).reshape(-1, n * width)
        hidden = torch.addmm(self.first_bias.view(-1), vectors, first).view(-1, n, width)
        out = torch.baddbmm(self.second_bias.unsqueeze(1), hidden.transpose(0, 1), self.second)
        return (functional.relu(out) * shares.T.unsqueeze(2)).sum(0)
