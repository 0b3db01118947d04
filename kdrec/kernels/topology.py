"""How far two sets of rows differ in their cosines, without the matrix of all pairs.

With unit rows T [n, d_t] and S [n, d_s] the squared norm over all pairs of rows is one of small
Gram matrices:

    `|T T' - S S'|_F^2 = |T' T|_F^2 + |S' S|_F^2 - 2 |T' S|_F^2`.

The three terms are of the order n^2 / d, and what is left of them may be smaller by far, so that
the Gram matrices are summed in float64 where the device has it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_TILE = 32  # rows of one group that are multiplied at once
_BLOCK = 256  # rows that are compared with all rows at once


def unit_rows(rows: Tensor, weight: Tensor | None = None) -> Tensor:
    """Rows of length 1, those of zeros left as they are, then weighted.

    Args:
        rows: [n, dim].
        weight: Weights, 0 for a row that is not to count. Shape [n].
    """
    length = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    unit: Tensor = rows / length.masked_fill(length == 0, 1)
    return unit if weight is None else unit * weight.unsqueeze(1)


def _exact(rows: Tensor) -> Tensor:
    """In float64, where the device has it."""
    return rows if rows.device.type == "mps" else rows.double()


def _combine(tt: Tensor, ss: Tensor, ts: Tensor) -> Tensor:
    """The identity, from the Gram matrices."""
    return tt.square().sum() + ss.square().sum() - 2 * ts.square().sum()


def topology_distance(teacher: Tensor, student: Tensor) -> Tensor:
    """`|T T' - S S'|_F^2`, a scalar, over all ordered pairs of rows, each with itself included.

    Args:
        teacher: Unit rows T, or zeros. Shape [n, d_t]; no gradient.
        student: Unit rows S, or zeros. Shape [n, d_s].
    """
    t, s = _exact(teacher.detach()), _exact(student)
    return _combine(t.T @ t, s.T @ s, t.T @ s).to(student.dtype)


def topology_distance_within(
    teacher: Tensor, student: Tensor, groups: Tensor, n_groups: int
) -> Tensor:
    """`sum_g |T_g T_g' - S_g S_g'|_F^2`, a scalar: `topology_distance` within each group.

    Rows are sorted into tiles of one group each. How many tiles there are at most follows from the
    shapes, so that nothing waits for the device to count the groups.

    Args:
        teacher: Unit rows T, or zeros. Shape [n, d_t]; no gradient.
        student: Unit rows S, or zeros. Shape [n, d_s].
        groups: Group of each row, 0..n_groups-1. Shape [n], int64.
        n_groups: How many groups there are.
    """
    counts = groups.new_zeros(n_groups).scatter_add_(0, groups, torch.ones_like(groups))
    tiles = (counts + (_TILE - 1)) // _TILE
    ends = tiles.cumsum(0)
    n_tiles = (len(groups) + n_groups * (_TILE - 1)) // _TILE
    group_of = torch.searchsorted(ends, torch.arange(n_tiles, device=ends.device), right=True)
    group_of.clamp_(max=n_groups - 1)  # tiles beyond the last are empty

    in_order, order = groups.sort(stable=True)
    rank = torch.arange(len(groups), device=groups.device) - (counts.cumsum(0) - counts)[in_order]
    place = (ends - tiles)[in_order] * _TILE + rank

    def tiled(rows: Tensor) -> Tensor:
        filled = rows.new_zeros(n_tiles * _TILE, rows.shape[1])
        filled = filled.index_copy(0, place, rows.index_select(0, order))
        return filled.view(n_tiles, _TILE, -1)

    def gram(left: Tensor, right: Tensor) -> Tensor:
        each = torch.bmm(left.mT, right)
        return each.new_zeros(n_groups, *each.shape[1:]).index_add(0, group_of, each)

    t, s = tiled(_exact(teacher.detach())), tiled(_exact(student))
    return _combine(gram(t, t), gram(s, s), gram(t, s)).to(student.dtype)


class _Positive(torch.autograd.Function):
    """`sum_pq m_pq (t_p.t_q - s_p.s_q)^2`; m is 1 for pairs of one group with `t_p.t_q > 0`.

    The gradient of s_p is `4 sum_q m_pq (s_p.s_q - t_p.t_q) s_q`. A block of rows is gone through
    once for the value and the gradient, so that it is never kept.
    """

    @staticmethod
    def forward(ctx: Any, teacher: Tensor, student: Tensor, groups: Tensor) -> Tensor:
        total = student.new_zeros(())
        slope = torch.empty_like(student)
        for rows in (slice(p, p + _BLOCK) for p in range(0, len(groups), _BLOCK)):
            wanted = teacher[rows] @ teacher.T
            counts = (groups[rows].unsqueeze(1) == groups).logical_and_(wanted > 0)
            gap = torch.addmm(wanted, student[rows], student.T, beta=-1).mul_(counts)
            torch.mm(gap, student, out=slope[rows])
            total += gap.square_().sum()
        ctx.save_for_backward(slope.mul_(4))
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor, None]:
        (slope,) = ctx.saved_tensors
        return None, grads[0] * slope, None


def positive_topology_distance(teacher: Tensor, student: Tensor, groups: Tensor) -> Tensor:
    """`topology_distance_within` over those pairs alone whose teacher's cosine is above 0.

    No identity helps here: every pair is looked at, a block of rows at a time, n^2 (d_t + d_s)
    operations.

    Args:
        teacher: Unit rows T, or zeros. Shape [n, d_t]; no gradient.
        student: Unit rows S, or zeros. Shape [n, d_s].
        groups: Group of each row. Shape [n], int64.
    """
    distance: Tensor = _Positive.apply(  # type: ignore[no-untyped-call]
        teacher, student, groups
    )
    return distance
