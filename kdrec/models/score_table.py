"""Scores of all items for a few users at a time, laid out to be ranked within groups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from kdrec.data.interactions import IntArray, Interactions
from kdrec.errors import KdrecError
from kdrec.kernels.topk import ALIGN
from kdrec.models.base import Backbone, EmbeddingScorer, Scorer

_DOT_PRODUCTS = (Backbone.scores, EmbeddingScorer.scores)
_CACHE_CELLS = 1 << 22  # scores that are worked on together on a CPU: what its caches hold
_LEAST = 8  # users of a product, if there are so many; of 1 to 3 rows it is rounded otherwise


class Columns:
    """Which item each column of a table has: groups side by side, each padded to a round width.

    Args:
        groups: Items of each group, int64.
        n_items: Size of the catalogue.
        device: Where the table will be.
    """

    def __init__(self, groups: Sequence[Tensor], n_items: int, device: torch.device) -> None:
        widths = [-(-max(1, len(items)) // ALIGN) * ALIGN for items in groups]
        self.n_items, self.width, self.device = n_items, sum(widths), device
        #: First column, column after the last item, and column after the padding of each group.
        self.bounds: list[tuple[int, int, int]] = []
        #: Item of each column, -1 for padding. Shape [width].
        self.items = torch.full((self.width,), -1, dtype=torch.int64, device=device)
        start = 0
        for items, width in zip(groups, widths, strict=True):
            self.bounds.append((start, start + len(items), start + width))
            self.items[start : start + len(items)] = items.to(device)
            start += width
        #: Column of each item, -1 for an item of no group. Shape [n_items].
        self.of_item = torch.full((n_items,), -1, dtype=torch.int64, device=device)
        real = (self.items >= 0).nonzero().squeeze(1)
        self.of_item[self.items[real]] = real
        #: Whether the first columns are the items, in order.
        self.in_order = len(groups) == 1 and torch.equal(groups[0], torch.arange(n_items))
        #: The columns that have an item.
        self.real: slice | Tensor = slice(n_items) if self.in_order else real

    @classmethod
    def all(cls, n_items: int, device: torch.device) -> Columns:
        """One group with every item, in order: a column is its item."""
        return cls([torch.arange(n_items)], n_items, device)


@torch.no_grad()
def score_tables(
    scorer: Scorer,
    users: IntArray,
    *,
    mask: Sequence[Interactions],
    columns: Columns,
    batch_size: int,
) -> Iterator[tuple[int, Tensor]]:
    """Scores some users' items, a batch at a time, into one table that is used again.

    The table is ours, so masking never writes into the scorer's memory; and not allocating it
    anew for each batch is most of the speed on a CPU.

    Args:
        scorer: What scores; the scores of items that have a column must be finite in float32.
        users: Who is scored, in this order. Shape [n].
        mask: Pairs that get the score -inf.
        columns: Layout of the table.
        batch_size: The most users scored at once, of 8 or more. Scores do not depend on it to
            the last bit, except for an accelerator's.

    Yields:
        The place of the batch's first user, and the table, [B, width], -inf where a pair is
        masked and in padding. It is overwritten by the next.

    Raises:
        KdrecError: If a score is NaN or infinite, or the scores have a wrong shape.
    """
    size = batch_size
    if columns.device.type == "cpu":
        size = min(size, _CACHE_CELLS // columns.width)
    score = _Scores(scorer, columns)
    masked = _Masked(users, mask, columns)
    index = torch.from_numpy(users).to(columns.device)
    shape = (min(max(size, _LEAST), len(users)), columns.width)
    work = torch.empty(shape, dtype=torch.float32, device=columns.device)
    for first, start, stop in spans(len(users), size):
        score.write(index[first:stop], work[: stop - first])
        table = work[start - first : stop - first]
        for _, end, padded in columns.bounds:
            table[:, end:padded] = -torch.inf
        masked.write(start, table)
        yield start, table


def spans(n_users: int, size: int) -> Iterator[tuple[int, int, int]]:
    """Cuts users 0..n-1 into batches that are scored by products of 8 rows or more.

    BLAS has another order of summation for a few rows, so that a user's scores would depend on
    how many are left for the last batch: it is scored with some of the users before it.

    Yields:
        The first user to be scored, the first of the batch, and its end.
    """
    size = max(size, _LEAST)
    for start in range(0, n_users, size):
        stop = min(start + size, n_users)
        yield max(0, min(start, stop - _LEAST)), start, stop


class _Scores:
    """Writes a batch's scores, in the order of the columns; padding gets any finite number."""

    def __init__(self, scorer: Scorer, columns: Columns) -> None:
        self.scorer, self.columns = scorer, columns
        self.gather = columns.items.clamp(min=0)
        self.vectors: tuple[Tensor, Tensor] | None = None
        if getattr(type(scorer), "scores", None) in _DOT_PRODUCTS:
            user_vectors, item_vectors = scorer.embed()  # type: ignore[attr-defined]
            if user_vectors.dtype == item_vectors.dtype == torch.float32:
                _check_shape(scorer, (1, len(item_vectors)), 1, columns.n_items)
                self.vectors = (user_vectors, item_vectors.index_select(0, self.gather).T)
        self.bounded = self.vectors is not None and _bounded(*self.vectors)

    def write(self, users: Tensor, table: Tensor) -> None:
        if self.vectors is not None:
            torch.matmul(self.vectors[0].index_select(0, users), self.vectors[1], out=table)
        else:
            scores = self.scorer.scores(users).float()
            _check_shape(self.scorer, tuple(scores.shape), len(users), self.columns.n_items)
            if self.columns.in_order:
                table[:, : self.columns.n_items] = scores
            else:
                torch.index_select(scores, 1, self.gather, out=table)
        if not self.bounded:
            _check_finite(table[:, self.columns.real], users)


