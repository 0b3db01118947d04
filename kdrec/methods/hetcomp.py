"""HetComp (Kang et al., WWW 2023): from the trajectories of several teachers, easy lists first.

The lists of an ensemble of unlike teachers are hard to learn. What each teacher ranked early in
its training is easier, and so a student is led along the teachers' trajectories.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
import torch
from torch import Tensor

from kdrec.data.interactions import Interactions
from kdrec.errors import UsageError
from kdrec.kernels.rows import lookup
from kdrec.methods.base import Distiller, Teacher
from kdrec.methods.curriculum import Curriculum
from kdrec.methods.soft_labels import rank_all
from kdrec.methods.trajectories import best_positives, merged, stacked
from kdrec.models.base import Backbone, Batch, Vectors, frozen
from kdrec.models.score_table import pairs_of
from kdrec.ranges import Count, Positive, Range, Share, check_ranges
from kdrec.seeding import torch_stream


class HetComp(Distiller):
    """Curriculum over checkpoints; then a set loss, later a list loss.

    Each teacher t has checkpoints 0 to C-1 of its training, itself last. A user starts at the
    first of each and moves on by the student's distance to the next one (see `Curriculum`). The
    user's list are the `top` unseen items of highest importance `sum_t exp(-rank_t(i) / T)`, each
    teacher ranking as at the user's checkpoint of it; the positives P are the user's training
    items of highest importance by the finished teachers, each ranking the training items alone.
    With s clamped to +-40, `Z(A) = sum_(i in A) e^s_i` and `rest(L)` the unseen items outside L,
    the early stage has the unordered loss

        `L_set = sum_u sum_(i in P + top) -log(e^s_i / (e^s_i + Z(rest(top))))`

    and, when nearly all users are at all teachers' ends, the final stage the ordered one

        `L_rank = sum_u M(P, rest(top/2)) + (M(top/2, rest(top/2)) + M(top/10, rest(top/10))) / 2`,
        `M(L, R) = sum_k -log(e^s_Lk / (sum_(j >= k) e^s_Lj + Z(R)))`,

    the negative log-likelihood of the order of L before all of R. There is no loss of the data
    beside it. An epoch is one pass over the users, of whom a step takes its share; the loss is the
    sum over the step's users.

    Decisions, where the text was not at hand or the code takes its input from files: an item's
    importance is by its rank alone (the paper's Eq. (8) comes precomputed), and beyond the first
    `top` ranks it is 0; a list takes half of a user's unseen items at most, so that something is
    left below it; the published code visits each user of a batch in each batch, which is many
    passes in an epoch.

    Departures from the published code: an NDCG gains by the rank that the teacher gave a hit
    (`gain="student"`: by the place in the student's list, as the code has it); a user at distance 0
    of the next list moves on, where the code stays; sums are masked, where the code subtracts;
    `l2` has no effect, being part of the loss of the data, where the code has a weight decay of
    1e-5.

    Args:
        train: Training pairs.
        teacher: With a trajectory, or an ensemble whose members have one each.
        top: Length of a list, at least 10.
        positives: Most training items of a user that are taught.
        temperature: T.
        alpha: See `Curriculum`.
        shrink: See `Curriculum`.
        rank_every: Epochs between two looks at the student's ranking.
        depth: Of the NDCG.
        gain: "teacher" or "student".
        done: Share of steps taken, over users and teachers, that ends the early stage.
        set_weight: Of the early loss.
        rank_weight: Of the final loss.
        clamp: Bound of the scores, at most 40 so that no sum overflows.
        seed: Draws the order of ties.
        batch_size: Users scored at once.
        device: Where to train.

    Raises:
        UsageError: If an option is out of its range, or a teacher has no trajectory.
    """

    def __init__(
        self,
        train: Interactions,
        teacher: Teacher,
        *,
        top: Annotated[int, Range(10)],
        positives: Count,
        temperature: Positive,
        alpha: Positive,
        shrink: Share,
        rank_every: Count,
        depth: Count,
        gain: Literal["teacher", "student"],
        done: Share,
        set_weight: Positive,
        rank_weight: Positive,
        clamp: Annotated[float, Range(0, strictly=True, most=40)],
        seed: int,
        batch_size: int,
        device: torch.device,
    ) -> None:
        super().__init__()
        check_ranges(HetComp.__init__, locals())
        members = teacher.members or (teacher,)
        if not all(member.trajectory for member in members):
            raise UsageError(
                "HetComp needs the checkpoints of each teacher's training.",
                "Add teacher_fit.checkpoints=4.",
            )
        self.train_pairs, self.top, self.temperature = train, top, temperature
        self.rank_every, self.depth, self.done = rank_every, depth, done
        self.set_weight, self.rank_weight, self.clamp = set_weight, rank_weight, clamp
        self.batch_size, self.device = batch_size, device
        ties = torch_stream(seed, "ties")
        #: Lists of each teacher and checkpoint. Shape [n_users, n_teachers, C, top], int32.
        self.lists = stacked(
            members, train, width=max(top, depth), batch_size=batch_size, generator=ties,
            device=device,
        )  # fmt: skip
        #: Which of items of equal importance comes first. Shape [n_items].
        self.lot = torch.randperm(train.n_items, generator=ties).to(device)
        ends = torch.tensor([len(member.trajectory) - 1 for member in members], device=device)
        self.curriculum = Curriculum(
            self.lists[..., :depth], ends, alpha=alpha, shrink=shrink, gain=gain,
            batch_size=batch_size,
        )  # fmt: skip
        #: Training items, best first, and how many. Shapes [n_users, positives] and [n_users].
        self.positives, self.n_positives = best_positives(
            [member.scorer for member in members], train, lot=self.lot, most=positives,
            temperature=temperature, batch_size=batch_size,
        )  # fmt: skip
        unseen = train.n_items - np.bincount(train.users, minlength=train.n_users)
        self.most = torch.from_numpy(unseen).to(device) // 2
        self.final = False
        self._take_lists()
        self.order = torch.empty(0, dtype=torch.int64)

    def _take_lists(self) -> None:
        """The ensemble's list of each user, of the checkpoints where the user is."""
        #: Items, best first, the first again beyond the end. Shape [n_users, top], int32.
        self.items, sizes = merged(
            self.lists[..., : self.top], self.curriculum.place, lot=self.lot,
            temperature=self.temperature, batch_size=self.batch_size,
        )  # fmt: skip
        self.sizes = torch.minimum(sizes, self.most)
        self.final = self.curriculum.share_done() >= self.done

    def snapshot(self) -> dict[str, Any]:
        """Where the users are; their lists and the stage follow from it."""
        return {"place": self.curriculum.place, "before": self.curriculum.before}

    def resume(self, snapshot: Mapping[str, Any]) -> None:
        """Takes it back."""
        self.curriculum.place, self.curriculum.before = snapshot["place"], snapshot["before"]
        self._take_lists()

    def told(self) -> dict[str, float]:
        """The share of all users' steps that is taken, and whether the final stage has begun.

        A training that stops before it has learnt from easy lists alone.
        """
        return {"steps_taken": self.curriculum.share_done(), "final_stage": float(self.final)}

    def begin_epoch(self, epoch: int, generator: torch.Generator, student: Backbone) -> None:
        """Moves users on every `rank_every` epochs; draws the order in which they are visited."""
        looks, due = divmod(epoch - 1, self.rank_every)
        if looks and not due and not self.final:
            number = torch.randint(2**62, (), generator=generator, device=generator.device)
            ranked = rank_all(
                frozen(student), self.train_pairs, pool=self.depth, batch_size=self.batch_size,
                generator=torch.Generator().manual_seed(int(number)), device=self.device,
            )  # fmt: skip
            self.curriculum.look(ranked.items[:, 0], looks)
            self._take_lists()
        n_users = self.train_pairs.n_users
        self.order = torch.randperm(n_users, generator=generator, device=generator.device)
        users = self.order.cpu().numpy()
        rows, items = pairs_of(users, self.train_pairs)
        #: First training pair of each place in the order, and the end. Shape [n_users + 1].
        self.starts = np.searchsorted(rows, np.arange(n_users + 1))
        self.rows, self.seen = (torch.from_numpy(part).to(self.device) for part in (rows, items))

    def loss(self, batch: Batch, vectors: Vectors) -> Tensor:
        """`set_weight * L_set` or `rank_weight * L_rank` on this step's users."""
        n_users = self.train_pairs.n_users
        first = batch.step * n_users // batch.n_steps
        last = (batch.step + 1) * n_users // batch.n_steps
        users = self.order[first:last]
        scores = (lookup(vectors.users, users) @ vectors.items.T).clamp(-self.clamp, self.clamp)
        pairs = slice(self.starts[first], self.starts[last])
        cells = (self.rows[pairs] - first) * scores.shape[1] + self.seen[pairs]
        mass = scores.exp().view(-1).index_fill(0, cells, 0.0).view(scores.shape)
        liked = _List(scores, self.positives[users], self.n_positives[users])
        ranked = _List(scores, self.items[users], self.sizes[users])
        if not self.final:
            rest = ranked.mass_outside(mass)
            return self.set_weight * (liked.as_set(rest) + ranked.as_set(rest)).sum()
        half, tenth = ranked.first(self.top // 2), ranked.first(self.top // 10)
        rest = half.mass_outside(mass)
        lists = (half.in_order(rest) + tenth.in_order(tenth.mass_outside(mass))) / 2
        return self.rank_weight * (liked.in_order(rest) + lists).sum()


class _List:
    """A list of items of each user, with their scores.

    Args:
        scores: Of all items, clamped. Shape [B, n_items].
        items: Best first, any item beyond the end. Shape [B, n].
        sizes: Lengths. Shape [B].
    """

    def __init__(self, scores: Tensor, items: Tensor, sizes: Tensor) -> None:
        self.table, self.items, self.sizes = scores, items.long(), sizes
        self.real = torch.arange(items.shape[1], device=items.device) < sizes.unsqueeze(1)
        self.scores = scores.gather(1, self.items)

    def first(self, n: int) -> _List:
        """The first n."""
        return _List(self.table, self.items[:, :n], self.sizes)

    def mass_outside(self, mass: Tensor) -> Tensor:
        """Sum of `mass`, [B, n_items], over the items that are not in the list. Shape [B, 1]."""
        inside = torch.zeros_like(mass).scatter_reduce_(
            1, self.items, self.real.to(mass.dtype), "amax"
        )
        return (mass * (1 - inside)).sum(1, keepdim=True)

    def as_set(self, rest: Tensor) -> Tensor:
        """`sum_i -log(e^s_i / (e^s_i + rest))`. Shape [B]."""
        return ((self.scores.exp() + rest).log() - self.scores).mul(self.real).sum(1)

    def in_order(self, rest: Tensor) -> Tensor:
        """`sum_k -log(e^s_k / (sum_(j >= k) e^s_j + rest))`. Shape [B]."""
        mass = self.scores.exp() * self.real
        below = mass.flip(1).cumsum(1).flip(1) + rest
        below = torch.where(self.real, below, 1.0)
        return (below.log() - self.scores).mul(self.real).sum(1)
