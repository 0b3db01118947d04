"""DCD (Lee and Kim, CIKM 2021): a list loss on what the student ranks too low and too high.

RRD draws its lists from the teacher's ranking alone. DCD compares it with the student's and draws
what the student still has wrong, so that training goes where there is something to correct.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Literal

import torch
from torch import Tensor

from kdrec.data.interactions import Interactions
from kdrec.kernels.dots import dots
from kdrec.kernels.first import FirstOf
from kdrec.kernels.without_replacement import draw_places
from kdrec.methods.base import Distiller, Teacher
from kdrec.methods.list_loss import list_loss
from kdrec.methods.soft_labels import rank_all, ranks_of
from kdrec.models.base import Backbone, Batch, Vectors, frozen
from kdrec.ranges import Below1, Count, Positive, Range, check_ranges
from kdrec.seeding import torch_stream

_SATURATED = 10.0  # tanh of this is 1 in float32


class DCD(Distiller):
    """User-side dual correction.

    With `gap_i = rank_S(i) - rank_T(i)` on the `pool` best unseen items of the teacher, a user
    gets in each epoch two lists of `n_items` of them, drawn without replacement:

    - under-estimated items, `p_i ~ tanh(max(gap_i / temperature, 0))`, put in the teacher's order;
    - over-estimated items, `p_i ~ tanh(max(-gap_i / temperature, 0))`.

    The loss is RRD's (`list_loss`) with the first as the ordered, interesting items and the
    second as the uninteresting ones, summed over the different users of a batch and divided by
    the batch's interactions: the published codes add it to the sum of the data loss over the
    interactions, of which ours is the mean, so that `weight` is their lambda.

    Departures and decisions (the sources are the authors' code and that of the toolkit KDs, which
    compares methods; they differ):

    - The item-side term of the paper, the same loss for the users of each item, is left out, as
      in the toolkit.
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
        teacher: Known by its scores.
        n_items: K, the longest list.
        pool: How many of the teacher's best items are corrected.
        temperature: T, the gap in ranks at which the weight is tanh(1) = 0.76; 1 / epsilon of
            the authors' code.
        floor: Least weight of an item of the pool.
        ranked: Whom the student ranks: the "catalogue", or the "pool" alone.
        rank_every: Epochs between two rankings by the student; lists are drawn in each.
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
        pool: Annotated[int, Range(2)],
        temperature: Positive,
        floor: Below1,
        ranked: Literal["catalogue", "pool"],
        rank_every: Count,
        seed: int,
        batch_size: int,
        device: torch.device,
    ) -> None:
        super().__init__()
        check_ranges(DCD.__init__, locals())
        self.train_pairs, self.n_items, self.temperature = train, n_items, temperature
        self.floor, self.ranked, self.rank_every = floor, ranked, rank_every
        self.batch_size = batch_size
        pools = rank_all(
            teacher.scorer,
            train,
            pool=pool,
            batch_size=batch_size,
            generator=torch_stream(seed, "ties"),
            device=device,
        )
        #: The teacher's best items, best first, -1 beyond the end. Shape [n_users, P], int32.
        self.pool = pools.items[:, 0]
        #: rank_S - rank_T of the pool's items. Shape [n_users, P], int32.
        self.gap = torch.empty(0, dtype=torch.int32)
        length = min(n_items, self.pool.shape[1])
        #: Under-estimated items, then over-estimated ones; -1 for none. [n_users, 2 K], int32.
        self.lists = torch.full((train.n_users, 2 * length), -1, dtype=torch.int32, device=device)
        self.first_of = FirstOf(train.n_users, device)

    def begin_epoch(self, epoch: int, generator: torch.Generator, student: Backbone) -> None:
        """Ranks by the student where an epoch of ranking has come, and draws all users' lists."""
        if not len(self.gap) or (epoch - 1) % self.rank_every == 0:
            ranks = self._ranks_in_catalogue if self.ranked == "catalogue" else self._ranks_in_pool
            order = torch.arange(self.pool.shape[1], device=self.pool.device)
            self.gap = (ranks(student) - order).int()
        for rows in self._blocks():
            pool = self.pool[rows]
            gap = (self.gap[rows] / self.temperature).masked_fill_(pool < 0, 0.0)
            lists = []
            for sign in (1, -1):
                weights = (gap * sign).clamp_(min=0).tanh_().clamp_(min=self.floor)
                log_weights = weights.log_().masked_fill_(pool < 0, -torch.inf)
                places = draw_places(log_weights, self.n_items, generator)
                lists.append(places.sort(1).values)
            padded = torch.cat([pool, pool.new_full((len(pool), 1), -1)], 1)
            self.lists[rows] = padded.gather(1, torch.cat(lists, 1))

    def _blocks(self) -> Iterator[slice]:
        """The users, some at a time: what a draw needs is some times the size of the pools."""
        for first in range(0, len(self.pool), self.batch_size):
            yield slice(first, first + self.batch_size)

    def _ranks_in_catalogue(self, student: Backbone) -> Tensor:
        """Ranks up to where the weight of the pool's last item is 1, whatever its rank beyond."""
        return ranks_of(
            frozen(student),
            self.train_pairs,
            self.pool,
            depth=self.pool.shape[1] + math.ceil(_SATURATED * self.temperature),
            batch_size=self.batch_size,
        )

    @torch.no_grad()
    def _ranks_in_pool(self, student: Backbone) -> Tensor:
        """Ranks among the items of the user's pool; of equal scores the teacher's best is first."""
        vectors, ranks = student.embed(), torch.empty_like(self.pool)
        users = torch.arange(len(self.pool), device=self.pool.device)
        for rows in self._blocks():
            pool = self.pool[rows].long()
            scores = dots(*vectors, users[rows], pool.clamp(min=0))
            scores = scores.masked_fill_(pool < 0, -torch.inf)
            order = scores.argsort(dim=1, descending=True, stable=True)
            ranks[rows] = order.argsort(dim=1).int()
        return ranks

    def loss(self, batch: Batch, vectors: Vectors) -> Tensor:
        """The list loss of the batch's different users, over its number of interactions."""
        lists = self.lists.index_select(0, batch.users).long()
        there = (lists >= 0) & self.first_of(batch.users).unsqueeze(1)
        scores = dots(*vectors, batch.users, lists.clamp(min=0))
        under, over = scores.chunk(2, dim=1)
        has_under, has_over = there.chunk(2, dim=1)
        return list_loss(under, over, has_under, has_over).sum() / len(batch.users)
