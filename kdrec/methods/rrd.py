"""RRD, relaxed ranking distillation (Kang et al., CIKM 2020): lists drawn from the ranking."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from kdrec.data.interactions import Interactions
from kdrec.methods.base import Distiller, Teacher
from kdrec.methods.ranked_lists import BestItems, OtherItems, item_side, step_loss, turn
from kdrec.methods.soft_labels import rank_all
from kdrec.methods.visits import Unique, Visits, When
from kdrec.models.base import Backbone, Batch, Scorer, Vectors
from kdrec.ranges import Count, Natural, NonNegative, Range, check_ranges
from kdrec.seeding import torch_stream


class RRD(Distiller):
    """The teacher's order of some of its best items, before some of the others.

    In each epoch a user gets K interesting items, drawn without replacement from the teacher's
    `pool` best items that the user has not in training with `P ~ exp(-rank / T)` and kept in the
    teacher's order, and L uninteresting ones, drawn uniformly without replacement from what is
    neither in training nor in the pool. The loss of a user is

        `-sum_(k<=K) [ s_k - log( sum_(k<=j<=K) exp(s_j) + sum_(l<=L) exp(s_l) ) ]`,

    and that of a step the sum over its unique users, divided by its interactions: the published
    code adds the sum to the sum of the data loss over the interactions, of which ours is the mean,
    so that `weight` is its lambda. With `visits="once"` an epoch goes over the users once, and
    each weighs as often as it is expected in the batches; with "batch" it is as published.
    Logarithms of sums are taken as such, where the published code's exponentials overflow.

    With `ir_weight` above 0 the same is done for the unique positive items of the step, whose
    users the teacher ranks (IR-RRD, Kang et al., Information Sciences 2021), and added with this
    weight, relative to lambda. The teacher must have vectors, which are ranked the other way round;
    which items of a batch the paper sums over is not known to us.

    Departures: a user whose pool or rest is shorter than asked has what there is. All steps of an
    epoch share a user's draw, as in the published code.

    The variant in the published code of UnKD is `pool=100 temperature=30 n_interesting=20
    n_uninteresting=20 redraw=never sigmoid=true`.

    Args:
        train: Training pairs, left out of all lists.
        teacher: Known by its scores; with vectors if `ir_weight` is above 0.
        n_interesting: K.
        n_uninteresting: L.
        temperature: T, in ranks.
        pool: Length of the teacher's list.
        sampling: "paper", or "none": the teacher's first K items themselves, which the authors of
            HetComp (WWW 2023) found better; with K the pool's length that is the whole list.
        redraw: "epoch", or "never": lists are drawn once, in the first epoch.
        sigmoid: Passes the student's scores through a sigmoid, as the published code of UnKD does.
        ir_weight: Weight of the item side; 0 leaves it out.
        ir_interesting: K of the item side.
        ir_uninteresting: L of the item side.
        visits: "once" or "batch": the users and items of a step, see `kdrec.methods.visits`.
        seed: Draws the order of ties.
        batch_size: Users scored at once.
        device: Where to draw and train.

    Raises:
        UsageError: If an option is out of its range, or the item side lacks the teacher's vectors.
    """

    def __init__(
        self,
        train: Interactions,
        teacher: Teacher,
        *,
        n_interesting: Count,
        n_uninteresting: Natural,
        temperature: Annotated[float, Range(0.5)],
        pool: Count,
        sampling: Literal["paper", "none"],
        redraw: Literal["epoch", "never"],
        sigmoid: bool,
        ir_weight: NonNegative,
        ir_interesting: Count,
        ir_uninteresting: Natural,
        visits: When,
        seed: int,
        batch_size: int,
        device: torch.device,
    ) -> None:
        super().__init__()
        check_ranges(RRD.__init__, locals())
        self.sigmoid, self.redraw, self.ir_weight = sigmoid, redraw, ir_weight

        def side(
            name: str, scorer: Scorer, pairs: Interactions, n_best: int, n_other: int, to: Visits
        ) -> Side:
            generator = torch_stream(seed, name)
            pools = rank_all(
                scorer, pairs, pool=pool, batch_size=batch_size, generator=generator, device=device
            )
            law = temperature if sampling == "paper" else None
            return Side(BestItems(pools, n_best, law), OtherItems(pools, pairs, n_other), to)

        users = Unique(train, visits, device)
        self.users = side("ties", teacher.scorer, train, n_interesting, n_uninteresting, users)
        self.items: Side | None = None
        if ir_weight > 0:
            scorer, turned = item_side(
                teacher, train, method="RRD", option="ir_weight", weight=ir_weight
            )
            items = Unique(train, visits, device, of="positives")
            self.items = side("item ties", scorer, turned, ir_interesting, ir_uninteresting, items)

    def begin_epoch(self, epoch: int, generator: torch.Generator, student: Backbone) -> None:  # noqa: ARG002
        """Draws all lists, and the order of the users."""
        sides = self._sides()
        for side in sides:
            if self.redraw == "epoch" or not side.lists.numel():
                side.draw(generator)
        for side in sides:
            side.visits.begin_epoch(generator)

    def _sides(self) -> list[Side]:
        """Of the users and, if asked for, of the items."""
        return [side for side in (self.users, self.items) if side is not None]

    def snapshot(self) -> dict[str, Any]:
        """The lists where they are drawn once."""
        kept = self.redraw == "never"
        return {"lists": [side.lists for side in self._sides()] if kept else None}

    def resume(self, snapshot: Mapping[str, Any]) -> None:
        """Takes them back."""
        if snapshot["lists"] is not None:
            for side, lists in zip(self._sides(), snapshot["lists"], strict=True):
                side.lists = lists

    def loss(self, batch: Batch, vectors: Vectors) -> Tensor:
        """The weighted sum over the step's users, and over its items if asked for."""
        loss = self.users.loss(batch, vectors, sigmoid=self.sigmoid)
        if self.items is not None:
            of_items = self.items.loss(batch, turn(vectors), sigmoid=self.sigmoid)
            loss = loss + self.ir_weight * of_items
        return loss


class Side:
    """The lists of all users, or those of all items, which are users here.

    Args:
        best: Draws the interesting items.
        others: Draws the uninteresting ones.
        visits: Whom a step is about.
    """

    def __init__(self, best: BestItems, others: OtherItems, visits: Visits) -> None:
        self.best, self.others, self.visits = best, others, visits
        #: Interesting items in the teacher's order, then the others; -1 where there is none.
        #: Shape [n_users, K + L], int32.
        self.lists = torch.empty(0, dtype=torch.int32)

    def draw(self, generator: torch.Generator) -> None:
        """Draws the lists anew."""
        self.lists = torch.cat([self.best.draw(generator), self.others.draw(generator)], dim=1)

    def loss(self, batch: Batch, vectors: Vectors, *, sigmoid: bool) -> Tensor:
        """`step_loss` of the lists."""
        return step_loss(self.lists, self.best.count, self.visits, batch, vectors, sigmoid=sigmoid)
