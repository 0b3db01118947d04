"""Weighted draws without replacement, for many rows at once."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from kdrec.kernels.draws import uniform

_CELLS = 1 << 20  # numbers that are drawn together


def draw_places(log_weights: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """Draws up to n columns of each row one after another, each by its weight among those left.

    Every column gets the key `log w - log E`, where E is exponential of mean 1; the columns of
    the highest keys are the draw, in the order of drawing (Efraimidis and Spirakis, Information
    Processing Letters 2006; "Gumbel-top-k").

    Args:
        log_weights: Logarithms of the weights, up to a constant of the row; -inf is never drawn.
            Shape [B, width].
        n: How many to draw.
        generator: On the device of the weights.

    Returns:
        [B, min(n, width)], int64; `width` after the last where a row has fewer to draw.
    """
    width = log_weights.shape[1]
    wait = uniform(log_weights.shape, generator).neg_().log1p_().neg_()
    keys = wait.log_().neg_().add_(log_weights)
    keys.masked_fill_(log_weights == -torch.inf, -torch.inf)
    best, places = keys.topk(min(n, width), dim=1)
    return places.masked_fill_(best == -torch.inf, width)


def some_rows(table: Tensor) -> Iterator[slice]:
    """The rows of a table, so many at a time that a draw from them needs little memory."""
    size = max(1, _CELLS // max(1, table.shape[1]))
    for first in range(0, len(table), size):
        yield slice(first, first + size)
