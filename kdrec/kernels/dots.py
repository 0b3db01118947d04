"""Scores of some items for each of some users: what distillation losses are made of."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from kdrec.kernels.rows import gradient_rows
from kdrec.kernels.threads import few_threads


class _Dots(torch.autograd.Function):
    """`s_bp = <e_u(b), e_i(b,p)>`, whose gradients are `sum_p g_bp e_i` and `g_bp e_u`."""

    @staticmethod
    def forward(
        ctx: Any, user_table: Tensor, item_table: Tensor, users: Tensor, items: Tensor
    ) -> Tensor:
        user = user_table.index_select(0, users)
        rows = item_table.index_select(0, items.reshape(-1)).view(*items.shape, user.shape[1])
        ctx.tables, ctx.index = (user_table, item_table), (users, items)
        ctx.save_for_backward(user, rows)
        return torch.bmm(rows, user.unsqueeze(2)).squeeze(2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,), (user, rows), (users, items) = grads, ctx.saved_tensors, ctx.index
        with few_threads(rows.numel()):
            of_user = torch.bmm(grad.unsqueeze(1), rows).squeeze(1)
            of_items = (grad.unsqueeze(2) * user.unsqueeze(1)).reshape(-1, user.shape[1])
            return (
                gradient_rows(ctx.tables[0], users, of_user),
                gradient_rows(ctx.tables[1], items.reshape(-1), of_items),
                None, None,
            )  # fmt: skip


def dots(user_table: Tensor, item_table: Tensor, users: Tensor, items: Tensor) -> Tensor:
    """Scores of each user's own items.

    Args:
        user_table: [n_users, dim].
        item_table: [n_items, dim].
        users: [B].
        items: [B, P].

    Returns:
        The inner products, [B, P].
    """
    with few_threads(items.numel() * user_table.shape[1]):
        scores: Tensor = _Dots.apply(user_table, item_table, users, items)
    return scores
