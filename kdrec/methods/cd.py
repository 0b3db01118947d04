"""CD, Collaborative Distillation (Lee et al., ICDM 2019): the teacher's scores as soft targets.

Of the items that a user has not in training some are drawn, those of a better rank more often, and
the student learns the probability that the teacher gives them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from kdrec.data.interactions import Interactions
from kdrec.errors import UsageError
from kdrec.kernels.dots import dots
from kdrec.kernels.draws import draw_ranks
from kdrec.kernels.without_replacement import draw_distinct
from kdrec.methods.base import Distiller, Teacher
from kdrec.methods.soft_labels import GroupPools, rank_all, score_moments, scores_at
from kdrec.methods.visits import Pass
from kdrec.models.base import Backbone, Batch, Scorer, Vectors, frozen
from kdrec.ranges import Count, Positive, Range, check_ranges
from kdrec.seeding import torch_stream

_CERTAIN = 40.0  # a logit beyond which the sigmoid is 0 or 1 in float32


class CD(Distiller):
    """Soft binary cross-entropy on items drawn by rank.

    With `q_ui = sigmoid((t_ui + t2) / t1)` of the teacher's scores and p_ui the sigmoid of the
    student's, the loss is Lee et al.'s

        `L = -(1/|U|) sum_u sum_i [q_ui log p_ui + (1 - q_ui) log(1 - p_ui)]`

    over the items i drawn for the user, less the entropy of q: a number that does not depend on
    the student, so that the gradient is the published one and the loss is 0 where the student has
    learnt the soft targets. An epoch goes over the users once: a step takes its share of them.
    With `norm="official"` it is the mean over a user's items, averaged over the users of the
    step's interactions, as in the code published with UnKD.

    Items are drawn from a user's first `pool` ranks by `P(r) ~ exp(-r / temperature)`, r from 0,
    with the ranks of `guide`: "student" (the student-guided form) or "teacher" (the
    teacher-guided one). They are distinct: drawn one after another from those that are left.
    `better_of=2` draws two ranks each time and keeps the better, as in published code.

    `method=cd_legacy` is what the code published with UnKD does. Its setting says student-guided,
    and its items are the teacher's, drawn once; its temperature, 20 times the pool of 3000, is
    all but uniform, so that keeping the better of two makes all its preference for good ranks; and
    as its set compares tensors by identity, items are drawn repeatedly (`distinct=false`).

    Departures from the paper, of which only the abstract and later code were at hand: the rank
    law has its temperature in ranks; `rank_every` above 1 keeps the student's ranking for some
    epochs, from which items are still drawn anew; `scale="standardise"` takes from a user's t the
    mean and divides by the standard deviation of the teacher's scores of all items that the user
    has not in training, for teachers whose scores are no log-odds; the teacher's logits
    `(t + t2) / t1` are cut to -40..40, beyond which q is 0 or 1 in float32.

    Args:
        train: Training pairs, left out of what is drawn.
        teacher: Known by its scores.
        n_items: Items drawn for a user in an epoch.
        temperature: Scale of the ranking law, in ranks.
        pool: Ranks that can be drawn; at least `n_items`.
        guide: Whose ranking is drawn from.
        rank_every: Epochs between two rankings by the student, each of which takes as long as
            some dozens of epochs of a small student.
        draw: "epoch": anew in each; "once": in the first.
        distinct: Whether a user's items of an epoch differ.
        better_of: How many ranks are drawn for an item, 1 or 2.
        t1: What the teacher's scores are divided by.
        t2: What is added to them before.
        scale: "none" or "standardise".
        norm: "paper" or "official".
        seed: Draws the order of ties.
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
        n_items: Count,
        temperature: Annotated[float, Range(0.01)],
        pool: Count,
        guide: Literal["student", "teacher"],
        rank_every: Count,
        draw: Literal["epoch", "once"],
        distinct: bool,
        better_of: Annotated[int, Range(1, most=2)],
        t1: Positive,
        t2: Annotated[float, Range(-1e6, most=1e6)],
        scale: Literal["none", "standardise"],
        norm: Literal["paper", "official"],
        seed: int,
        batch_size: int,
        device: torch.device,
    ) -> None:
        super().__init__()
        check_ranges(CD.__init__, locals())
        if pool < n_items:
            raise UsageError(
                f"pool={pool} has not the n_items={n_items} items that are drawn from it.",
                "Raise method.distiller.pool, or lower method.distiller.n_items.",
            )
        self.train_pairs, self.scorer = train, teacher.scorer
        self.n_items, self.temperature, self.pool = n_items, temperature, pool
        self.guide, self.rank_every, self.draw = guide, rank_every, draw
        self.distinct, self.better_of = distinct, better_of
        self.t1, self.t2, self.norm = t1, t2, norm
        self.seed, self.batch_size, self.device = seed, batch_size, device
        self.moments = (
            score_moments(teacher.scorer, train, batch_size=batch_size, device=device)
            if scale == "standardise"
            else None
        )
        self.pools: GroupPools | None = None
        #: The teacher's `(t + t2) / t1` at each rank. Shape [n_users, pool].
        self.pool_logits = torch.empty(0)
        #: Items drawn for each user, 0 in place of missing ones. Shape [n_users, n].
        self.items = torch.empty(0, dtype=torch.int64)
        #: `(t + t2) / t1` of these items. Shape [n_users, n].
        self.logits = torch.empty(0)
        #: Weight of each item in its user's loss. Shape [n_users, n].
        self.share = torch.empty(0)
        self.users = Pass(train.n_users)

    def begin_epoch(self, epoch: int, generator: torch.Generator, student: Backbone) -> None:
        """Ranks the items where that is due, draws each user's, and the order of the users."""
        if self.draw == "epoch" or not len(self.items):
            if self.guide == "student" and (epoch - 1) % self.rank_every == 0:
                self.pools = None
            if self.pools is None:
                self.pools = self._ranked(
                    frozen(student) if self.guide == "student" else self.scorer
                )
            self._draw(self.pools, generator)
        self.users.begin_epoch(generator)

    def snapshot(self) -> dict[str, Any]:
        """The student's ranking where it serves several epochs; the items that are drawn once."""
        once, ranking = self.draw == "once", None
        if self.pools is not None and not once and self.guide == "student" and self.rank_every > 1:
            ranking = [self.pools.items, self.pools.sizes, self.pool_logits]
        drawn = [self.items, self.logits, self.share] if once else None
        return {"ranking": ranking, "drawn": drawn}

    def resume(self, snapshot: Mapping[str, Any]) -> None:
        """Takes them back."""
        if snapshot["ranking"] is not None:
            items, sizes, self.pool_logits = snapshot["ranking"]
            self.pools = GroupPools(items, sizes)
        if snapshot["drawn"] is not None:
            self.items, self.logits, self.share = snapshot["drawn"]

    def loss(self, batch: Batch, vectors: Vectors) -> Tensor:
        """The soft cross-entropy of the step's users, less the entropy."""
        if self.norm == "official":
            return self._loss_of(batch.users, vectors) / len(batch.users)
        users = self.users.of_step(batch)
        return self._loss_of(users, vectors) * (batch.n_steps / self.users.n)

    def _loss_of(self, users: Tensor, vectors: Vectors) -> Tensor:
        """`CE(q, p) - H(q)`, weighted and summed over the users' items."""
        scores = dots(*vectors, users, self.items.index_select(0, users))
        logits = self.logits.index_select(0, users)
        soft = torch.sigmoid(logits)
        entropy = functional.softplus(logits) - soft * logits
        losses = functional.softplus(scores) - soft * scores - entropy
        return (losses * self.share.index_select(0, users)).sum()

    def _ranked(self, scorer: Scorer) -> GroupPools:
        """The first items by `scorer`; keeps the teacher's logits of them."""
        pools = rank_all(
            scorer,
            self.train_pairs,
            pool=self.pool,
            batch_size=self.batch_size,
            generator=torch_stream(self.seed, "ties"),
            device=self.device,
            quiet=self.guide == "student",
        )
        scores = scores_at(
            self.scorer,
            pools.items[:, 0],
            n_items=self.train_pairs.n_items,
            batch_size=self.batch_size,
        )
        if self.moments is not None:
            mean, deviation = (part.unsqueeze(1) for part in self.moments)
            scores = torch.where(deviation > 0, (scores - mean) / deviation, 0.0)
        self.pool_logits = ((scores + self.t2) / self.t1).clamp_(-_CERTAIN, _CERTAIN)
        return pools

    def _draw(self, pools: GroupPools, generator: torch.Generator) -> None:
        """Draws each user's items, and looks up their logits."""
        sizes, width = pools.sizes[:, 0], pools.items.shape[2]
        if self.distinct:
            ranks = draw_distinct(
                sizes, self.n_items, self.temperature, generator,
                width=width, better_of=self.better_of,
            )  # fmt: skip
        else:
            wide = sizes.clamp(min=1).unsqueeze(1).expand(-1, self.n_items)
            rounds = [draw_ranks(wide, self.temperature, generator) for _ in range(self.better_of)]
            ranks = torch.stack(rounds).amin(0)
        real = ranks < sizes.unsqueeze(1)
        ranks = ranks.clamp_(max=width - 1)
        self.items = pools.at(torch.zeros_like(ranks[0]), ranks)
        self.logits = self.pool_logits.gather(1, ranks)
        self.share = real.float()
        if self.norm == "official":
            self.share /= self.share.sum(1, keepdim=True).clamp(min=1)
