"""Tables of which a step touches few rows: looking rows up, and a gradient that is kept.

Plain autograd makes a table of zeros for each lookup and adds these tables up. Here a backward
pass writes its rows into one gradient that is allocated once, and only the rows that were written
are zeroed after the step.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_NAME = "_row_gradient"
_FEW = 0.1  # share of the rows up to which zeroing them alone is faster
_MANY = 0.3  # share of the rows from which finding the repeats is faster than computing them


class RowGradient:
    """The gradient of one table, zero but for the rows that backward passes have added.

    Whatever else writes to `dense`, such as plain autograd, is noticed by the tensor's version, so
    that any mixture of lookups and other uses of the table is right. It is filled by `backward`;
    `torch.autograd.grad` sees None in its place.

    Args:
        table: What the gradient is of. Shape [n, dim], or any other if no rows are looked up.
        dense: Zeros of the table's shape to write into; None makes them.
    """

    def __init__(self, table: Tensor, dense: Tensor | None = None) -> None:
        self.dense = torch.zeros_like(table, requires_grad=False) if dense is None else dense
        self._touched: list[Tensor] = []
        self._version = _writes(self.dense)
        setattr(table, _NAME, self)

    @staticmethod
    def of(table: Tensor) -> RowGradient | None:
        """The table's, if one was made for it and, for a parameter, is its gradient still."""
        found: RowGradient | None = getattr(table, _NAME, None)
        if found is not None and table.is_leaf and table.grad is not found.dense:
            return None
        return found

    @property
    def everywhere(self) -> bool:
        """Whether something was written by other means than `add`."""
        return _writes(self.dense) != self._version

    def add(self, index: Tensor, rows: Tensor) -> None:
        """Adds `rows` [n, dim] at `index` [n], which must stay as it is; repeats add up."""
        only_rows = not self.everywhere
        _scatter_add(self.dense, index, rows)
        self._touched.append(index)
        if only_rows:
            self._version = _writes(self.dense)

    def touched(self) -> Tensor:
        """The rows added since `clear`, some of them repeated. Shape [n], int64."""
        if not self._touched:
            return torch.empty(0, dtype=torch.int64, device=self.dense.device)
        index = torch.cat(self._touched) if len(self._touched) > 1 else self._touched[0]
        if index.device.type == "cpu" and len(index) > _MANY * len(self.dense):
            there = torch.zeros(len(self.dense), dtype=torch.bool).index_fill_(0, index, value=True)
            return torch.from_numpy(np.flatnonzero(there.numpy()))
        return index

    def clear(self) -> None:
        """Makes it zero again."""
        if self.everywhere or (
            self._touched and sum(map(len, self._touched)) > _FEW * len(self.dense)
        ):
            self.dense.zero_()
        else:
            for index in self._touched:
                self.dense.index_fill_(0, index, 0.0)
        self._touched.clear()
        self._version = _writes(self.dense)


def _writes(tensor: Tensor) -> int:
    """How often the tensor has been written to."""
    return tensor._version  # noqa: SLF001  (torch documents it for this use)


def keep_gradient(parameter: nn.Parameter) -> RowGradient:
    """Gives a parameter a gradient that is kept; its `clear` takes the place of `zero_grad`."""
    kept = RowGradient(parameter)
    parameter.grad = kept.dense
    return kept


def drop_gradient(parameter: nn.Parameter) -> None:
    """Takes the kept gradient, and its memory, away again."""
    parameter.grad = None
    if hasattr(parameter, _NAME):
        delattr(parameter, _NAME)


def _scatter_add(table: Tensor, index: Tensor, rows: Tensor) -> None:
    table.scatter_add_(0, index.unsqueeze(1).expand_as(rows), rows)


def gradient_rows(table: Tensor, index: Tensor, rows: Tensor) -> Tensor | None:
    """What a backward pass returns for `table` whose rows `index` have the gradient `rows`.

    None if the table has a `RowGradient`, which takes them; else a table of zeros with the rows.
    """
    kept = RowGradient.of(table)
    if kept is not None:
        kept.add(index, rows)
        return None
    dense = rows.new_zeros(table.shape)
    _scatter_add(dense, index, rows)
    return dense


class _Lookup(torch.autograd.Function):
    """`table[index]`."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, index: Tensor) -> Tensor:
        ctx.table, ctx.index = table, index
        return table.index_select(0, index)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, None]:
        return gradient_rows(ctx.table, ctx.index, grads[0]), None


def lookup(table: Tensor, index: Tensor) -> Tensor:
    """The rows `index` of `table`, [n, dim] and [...] to [..., dim]: the same as `table[index]`."""
    rows: Tensor = _Lookup.apply(table, index.reshape(-1))
    return rows.view(*index.shape, table.shape[1])
