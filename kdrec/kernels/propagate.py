"""Graph convolution without weights: the mean of the layers and its gradient, by Horner's rule."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from kdrec.kernels.rows import RowGradient


class MeanOfLayers:
    """`(x + A x + ... + A^L x) / (L + 1)` for a symmetric sparse A.

    Forward and backward are the same L products, `y <- x + A y`, each added to what is there.
    The tables are kept: a call's results hold until the first call after its backward pass.

    Args:
        n_layers: L.
        n_first: Rows of the first of the two outputs.
    """

    def __init__(self, n_layers: int, n_first: int) -> None:
        self.n_layers, self.n_first = n_layers, n_first
        self.free: _Tables | None = None

    def __call__(self, adjacency: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
        """The first `n_first` rows of the mean, and the others.

        Args:
            adjacency: A, sparse CSR, [n, n].
            table: x, [n, dim].
        """
        tables, self.free = self.free, None
        if tables is None or not tables.fits(table):
            tables = _Tables(table)
        outputs: tuple[Tensor, Tensor] = _Mean.apply(self, tables, adjacency, table)
        cut = self.n_first
        parts = tables.gradient[:cut], tables.gradient[cut:]
        tables.parts = [RowGradient(*pair) for pair in zip(outputs, parts, strict=True)]
        if not outputs[0].requires_grad:
            self.free = tables
        return outputs

    def layers(self, adjacency: Tensor, x: Tensor, spare: list[Tensor]) -> tuple[Tensor, float]:
        """What the last product is made with.

        Args:
            adjacency: A, sparse CSR, [n, n].
            x: [n, dim].
            spare: Two tables of x's shape that are written to.

        Returns:
            y [n, dim] and a factor s, so that the mean of the layers of x is `s (x + A y)`.
        """
        y = x
        for layer in range(self.n_layers - 1):
            y = torch.addmm(x, adjacency, y, out=spare[layer % 2])
        return y, 1 / (self.n_layers + 1)


class _Tables:
    """What one pass forward and backward writes to."""

    def __init__(self, like: Tensor) -> None:
        self.out, self.gradient, *self.spare = (
            torch.zeros_like(like, requires_grad=False) for _ in range(4)
        )
        self.parts: list[RowGradient] = []

    def fits(self, table: Tensor) -> bool:
        of = self.out
        return (of.shape, of.device, of.dtype) == (table.shape, table.device, table.dtype)


class _Mean(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, mean: MeanOfLayers, tables: _Tables, adjacency: Tensor, table: Tensor
    ) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        ctx.mean, ctx.tables, ctx.adjacency, ctx.table = mean, tables, adjacency, table
        y, share = mean.layers(adjacency, table, tables.spare)
        if mean.n_layers:
            torch.addmm(table, adjacency, y, beta=share, alpha=share, out=tables.out)
        else:
            tables.out.copy_(table)
        return tables.out[: mean.n_first].detach(), tables.out[mean.n_first :].detach()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        """Of the rows that lookups left in the gradient's table, and of what autograd brings."""
        tables: _Tables = ctx.tables
        for part, grad in zip(tables.parts, grads, strict=True):
            if grad is not None:
                part.dense.add_(grad)
        kept = RowGradient.of(ctx.table)
        total = torch.zeros_like(ctx.table) if kept is None else kept.dense
        y, share = ctx.mean.layers(ctx.adjacency, tables.gradient, tables.spare)
        total.add_(tables.gradient, alpha=share)
        if ctx.mean.n_layers:
            total.addmm_(ctx.adjacency, y, alpha=share)
        for part in tables.parts:
            part.clear()
        ctx.mean.free = tables
        return None, None, None, total if kept is None else None
