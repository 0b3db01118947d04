"""UnKD (Chen et al., WSDM 2023): distillation within groups of equal popularity.

A teacher trained on biased data ranks popular items too high, and its soft labels hand that on.
Within a group of items of similar popularity the ranking is not affected, so that UnKD draws its
pairs there.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from kdrec.data.groups import popularity_groups, random_groups
from kdrec.data.interactions import IntArray, Interactions
from kdrec.kernels.dots import dots
from kdrec.kernels.draws import RankPairs
from kdrec.methods.base import Distiller, Teacher
from kdrec.methods.soft_labels import GroupPools, rank_within_groups
from kdrec.methods.visits import PerInteraction, When
from kdrec.models.base import Backbone, Batch, Vectors
from kdrec.ranges import Count, Range, check_ranges
from kdrec.seeding import stream, torch_stream


def pairs_per_group(n_pairs: int, n_groups: int) -> list[int]:
    """How a user's pairs are shared among the groups, as the published code does it.

    Each group has `round(n_pairs / n_groups)` pairs, halves to even. Where that falls short of
    `n_pairs`, the first and most popular groups have one more; where it exceeds it, it stays.
    """
    each = round(n_pairs / n_groups)
    short = max(0, n_pairs - each * n_groups)
    return [each + (group < short) for group in range(n_groups)]


class UnKD(Distiller):
    """Group-wise pairwise distillation.

    Items are cut by training popularity into `n_groups` groups of equal popularity mass. In each
    epoch a user gets, in each group, pairs of items that the user has not in training, both drawn
    by `P(i) ~ exp(-rank(i) / mu)` with the teacher's rank within the group; the better one is
    `i+`. With `norm="paper"` the loss is Eq. (5)

        `L = -(1/|U|) sum_u sum_g sum_(i+,i-) log sigmoid(s_ui+ - s_ui-)`,

    taken in one pass over the users in each epoch: a step takes its share of them. With
    `norm="official"` it is what the published code does: the mean over a user's pairs, averaged
    over the users of the step's interactions, so that active users count more.

    Departures from the paper, where it is silent: items without a training interaction belong to
    no group; pools are cut at `pool` (mass beyond rank 1000 is below 1e-21 for mu = 20); pairs
    are drawn anew in each epoch, as in the published code.

    Args:
        train: Training pairs: popularity and the pairs left out.
        teacher: Known by its scores.
        n_groups: K of the paper.
        grouping: "popularity", or the control "random": groups of the same sizes, members drawn
            at random.
        n_pairs: Pairs of a user in an epoch, over all groups.
        mu: Scale of the ranking law, at least 0.5: below, nearly all draws are the first rank.
        pool: Longest pool of a user and group.
        norm: "paper" or "official".
        visits: Of norm="official": "batch", the users of a step's interactions, or "once", each
            user once an epoch with the weight of all its interactions (`kdrec.methods.visits`);
            a user's pairs are the same all epoch, so that the mean over interactions is, too.
            Eq. (5) visits each user once by itself.
        swap_defect: Replicates a defect of the published code: a pair drawn in the wrong order
            becomes the better item twice, and teaches nothing.
        seed: Draws random groups and the order of ties.
        batch_size: Users scored at once.
        device: Where to draw and train.

    Raises:
        UsageError: If an option is out of its range.
    """

    def __init__(
        self,
        train: Interactions,
        teacher: Teacher,
        *,
        n_groups: Count,
        grouping: Literal["popularity", "random"],
        n_pairs: Count,
        mu: Annotated[float, Range(0.5)],
        pool: Annotated[int, Range(2)],
        norm: Literal["paper", "official"],
        visits: When,
        swap_defect: bool,
        seed: int,
        batch_size: int,
        device: torch.device,
    ) -> None:
        super().__init__()
        check_ranges(UnKD.__init__, locals())
        groups = popularity_groups(train.item_counts(), n_groups)
        if grouping == "random":
            groups = random_groups(groups, stream(seed, "groups"))
        self.groups: IntArray = groups
        self.norm, self.swap_defect = norm, swap_defect
        self.visits = PerInteraction(train, "once" if norm == "paper" else visits)
        self.pools: GroupPools = rank_within_groups(
            teacher.scorer,
            train,
            groups,
            pool=pool,
            batch_size=batch_size,
            generator=torch_stream(seed, "ties"),
            device=device,
        )
        shares = pairs_per_group(n_pairs, int(groups.max()) + 1)
        #: Group of each of a user's pairs. Shape [n_pairs].
        self.pair_group = torch.from_numpy(np.repeat(np.arange(len(shares)), shares)).to(device)
        sizes = self.pools.sizes[:, self.pair_group]
        #: Where the user's pool of the group has two items or more. Shape [n_users, n_pairs].
        self.valid = sizes >= 2
        #: Weight of each pair in its user's loss. Shape [n_users, n_pairs].
        self.share = self.valid.float()
        if norm == "official":
            self.share /= self.share.sum(1, keepdim=True).clamp(min=1)
        self.law = RankPairs(sizes.clamp(min=2), mu)
        #: The better items of each user's pairs, then the worse ones. Shape [n_users, 2 n_pairs].
        self.pairs = torch.empty(0, dtype=torch.int64)

    def begin_epoch(self, epoch: int, generator: torch.Generator, student: Backbone) -> None:  # noqa: ARG002
        """Draws all users' pairs and the order in which users are visited."""
        better, worse = self.law.draw(generator)
        if self.swap_defect:
            swapped = torch.rand(worse.shape, generator=generator, device=worse.device) < 0.5
            worse = torch.where(swapped, better, worse)
        self.pairs = self.pools.at(self.pair_group.repeat(2), torch.cat([better, worse], dim=1))
        self.visits.begin_epoch(generator)

    def loss(self, batch: Batch, vectors: Vectors) -> Tensor:
        """Eq. (5), or its official form, on this step's users."""
        if self.norm == "official":
            users, weights = self.visits.of_step(batch)
            losses = self._losses(users, vectors).sum(1)
            return losses @ weights.to(losses.dtype)
        users = self.visits.ids.of_step(batch)
        return self._losses(users, vectors).sum() * (batch.n_steps / len(self.share))

    def _losses(self, users: Tensor, vectors: Vectors) -> Tensor:
        """`-log sigmoid(s+ - s-)` of the users' pairs, with their shares. Shape [n, n_pairs]."""
        scores = dots(*vectors, users, self.pairs.index_select(0, users))
        better, worse = scores.chunk(2, dim=1)
        return functional.softplus(worse - better) * self.share.index_select(0, users)
