"""Linear maps of which each row has its own, one of a few, for rows sorted by their map."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class _Grouped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor, sizes: list[int]) -> Tensor:
        ctx.sizes = sizes
        ctx.save_for_backward(rows, weight)
        out = rows.new_empty(len(rows), weight.shape[2])
        parts = zip(
            rows.split_with_sizes(sizes), weight, bias, out.split_with_sizes(sizes), strict=True
        )
        for part, matrix, shift, to in parts:
            torch.addmm(shift, part, matrix, out=to)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        rows, weight = ctx.saved_tensors
        of_rows, of_weight = torch.empty_like(rows), torch.empty_like(weight)
        of_bias = weight.new_empty(len(weight), weight.shape[2])
        grad = grads[0].contiguous()
        per_map = (table.split_with_sizes(ctx.sizes) for table in (grad, rows, of_rows))
        tables = zip(*per_map, weight, of_weight, of_bias, strict=True)
        for here, part, to_rows, matrix, to_weight, to_bias in tables:
            torch.mm(here, matrix.T, out=to_rows)
            torch.mm(part.T, here, out=to_weight)
            torch.sum(here, 0, out=to_bias)
        return of_rows, of_weight, of_bias, None


def grouped_linear(rows: Tensor, weight: Tensor, bias: Tensor, sizes: list[int]) -> Tensor:
    """`x W_m + b_m` for rows x sorted by their m.

    One small product for each of the M maps; its work is that of the rows, not of rows times maps.

    Args:
        rows: [P, a].
        weight: [M, a, b].
        bias: [M, b].
        sizes: Rows of each map, 0 allowed; their sum is P. Known to the host, so that they are
            for a CPU: on an accelerator the host would have to wait for them.

    Returns:
        [P, b].
    """
    out: Tensor = _Grouped.apply(rows, weight, bias, sizes)
    return out
