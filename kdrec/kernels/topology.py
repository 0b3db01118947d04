"""How far two sets of rows differ in their cosines, without the matrix of all pairs.

With unit rows T [n, d_t] and S [n, d_s] the squared norm over all pairs of rows is one of small
Gram matrices, and so is its gradient:

    `|T T' - S S'|_F^2 = |T' T|_F^2 + |S' S|_F^2 - 2 |T' S|_F^2`,
    `d / dS = 4 (S S' S - T T' S)`.

The first term moves no student, and with a wide teacher it is most of the products: it is left out
of `topology_distance` and of that within groups, which may be negative. The two terms of the
gradient are of one order, and what is left of them may be smaller by far, so that the Gram matrices
are summed in float64 where the device has it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_TILE = 64  # rows of one group that are multiplied at once
_BLOCK = 256  # rows that are compared with others at once


def unit_rows(rows: Tensor, weight: Tensor | None = None) -> Tensor:
    """Rows of length 1, those of zeros left as they are, then weighted.

    Args:
        rows: [n, dim].
        weight: Weights, 0 for a row that is not to count. Shape [n].
    """
    length = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    unit: Tensor = rows / length.masked_fill(length == 0, 1)
    return unit if weight is None else unit * weight.unsqueeze(1)


class _Tiles:
    """Rows sorted into tiles of one group each, filled up with zeros.

    How many tiles there are at most follows from the shapes, so that nothing waits for the device
    to count the groups.

    Args:
        groups: Group of each row, 0..n_groups-1. Shape [n], int64.
        n_groups: How many groups there are.
    """

    def __init__(self, groups: Tensor, n_groups: int) -> None:
        n, every = len(groups), torch.arange(len(groups), device=groups.device)
        counts = groups.new_zeros(n_groups).scatter_add_(0, groups, torch.ones_like(groups))
        tiles = (counts + (_TILE - 1)) // _TILE
        ends = tiles.cumsum(0)
        in_order, order = groups.sort(stable=True)
        rank = every - (counts.cumsum(0) - counts)[in_order]
        self.n_tiles = (n + n_groups * (_TILE - 1)) // _TILE
        #: Place of each row in the tiles. Shape [n].
        self.place = groups.new_empty(n)
        self.place[order] = (ends - tiles)[in_order] * _TILE + rank
        # Tiles beyond the last are empty, of whatever group.
        tile = torch.arange(self.n_tiles, device=groups.device)
        #: Group of each tile. Shape [n_tiles].
        self.group = torch.searchsorted(ends, tile, right=True).clamp_(max=n_groups - 1)
        self.n_groups = n_groups

    def fill(self, rows: Tensor) -> Tensor:
        """[n, dim] to [n_tiles, tile, dim]."""
        filled = rows.new_zeros(self.n_tiles * _TILE, rows.shape[1])
        return filled.index_copy_(0, self.place, rows).view(self.n_tiles, _TILE, -1)

    def sum(self, tiles: Tensor) -> Tensor:
        """What tiles of one group add up to, [n_tiles, ...] to [n_groups, ...]."""
        return tiles.new_zeros(self.n_groups, *tiles.shape[1:]).index_add_(0, self.group, tiles)


class _Distance(torch.autograd.Function):
    """The identity without its first term, from `T' S` and `S' S`, one of each for a group."""

    @staticmethod
    def forward(ctx: Any, teacher: Tensor, student: Tensor, tiles: _Tiles | None) -> Tensor:
        real = student.dtype if student.device.type == "mps" else torch.float64
        if tiles is None:
            t, s = (rows.to(real).unsqueeze(0) for rows in (teacher, student))
            mixed, own = t.mT @ s, s.mT @ s
        else:
            t, s = (tiles.fill(rows.to(real)) for rows in (teacher, student))
            mixed, own = (tiles.sum(torch.bmm(rows.mT, s)) for rows in (t, s))
        ctx.tiles = tiles
        ctx.save_for_backward(t, s, mixed, own)
        total: Tensor = own.square().sum() - 2 * mixed.square().sum()
        return total.to(student.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor, None]:
        (grad,), (t, s, mixed, own), tiles = grads, ctx.saved_tensors, ctx.tiles
        if tiles is not None:
            mixed, own = (gram.index_select(0, tiles.group) for gram in (mixed, own))
        of_rows = torch.baddbmm(torch.bmm(s, own), t, mixed, beta=4, alpha=-4).flatten(0, 1)
        if tiles is not None:
            of_rows = of_rows.index_select(0, tiles.place)
        return None, grad * of_rows.to(grad.dtype), None


def topology_distance(teacher: Tensor, student: Tensor) -> Tensor:
    """`|T T' - S S'|_F^2 - |T T'|_F^2`, a scalar.

    Over all ordered pairs of rows, each with itself included.

    Args:
        teacher: Unit rows T, or zeros. Shape [n, d_t]; no gradient.
        student: Unit rows S, or zeros. Shape [n, d_s].
    """
    distance: Tensor = _Distance.apply(teacher, student, None)
    return distance


def topology_distance_within(
    teacher: Tensor, student: Tensor, groups: Tensor, n_groups: int
) -> Tensor:
    """`sum_g |T_g T_g' - S_g S_g'|_F^2 - |T_g T_g'|_F^2`: `topology_distance` within each group.

    Args:
        teacher: Unit rows T, or zeros. Shape [n, d_t]; no gradient.
        student: Unit rows S, or zeros. Shape [n, d_s].
        groups: Group of each row, 0..n_groups-1. Shape [n], int64.
        n_groups: How many groups there are.

    Returns:
        A scalar.
    """
    distance: Tensor = _Distance.apply(teacher, student, _Tiles(groups, n_groups))
    return distance


def _knows_groups(device: torch.device) -> bool:
    """Whether the host sees where groups end; for an accelerator's it would have to wait."""
    return device.type == "cpu"


