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
from kdrec.methods.base import Distiller, Teacher
from kdrec.methods.soft_labels import GroupPools, rank_within_groups
from kdrec.models.base import Batch, Vectors
from kdrec.models.lookup import lookup
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


def draw_ranks(sizes: Tensor, mu: float, generator: torch.Generator) -> Tensor:
    """Ranks from 0, with `P(r) ~ exp(-r / mu)` for r below the size, by the inverse of the law.

    Args:
        sizes: Number of ranks, at least 1. Any shape.
        mu: Scale of the law, in ranks.
        generator: On the device of `sizes`.
    """
    uniform = torch.rand(sizes.shape, generator=generator, device=sizes.device, dtype=torch.float64)
    mass = -torch.expm1(-sizes.double() / mu)
    ranks = (-mu * torch.log1p(-uniform * mass)).long()
    return torch.minimum(ranks, sizes - 1)


def draw_pairs(sizes: Tensor, mu: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Two different ranks each, independent draws of `draw_ranks` given that they differ.

    Args:
        sizes: Number of ranks of each pair, at least 2. Any shape.
        mu: Scale of the law, in ranks.
        generator: On the device of `sizes`.

    Returns:
        First and second rank, in the order drawn, of the shape of `sizes`.
    """
    first, second = (draw_ranks(sizes, mu, generator) for _ in range(2))
    tied = (first == second).nonzero(as_tuple=True)
    while len(tied[0]):
        first[tied] = draw_ranks(sizes[tied], mu, generator)
        second[tied] = draw_ranks(sizes[tied], mu, generator)
        again = first[tied] == second[tied]
        tied = tuple(index[again] for index in tied)
    return first, second


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
        self.norm, self.mu, self.swap_defect = norm, mu, swap_defect
        self.n_users = train.n_users
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
        #: 1 where the user's pool of the group has two items or more. Shape [n_users, n_pairs].
        self.valid = self.pools.sizes[:, self.pair_group] >= 2
        self.better = self.worse = torch.empty(0, dtype=torch.int64)
        self.order = torch.empty(0, dtype=torch.int64)

    def begin_epoch(self, epoch: int, generator: torch.Generator) -> None:  # noqa: ARG002
        """Draws all users' pairs and the order in which users are visited."""
        sizes = self.pools.sizes[:, self.pair_group]
        first, second = draw_pairs(sizes.clamp(min=2), self.mu, generator)
        better, worse = torch.minimum(first, second), torch.maximum(first, second)
        if self.swap_defect:
            worse = torch.where(first > second, better, worse)
        width = self.pools.items.shape[2]
        cell = torch.arange(self.n_users, device=sizes.device)[:, None] * self.pools.sizes.shape[1]
        start = (cell + self.pair_group) * width
        flat = self.pools.items.view(-1)
        last = width - 1
        self.better = flat[start + better.clamp(max=last)].long().clamp(min=0)
        self.worse = flat[start + worse.clamp(max=last)].long().clamp(min=0)
        self.order = torch.randperm(self.n_users, generator=generator, device=sizes.device)

    def loss(self, batch: Batch, vectors: Vectors) -> Tensor:
        """Eq. (5), or its official form, on this step's users."""
        if self.norm == "official":
            values, valid = self._pair_losses(batch.users, vectors)
            return ((values * valid).sum(1) / valid.sum(1).clamp(min=1)).mean()
        first = batch.step * self.n_users // batch.n_steps
        last = (batch.step + 1) * self.n_users // batch.n_steps
        values, valid = self._pair_losses(self.order[first:last], vectors)
        return (values * valid).sum() * (batch.n_steps / self.n_users)

    def _pair_losses(self, users: Tensor, vectors: Vectors) -> tuple[Tensor, Tensor]:
        """`-log sigmoid(s+ - s-)` of the users' pairs and which of them count: [B, n_pairs]."""
        better, worse = self.better[users], self.worse[users]
        items = lookup(vectors.items, torch.cat([better, worse], dim=1))
        scores = torch.bmm(items, lookup(vectors.users, users).unsqueeze(2)).squeeze(2)
        positive, negative = scores.chunk(2, dim=1)
        return functional.softplus(negative - positive), self.valid[users].to(scores.dtype)