def _bounded(users: Tensor, items: Tensor) -> bool:
    """Whether the lengths of the vectors, [n, dim] and [dim, m], keep all products finite."""
    lengths = [
        torch.linalg.vector_norm(vectors, dim=dim, dtype=torch.float32).max()
        for vectors, dim in ((users, 1), (items, 0))
    ]
    return bool(lengths[0] * lengths[1] < torch.finfo(torch.float32).max / 2)


class _Masked:
    """The cells to be masked, sorted by the user's place."""

    def __init__(self, users: IntArray, mask: Sequence[Interactions], columns: Columns) -> None:
        found = [pairs_of(users, part) for part in mask]
        rows = np.concatenate([np.empty(0, np.int64), *(rows for rows, _ in found)])
        items = np.concatenate([np.empty(0, np.int64), *(items for _, items in found)])
        if len(found) > 1:
            order = np.argsort(rows, kind="stable")
            rows, items = rows[order], items[order]
        column = columns.of_item.cpu().numpy()[items]
        if (column < 0).any():
            rows, column = rows[column >= 0], column[column >= 0]
        self.width = columns.width
        #: First cell of each place, and the end. Shape [n + 1].
        self.starts = np.searchsorted(rows, np.arange(len(users) + 1))
        self.cells = torch.from_numpy(rows * columns.width + column).to(columns.device)

    def write(self, start: int, table: Tensor) -> None:
        first, last = self.starts[start], self.starts[start + len(table)]
        cells = self.cells[first:last] - start * self.width
        table.view(-1).index_fill_(0, cells, -torch.inf)


def pairs_of(users: IntArray, part: Interactions) -> tuple[IntArray, IntArray]:
    """Place in `users` and item of every pair of these users, sorted by place."""
    pointers = part.indptr()
    starts = pointers[users]
    counts = pointers[users + 1] - starts
    rows = np.repeat(np.arange(len(users)), counts)
    before = np.cumsum(counts) - counts
    return rows, part.items[np.arange(len(rows)) + np.repeat(starts - before, counts)]


def _check_shape(scorer: Scorer, shape: tuple[int, ...], n_users: int, n_items: int) -> None:
    if shape != (n_users, n_items):
        raise KdrecError(
            f"{type(scorer).__name__} gave scores of shape {shape} "
            f"for {n_users} users and {n_items} items.",
            "scores(users) must return one row a user and one column an item.",
        )


def _check_finite(scores: Tensor, users: Tensor) -> None:
    low, high = scores.aminmax()
    if bool(torch.isfinite(low) & torch.isfinite(high)):
        return
    bad = (~torch.isfinite(scores)).sum(dim=1)
    first = int(bad.nonzero()[0])
    raise KdrecError(
        f"User {int(users[first])} has {int(bad[first])} scores that are NaN or infinite "
        f"(and so have {int((bad > 0).sum()) - 1} more users of this batch).",
        "Training has diverged: lower lr, or raise l2.",
    )
