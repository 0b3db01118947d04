"""PCKD (TKDE 2025, arXiv 2311.04549): hints whose projectors keep the student's preferences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import torch
from torch import Tensor
from torch.nn import functional

from kdrec.data.interactions import Interactions
from kdrec.methods.base import Distiller, Teacher
from kdrec.methods.de import DE
from kdrec.methods.ranked_lists import BestItems
from kdrec.methods.soft_labels import rank_all
from kdrec.models.base import Backbone, Batch, Vectors
from kdrec.ranges import NonNegative, Positive, Range, check_ranges
from kdrec.seeding import torch_stream


class PCKD(Distiller):
    """DE with a term that holds its projectors to the student's own order of items.

    A projector that carries the student's vectors to the teacher's may reorder the preferences
    that they stand for. A step's loss is DE's plus `alpha` times that of a regulariser, summed over
    DE's users with DE's weights: the sum over the unique users of a batch, divided by its
    interactions, so that `weight` is the lambda of the published code, which adds sums to the sum
    of the data loss. The regulariser is taken on Q items drawn from the teacher's `pool` best
    without replacement with `P ~ exp(-rank / T)`. With `pre = <s_u, s_i>` and
    `post = <P(s_u), P(s_i)>`:

        list:  `-sum_i softmax(pre / tau)_i log softmax(post / tau)_i`
        pair:  `-sum_(i<j) log sigmoid((post_i - post_j) (pre_i - pre_j))`

    In it the student's vectors are constants, so that it trains the projectors alone.

    Known to us are the abstract and a description of the published code (DE with "list"). Ours are
    these choices: both vectors are projected, by the shares of one draw of DE's gates each; the
    regulariser is summed as DE's loss is; items are drawn in each epoch, without
    replacement; a user with fewer than Q candidates has those.

    Args:
        train: Training pairs, left out of the items drawn.
        teacher: With vectors; its scores rank the items.
        de: Makes the DE part, whose experts are the projectors.
        regulariser: "list" or "pair".
        alpha: Weight of the regulariser relative to DE's loss.
        n_items: Q.
        tau: Temperature of "list"; "pair" has none.
        temperature: T, in ranks.
        pool: Length of the teacher's list.
        seed: Draws the experts' parameters and the order of ties.
        batch_size: Users scored at once.
        device: Where to draw and train.

    Raises:
        UsageError: If an option is out of its range, or the teacher has no vectors.
    """

    def __init__(
        self,
        train: Interactions,
        teacher: Teacher,
        *,
        de: Callable[..., DE],
        regulariser: Literal["list", "pair"],
        alpha: NonNegative,
        n_items: Annotated[int, Range(2)],
        tau: Positive,
        temperature: Annotated[float, Range(0.5)],
        pool: Annotated[int, Range(2)],
        seed: int,
        batch_size: int,
        device: torch.device,
    ) -> None:
        super().__init__()
        check_ranges(PCKD.__init__, locals())
        self.de = de(train, teacher, seed=seed, batch_size=batch_size, device=device)
        self.regulariser, self.alpha, self.tau = regulariser, alpha, tau
        pools = rank_all(
            teacher.scorer,
            train,
            pool=pool,
            batch_size=batch_size,
            generator=torch_stream(seed, "ties"),
            device=device,
        )
        self.best = BestItems(pools, n_items, temperature)
        #: Each user's items, -1 where there is none. Shape [n_users, Q], int32.
        self.drawn = torch.empty(0, dtype=torch.int32)

    def begin_epoch(self, epoch: int, generator: torch.Generator, student: Backbone) -> None:
        """Draws the items, and begins DE's epoch."""
        self.drawn = self.best.draw(generator)
        self.de.begin_epoch(epoch, generator, student)

    def loss(self, batch: Batch, vectors: Vectors) -> Tensor:
        """DE's loss and the regulariser."""
        users, weights = self.de.visit_users.of_step(batch)
        return self.de.loss(batch, vectors) + self.alpha * self.consistency(users, weights, vectors)

    def consistency(self, users: Tensor, weights: Tensor, vectors: Vectors) -> Tensor:
        """The regulariser, weighted and summed over `users`, [B] both."""
        used = weights > 0
        drawn = self.drawn.index_select(0, users).long()
        there = drawn >= 0
        items = drawn.clamp_(min=0).flatten()
        mine = vectors.users.detach().index_select(0, users)
        theirs = vectors.items.detach().index_select(0, items)
        projected = (
            self.de.project(self.de.users, users, mine, used),
            self.de.project(self.de.items, items, theirs, (there & used.unsqueeze(1)).flatten()),
        )
        before, after = (
            _scores(of_users, of_items.view(*drawn.shape, of_users.shape[1]))
            for of_users, of_items in ((mine, theirs), projected)
        )
        loss = list_term if self.regulariser == "list" else pair_term
        return loss(before, after, there, self.tau) @ weights.to(before.dtype)


def _scores(users: Tensor, items: Tensor) -> Tensor:
    """[B, d] and [B, Q, d] to the inner products [B, Q]."""
    return torch.bmm(items, users.unsqueeze(2)).squeeze(2)


def list_term(before: Tensor, after: Tensor, there: Tensor, tau: float) -> Tensor:
    """Cross-entropy between the softmaxes at `tau` of what is there, [B, Q] each to [B]."""
    low = torch.finfo(before.dtype).min
    target = (before / tau).masked_fill(~there, low).softmax(1)
    found = (after / tau).masked_fill(~there, low).log_softmax(1)
    return -(target * found).masked_fill(~there, 0.0).sum(1)


def pair_term(before: Tensor, after: Tensor, there: Tensor, tau: float) -> Tensor:  # noqa: ARG001
    """`-log sigmoid` of the products of both differences over pairs, [B, Q] each to [B]."""
    one, other = torch.triu_indices(before.shape[1], before.shape[1], 1, device=before.device)
    differences = [table[:, one] - table[:, other] for table in (before, after)]
    losses = functional.softplus(-differences[0] * differences[1])
    return losses.masked_fill(~(there[:, one] & there[:, other]), 0.0).sum(1)
