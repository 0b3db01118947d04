"""The list loss of RRD (Kang et al., CIKM 2020): an ordered list before an unordered set."""

from __future__ import annotations

import torch
from torch import Tensor

_NOTHING = -1e30  # score of what is not there: its exponential is 0, and differences stay finite


def list_loss(ordered: Tensor, others: Tensor, has_ordered: Tensor, has_other: Tensor) -> Tensor:
    """`sum_k log( sum_(j>=k) exp(s_j) + sum_l exp(s_l) ) - s_k` of each row.

    The negative log-likelihood, under the law of Plackett and Luce, of drawing the ordered items
    in their order before any of the others. Sums of exponentials are taken in logarithms, so that
    no score is too large.

    Args:
        ordered: Scores s_k of the interesting items, the best first. Shape [B, K].
        others: Scores s_l of the uninteresting items. Shape [B, L].
        has_ordered: Where a row has an ordered item. Shape [B, K], bool.
        has_other: Where a row has another item. Shape [B, L], bool.

    Returns:
        [B]; 0 for a row without an ordered item.
    """
    ordered = ordered.masked_fill(~has_ordered, _NOTHING)
    others = others.masked_fill(~has_other, _NOTHING)
    rest = ordered.flip(1).logcumsumexp(1).flip(1)
    below = torch.logaddexp(rest, others.logsumexp(1, keepdim=True))
    return (below - ordered).masked_fill(~has_ordered, 0.0).sum(1)
