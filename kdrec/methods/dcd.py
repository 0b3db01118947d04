"""DCD (Lee and Kim, CIKM 2021): a list loss on what the student ranks too low and too high.

RRD draws its lists from the teacher's ranking alone. DCD compares it with the student's and draws
what the student still has wrong, so that training goes where there is something to correct.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from kdrec.data.interactions import Interactions
from kdrec.kernels.dots import dots
from kdrec.kernels.without_replacement import draw_places, some_rows
from kdrec.methods.base import Distiller, Teacher
from kdrec.methods.ranked_lists import item_side, step_loss, turn
from kdrec.methods.soft_labels import rank_all, ranks_of
from kdrec.methods.visits import Unique, Visits, When
from kdrec.models.base import Backbone, Batch, EmbeddingScorer, Scorer, Vectors
from kdrec.ranges import Below1, Count, NonNegative, Positive, Range, check_ranges
from kdrec.seeding import torch_stream

_SATURATED = 10.0  # tanh of this is 1 in float32


class DCD(Distiller):
    """Dual correction, of the items of each user and, if asked for, of the users of each item.

    With `gap_i = rank_S(i) - rank_T(i)` on the `pool` best unseen items of the teacher, a user
    gets in each epoch two lists of `n_items` of them, drawn without replacement:

    - under-estimated items, `p_i ~ tanh(max(gap_i / temperature, 0))`, put in the teacher's order;
    - over-estimated items, `p_i ~ tanh(max(-gap_i / temperature, 0))`.

    The loss is RRD's (`list_loss`) with the first as the ordered, interesting items and the
    second as the uninteresting ones, summed over the different users of a batch and divided by
    the batch's interactions: the published codes add it to the sum of the data loss over the
    interactions, of which ours is the mean, so that `weight` is their lambda. With `visits="once"`
    an epoch goes over the users once, and each weighs as often as it is expected in the batches;
    with "batch" it is as published.

    With `item_weight` above 0 the same loss, of the different positive items of the batch with
    users in the place of items, is added with this weight, relative to lambda. The paper has this
    term; it is left out by default, as in the toolkit, since it takes a teacher with vectors.

    Departures and decisions (the sources are the authors' code and that of the toolkit KDs, which
    compares methods; they differ):

    - Ranks are counted among all items that the user has not in training, the teacher's and the
      student's alike. The toolkit does not leave the training items out of the student's ranks.
      `ranked="pool"` is the authors' code: the student ranks the items of the pool among
      themselves, so that gaps sum to 0 and no other item is ever scored.
    - An item is drawn only if it is estimated wrongly, as in the authors' code, and the lists are
      shorter where there are fewer such items; that code then fails. A `floor` above 0, 1e-5 in
      the toolkit, is the least weight of an item: lists are filled up with others, and the more
      the student has learnt, the more items stand in both lists and contradict themselves.
    - The interesting items are in the teacher's order, as in the authors' code; the toolkit
      leaves them in the order in which they were drawn.
    - Lists are drawn once an epoch, as in the toolkit; the authors' code draws them in each step,
      and ranks anew in each third epoch (`rank_every=3`).
    - Sums of exponentials are taken in logarithms; the toolkit cuts scores at 80.

    Args:
        train: Training pairs, which are never soft labels.
        teacher: Known by its scores; with vectors if `item_weight` is above 0.
        n_items: K, the longest list.
        pool: How many of the teacher's best items are corrected.
        temperature: T, the gap in ranks at which the weight is tanh(1) = 0.76; 1 / epsilon of
            the authors' code.
        floor: Least weight of an item of the pool.
        ranked: Whom the student ranks: the "catalogue", or the "pool" alone.
        rank_every: Epochs between two rankings by the student; lists are drawn in each.
        item_weight: Weight of the item side; 0 leaves it out.
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
        n_items: Count,
        pool: Annotated[int, Range(2)],
        temperature: Positive,
        floor: Below1,
        ranked: Literal["catalogue", "pool"],
        rank_every: Count,
        item_weight: NonNegative,
        visits: When,
        seed: int,
        batch_size: int,
        device: torch.device,
    ) -> None:
        super().__init__()
        check_ranges(DCD.__init__, locals())
        self.rank_every, self.item_weight = rank_every, item_weight

        def side(name: str, scorer: Scorer, pairs: Interactions, to: Visits) -> Side:
            pools = rank_all(
                scorer,
                pairs,
                pool=pool,
                batch_size=batch_size,
                generator=torch_stream(seed, name),
                device=device,
            )
            law = Law(n_items, temperature, floor, ranked)
            return Side(pools.items[:, 0], pairs, law, batch_size, to)

        self.users = side("ties", teacher.scorer, train, Unique(train, visits, device))
        self.items: Side | None = None
        if item_weight > 0:
            scorer, turned = item_side(
                teacher, train, method="DCD", option="item_weight", weight=item_weight
            )
            items = Unique(train, visits, device, of="positives")
            self.items = side("item ties", scorer, turned, items)

    def begin_epoch(self, epoch: int, generator: torch.Generator, student: Backbone) -> None:
        """Ranks where an epoch of ranking has come, draws all lists and the users' order."""
        with torch.no_grad():
            vectors = student.embed()
        sides = list(zip(self._sides(), (vectors, turn(vectors)), strict=False))
        for side, turned in sides:
            if not len(side.gap) or (epoch - 1) % self.rank_every == 0:
                side.rank(EmbeddingScorer(turned))
            side.draw(generator)
        for side, _ in sides:
            side.visits.begin_epoch(generator)

    def _sides(self) -> list[Side]:
        """Of the users and, if asked for, of the items."""
        return [side for side in (self.users, self.items) if side is not None]

    def snapshot(self) -> dict[str, Any]:
        """The student's ranking where it serves several epochs."""
        return {"gaps": [side.gap for side in self._sides()] if self.rank_every > 1 else None}

    def resume(self, snapshot: Mapping[str, Any]) -> None:
        """Takes it back."""
        if snapshot["gaps"] is not None:
            for side, gap in zip(self._sides(), snapshot["gaps"], strict=True):
                side.gap = gap

    def loss(self, batch: Batch, vectors: Vectors) -> Tensor:
        """The list losses of the step's users, and items, weighted and summed."""
        loss = self.users.loss(batch, vectors)
        if self.items is not None:
            loss = loss + self.item_weight * self.items.loss(batch, turn(vectors))
        return loss


