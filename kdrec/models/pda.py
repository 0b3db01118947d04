"""PDA (Zhang et al., SIGIR 2021): PD with the popularity that is wanted put in again."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from kdrec.data.interactions import Interactions
from kdrec.models.base import Backbone, EmbeddingScorer, Scorer, Vectors
from kdrec.models.pd import PD, elu_plus_one, powers
from kdrec.ranges import Share, check_ranges


class PDA(PD):
    """Learns as PD does, and ranks by `(ELU(s_ui) + 1) m_i^rank_gamma`.

    In the paper this m is a forecast: the last stage's popularity, or its extrapolation. With one
    stage it is the popularity that PD learns with (PDG-A). The published code has one exponent for
    both.

    With `floor=0` and `popularity="scaled"`, as in the published code, the items of the lowest
    count have m = 0, and score exactly 0 for every user: they tie, below all others. A floor above
    0, such as 1e-9, lets them be ranked.

    Its vectors know nothing of popularity and do not rank as it does, so that it is known by its
    scores alone.

    Args:
        train: Training pairs.
        inner: Makes the model, from `train` and `generator`.
        gamma: Exponent of the popularity in training.
        rank_gamma: Exponent of the popularity in the score.
        popularity: As for PD.
        floor: As for PD.
        link: As for PD.
        generator: Draws the inner model's initial parameters.

    Raises:
        UsageError: If an option is out of its range.
    """

    ranks_by_vectors: ClassVar[bool] = False
    rank_weight: Tensor

    def __init__(
        self,
        train: Interactions,
        *,
        inner: Callable[..., Backbone],
        gamma: Share,
        rank_gamma: Share,
        popularity: Literal["scaled", "ratio"],
        floor: Share,
        link: Literal["elu", "relu"],
        generator: torch.Generator,
    ) -> None:
        check_ranges(PDA.__init__, locals())
        super().__init__(
            train, inner=inner, gamma=gamma, popularity=popularity, floor=floor, link=link,
            soft_label="elu", generator=generator,
        )  # fmt: skip
        weight = powers(train, popularity, floor, rank_gamma)
        self.register_buffer("rank_weight", weight, persistent=False)

    def scores(self, users: Tensor) -> Tensor:
        """[B] user indices to [B, n_items] scores."""
        return super().scores(users) * self.rank_weight

    def freeze(self) -> Scorer:
        """Its scores alone."""
        return WeightedScorer(self.copied(), self.rank_weight)


class WeightedScorer(nn.Module):
    """`(ELU(s) + 1) w_i` of the dot products s of fixed vectors, which it does not show.

    Args:
        vectors: Give s.
        weight: w. Shape [n_items].
    """

    def __init__(self, vectors: Vectors, weight: Tensor) -> None:
        super().__init__()
        self.raw, self.weight = EmbeddingScorer(vectors), weight

    def scores(self, users: Tensor) -> Tensor:
        """[B] user indices to [B, n_items] scores."""
        return elu_plus_one(self.raw.scores(users)) * self.weight
