"""PD (Zhang et al., SIGIR 2021): popularity is a cause to be modelled, then taken out again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from kdrec.data.interactions import Interactions
from kdrec.kernels.dots import dots
from kdrec.models.base import Backbone, Batch, EmbeddingScorer, Scorer, Vectors
from kdrec.ranges import Share, check_ranges


def popularity(train: Interactions, *, scaled: bool, floor: float) -> Tensor:
    """`m_i = (c_i + 1) / (sum_j c_j + n_items)` of the training counts, for every item.

    Args:
        train: Training pairs.
        scaled: Whether the least of them becomes 0 and the greatest 1; all 1 if they are equal.
        floor: What a scaled one is at the least.

    Returns:
        [n_items], float64, in [0, 1].
    """
    counts = torch.from_numpy(train.item_counts()).double() + 1
    share = counts / counts.sum()
    if not scaled:
        return share
    low, high = share.aminmax()
    return (share - low).div_(high - low).nan_to_num_(1.0).clamp_(min=floor)


def elu_plus_one(scores: Tensor) -> Tensor:
    """`ELU(s) + 1`: s + 1 above 0, exp(s) below, where it keeps all of its digits."""
    above = scores > 0  # not by clamping: its slope at 0 is not the same in all versions of torch
    return torch.where(above, scores + 1, scores.masked_fill(above, 0).exp())


class PD(Backbone):
    """Popularity deconfounding around another model, whose dot product is `s_ui`.

    It learns `p_ui = (ELU(s_ui) + 1) m_i^gamma`, by the loss

        `mean_b softplus(p_uj - p_ui)` over the batch's pairs, plus the inner model's L2 penalty,

    and ranks by `ELU(s_ui) + 1`, the part that is not the item's popularity m.

    In the paper m is local to a stage of time. Here there is one stage, the whole training set,
    since most data sets come without times: its PDG, as the published code computes it. The
    published loss is `-log(sigmoid(p_ui - p_uj) + 1e-10)`. By min-max scaling the items of the
    lowest count have m = 0, so that nothing is learnt of them from data: with rare items this may
    be many. A `floor` above 0 mends it; the published code has 1e-9, in a comment.

    The variant within UnKD's code is `link="relu"`, `popularity="ratio"` and `soft_label="raw"`.
    Its default, gamma = 1, makes all `m^gamma` tiny, so that hardly anything is learnt.

    Args:
        train: Training pairs.
        inner: Makes the model, from `train` and `generator`.
        gamma: Exponent of the popularity; the paper's best are from 0.02 to 0.25.
        popularity: "scaled": m from 0 to 1 by min-max scaling; "ratio": as it is.
        floor: The least m, if scaled.
        link: "elu", or "relu": `p_ui = (ReLU(s_ui) + 1) m_i^gamma`.
        soft_label: The scores, for methods too: "elu": `ELU(s_ui) + 1`, whatever the link (ReLU
            would tie all scores below 0); "raw": `s_ui`, which ranks the same.
        generator: Draws the inner model's initial parameters.

    Raises:
        UsageError: If an option is out of its range.
    """

    weight: Tensor

    def __init__(
        self,
        train: Interactions,
        *,
        inner: Callable[..., Backbone],
        gamma: Share,
        popularity: Literal["scaled", "ratio"],
        floor: Share,
        link: Literal["elu", "relu"],
        soft_label: Literal["elu", "raw"],
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        check_ranges(PD.__init__, locals())
        self.inner = inner(train=train, generator=generator)
        self.link, self.soft_label = link, soft_label
        self.register_buffer("weight", powers(train, popularity, floor, gamma), persistent=False)

    def embed(self) -> Vectors:
        """The inner model's."""
        return self.inner.embed()

    def loss(self, batch: Batch, vectors: Vectors, l2: float) -> Tensor:
        """BPR on `p`, with the inner model's penalty."""
        items = torch.stack([batch.positives, batch.negatives], dim=1)
        scores = dots(*vectors, batch.users, items)
        linked = elu_plus_one(scores) if self.link == "elu" else scores.relu() + 1
        positive, negative = (linked * self.weight.take(items)).unbind(1)
        return functional.softplus(negative - positive).mean() + self.penalty(batch, l2)

    def penalty(self, batch: Batch, l2: float) -> Tensor:
        """The inner model's."""
        return self.inner.penalty(batch, l2)

    def scores(self, users: Tensor) -> Tensor:
        """[B] user indices to [B, n_items]: `ELU(s) + 1`, or `s`."""
        raw = super().scores(users)
        return raw if self.soft_label == "raw" else elu_plus_one(raw)

    def freeze(self) -> Scorer:
        """Its scores, with the inner model's vectors, which rank as they do."""
        return (EmbeddingScorer if self.soft_label == "raw" else LinkedScorer)(self.copied())


class LinkedScorer(EmbeddingScorer):
    """Fixed vectors, whose score is `ELU(s) + 1` of their dot product s."""

    def scores(self, users: Tensor) -> Tensor:
        """[B] user indices to [B, n_items] scores."""
        return elu_plus_one(super().scores(users))


def powers(train: Interactions, kind: str, floor: float, exponent: float) -> Tensor:
    """`m^exponent`, [n_items], float32."""
    return popularity(train, scaled=kind == "scaled", floor=floor).pow(exponent).float()
