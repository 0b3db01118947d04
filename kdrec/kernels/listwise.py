"""The list loss of Relaxed Ranking Distillation, with its gradient in closed form."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def _running(columns: Tensor) -> Tensor:
    """`torch.logcumsumexp` of [n, B] along n, overwritten: a step for all B is many at once."""
    for k in range(1, len(columns)):
        torch.logaddexp(columns[k - 1], columns[k], out=columns[k])
    return columns


class _ListLoss(torch.autograd.Function):
    """With `D_k` the logarithm of the k-th sum, `dL/ds_j = e^(s_j) sum_(k<=j) e^(-D_k) - 1`."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, there: Tensor, n_listed: int) -> Tensor:
        scores = scores.masked_fill(~there, -torch.inf)
        listed, rest = scores[:, :n_listed], scores[:, n_listed:]
        upwards = torch.cat([rest.logsumexp(1, keepdim=True), listed.flip(1)], dim=1)
        below = _running(upwards.T.contiguous())[1:].T.flip(1)
        real = there[:, :n_listed]
        ctx.save_for_backward(scores, below.masked_fill(~real, torch.inf), real)
        return torch.where(real, below - listed, 0).sum(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        scores, below, real = ctx.saved_tensors
        n_listed = real.shape[1]
        inverse = _running(below.neg().T.contiguous()).T
        own = torch.cat([inverse, inverse[:, -1:].expand(-1, scores.shape[1] - n_listed)], dim=1)
        grad = own.add_(scores).exp_()
        grad[:, :n_listed].sub_(real.to(grad.dtype))
        return grad.mul_(grads[0].unsqueeze(1)), None, None


def list_loss(scores: Tensor, there: Tensor, n_listed: int) -> Tensor:
    """`sum_k log( sum_(j>=k) e^(s_j) + sum_l e^(s_l) ) - s_k` of each row.

    The negative log-likelihood, by the law of Plackett and Luce, that the listed items are drawn
    in their order and before any of the others. All sums are taken in logarithms, so that no score
    is too large.

    Args:
        scores: Of the listed items, in order, then of the others. Shape [B, n_listed + L].
        there: Whether a row has the item; those that it lacks must be the last of the listed
            ones. Shape [B, n_listed + L], bool.
        n_listed: How many are listed, at least 1.

    Returns:
        [B]; 0 for a row that has no listed item.
    """
    losses: Tensor = _ListLoss.apply(scores, there, n_listed)
    return losses
