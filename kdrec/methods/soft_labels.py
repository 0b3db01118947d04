"""The teacher's ranking of each user's unseen items within groups of items."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kdrec.data.interactions import IntArray, Interactions
from kdrec.errors import KdrecError
from kdrec.models.base import Scorer
from kdrec.progress import task


@dataclass(frozen=True, slots=True)
class GroupPools:
    """The best items of each user and group, by the teacher, best first.

    Args:
        items: Item at each rank. Shape [n_users, n_groups, pool], int32; -1 beyond the end.
        sizes: How many items the user's pool of the group has. Shape [n_users, n_groups], int64.
    """

    items: Tensor
    sizes: Tensor


@torch.no_grad()
def rank_within_groups(
    scorer: Scorer,
    train: Interactions,
    groups: IntArray,
    *,
    pool: int,
    batch_size: int,
    generator: torch.Generator,
    device: torch.device,
) -> GroupPools:
    """Ranks the items of each group that a user has not in training by the teacher's score.

    Items of equal score stand in one random order, drawn once. Scores are held for one batch of
    users only.

    Args:
        scorer: The teacher.
        train: Training pairs, left out of the pools.
        groups: Group of each item, 0..n_groups-1; -1 for items that are no soft label. [n_items].
        pool: Length at which a pool is cut.
        batch_size: Users scored at once.
        generator: Draws the order of ties.
        device: Where to score.

    Raises:
        KdrecError: If a score is not finite.
    """
    members = [
        torch.from_numpy((groups == group).nonzero()[0]) for group in range(int(groups.max()) + 1)
    ]
    members = [
        items[torch.randperm(len(items), generator=generator)].to(device) for items in members
    ]
    longest = min(pool, max(len(items) for items in members))
    items_out = torch.full((train.n_users, len(members), longest), -1, dtype=torch.int32)
    sizes = torch.zeros((train.n_users, len(members)), dtype=torch.int64)
    indptr = torch.from_numpy(train.indptr())
    seen_users = torch.from_numpy(train.users).to(device)
    seen_items = torch.from_numpy(train.items).to(device)
    with task("soft labels", total=train.n_users, unit="user") as progress:
        for first in range(0, train.n_users, batch_size):
            users = torch.arange(first, min(first + batch_size, train.n_users), device=device)
            scores = scorer.scores(users).clone()
            if not bool(torch.isfinite(scores).all()):
                raise KdrecError(
                    f"The teacher's scores of users {first}..{first + len(users) - 1} are not all "
                    "finite.",
                    "Train the teacher with a lower learning rate.",
                )
            begin, end = int(indptr[first]), int(indptr[first + len(users)])
            scores[seen_users[begin:end] - first, seen_items[begin:end]] = -torch.inf
            for group, items in enumerate(members):
                top = scores[:, items].topk(min(longest, len(items)), sorted=True)
                real = torch.isfinite(top.values)
                ranked = torch.where(real, items[top.indices], -1).to(torch.int32)
                items_out[first : first + len(users), group, : ranked.shape[1]] = ranked.cpu()
                sizes[first : first + len(users), group] = real.sum(1).cpu()
            progress.advance(len(users))
    return GroupPools(items_out.to(device), sizes.to(device))
