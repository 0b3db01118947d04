"""A weighted sum of small two-layer networks, without keeping what lies between their layers.

With M networks of h hidden units a row has M h numbers between the layers, 1650 for a student's
ten: kept for the gradient they are by far the most of what is moved. A block of rows that stays in
a CPU's cache is gone through instead, and computed again for the gradient, which costs a product
with the narrow first layer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_BLOCK = 256  # rows whose hidden units are computed at once on a CPU


def _blocks(n: int, device: torch.device) -> Iterator[slice]:
    """Parts of the rows; all at once where there is no cache to stay in."""
    size = _BLOCK if device.type == "cpu" else max(1, n)
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))


class _Work:
    """Hidden units of a block of rows, in memory that serves for all blocks.

    Args:
        rows: [B, a].
        shares: [B, M].
        first: [M, a, h].
        first_bias: [M, h].
    """

    def __init__(self, rows: Tensor, shares: Tensor, first: Tensor, first_bias: Tensor) -> None:
        self.rows, self.shares = rows, shares
        networks, inputs, self.width = first.shape
        #: The first layers side by side. Shape [a, M h].
        self.first = first.transpose(0, 1).reshape(inputs, networks * self.width)
        self.bias = first_bias.reshape(-1)
        longest = min(len(rows), _BLOCK) if rows.device.type == "cpu" else len(rows)
        self._hidden, self._weighted, self._more = (
            rows.new_empty(longest, networks * self.width) for _ in range(3)
        )

    def hidden(self, part: slice) -> tuple[Tensor, Tensor]:
        """`relu(x W_1m + b_1m)` of a block's rows, and that times z_m. Both [n, M h]."""
        n = part.stop - part.start
        hidden, weighted = self._hidden[:n], self._weighted[:n]
        torch.addmm(self.bias, self.rows[part], self.first, out=hidden)
        hidden.relu_()
        torch.mul(self.by_network(hidden), self.of_network(part), out=self.by_network(weighted))
        return hidden, weighted

    def more(self, part: slice) -> Tensor:
        """Room for as many numbers again. Shape [n, M h]."""
        return self._more[: part.stop - part.start]

    def by_network(self, table: Tensor) -> Tensor:
        """[n, M h] as [n, M, h]."""
        return table.view(len(table), -1, self.width)

    def of_network(self, part: slice) -> Tensor:
        """The shares of a block. Shape [n, M, 1]."""
        return self.shares[part].unsqueeze(2)


class _Mixture(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        shares: Tensor,
        first: Tensor,
        first_bias: Tensor,
        second: Tensor,
        second_bias: Tensor,
    ) -> Tensor:
        work = _Work(rows, shares, first, first_bias)
        out = shares @ second_bias
        below = second.flatten(0, 1)
        for part in _blocks(len(rows), rows.device):
            _, weighted = work.hidden(part)
            out[part].addmm_(weighted, below)
        ctx.save_for_backward(rows, shares, first, first_bias, second, second_bias)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        rows, shares, first, first_bias, second, second_bias = ctx.saved_tensors
        grad = grads[0].contiguous()
        work = _Work(rows, shares, first, first_bias)
        below = second.flatten(0, 1)
        of_rows, of_below = torch.empty_like(rows), torch.zeros_like(below)
        of_first, of_bias = torch.zeros_like(work.first), torch.zeros_like(work.bias)
        of_shares = grad @ second_bias.T
        for part in _blocks(len(rows), rows.device):
            hidden, weighted = work.hidden(part)
            here = grad[part]
            of_below.addmm_(weighted.T, here)
            back = torch.mm(here, below.T, out=work.more(part))
            torch.mul(back, hidden, out=weighted)
            of_shares[part] += work.by_network(weighted).sum(2)
            work.by_network(back).mul_(work.of_network(part))
            torch.ops.aten.threshold_backward.grad_input(back, hidden, 0, grad_input=back)
            torch.mm(back, work.first.T, out=of_rows[part])
            of_first.addmm_(rows[part].T, back)
            of_bias += back.sum(0)
        networks, inputs, width = first.shape
        return (
            of_rows,
            of_shares,
            of_first.view(inputs, networks, width).transpose(0, 1),
            of_bias.view_as(first_bias),
            of_below.view_as(second),
            shares.T @ grad,
        )


def mixture(
    rows: Tensor,
    shares: Tensor,
    first: Tensor,
    first_bias: Tensor,
    second: Tensor,
    second_bias: Tensor,
) -> Tensor:
    """`sum_m z_m (relu(x W_1m + b_1m) W_2m + b_2m)`.

    Args:
        rows: x. Shape [B, a].
        shares: z. Shape [B, M].
        first: W_1. Shape [M, a, h].
        first_bias: b_1. Shape [M, h].
        second: W_2. Shape [M, h, b].
        second_bias: b_2. Shape [M, b].

    Returns:
        [B, b].
    """
    out: Tensor = _Mixture.apply(rows, shares, first, first_bias, second, second_bias)
    return out
