"""The best k columns of each row, looking closely only where they can be."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

#: Widths that are multiples of this fold evenly, and keep rows aligned in memory.
ALIGN = 64
_MOST_FOLDS = 16
_CELLS = 1 << 18  # of a thread, at the least: a millisecond or so
#: Whether NumPy selects with vector instructions: then it takes half of torch's time, else more.
_NUMPY_IS_FAST = (
    torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")
    and np.lib.NumpyVersion(np.__version__) >= "2.0.0"
)


def top(table: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k highest values of each row, highest first, and their columns.

    The row is folded into f layers; the k best columns are in the k columns of layers whose
    maximum is highest, so that a selection is made among width / f maxima and then among k f
    values, in place of all. Among equal values any may be taken, as with `torch.topk`, and which
    may depend on the processor. Where most values of a row are equal, `torch.topk` is faster.

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
        columns = _highest(table, k, in_order=True)
        return table.gather(1, columns), columns
    layer = width // folds
    folded = table.unflatten(1, (folds, layer))
    chosen = _highest(folded.amax(1), k, in_order=False)
    candidates = folded.gather(2, chosen.unsqueeze(1).expand(-1, folds, -1)).flatten(1)
    place = _highest(candidates, k, in_order=True)
    fold = place.div(k, rounding_mode="floor")
    return candidates.gather(1, place), fold * layer + chosen.gather(1, place - fold * k)


def _highest(table: Tensor, k: int, *, in_order: bool) -> Tensor:
    """Columns of the k highest values of each row.

    NumPy's rows are shared among as many threads as torch has, as it lets go of the
    interpreter's lock.
    """
    if not _NUMPY_IS_FAST or table.device.type != "cpu" or table.dtype != torch.float32:
        return table.topk(k, dim=1, sorted=in_order).indices
    values = table.detach().numpy()
    n = max(1, min(torch.get_num_threads(), values.size // _CELLS, len(values)))
    if n == 1:
        return torch.from_numpy(_selected(values, k, in_order=in_order))
    with ThreadPoolExecutor(n) as pool:
        parts = pool.map(
            lambda rows: _selected(rows, k, in_order=in_order), np.array_split(values, n)
        )
        return torch.from_numpy(np.concatenate(list(parts)))


def _selected(table: NDArray[np.float32], k: int, *, in_order: bool) -> NDArray[np.int64]:
    rest = table.shape[1] - k
    columns = np.argpartition(table, rest, axis=1)[:, rest:]
    if not in_order:
        return columns
    bits = np.take_along_axis(table, columns, axis=1).view(np.int32)
    bits ^= (bits >> 31) & 0x7FFFFFFF  # integers in the order of the numbers
    keys = (bits.astype(np.int64) << 32) | columns
    keys.sort(axis=1)
    return np.ascontiguousarray(keys[:, ::-1]) & 0xFFFFFFFF
