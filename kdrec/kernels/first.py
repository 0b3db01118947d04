"""Which of a step's rows are the first of their id, without a wait for the device."""

from __future__ import annotations

import torch
from torch import Tensor


class FirstOf:
    """Marks the first place of each id, so that a sum over places is one over unique ids.

    `torch.unique` would say the same with fewer rows, but what it returns has a size that the host
    has to wait for.

    Args:
        n: Ids are 0..n-1.
        device: Where they are.
    """

    def __init__(self, n: int, device: torch.device) -> None:
        self._place = torch.empty(n, dtype=torch.int64, device=device)

    def __call__(self, ids: Tensor) -> Tensor:
        """[B] ids to [B] booleans."""
        places = torch.arange(len(ids), device=ids.device)
        self._place.index_fill_(0, ids, len(ids))
        self._place.scatter_reduce_(0, ids, places, "amin")
        return self._place.index_select(0, ids) == places
