"""Rankings of each user's unseen items: the teacher's, whole or within groups; the student's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kdrec.data.interactions import IntArray, Interactions
from kdrec.kernels.topk import top
from kdrec.models.base import Scorer
from kdrec.models.score_table import Columns, score_tables
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

    def at(self, groups: Tensor, ranks: Tensor) -> Tensor:
        """Items by rank, 0 where a pool ends before it.

        Args:
            groups: Group of each column. Shape [n].
            ranks: Rank of each user's item. Shape [n_users, n].
        """
        n_users, _, width = self.items.shape
        place = ranks.clamp(max=width - 1) + groups * width
        return self.items.view(n_users, -1).gather(1, place).long().clamp_(min=0)


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

    Items of equal score stand in an order that does not depend on their index. Scores are held
    for one batch of users only.

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
    members = [items[torch.randperm(len(items), generator=generator)] for items in members]
    longest = min(pool, max(len(items) for items in members))
    items_out = torch.full(
        (train.n_users, len(members), longest), -1, dtype=torch.int32, device=device
    )
    sizes = torch.zeros((train.n_users, len(members)), dtype=torch.int64, device=device)
    columns = Columns(members, train.n_items, device)
    small = columns.items.to(torch.int32)
    tables = score_tables(
        scorer, np.arange(train.n_users), mask=[train], columns=columns, batch_size=batch_size
    )
    with task("soft labels", total=train.n_users, unit="user") as progress:
        for first, table in tables:
            rows = slice(first, first + len(table))
            for group, (start, end, stop) in enumerate(columns.bounds):
                values, places = top(table[:, start:stop], min(longest, end - start))
                real = values > -torch.inf
                items = small[start:stop].index_select(0, places.view(-1)).view(places.shape)
                items_out[rows, group, : places.shape[1]] = items.masked_fill_(~real, -1)
                torch.sum(real, 1, out=sizes[rows, group])
            progress.advance(len(table))
    return GroupPools(items_out, sizes)


def rank_all(
    scorer: Scorer,
    train: Interactions,
    *,
    pool: int,
    batch_size: int,
    generator: torch.Generator,
    device: torch.device,
) -> GroupPools:
    """Ranks all items that a user has not in training: `rank_within_groups` with one group."""
    return rank_within_groups(
        scorer,
        train,
        np.zeros(train.n_items, dtype=np.int64),
        pool=pool,
        batch_size=batch_size,
        generator=generator,
        device=device,
    )


@torch.no_grad()
def ranks_of(
    scorer: Scorer, train: Interactions, items: Tensor, *, depth: int, batch_size: int
) -> Tensor:
    """Ranks of some items of each user among all that the user has not in training, from 0.

    Args:
        scorer: Who ranks; of equal scores any may come first.
        train: Training pairs; their items have no rank.
        items: Items of each user, below 0 for none. Shape [n_users, P].
        depth: Ranks are counted up to here.
        batch_size: Users scored at once.

    Returns:
        [n_users, P], int64; `depth` for what is not among the first `depth` or has no rank.

    Raises:
        KdrecError: If a score is not finite.
    """
    columns = Columns.all(train.n_items, items.device)
    depth = min(depth, train.n_items)
    ranks = torch.full(items.shape, depth, dtype=torch.int64, device=items.device)
    order = torch.arange(depth, device=items.device)
    tables = score_tables(
        scorer, np.arange(train.n_users), mask=[train], columns=columns, batch_size=batch_size
    )
    for first, table in tables:
        values, places = top(table, depth)
        rank = torch.where(values > -torch.inf, order, depth)
        here = torch.full(table.shape, depth, dtype=torch.int64, device=items.device)
        here.scatter_(1, places, rank)
        mine = items[first : first + len(table)].long()
        found = here.gather(1, mine.clamp(min=0))
        ranks[first : first + len(table)] = found.masked_fill_(mine < 0, depth)
    return ranks
