"""Lists of several teachers at several checkpoints, and what they rank first together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdrec.data.interactions import IntArray, Interactions
from kdrec.errors import KdrecError
from kdrec.methods.base import Teacher
from kdrec.methods.curriculum import chosen_lists
from kdrec.methods.soft_labels import rank_all
from kdrec.models.base import Scorer
from kdrec.models.score_table import spans

RealArray = NDArray[np.float32] | NDArray[np.float64]


def stacked(
    members: Sequence[Teacher],
    train: Interactions,
    *,
    width: int,
    batch_size: int,
    generator: torch.Generator,
    device: torch.device,
) -> Tensor:
    """Unseen items of each user by each teacher at each checkpoint.

    Args:
        members: The teachers; one with fewer checkpoints than another repeats its last.
        train: Training pairs, left out.
        width: Items of a list.
        batch_size: Users scored at once.
        generator: Draws the order of ties.
        device: Where to score.

    Returns:
        Best first, -1 beyond the end. Shape [n_users, n_teachers, n_checkpoints, width], int32.
    """
    most = max(len(member.trajectory) for member in members)
    width = min(width, train.n_items)
    shape = (train.n_users, len(members), most, width)
    lists = torch.empty(shape, dtype=torch.int32, device=device)
    for place, member in enumerate(members):
        for number, scorer in enumerate(member.trajectory):
            pools = rank_all(
                scorer, train, pool=width, batch_size=batch_size, generator=generator, device=device
            )
            lists[:, place, number] = pools.items[:, 0]
        lists[:, place, number + 1 :] = lists[:, place, number : number + 1]
    return lists


def merged(
    lists: Tensor, checkpoints: Tensor, *, lot: Tensor, temperature: float, batch_size: int
) -> tuple[Tensor, Tensor]:
    """The ensemble's list of each user: items by `sum_t exp(-rank_t / temperature)`.

    Args:
        lists: -1 beyond the end. Shape [n_users, n_teachers, n_checkpoints, n].
        checkpoints: Which of each teacher's. Shape [n_users, n_teachers].
        lot: A random order of the items, for those of equal importance. Shape [n_items].
        temperature: See above.
        batch_size: Users whose lists are merged at once.

    Returns:
        Items, best first, the first again beyond the end, [n_users, n], int32; and how many there
        are, [n_users], int64.
    """
    n_users, _, _, width = lists.shape
    items = torch.zeros((n_users, width), dtype=torch.int32, device=lists.device)
    sizes = torch.zeros(n_users, dtype=torch.int64, device=lists.device)
    worth = torch.exp(-torch.arange(width, device=lists.device) / temperature)
    worth = worth.clamp(min=torch.finfo(worth.dtype).tiny)
    item_of = lot.argsort()
    for first in range(0, n_users, batch_size):
        rows = slice(first, first + batch_size)
        chosen = chosen_lists(lists[rows], checkpoints[rows]).long()
        real = (chosen >= 0) * worth
        total = torch.zeros((len(chosen), len(lot)), device=lists.device)
        columns = lot[chosen.clamp(min=0)]
        total.scatter_add_(1, columns.flatten(1), real.flatten(1))
        values, places = total.topk(width, dim=1)  # most are 0, where `top` is slow
        found = values > 0
        items[rows] = item_of[torch.where(found, places, places[:, :1])].int()
        sizes[rows] = found.sum(1)
    return items, sizes


@torch.no_grad()
def best_positives(
    scorers: Sequence[Scorer],
    train: Interactions,
    *,
    lot: Tensor,
    most: int,
    temperature: float,
    batch_size: int,
) -> tuple[Tensor, Tensor]:
    """Training items of each user, by the same importance, ranked among themselves.

    Args:
        scorers: The teachers.
        train: Training pairs, n of them.
        lot: A random order of the items, for those of equal importance. Shape [n_items].
        most: How many of a user's are kept.
        temperature: Of the importance.
        batch_size: Users scored at once.

    Returns:
        Items, best first, item 0 beyond the end, [n_users, most], int32; and how many there are,
        [n_users], int64.

    Raises:
        KdrecError: If a score is not finite.
    """
    starts, device = train.indptr(), lot.device
    drawn = lot.cpu().numpy()[train.items]
    counts = np.diff(starts)
    importance = np.zeros(len(train))
    for scorer in scorers:
        parts = []
        for first, start, last in spans(train.n_users, batch_size):
            pairs = slice(starts[start], starts[last])
            scores = scorer.scores(torch.arange(first, last, device=device))
            rows = torch.from_numpy(train.users[pairs] - first).to(device)
            parts.append(scores[rows, torch.from_numpy(train.items[pairs]).to(device)].cpu())
        values = torch.cat(parts).numpy()
        if not np.isfinite(values).all():
            raise KdrecError("A teacher's scores are NaN or infinite.", "Its training diverged.")
        importance += np.exp(-_ranks(train, values, drawn, starts) / temperature)
    ranks = _ranks(train, importance, drawn, starts)
    kept = ranks < most
    items = np.zeros((train.n_users, most), dtype=np.int32)
    items[train.users[kept], ranks[kept]] = train.items[kept]
    sizes = np.minimum(counts, most)
    return torch.from_numpy(items).to(device), torch.from_numpy(sizes).to(device)


def _ranks(train: Interactions, values: RealArray, drawn: IntArray, starts: IntArray) -> IntArray:
    """Rank from 0 of each pair among its user's, the highest value first. Shape [n]."""
    order = np.lexsort((drawn, -values, train.users))
    ranks = np.empty(len(train), dtype=np.int64)
    ranks[order] = np.arange(len(train)) - starts[train.users]
    return ranks
