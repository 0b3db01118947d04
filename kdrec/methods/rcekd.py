"""RCE-KD (ICLR 2026, arXiv 2509.20989): cross-entropy on sets that the student's ranking closes.

On a subset of the items, cross-entropy with the teacher's probabilities bounds the student's NDCG
only if the subset is closed: with an item it must have what the student ranks above it. The
teacher's best items are not. RCE-KD splits them into those that are among the student's best as
well and the rest, and brings the rest near to closure with items that the student ranks above.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from kdrec.data.interactions import Interactions
from kdrec.errors import UsageError
from kdrec.kernels.dots import dots
from kdrec.kernels.topk import top
from kdrec.kernels.without_replacement import draw_places, some_rows
from kdrec.methods.base import Distiller, Teacher
from kdrec.methods.soft_labels import RanksAt, rank_all
from kdrec.methods.visits import PerInteraction, When
from kdrec.models.base import Backbone, Batch, Vectors, frozen
from kdrec.models.score_table import Columns, score_tables
from kdrec.ranges import Count, NonNegative, Positive, check_ranges
from kdrec.seeding import torch_stream

_RANKING = ("score_of_best", "place_of_best", "listed", "score_of_listed")
_NOTHING = -1e30  # score of what is not there: its probability is 0, and no difference is NaN


class RCEKD(Distiller):
    """Rejuvenated cross-entropy.

    With the `n_top` best unseen items of the teacher `Q_T` and of the student `Q_S`, and
    `CE(A) = -sum_(i in A) softmax_A(t / temperature)_i log softmax_A(s / temperature)_i`, a user
    has the loss

        `(1 - gamma) CE(Q_S) + gamma CE(A)`,  `gamma = exp(-beta |Q_T & Q_S| / |Q_T|)`,

    where A is what of `Q_T` is not in `Q_S`, joined with `n_drawn` items that are drawn anew in
    each epoch, without replacement and with `P(j) ~ exp(z_j / draw_scale)`: z_j is how many items
    of `Q_T` the student ranks below j. The loss is the mean over a batch's interactions, so that
    active users count more: the published code adds its sum over them to the sum of the data
    loss, of which ours is the mean, and `weight` is that code's lambda, 100 to 500. With
    `visits="once"` an epoch goes over the users once, and each weighs as many times as it has
    interactions: the same mean; with "batch" it is as published.

    Decisions, and what the published code does otherwise:

    - Items are drawn from the `student_pool` best of the student, 200 in the code. Beyond them z
      is small, but not 0 where items of `Q_T` lie further down: the bound is the code's, not the
      paper's, and keeps memory at `n_users * student_pool`.
    - z counts all items of `Q_T` below j. The code counts j itself too if it is one of them, only
      down to the end of the student's pool, and 50 at the most: `counted="pool"`.
    - The code's gamma has the overlap of `Q_T` with the drawn items in place of that with `Q_S`:
      `gamma="sampled"`.
    - Items of training are left out of all sets; the code leaves them in: `mask_train=False`.
    - Teacher and student are both scored whole, some users at a time, once in `rank_every`
      epochs: the code asks the teacher for the scores of single items in each step.
    - The temperature divides the student's scores as well, as in the code.

    Args:
        train: Training pairs.
        teacher: Known by its scores.
        n_top: K, the size of `Q_T` and `Q_S`.
        n_drawn: L, how many items are drawn.
        student_pool: How many of the student's best items they are drawn from, `n_top` or more.
        temperature: tau of both softmaxes.
        draw_scale: How many items of `Q_T` below make an item e times as likely to be drawn.
        beta: How fast gamma falls with the overlap; the code: 3 to 10.
        gamma: Whose overlap with `Q_T` it falls with: "overlap", of `Q_S`; or "sampled".
        counted: What of `Q_T` z counts: "below", all that is ranked lower; or "pool", see above.
        mask_train: Whether training items are left out.
        rank_every: Epochs between two rankings by the student; items are drawn in each.
        visits: "once" or "batch": the users of a step, see `kdrec.methods.visits`.
        seed: Draws the order of the teacher's ties.
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
        n_top: Count,
        n_drawn: Count,
        student_pool: Count,
        temperature: Positive,
        draw_scale: Positive,
        beta: NonNegative,
        gamma: Literal["overlap", "sampled"],
        counted: Literal["below", "pool"],
        mask_train: bool,
        rank_every: Count,
        visits: When,
        seed: int,
        batch_size: int,
        device: torch.device,
    ) -> None:
        super().__init__()
        check_ranges(RCEKD.__init__, locals())
        if student_pool < n_top:
            raise UsageError(
                f"student_pool={student_pool} is too short for n_top={n_top}.",
                "The student's best n_top items are the head of its pool.",
            )
        self.teacher, self.n_users, self.n_items = teacher, train.n_users, train.n_items
        self.n_top, self.n_drawn, self.temperature = n_top, n_drawn, temperature
        self.draw_scale, self.beta, self.gamma, self.counted = draw_scale, beta, gamma, counted
        self.rank_every, self.batch_size = rank_every, batch_size
        nothing = np.empty(0, dtype=np.int64)
        self.mask = train
        if not mask_train:
            self.mask = Interactions(nothing, nothing, train.n_users, train.n_items)
        pools = rank_all(
            teacher.scorer,
            self.mask,
            pool=n_top,
            batch_size=batch_size,
            generator=torch_stream(seed, "ties"),
            device=device,
        )
        #: Q_T, -1 beyond its end. Shape [n_users, K], int32.
        self.best = pools.items[:, 0]
        #: The teacher's scores of Q_T. Shape [n_users, K].
        self.score_of_best = torch.empty(self.best.shape, device=device)
        #: The student's rank of each item of Q_T, M for none. Shape [n_users, K], int32.
        self.place_of_best = torch.empty_like(self.best)
        width = min(student_pool, train.n_items)
        #: The student's best items, -1 beyond their end. Shape [n_users, M], int32.
        self.listed = self.best.new_empty((train.n_users, width))
        #: The teacher's scores of them. Shape [n_users, M].
        self.score_of_listed = torch.empty(self.listed.shape, device=device)
        #: How many columns of `items` are Q_S; the others are A.
        self.split = min(n_top, width)
        width = self.split + min(n_drawn, width) + self.best.shape[1]
        #: Q_S, the drawn items and the rest of A; -1 for none. Shape [n_users, K + L + K], int32.
        self.items = self.best.new_full((train.n_users, width), -1)
        #: The teacher's probabilities in Q_S times 1 - gamma, and in A times gamma. As `items`.
        self.target = torch.zeros(self.items.shape, device=device)
        self.ranked = False
        self.visits = PerInteraction(train, visits)

    def begin_epoch(self, epoch: int, generator: torch.Generator, student: Backbone) -> None:
        """Ranks by the student where an epoch of ranking has come, and draws for all users."""
        if not self.ranked or (epoch - 1) % self.rank_every == 0:
            self._rank(student)
            self.ranked = True
        for rows in some_rows(self.listed):
            self._draw(rows, generator)
        self.visits.begin_epoch(generator)

    def snapshot(self) -> dict[str, Any]:
        """The student's ranking, with the teacher's scores, where it serves several epochs."""
        kept = self.ranked and self.rank_every > 1
        return {"ranking": [getattr(self, name) for name in _RANKING] if kept else None}

    def resume(self, snapshot: Mapping[str, Any]) -> None:
        """Takes them back."""
        if snapshot["ranking"] is not None:
            self.ranked = True
            for name, part in zip(_RANKING, snapshot["ranking"], strict=True):
                setattr(self, name, part)

    @torch.no_grad()
    def _rank(self, student: Backbone) -> None:
        """The student's lists, where in them the teacher's best items are, and their scores."""
        width = self.listed.shape[1]
        ranks_at = RanksAt(width)
        for first, by_student, by_teacher in self._tables(student):
            rows = slice(first, first + len(by_student))
            values, places = top(by_student, width)
            best = self.best[rows].long()
            self.place_of_best[rows] = ranks_at(by_student.shape[1], values, places, best).int()
            self.score_of_best[rows] = by_teacher.gather(1, best.clamp(min=0))
            self.listed[rows] = places.masked_fill(values == -torch.inf, -1).int()
            self.score_of_listed[rows] = by_teacher.gather(1, places)

    def _tables(self, student: Backbone) -> Iterator[tuple[int, Tensor, Tensor]]:
        """The student's and the teacher's scores of the same users, some at a time."""
        columns = Columns.all(self.n_items, self.listed.device)
        both = [
            score_tables(
                scorer,
                np.arange(self.n_users),
                mask=[self.mask],
                columns=columns,
                batch_size=self.batch_size,
            )
            for scorer in (frozen(student), self.teacher.scorer)
        ]
        for (first, by_student), (_, by_teacher) in zip(*both, strict=True):
            yield first, by_student, by_teacher

    def _draw(self, rows: slice, generator: torch.Generator) -> None:
        """The sets of some users, with the teacher's probabilities in them."""
        best, place, listed = self.best[rows], self.place_of_best[rows].long(), self.listed[rows]
        width, exists = listed.shape[1], best >= 0
        # Column `width` takes what has no place in the list.
        is_best = torch.zeros((len(listed), width + 1), dtype=torch.int64, device=listed.device)
        is_best.scatter_(1, place, 1)
        is_listed = is_best[:, :width]
        if self.counted == "below":
            z = exists.sum(1, keepdim=True) - is_listed.cumsum(1)
        else:
            z = is_listed.sum(1, keepdim=True) - is_listed.cumsum(1) + is_listed
            z.clamp_(max=50)
        log_weights = (z / self.draw_scale).masked_fill_(listed < 0, -torch.inf)
        drawn = draw_places(log_weights, self.n_drawn, generator)

        is_drawn = torch.zeros_like(is_best, dtype=torch.bool).scatter_(1, drawn, value=True)
        is_drawn[:, width] = False
        among_drawn, among_best = is_drawn.gather(1, place), place < self.split
        alone = exists & ~among_drawn & ~among_best
        common = among_best if self.gamma == "overlap" else among_drawn
        share = common.sum(1, keepdim=True) / exists.sum(1, keepdim=True).clamp(min=1)
        gamma = torch.exp(-self.beta * share)

        padded = functional.pad(listed, (0, 1), value=-1)
        scores = functional.pad(self.score_of_listed[rows], (0, 1))
        closed = self._probabilities(
            self.score_of_listed[rows][:, : self.split], listed[:, : self.split] >= 0
        )
        items = torch.cat([padded.gather(1, drawn), best.masked_fill(~alone, -1)], 1)
        rest = torch.cat([scores.gather(1, drawn), self.score_of_best[rows]], 1)
        self.items[rows] = torch.cat([listed[:, : self.split], items], 1)
        self.target[rows] = torch.cat(
            [(1 - gamma) * closed, gamma * self._probabilities(rest, items >= 0)], 1
        )

    def _probabilities(self, scores: Tensor, there: Tensor) -> Tensor:
        """Softmax of each row over what is there; 0 elsewhere."""
        scores = (scores / self.temperature).masked_fill(~there, _NOTHING)
        return scores.softmax(1).masked_fill_(~there, 0.0)

    def loss(self, batch: Batch, vectors: Vectors) -> Tensor:
        """Both cross-entropies of the step's users, weighted and summed."""
        users, weights = self.visits.of_step(batch)
        items = self.items.index_select(0, users).long()
        scores = dots(*vectors, users, items.clamp(min=0)) / self.temperature
        scores = scores.masked_fill(items < 0, _NOTHING)
        parts = (scores[:, : self.split], scores[:, self.split :])
        log_probabilities = torch.cat([part.log_softmax(1) for part in parts], 1)
        target = self.target.index_select(0, users)
        cross = (target * log_probabilities).masked_fill(items < 0, 0.0)
        return -cross.sum(1) @ weights.to(cross.dtype)
