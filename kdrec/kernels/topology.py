"""How far two sets of rows differ in their cosines, without the matrix of all pairs.

With unit rows T [n, d_t] and S [n, d_s] the squared norm over all pairs of rows is one of small
Gram matrices:

    `|T T' - S S'|_F^2 = |T' T|_F^2 + |S' S|_F^2 - 2 |T' S|_F^2`.

The three terms are of the order n^2 / d, and what is left of them may be smaller by far, so that
the Gram matrices are summed in float64 where the device has it.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

_TILE = 32  # rows of one group that are multiplied at once


def unit_rows(rows: Tensor, weight: Tensor | None = None) -> Tensor:
    """Rows of length 1, those of zeros left as they are, then weighted.

    Args:
        rows: [n, dim].
        weight: Weights, 0 for a row that is not to count. Shape [n].
    """
    unit = functional.normalize(rows, dim=1)
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
