"""Small networks that map a student's vectors to the teacher's, and the gate that picks one.

What Distillation Experts (Kang et al., CIKM 2020) and Topology Distillation (Kang et al., KDD 2021)
have in common.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Experts(nn.Module):
    """M networks `E_m(s) = W2_m relu(W1_m s + b1_m) + b2_m` of `dim_in -> (dim_in + dim_out) // 2
    -> dim_out`.

    All M are one: their hidden layers lie side by side, and a row's weights scale them, so that
    `sum_m z_m E_m(s)` takes two matrix products and no [n, M, dim_out] is ever held. Parameters
    start as those of `nn.Linear` do.

    Args:
        n_experts: M.
        dim_in: Width of the student's vectors.
        dim_out: Width of the teacher's vectors.
        generator: On the CPU; draws the initial parameters.
    """

    def __init__(
        self, n_experts: int, dim_in: int, dim_out: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        hidden = (dim_in + dim_out) // 2
        self.n_experts = n_experts
        self.weight_1 = _uniform((n_experts * hidden, dim_in), dim_in, generator)
        self.bias_1 = _uniform((n_experts * hidden,), dim_in, generator)
        self.weight_2 = _uniform((n_experts * hidden, dim_out), hidden, generator)
        self.bias_2 = _uniform((n_experts, dim_out), hidden, generator)

    def forward(self, rows: Tensor, mix: Tensor) -> Tensor:
        """`sum_m mix_m E_m(row)` of each row.

        Args:
            rows: [n, dim_in].
            mix: Weight of each expert for each row. Shape [n, M].

        Returns:
            [n, dim_out].
        """
        hidden = functional.linear(rows, self.weight_1, self.bias_1).relu()
        mixed = hidden.view(len(rows), self.n_experts, -1) * mix.unsqueeze(2)
        return torch.addmm(mix @ self.bias_2, mixed.view(len(rows), -1), self.weight_2)


class Gate(nn.Module):
    """A linear layer `W t + b` whose softmax is the chance of each expert, given the teacher's row.

    Args:
        dim: Width of the teacher's vectors.
        n_experts: How many there are to choose from.
        generator: On the CPU; draws the initial parameters as `nn.Linear` does.
    """

    def __init__(self, dim: int, n_experts: int, generator: torch.Generator) -> None:
        super().__init__()
        self.weight = _uniform((n_experts, dim), dim, generator)
        self.bias = _uniform((n_experts,), dim, generator)

    def forward(self, rows: Tensor) -> Tensor:
        """Logits of the experts, [n, dim] to [n, M]."""
        return functional.linear(rows, self.weight, self.bias)


def gumbel_softmax(logits: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    """A relaxed draw from `softmax(logits)`: `softmax((logits + g) / T)`, g ~ Gumbel(0, 1).

    As T goes to 0 it is one-hot, and each expert is drawn with its chance.

    Args:
        logits: [n, M].
        temperature: T, above 0.
        generator: On the device of `logits`.
    """
    exponential = torch.empty_like(logits, requires_grad=False).exponential_(generator=generator)
    return ((logits - exponential.log()) / temperature).softmax(1)


def annealed(epoch: int, *, first: float, last: float, epochs: int) -> float:
    """The temperature of an epoch from 1: `first (last / first)^((epoch - 1) / epochs)`.

    It stays at `last` from epoch `epochs + 1` on.
    """
    return first * (last / first) ** min((epoch - 1) / epochs, 1.0)


def _uniform(shape: tuple[int, ...], fan_in: int, generator: torch.Generator) -> nn.Parameter:
    """Uniform on [-1, 1] / sqrt(fan_in), as in `nn.Linear`."""
    bound = fan_in**-0.5
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound, generator=generator))
