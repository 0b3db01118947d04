"""RD, Ranking Distillation (Tang and Wang, KDD 2018): the head of the teacher's list as positives.

The items that the teacher ranks first, of those that a user has not in training, are taught as if
the user had them; the further up in the teacher's list and the further down in the student's, the
more an item weighs.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from kdrec.data.interactions import Interactions
from kdrec.data.sampling import NegativeSampler
from kdrec.kernels.dots import dots
from kdrec.methods.base import Distiller, Teacher
from kdrec.methods.soft_labels import rank_all
from kdrec.methods.visits import PerInteraction, When
from kdrec.models.base import Backbone, Batch, Vectors
from kdrec.ranges import Count, Natural, Positive, check_ranges
from kdrec.seeding import torch_stream


class RD(Distiller):
    """Weighted pointwise distillation of the teacher's first K items.

    For a user's items `pi_1, ..., pi_K`, best first,

        `L = (1/B) sum_b sum_k w_k (-log sigmoid(s_u(b),pi_k))`,

    summed over k and averaged over interactions, so that a user counts once for each of them. The
    weight of a position and that of a discrepancy are

        `a_k = exp(-k / decay) / sum_j exp(-j / decay)`,
        `b_k = tanh(max(mu (r_k - (k - 1)), 0))`,
        `r_k = floor((|I| - 1) x share of the negatives that the student scores above pi_k)`;

    `w = a` in the first `warm_up` epochs and `w = a b`, not normalised again, after them. The
    weights are numbers to the gradient. `r_k` is taken from the student's vectors of the step and
    from `n_negatives` items outside the user's training pairs.

    With `norm="official"` it is what the code published with UnKD does: `r_k` is one more, the
    weights are divided by their sum, and the loss by K. That code has 30 items and a warm-up of
    100 epochs, and it minimises `(1 - w) (BPR + L2) + w RD`: give `data_weight=` 1 - w and
    `weight=` w. Its default is w = 1, which leaves nothing of BPR and L2.

    Departures from the original code: a user's negatives are drawn anew in each epoch and serve
    all interactions of the user, whose losses are then the same function of the student. So with
    `visits="once"` an epoch goes over the users once, a share of them in each step, and a user's
    loss weighs as many times as the user has interactions: over an epoch the mean over
    interactions, in a fifth of the time. With `visits="batch"` a step has the users of its
    interactions, as published. The loss is `softplus(-s)`, which cannot overflow. A user with
    fewer than K items to rank has no others in their place: the weights of the rest stay as they
    are, unless `norm="official"` normalises them.

    Args:
        train: Training pairs, left out of the list and of the negatives.
        teacher: Known by its scores.
        n_items: K of the paper.
        decay: lambda of the paper, the scale of the position weight, in ranks.
        n_negatives: epsilon of the paper.
        mu: Scale of the discrepancy weight, per rank.
        warm_up: Epochs without the discrepancy weight.
        norm: "paper" or "official".
        visits: "once" or "batch": the users of a step, see `kdrec.methods.visits`.
        seed: Draws the order of ties.
        batch_size: Users scored at once.
        device: Where to draw and train.

    Raises:
        UsageError: If an option is out of its range.
        KdrecError: If a user has all items in training.
    """

    def __init__(
        self,
        train: Interactions,
        teacher: Teacher,
        *,
        n_items: Count,
        decay: Positive,
        n_negatives: Count,
        mu: Positive,
        warm_up: Natural,
        norm: Literal["paper", "official"],
        visits: When,
        seed: int,
        batch_size: int,
        device: torch.device,
    ) -> None:
        super().__init__()
        check_ranges(RD.__init__, locals())
        self.n_items, self.mu, self.warm_up = n_items, mu, warm_up
        self.norm = norm
        self.n_negatives, self.n_ranks = n_negatives, train.n_items - 1
        pools = rank_all(
            teacher.scorer,
            train,
            pool=n_items,
            batch_size=batch_size,
            generator=torch_stream(seed, "ties"),
            device=device,
        )
        #: The teacher's items of each user, best first, -1 beyond the end. Shape [n_users, K].
        self.items = pools.items[:, 0]
        #: k - 1. Shape [K].
        self.before = torch.arange(self.items.shape[1], device=device)
        weight = torch.arange(n_items, dtype=torch.float32, device=device).neg_().div_(decay)
        #: a_k. Shape [K].
        self.position = weight.softmax(0)[: self.items.shape[1]]
        self.sampler = NegativeSampler(train, device=device)
        self.users = torch.arange(train.n_users, device=device)
        self.visits = PerInteraction(train, visits)
        #: Each user's negatives of this epoch; None in the warm-up. Shape [n_users, n_negatives].
        self.negatives: Tensor | None = None

    def begin_epoch(self, epoch: int, generator: torch.Generator, student: Backbone) -> None:  # noqa: ARG002
        """Draws the users' negatives, once the warm-up is over, and the users' order."""
        self.negatives = None
        if epoch > self.warm_up:
            users = self.users.repeat_interleave(self.n_negatives)
            drawn = self.sampler.sample(users, generator)
            self.negatives = drawn.to(torch.int32).view(-1, self.n_negatives)
        self.visits.begin_epoch(generator)

    def loss(self, batch: Batch, vectors: Vectors) -> Tensor:
        """The weighted loss of the step's users."""
        users, weights = self.visits.of_step(batch)
        losses = self._losses(users, vectors)
        return losses @ weights.to(losses.dtype)

    def _losses(self, users: Tensor, vectors: Vectors) -> Tensor:
        """`sum_k w_k (-log sigmoid(s_k))` of each of the users, [B]."""
        items = self.items.index_select(0, users).long()
        scores = dots(*vectors, users, items.clamp(min=0))
        weights = self._weights(users, scores.detach(), vectors) * (items >= 0)
        if self.norm == "official":
            weights = functional.normalize(weights, p=1.0, dim=1) / self.n_items
        return (weights * functional.softplus(-scores)).sum(1)

    @torch.no_grad()
    def _weights(self, users: Tensor, scores: Tensor, vectors: Vectors) -> Tensor:
        """`a` in the warm-up, else `a b`, for the users' scores of their items, [B, K]."""
        if self.negatives is None:
            return self.position.expand_as(scores)
        negatives = dots(*vectors, users, self.negatives.index_select(0, users).long())
        above = (negatives.unsqueeze(1) > scores.unsqueeze(2)).sum(2, dtype=torch.int32)
        rank = above.long().mul_(self.n_ranks).div_(self.n_negatives, rounding_mode="floor")
        if self.norm == "official":
            rank = rank + 1
        return self.position * torch.tanh(self.mu * (rank - self.before).clamp_(min=0))
