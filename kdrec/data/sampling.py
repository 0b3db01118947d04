"""Negatives: items that a user has not interacted with in training."""

from __future__ import annotations

import torch
from torch import Tensor

from kdrec.data.interactions import Interactions
from kdrec.errors import KdrecError


class NegativeSampler:
    """Draws uniformly from the items outside a user's training pairs, exactly, in one pass.

    Let `p_0 < p_1 < ...` be the training items of user u. The r-th item (from 0) outside them is
    `r + #{k : p_k - k <= r}`. The shifted values `p_k - k` never fall within a user, so one
    binary search over all users' values counts them, and nothing is drawn twice.

    Args:
        train: Training pairs.
        device: Where the samples are drawn.

    Raises:
        KdrecError: If a user has interacted with every item.
    """

    def __init__(self, train: Interactions, *, device: torch.device) -> None:
        counts = train.user_counts()
        if counts.max() >= train.n_items:
            user = int(counts.argmax())
            raise KdrecError(
                f"The user with index {user} (users.parquet has the ids) has all {train.n_items} "
                "items in training: there is no negative.",
                "Drop that user, or keep more items.",
            )
        indptr = torch.from_numpy(train.indptr())
        position = torch.arange(len(train)) - indptr[train.users]
        users = torch.from_numpy(train.users)
        self.n_items = train.n_items
        self.start = indptr[:-1].to(device)
        self.free = torch.from_numpy(train.n_items - counts).to(device)
        self.shifted = (users * train.n_items + torch.from_numpy(train.items) - position).to(device)

    def sample(self, users: Tensor, generator: torch.Generator) -> Tensor:
        """One negative for each of `users`, [n] to [n]."""
        uniform = torch.rand(
            len(users), generator=generator, device=users.device, dtype=torch.float64
        )
        rank = (uniform * self.free[users]).long()
        found = torch.searchsorted(self.shifted, users * self.n_items + rank, right=True)
        return rank + found - self.start[users]
