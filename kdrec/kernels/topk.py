"""The best k columns of each row, looking closely only where they can be."""

from __future__ import annotations

import math

import torch
from torch import Tensor

#: Widths that are multiples of this fold evenly, and keep rows aligned in memory.
ALIGN = 64
_MOST_FOLDS = 16


def top(table: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k highest values of each row, highest first, and their columns.

    The row is folded into f layers; the k best columns are in the k columns of layers whose
    maximum is highest, so that a selection is made among width / f maxima and then among k f
    values, in place of all. Among equal values any may be taken, as with `torch.topk`.

    Args:
        table: [B, width], without NaN.
        k: From 0 to width.

    Returns:
        Values and columns, both [B, k].
    """
    width = table.shape[1]
    if not k:
        return torch.topk(table, k, dim=1)
    folds = min(_MOST_FOLDS, 1 << max(0, int(math.log2(width / k) / 2)))
    if folds == 1 or width % folds:
        return torch.topk(table, k, dim=1)
    layer = width // folds
    folded = table.unflatten(1, (folds, layer))
    chosen = folded.amax(1).topk(k, dim=1, sorted=False).indices
    candidates = folded.gather(2, chosen.unsqueeze(1).expand(-1, folds, -1)).flatten(1)
    values, place = candidates.topk(k, dim=1)
    fold = place.div(k, rounding_mode="floor")
    return values, fold * layer + chosen.gather(1, place - fold * k)
