"""Full ranking: every user's best k items of all that are not masked, with fair ties."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdrec.data.interactions import IntArray, Interactions
from kdrec.errors import KdrecError
from kdrec.evaluation.tiebreak import settle_ties
from kdrec.models.base import Scorer
from kdrec.models.score_table import Columns, score_tables


@dataclass(frozen=True, slots=True, eq=False)
class TopK:
    """The best k items of some users, best first.

    Args:
        users: The users. Shape [n], int64.
        items: Their items, -1 where a user has fewer candidates than k. Shape [n, k], int64.
        scores: The scores of the items, -inf beside -1. Shape [n, k], float32.
    """

    users: IntArray
    items: IntArray
    scores: NDArray[np.float32]


def top_k(
    scorer: Scorer,
    users: IntArray,
    k: int,
    *,
    mask: Sequence[Interactions],
    seed: int,
    batch_size: int,
    device: str = "cpu",
    on_batch: Callable[[int], object] | None = None,
) -> TopK:
    """Ranks all items that are not masked, for some users.

    Equal scores are ordered by a hash of (seed, user, item), never by the item's index, so that a
    scorer that cannot tell items apart gets what chance gives. Scores are compared in float32.
    Memory is `batch_size x n_items`.

    Args:
        scorer: What ranks; its scores must be finite.
        users: The users to rank for. Shape [n].
        k: Length of the lists, at least 1.
        mask: Pairs that are never returned: training, and validation when test is scored.
        seed: Seed of the order among ties.
        batch_size: Users scored at once.
        device: Where the scorer is.
        on_batch: Told how many users each batch had, for a progress display.

    Raises:
        KdrecError: If a score is NaN or infinite, or the scores have a wrong shape.
    """
    if k < 1:
        raise KdrecError(f"A top-k needs k of at least 1, got {k}.", "Use a cut-off such as 10.")
    if batch_size < 1:
        raise KdrecError(f"batch_size must be at least 1, got {batch_size}.", "Try 256.")
    users = np.array(users, dtype=np.int64)  # a copy that torch may look at
    where = torch.device(device)
    n_items = mask[0].n_items if mask else _catalogue(scorer, torch.from_numpy(users[:1]).to(where))
    width = min(k, n_items)
    items = torch.full((len(users), k), -1, dtype=torch.int64, device=where)
    values = torch.full((len(users), k), -torch.inf, dtype=torch.float32, device=where)
    tables = score_tables(
        scorer, users, mask=mask, columns=Columns.all(n_items, where), batch_size=batch_size
    )
    for start, table in tables:
        batch = torch.from_numpy(users[start : start + len(table)]).to(where)
        found, best = settle_ties(table, batch, width, seed)
        items[start : start + len(table), :width] = found
        values[start : start + len(table), :width] = best
        if on_batch is not None:
            on_batch(len(table))
    return TopK(users, items.cpu().numpy(), values.cpu().numpy())


@torch.no_grad()
def _catalogue(scorer: Scorer, user: Tensor) -> int:
    """The number of items, from one user's scores."""
    shape = scorer.scores(user).shape
    if len(shape) != 2:
        raise KdrecError(
            f"{type(scorer).__name__} gave scores of shape {tuple(shape)} for one user.",
            "scores(users) must return one row a user and one column an item.",
        )
    return int(shape[1])


def hits(topk: TopK, target: Interactions) -> NDArray[np.bool_]:
    """Whether each item of the lists is among the user's pairs in `target`. Shape [n, k]."""
    keys = target.keys()
    if not len(keys):
        return np.zeros(topk.items.shape, dtype=np.bool_)
    wanted = topk.users[:, None] * np.int64(target.n_items) + topk.items
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    found: NDArray[np.bool_] = (keys[place] == wanted) & (topk.items >= 0)
    return found
