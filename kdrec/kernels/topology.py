"""How far two sets of rows differ in their cosines, without the matrix of all pairs.

With unit rows T [n, d_t] and S [n, d_s] the squared norm over all pairs of rows is one of small
Gram matrices, and so is its gradient:

    `|T T' - S S'|_F^2 = |T' T|_F^2 + |S' S|_F^2 - 2 |T' S|_F^2`,
    `d / dS = 4 (S S' S - T T' S)`.

Likewise those with some prototypes, P and Q of unit rows that are taken as constants:

    `|T P' - S Q'|_F^2 = |T P'|_F^2 + <S' S, Q' Q> - 2 <T' S, P' Q>`,
    `d / dS = 2 (S Q' Q - T P' Q)`.

The first terms move no student, and with a wide teacher they are most of the products: they are
left out of `topology_distance` and of that within groups, which may be negative. The two terms of
the gradient are of one order, and what is left of them may be smaller by far, so that the Gram
matrices are summed in float64 where the device has it.
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


class _Slices:
    """Rows sorted by group, of which the host knows how many each group has.

    Args:
        order: The rows' numbers, sorted by their group. Shape [n]; None if there is one group.
        sizes: Rows of each group; their sum is n.
    """

    def __init__(self, order: Tensor | None, sizes: list[int]) -> None:
        self.order, self.sizes = order, sizes

    def fill(self, rows: Tensor, real: torch.dtype) -> Tensor:
        """[n, dim] to the same, sorted."""
        return (rows if self.order is None else rows.index_select(0, self.order)).to(real)

    def products(self, first: Tensor, second: Tensor) -> Tensor:
        """`first' second` of each group. Shape [n_groups, d_first, d_second]."""
        out = first.new_empty(len(self.sizes), first.shape[1], second.shape[1])
        for x, y, to in zip(*map(self._parts, (first, second)), out, strict=True):
            torch.mm(x.T, y, out=to)
        return out

    def slope(self, t: Tensor, s: Tensor, mixed: Tensor, own: Tensor) -> Tensor:
        """`4 (s own - t mixed)` of each group, [n, d_s] in the order that the rows came in."""
        out = torch.empty_like(s)
        parts = zip(*map(self._parts, (t, s, out)), mixed, own, strict=True)
        for of_t, of_s, to, gram_t, gram_s in parts:
            torch.addmm(of_s @ gram_s, of_t, gram_t, beta=4, alpha=-4, out=to)
        return out if self.order is None else torch.empty_like(out).index_copy_(0, self.order, out)

    def _parts(self, rows: Tensor) -> tuple[Tensor, ...]:
        return rows.split_with_sizes(self.sizes)


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

    def fill(self, rows: Tensor, real: torch.dtype) -> Tensor:
        """[n, dim] to [n_tiles, tile, dim]."""
        filled = rows.new_zeros(self.n_tiles * _TILE, rows.shape[1], dtype=real)
        return filled.index_copy_(0, self.place, rows.to(real)).view(self.n_tiles, _TILE, -1)

    def products(self, first: Tensor, second: Tensor) -> Tensor:
        """`first' second` of each group. Shape [n_groups, d_first, d_second]."""
        of_tiles = torch.bmm(first.mT, second)
        out = of_tiles.new_zeros(self.n_groups, *of_tiles.shape[1:])
        return out.index_add_(0, self.group, of_tiles)

    def slope(self, t: Tensor, s: Tensor, mixed: Tensor, own: Tensor) -> Tensor:
        """`4 (s own - t mixed)` of each group, [n, d_s] in the order that the rows came in."""
        mixed, own = (gram.index_select(0, self.group) for gram in (mixed, own))
        out = torch.baddbmm(torch.bmm(s, own), t, mixed, beta=4, alpha=-4)
        return out.flatten(0, 1).index_select(0, self.place)


def _arranged(groups: Tensor, n_groups: int) -> _Slices | _Tiles:
    """Rows by group: on a CPU as they are, elsewhere in tiles."""
    if not _knows_groups(groups.device):
        return _Tiles(groups, n_groups)
    return _Slices(
        groups.argsort(stable=True), np.bincount(groups.numpy(), minlength=n_groups).tolist()
    )


class _Distance(torch.autograd.Function):
    """The identities without their first terms, from `T' S` and `S' S`, one of each for a group."""

    @staticmethod
    def forward(
        ctx: Any,
        teacher: Tensor,
        student: Tensor,
        arranged: _Slices | _Tiles,
        prototypes: tuple[Tensor, Tensor] | None,
    ) -> Tensor:
        real = student.dtype if student.device.type == "mps" else torch.float64
        t, s = arranged.fill(teacher, real), arranged.fill(student, real)
        mixed, own = arranged.products(t, s), arranged.products(s, s)
        total: Tensor = own.square().sum() - 2 * mixed.square().sum()
        if prototypes is not None:
            p, q = (part.to(real) for part in prototypes)
            to_mixed, to_own = p.T @ q, q.T @ q
            total = total + (own.sum(0) * to_own).sum() - 2 * (mixed.sum(0) * to_mixed).sum()
            mixed, own = mixed + to_mixed / 2, own + to_own / 2  # for the gradient
        ctx.arranged = arranged
        ctx.save_for_backward(t, s, mixed, own)
        return total.to(student.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor, None, None]:
        (grad,) = grads
        slope = ctx.arranged.slope(*ctx.saved_tensors)
        return None, grad * slope.to(grad.dtype), None, None


def topology_distance(teacher: Tensor, student: Tensor) -> Tensor:
    """`|T T' - S S'|_F^2 - |T T'|_F^2`, a scalar.

    Over all ordered pairs of rows, each with itself included.

    Args:
        teacher: Unit rows T, or zeros. Shape [n, d_t]; no gradient.
        student: Unit rows S, or zeros. Shape [n, d_s].
    """
    distance: Tensor = _Distance.apply(teacher, student, _Slices(None, [len(student)]), None)
    return distance


def topology_distance_within(
    teacher: Tensor,
    student: Tensor,
    groups: Tensor,
    n_groups: int,
    prototypes: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """`sum_g |T_g T_g' - S_g S_g'|_F^2 - |T_g T_g'|_F^2`: `topology_distance` within each group.

    With prototypes also `|T P' - S Q'|_F^2 - |T P'|_F^2`, the cosines of all rows with them. The
    groups' Gram matrices, added up, are those of all rows, so that this costs next to nothing.

    Args:
        teacher: Unit rows T, or zeros. Shape [n, d_t]; no gradient.
        student: Unit rows S, or zeros. Shape [n, d_s].
        groups: Group of each row, 0..n_groups-1. Shape [n], int64.
        n_groups: How many groups there are.
        prototypes: Unit rows P [m, d_t] and Q [m, d_s], or zeros; no gradient.

    Returns:
        A scalar.
    """
    arranged = _arranged(groups, n_groups)
    distance: Tensor = _Distance.apply(teacher, student, arranged, prototypes)
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
