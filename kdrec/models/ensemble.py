"""Several recommenders as one, known by its scores alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from kdrec.data.interactions import Interactions
from kdrec.errors import UsageError
from kdrec.models.base import Scorer
from kdrec.models.score_table import pairs_of

OFFSET = 60
"""What is added to a rank before the reciprocal is taken: the constant of Cormack et al."""
_CONSTANT = 1e-6


class Ensemble(nn.Module):
    """The mean of what its members say of a user's items, each brought to one scale.

    With `ensemble="score"` a member says `(s_ui - mean_u) / std_u`, its scores standardised over
    the items that the user has not in training; those in training are left out of mean and
    deviation, since members score them unlike (EASE far above all others). With `"rank"` it says
    `1 / (60 + rank_u(i))`, reciprocal rank fusion (Cormack et al., SIGIR 2009), ranks from 1 among
    the same items; items of equal score share the mean of their ranks. A mean of the ranks
    themselves would let one member's place in the far tail outweigh another's first place.

    A member that scores all items of a user alike has no say for that user. Scores are held for
    the users that are asked for only.

    Args:
        train: Training pairs.
        members: The recommenders, by name.
        ensemble: "score" or "rank".

    Raises:
        UsageError: If there are fewer than two members, or `ensemble` is unknown.
    """

    def __init__(
        self,
        train: Interactions,
        *,
        members: Mapping[str, Scorer],
        ensemble: Literal["score", "rank"],
    ) -> None:
        super().__init__()
        if len(members) < 2:
            raise UsageError("An ensemble has two members or more.", "teacher=[bprmf,lightgcn]")
        says = {"score": standardised, "rank": reciprocal_ranks}
        if ensemble not in says:
            raise UsageError(f"ensemble={ensemble} is unknown.", "Use ensemble=score or rank.")
        self.train_pairs, self.say = train, says[ensemble]
        self.members = tuple(members.values())

    @torch.no_grad()
    def scores(self, users: Tensor) -> Tensor:
        """[B] user indices to [B, n_items] scores."""
        rows, items = pairs_of(users.cpu().numpy(), self.train_pairs)
        seen = torch.zeros(
            (len(users), self.train_pairs.n_items), dtype=torch.bool, device=users.device
        )
        seen[torch.from_numpy(rows), torch.from_numpy(items)] = True
        total = torch.zeros(seen.shape, device=users.device)
        for member in self.members:
            total += self.say(member.scores(users).float(), seen)
        return total / len(self.members)


def standardised(scores: Tensor, seen: Tensor) -> Tensor:
    """`(s - mean) / std` of each row, both over the columns that are not `seen`.

    Args:
        scores: [B, n].
        seen: [B, n], bool.
    """
    n = (~seen).sum(1, keepdim=True).clamp_(min=1)
    mean = scores.masked_fill(seen, 0).sum(1, keepdim=True) / n
    apart = scores - mean
    std = apart.masked_fill(seen, 0).square_().sum(1, keepdim=True).div_(n).sqrt_()
    alike = std <= _CONSTANT * scores.masked_fill(seen, 0).abs().amax(1, keepdim=True)
    return apart.div_(std.masked_fill_(alike, 1)).masked_fill_(alike, 0)


def reciprocal_ranks(scores: Tensor, seen: Tensor) -> Tensor:
    """`1 / (60 + rank)` of each row's columns, ranked from 1 among those that are not `seen`.

    Args:
        scores: [B, n].
        seen: [B, n], bool.
    """
    lowest = scores.masked_fill(seen, -torch.inf).sort(1).values
    above, here = (
        scores.shape[1] - torch.searchsorted(lowest, scores, right=right).float()
        for right in (True, False)
    )
    return 1 / (OFFSET + (above + here + 1) / 2)
