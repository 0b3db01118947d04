"""The BPR loss of a batch and the L2 penalty on its rows, differentiated by hand."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from kdrec.kernels.rows import gradient_rows
from kdrec.kernels.threads import few_threads


class BPRLoss:
    """`mean_b softplus(<e_u, e_j> - <e_u, e_i>) + l2 sum_b (|e_u|^2 + |e_i|^2 + |e_j|^2) / (2 B)`.

    What a step writes is kept for the next one: on a CPU, memory that is given back and asked for
    again in each step costs as much as the arithmetic. A graph can be gone through backwards any
    number of times until the loss is computed again.
    """

    def __init__(self) -> None:
        self.free: _Work | None = None

    def __call__(
        self, user_table: Tensor, item_table: Tensor, users: Tensor, pairs: Tensor, l2: float
    ) -> Tensor:
        """The loss of a batch, a scalar.

        Args:
            user_table: [n_users, dim].
            item_table: [n_items, dim].
            users: The batch's users u. Shape [B].
            pairs: Their positives i and then their negatives j. Shape [2 B].
            l2: Weight of the penalty.
        """
        work, self.free = self.free, None
        if work is None or not work.fits(user_table, len(users)):
            work = _Work(user_table, len(users))
        with few_threads(work.items.numel()):
            loss: Tensor = _BPR.apply(self, work, user_table, item_table, users, pairs, l2)
        return loss


class _Work:
    """Rows of a batch's users [B, dim] and items [2 B, dim], and their gradients."""

    def __init__(self, like: Tensor, size: int) -> None:
        self.user, self.difference, self.of_user, self.items, self.of_items = (
            like.new_empty(rows * size, like.shape[1]) for rows in (1, 1, 1, 2, 2)
        )
        self.uses = 0

    def fits(self, table: Tensor, size: int) -> bool:
        mine = self.user
        return (len(mine), mine.shape[1], mine.dtype, mine.device) == (
            size, table.shape[1], table.dtype, table.device,
        )  # fmt: skip


class _BPR(torch.autograd.Function):
    """With m = <e_u, e_j - e_i> and g = sigmoid(m) / B: its value and its gradients.

    They are `g (e_j - e_i)` of e_u, `-g e_u` of e_i, `g e_u` of e_j, and `l2 / B` times each row.
    """

    @staticmethod
    def forward(
        ctx: Any,
        owner: BPRLoss,
        work: _Work,
        user_table: Tensor,
        item_table: Tensor,
        users: Tensor,
        pairs: Tensor,
        l2: float,
    ) -> Tensor:
        torch.index_select(user_table, 0, users, out=work.user)
        torch.index_select(item_table, 0, pairs, out=work.items)
        positive, negative = work.items.chunk(2)
        torch.sub(negative, positive, out=work.difference)
        margin = torch.linalg.vecdot(work.user, work.difference)
        work.uses += 1
        ctx.owner, ctx.work, ctx.use, ctx.margin = owner, work, work.uses, margin
        ctx.tables, ctx.index = (user_table, item_table), (users, pairs)
        ctx.l2 = l2 / len(users)
        loss = functional.softplus(margin).mean()
        if l2:
            loss += 0.5 * ctx.l2 * (_norm(work.user) + _norm(work.items))
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        work: _Work = ctx.work
        if work.uses != ctx.use:
            raise RuntimeError("The BPR loss was computed again before this backward pass.")
        ctx.owner.free = work
        with few_threads(work.items.numel()):
            slope = (ctx.margin.sigmoid() * (grads[0] / len(ctx.margin))).unsqueeze(1)
            of_positive, of_negative = work.of_items.chunk(2)
            torch.mul(work.user, slope, out=of_negative)
            torch.neg(of_negative, out=of_positive)
            torch.mul(work.difference, slope, out=work.of_user)
            if ctx.l2:
                penalty = grads[0] * ctx.l2
                work.of_items.addcmul_(work.items, penalty)
                work.of_user.addcmul_(work.user, penalty)
            (user_table, item_table), (users, pairs) = ctx.tables, ctx.index
            of_tables = (
                gradient_rows(user_table, users, work.of_user),
                gradient_rows(item_table, pairs, work.of_items),
            )
        return None, None, *of_tables, None, None, None


def _norm(rows: Tensor) -> Tensor:
    flat = rows.view(-1)
    return torch.dot(flat, flat)


class _SquaredNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, index: Tensor) -> Tensor:
        rows = table.index_select(0, index)
        ctx.table, ctx.index = table, index
        ctx.save_for_backward(rows)
        return _norm(rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, None]:
        (rows,) = ctx.saved_tensors
        with few_threads(rows.numel()):
            return gradient_rows(ctx.table, ctx.index, rows * (2 * grads[0])), None


def squared_norm(table: Tensor, index: Tensor) -> Tensor:
    """`sum |row|^2` over the rows `index` [n] of `table` [rows, dim], repeats counted."""
    norm: Tensor = _SquaredNorm.apply(table, index)
    return norm
