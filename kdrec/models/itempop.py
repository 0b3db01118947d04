"""Popularity: the recommender that knows no user."""

from __future__ import annotations

import torch
from torch import Tensor

from kdrec.data.interactions import Interactions
from kdrec.models.base import ClosedForm


class ItemPop(ClosedForm):
    """`s_ui = c_i`, the number of training interactions of the item.

    Args:
        train: Training pairs.
        generator: Not used; every model takes one.
    """

    counts: Tensor

    def __init__(self, train: Interactions, *, generator: torch.Generator) -> None:
        super().__init__()
        del generator
        self.train_pairs = train
        self.register_buffer("counts", torch.zeros(train.n_items))

    def fit(self) -> None:
        """Counts."""
        self.counts.copy_(torch.from_numpy(self.train_pairs.item_counts()))

    def scores(self, users: Tensor) -> Tensor:
        """[B] user indices to [B, n_items]: the counts, for every user."""
        return self.counts.expand(len(users), -1).clone()
