"""Rankings of each user's unseen items: the teacher's, whole or within groups; the student's."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kdrec.data.interactions import IntArray, Interactions
from kdrec.kernels.topk import top
from kdrec.models.base import Scorer
from kdrec.models.score_table import Columns, score_tables
from kdrec.progress import task

_ROUNDING = 1e-5  # of a float32 mean over a catalogue, relatively


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
    quiet: bool = False,
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
        quiet: Shows no progress, for what is ranked again and again.

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
    shown = nullcontext() if quiet else task("soft labels", total=train.n_users, unit="user")
    with shown as progress:
        for first, table in tables:
            rows = slice(first, first + len(table))
            for group, (start, end, stop) in enumerate(columns.bounds):
                values, places = top(table[:, start:stop], min(longest, end - start))
                real = values > -torch.inf
                items = small[start:stop].index_select(0, places.view(-1)).view(places.shape)
                items_out[rows, group, : places.shape[1]] = items.masked_fill_(~real, -1)
                torch.sum(real, 1, out=sizes[rows, group])
            if progress is not None:
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
    quiet: bool = False,
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
        quiet=quiet,
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
    ranks_at = RanksAt(depth)
    tables = score_tables(
        scorer, np.arange(train.n_users), mask=[train], columns=columns, batch_size=batch_size
    )
    for first, table in tables:
        rows = slice(first, first + len(table))
        ranks[rows] = ranks_at(table.shape[1], *top(table, depth), items[rows].long())
    return ranks


class RanksAt:
    """Ranks of some items, looked up in a table that is used again for other users.

    Args:
        depth: How many ranks there are; what has none gets this number.
    """

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self._ranks = torch.empty((0, 0), dtype=torch.int64)

    def __call__(self, width: int, values: Tensor, places: Tensor, items: Tensor) -> Tensor:
        """[B, P] items, below 0 for none, to their ranks.

        Args:
            width: Columns that items are.
            values: Best scores of each user; -inf is no rank. Shape [B, depth].
            places: Their columns.
            items: [B, P], int64.
        """
        if self._ranks.shape[0] < len(items):
            self._ranks = torch.full((len(items), width), self.depth, device=items.device)
        table, order = self._ranks[: len(items)], torch.arange(self.depth, device=items.device)
        table.scatter_(1, places, torch.where(values > -torch.inf, order, self.depth))
        found = table.gather(1, items.clamp(min=0)).masked_fill_(items < 0, self.depth)
        table.scatter_(1, places, self.depth)
        return found


@torch.no_grad()
def scores_at(scorer: Scorer, items: Tensor, *, n_items: int, batch_size: int) -> Tensor:
    """Scores of some items of each user.

    Args:
        scorer: Who scores.
        items: Items of each user, below 0 for none. Shape [n_users, P].
        n_items: Size of the catalogue.
        batch_size: Users scored at once.

    Returns:
        [n_users, P], float32; 0 for none.

    Raises:
        KdrecError: If a score is not finite.
    """
    found = torch.zeros(items.shape, device=items.device)
    columns = Columns.all(n_items, items.device)
    tables = score_tables(
        scorer, np.arange(len(items)), mask=[], columns=columns, batch_size=batch_size
    )
    for first, table in tables:
        mine = items[first : first + len(table)].long()
        torch.gather(table, 1, mine.clamp(min=0), out=found[first : first + len(table)])
    return found.masked_fill_(items < 0, 0.0)


@torch.no_grad()
def score_moments(
    scorer: Scorer, train: Interactions, *, batch_size: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each user's scores of the items not in training.

    Args:
        scorer: Who scores.
        train: Training pairs, left out.
        batch_size: Users scored at once.
        device: Where to score.

    Returns:
        Two tensors [n_users], float32; both 0 for a user without such an item, and the deviation
        also where the scores differ by no more than their rounding.

    Raises:
        KdrecError: If a score is not finite.
    """
    mean, deviation = torch.zeros((2, train.n_users), device=device)
    columns = Columns.all(train.n_items, device)
    tables = score_tables(
        scorer, np.arange(train.n_users), mask=[train], columns=columns, batch_size=batch_size
    )
    for first, table in tables:
        rows = slice(first, first + len(table))
        real = table > -torch.inf
        counts = real.sum(1).clamp_(min=1)
        mean[rows] = table.masked_fill(~real, 0.0).mean(1) * (table.shape[1] / counts)
        apart = (table - mean[rows].unsqueeze(1)).masked_fill_(~real, 0.0)
        deviation[rows] = (apart.square_().sum(1) / counts).sqrt_()
    return mean, torch.where(deviation > _ROUNDING * mean.abs(), deviation, 0.0)