@dataclass(frozen=True, slots=True)
class Law:
    """How lists are drawn: the options of DCD of the same names."""

    n_items: int
    temperature: float
    floor: float
    ranked: str


class Side:
    """The lists of all users; or, turned around, those of all items, which are users here.

    Args:
        pool: The teacher's best items of each user, best first, -1 beyond the end. Shape
            [n_users, P], int32.
        pairs: Training pairs.
        law: How to draw.
        batch_size: Users scored at once.
        visits: Whom a step is about.
    """

    def __init__(
        self, pool: Tensor, pairs: Interactions, law: Law, batch_size: int, visits: Visits
    ) -> None:
        self.pool, self.pairs, self.law, self.batch_size = pool, pairs, law, batch_size
        self.visits = visits
        # The weight of the pool's last item is 1 at this depth, whatever its rank beyond.
        self.depth = min(pool.shape[1] + math.ceil(_SATURATED * law.temperature), pairs.n_items)
        gaps = torch.arange(self.depth + 1, device=pool.device)
        #: Of the gaps 0..depth.
        self.log_weight = (gaps / law.temperature).tanh().clamp(min=law.floor).log()
        #: rank_S - rank_T of the pool's items. Shape [n_users, P], int32.
        self.gap = torch.empty(0, dtype=torch.int32)
        #: Under-estimated items, then over-estimated ones; -1 for none. [n_users, 2 K], int32.
        self.lists = pool.new_full((len(pool), 2 * min(law.n_items, pool.shape[1])), -1)

    @torch.no_grad()
    def rank(self, student: EmbeddingScorer) -> None:
        """Computes the gaps."""
        if self.law.ranked == "pool":
            ranks = self._ranks_in_pool(student.vectors)
        else:
            ranks = ranks_of(
                student, self.pairs, self.pool, depth=self.depth, batch_size=self.batch_size
            )
        self.gap = (ranks - torch.arange(self.pool.shape[1], device=ranks.device)).int()

    def _ranks_in_pool(self, vectors: Vectors) -> Tensor:
        """Ranks among the items of the user's pool; of equal scores the teacher's best is first."""
        ranks = torch.empty_like(self.pool)
        users = torch.arange(len(self.pool), device=self.pool.device)
        for rows in some_rows(self.pool):
            pool = self.pool[rows].long()
            scores = dots(*vectors, users[rows], pool.clamp(min=0))
            scores.masked_fill_(pool < 0, -torch.inf)
            order = scores.argsort(dim=1, descending=True, stable=True)
            ranks[rows] = order.argsort(dim=1).int()
        return ranks

    def draw(self, generator: torch.Generator) -> None:
        """Draws both lists of all users; each is in the teacher's order."""
        for rows in some_rows(self.pool):
            pool = self.pool[rows]
            lists = []
            for sign in (1, -1):
                gap = (self.gap[rows] * sign).clamp_(min=0)
                log_weights = self.log_weight.index_select(0, gap.view(-1)).view(gap.shape)
                log_weights.masked_fill_(pool < 0, -torch.inf)
                places = draw_places(log_weights, self.law.n_items, generator)
                lists.append(places.sort(1).values)
            padded = functional.pad(pool, (0, 1), value=-1)
            self.lists[rows] = padded.gather(1, torch.cat(lists, 1))

    def loss(self, batch: Batch, vectors: Vectors) -> Tensor:
        """`step_loss` of the lists."""
        return step_loss(self.lists, self.lists.shape[1] // 2, self.visits, batch, vectors)
