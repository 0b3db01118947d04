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
from kdrec.models.base import Backbone, EmbeddingScorer, Scorer

_DOT_PRODUCTS = (Backbone.scores, EmbeddingScorer.scores)


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
    items = np.full((len(users), k), -1, dtype=np.int64)
    values = np.full((len(users), k), -np.inf, dtype=np.float32)
    masks = [(part.indptr(), part.items) for part in mask]
    n_items = next((part.n_items for part in mask), None)
    work: Tensor | None = None
    with torch.no_grad():
        score = _Score(scorer, device)
        for start in range(0, len(users), batch_size):
            batch = users[start : start + batch_size]
            work = score(batch, n_items, work)
            table = work[: len(batch)]
            _check_finite(table, batch)
            for pointers, masked in masks:
                rows, columns = _pairs_of(batch, pointers, masked)
                table[
                    torch.from_numpy(rows).to(device), torch.from_numpy(columns).to(device)
                ] = -torch.inf
            found, best = settle_ties(table, torch.from_numpy(batch).to(device), k, seed)
            width = found.shape[1]
            items[start : start + len(batch), :width] = found.cpu().numpy()
            values[start : start + len(batch), :width] = best.cpu().numpy()
            if on_batch is not None:
                on_batch(len(batch))
    return TopK(users, items, values)


class _Score:
    """Writes the scores of a batch into a work table that is kept from batch to batch.

    The table is ours, so masking it never writes into the scorer's memory; and not allocating it
    anew for each batch is most of the speed on a CPU.
    """

    def __init__(self, scorer: Scorer, device: str) -> None:
        self.scorer = scorer
        self.device = device
        self.vectors: tuple[Tensor, Tensor] | None = None
        if getattr(type(scorer), "scores", None) in _DOT_PRODUCTS:
            user_vectors, item_vectors = scorer.embed()  # type: ignore[attr-defined]
            if user_vectors.dtype == item_vectors.dtype == torch.float32:
                self.vectors = (user_vectors.detach(), item_vectors.detach())

    def __call__(self, users: IntArray, n_items: int | None, work: Tensor | None) -> Tensor:
        index = torch.from_numpy(users).to(self.device)
        if self.vectors is not None:
            shape = (len(users), len(self.vectors[1]))
        else:
            scores = self.scorer.scores(index)
            shape = (scores.shape[0], scores.shape[1]) if scores.ndim == 2 else (-1, -1)
        if shape != (len(users), n_items or shape[1]):
            raise KdrecError(
                f"{type(self.scorer).__name__} gave scores of shape {shape} "
                f"for {len(users)} users and {n_items} items.",
                "scores(users) must return one row a user and one column an item.",
            )
        if work is None:
            work = torch.empty(shape, dtype=torch.float32, device=self.device)
        if self.vectors is not None:
            user_vectors, item_vectors = self.vectors
            torch.matmul(user_vectors[index], item_vectors.T, out=work[: len(users)])
        else:
            work[: len(users)] = scores
        return work


def _check_finite(table: Tensor, users: IntArray) -> None:
    low, high = table.aminmax()
    if bool(torch.isfinite(low) & torch.isfinite(high)):
        return
    bad = (~torch.isfinite(table)).sum(dim=1).cpu().numpy()
    first = int(np.flatnonzero(bad)[0])
    raise KdrecError(
        f"User {users[first]} has {bad[first]} scores that are NaN or infinite "
        f"(and so have {np.count_nonzero(bad) - 1} more users of this batch).",
        "Training has diverged: lower lr, or raise l2.",
    )


def _pairs_of(users: IntArray, pointers: IntArray, items: IntArray) -> tuple[IntArray, IntArray]:
    """Row in `users` and item of every pair of these users."""
    starts = pointers[users]
    counts = pointers[users + 1] - starts
    rows = np.repeat(np.arange(len(users)), counts)
    before = np.cumsum(counts) - counts
    return rows, items[np.arange(len(rows)) + np.repeat(starts - before, counts)]


def hits(topk: TopK, target: Interactions) -> NDArray[np.bool_]:
    """Whether each item of the lists is among the user's pairs in `target`. Shape [n, k]."""
    keys = target.keys()
    if not len(keys):
        return np.zeros(topk.items.shape, dtype=np.bool_)
    wanted = topk.users[:, None] * np.int64(target.n_items) + topk.items
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    found: NDArray[np.bool_] = (keys[place] == wanted) & (topk.items >= 0)
    return found
