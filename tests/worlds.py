"""Small worlds whose truth is known."""

from __future__ import annotations

import numpy as np
import torch

from kdrec.data.interactions import Interactions, Split
from kdrec.models.base import Vectors
from kdrec.seeding import torch_stream


def blocks(*, users: int = 40, items: int = 60, n_blocks: int = 2, seed: int = 0) -> Split:
    """Users like the items of their own block only; a tenth of their pairs is held out, twice.

    Each user's block has `items / n_blocks` items, of which the user has a random 70 %. A model
    that has learnt the blocks ranks what is held out before every item of the other blocks.
    """
    rng = np.random.default_rng(seed)
    of_user, of_item = np.arange(users) % n_blocks, np.arange(items) % n_blocks
    likes = (of_user[:, None] == of_item) & (rng.random((users, items)) < 0.7)
    pairs = np.argwhere(likes)
    part = rng.permutation(len(pairs)) % 10

    def of(mask: np.ndarray) -> Interactions:
        chosen = pairs[mask]
        return Interactions.from_pairs(chosen[:, 0], chosen[:, 1], n_users=users, n_items=items)

    return Split(of(part > 1), of(part == 1), of(part == 0))


def random_interactions(
    *, users: int = 30, items: int = 50, density: float = 0.1, seed: int = 0
) -> Interactions:
    """Independent pairs; users without a pair and items without one may occur."""
    rng = np.random.default_rng(seed)
    pairs = np.argwhere(rng.random((users, items)) < density)
    return Interactions.from_pairs(pairs[:, 0], pairs[:, 1], n_users=users, n_items=items)


def random_vectors(
    train: Interactions, seed: int = 0, *, dim: int = 4, real: torch.dtype = torch.float64
) -> Vectors:
    """Standard normal vectors of all users and items."""
    generator = torch_stream(seed, "vectors")
    sizes = (train.n_users, train.n_items)
    return Vectors(*(torch.randn(n, dim, generator=generator, dtype=real) for n in sizes))
