"""The order among equal scores: a fixed random one for each user and item."""

from __future__ import annotations

import torch
from torch import Tensor

from kdrec.kernels.topk import top

_LAST = torch.iinfo(torch.int64).min
_CELLS = 1 << 19  # scores looked at together when ties are many: small enough for a cache


def _mix(x: Tensor) -> Tensor:
    """The finaliser of splitmix64 (Steele et al., OOPSLA 2014): a bijection of 64-bit words.

    Products wrap around; `>>` on int64 keeps the sign, so the sign's copies are masked off.
    """
    x = ((x >> 30) & 0x3FFFFFFFF).bitwise_xor_(x).mul_(-0x40A7B892E31B1A47)
    x = ((x >> 27) & 0x1FFFFFFFFF).bitwise_xor_(x).mul_(-0x6B2FB644ECCEEE15)
    return ((x >> 31) & 0x1FFFFFFFF).bitwise_xor_(x)


def tie_hash(users: Tensor, items: Tensor, seed: int) -> Tensor:
    """A 64-bit hash of (seed, user, item), without collisions within a user.

    Args:
        users: User indices, int64; broadcast against `items`.
        items: Item indices, int64.
        seed: Seed of the order.
    """
    base = _mix(torch.full((), seed, dtype=torch.int64, device=users.device) + 0x1E3779B97F4A7C15)
    return _mix(_mix(_mix(users) + base) + items)


def settle_ties(table: Tensor, users: Tensor, k: int, seed: int) -> tuple[Tensor, Tensor]:
    """The k best columns of each row, ties in the order of `tie_hash`, highest first.

    `top` does the work; only rows in which a tie touches the first k places, or the
    border below them, are put right.

    Args:
        table: Scores, -inf where a pair is masked and in padding. Shape [B, n_items or more].
        users: The rows' users. Shape [B].
        k: Length of the lists, at most the table's width.
        seed: Seed of the order among ties.

    Returns:
        Items (-1 where none is left) and scores, both [B, k].
    """
    values, items = top(table, min(k + 1, table.shape[1]))
    equal = (values[:, 1:] == values[:, :-1]) & (values[:, 1:] > -torch.inf)
    tied = equal.any(dim=1).nonzero().squeeze(1)
    if len(tied):
        if values.shape[1] > k:
            border = equal[:, k - 1].nonzero().squeeze(1)
            size = max(1, _CELLS // table.shape[1])
            for start in range(0, len(border), size):
                rows = border[start : start + size]
                items[rows, :k] = _refill(table, users, items, values, rows, k, seed)
        chosen = items[tied, :k]
        scores = table[tied[:, None], chosen]
        by_hash = tie_hash(users[tied, None], chosen, seed).argsort(dim=1, descending=True)
        by_score = scores.gather(1, by_hash).argsort(dim=1, descending=True, stable=True)
        items[tied, :k] = chosen.gather(1, by_hash.gather(1, by_score))
    items, values = items[:, :k], values[:, :k]
    return items.masked_fill(values == -torch.inf, -1), values


def _refill(
    table: Tensor, users: Tensor, items: Tensor, values: Tensor, rows: Tensor, k: int, seed: int
) -> Tensor:
    """Chooses anew which of the items with the k-th score are in the first k. [R, k]."""
    threshold = values[rows, k - 1 : k]
    row, item = (table[rows] == threshold).nonzero(as_tuple=True)
    keys = torch.full((len(rows), table.shape[1]), _LAST, device=table.device)
    keys[row, item] = tie_hash(users[rows[row]], item, seed)
    candidates = keys.topk(k, dim=1).indices
    above = (values[rows, :k] > threshold).sum(dim=1, keepdim=True)
    place = torch.arange(k, device=table.device)
    late = (place - above).clamp(min=0)
    return torch.where(place < above, items[rows, :k], candidates.gather(1, late))