def _blocks(in_order: Tensor) -> Iterator[tuple[slice, slice]]:
    """Blocks of sorted rows, and which rows hold all of their groups: their own, or all rows."""
    n = len(in_order)
    cuts = [0, n]
    if _knows_groups(in_order.device):
        cuts = [0, *(np.diff(in_order.numpy()).nonzero()[0] + 1).tolist(), n]
    for start, stop in itertools.pairwise(cuts):
        for first in range(start, stop, _BLOCK):
            yield slice(first, min(first + _BLOCK, stop)), slice(start, stop)


class _Positive(torch.autograd.Function):
    """`sum_pq m_pq (t_p.t_q - s_p.s_q)^2`; m is 1 for pairs of one group with `t_p.t_q > 0`.

    The gradient of s_p is `4 sum_q m_pq (s_p.s_q - t_p.t_q) s_q`. A block of pairs is gone through
    once for the value and the gradient, so that it is never kept.
    """

    @staticmethod
    def forward(ctx: Any, teacher: Tensor, student: Tensor, groups: Tensor) -> Tensor:
        groups, order = groups.sort(stable=True)
        teacher, student = teacher.index_select(0, order), student.index_select(0, order)
        total, slope = student.new_zeros(()), torch.empty_like(student)
        for rows, others in _blocks(groups):
            wanted = teacher[rows] @ teacher[others].T
            counts = (groups[rows].unsqueeze(1) == groups[others]).logical_and_(wanted > 0)
            gap = torch.addmm(wanted, student[rows], student[others].T, beta=-1).mul_(counts)
            torch.mm(gap, student[others], out=slope[rows])
            total += gap.square_().sum()
        ctx.save_for_backward(torch.empty_like(slope).index_copy_(0, order, slope.mul_(4)))
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor, None]:
        (slope,) = ctx.saved_tensors
        return None, grads[0] * slope, None


def positive_topology_distance(teacher: Tensor, student: Tensor, groups: Tensor) -> Tensor:
    """`sum (t_p.t_q - s_p.s_q)^2` over the pairs of a group whose teacher's cosine is above 0.

    No identity helps here, and nothing is left out of the value. Pairs are looked at a block at a
    time: on a CPU those of one group, on an accelerator all, `n^2 (d_t + d_s)` operations.

    Args:
        teacher: Unit rows T, or zeros. Shape [n, d_t]; no gradient.
        student: Unit rows S, or zeros. Shape [n, d_s].
        groups: Group of each row. Shape [n], int64.
    """
    distance: Tensor = _Positive.apply(teacher, student, groups)
    return distance
