"""Weighted draws without replacement, for many rows at once."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from kdrec.kernels.draws import log_exponential

_CELLS = 1 << 20  # numbers that are drawn together: what a CPU's caches hold


def draw_places(log_weights: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """Draws up to n columns of each row one after another, each by its weight among those left.

    That is a race: a column of weight w arrives after a time E / w, with E exponential of mean 1,
    and the first n are taken (Efraimidis and Spirakis, Information Processing Letters 2006;
    "Gumbel-top-k"). Times are compared by their logarithms, which cannot overflow.

    Args:
        log_weights: Logarithms of the weights, up to a constant of the row; -inf is never drawn.
            Shape [B, width].
        n: How many to draw.
        generator: On the device of the weights.

    Returns:
        [B, min(n, width)], int64, in no particular order; `width` in place of what a row lacks.
    """
    width = log_weights.shape[1]
    times = log_exponential(log_weights.shape, generator).sub_(log_weights)
    first, places = times.topk(min(n, width), dim=1, largest=False, sorted=False)
    return places.masked_fill_(first == torch.inf, width)


def draw_distinct(
    sizes: Tensor, n: int, mu: float, generator: torch.Generator, *, width: int, better_of: int = 1
) -> Tensor:
    """Draws up to n distinct ranks of each row, one after another from those that are left.

    Each draw has `P(r) ~ w_r`, with `w_r = exp(-r / mu)` for `better_of=1`, and for 2 the law of
    the smaller of two such ranks,

        `w_r = exp(-2 r / mu) (1 + q - 2 q^(size - r))`,  `q = exp(-1 / mu)`.

    Args:
        sizes: Ranks of a row are 0..size-1. Shape [rows], int64.
        n: How many.
        mu: Scale of the law, in ranks.
        generator: On the device of `sizes`.
        width: The greatest size there may be.
        better_of: 1 or 2.

    Returns:
        [rows, min(n, width)], int64, in no particular order; `width` in place of what a row lacks.
    """
    ranks = torch.arange(width, device=sizes.device)
    falling = ranks / (-mu / better_of)
    drawn = sizes.new_empty(len(sizes), min(n, width))
    for rows in some_rows(drawn, width):
        left = sizes[rows].unsqueeze(1) - ranks
        if better_of == 1:
            law = falling.expand(left.shape)
        else:  # 1 + q - 2 q^left, without its cancellation where q is near 1
            law = torch.expm1(left.float().div_(-mu)).mul_(-2).add_(math.expm1(-1 / mu))
            law = law.log_().add_(falling)
        drawn[rows] = draw_places(law.masked_fill(left <= 0, -torch.inf), n, generator)
    return drawn


def some_rows(table: Tensor, width: int | None = None) -> Iterator[slice]:
    """The rows of a table, so many at a time that a draw from them needs little memory.

    Args:
        table: Has the rows.
        width: Numbers that are drawn for a row; None for the table's own width.
    """
    size = max(1, _CELLS // max(1, width or table.shape[1]))
    for first in range(0, len(table), size):
        yield slice(first, first + size)
