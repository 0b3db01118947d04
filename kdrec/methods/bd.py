"""BD (Kweon, Kang and Yu, WWW 2021): teacher and student learn together, each from the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from kdrec.data.interactions import Interactions
from kdrec.errors import UsageError
from kdrec.kernels.dots import dots
from kdrec.kernels.draws import draw_columns, uniform
from kdrec.methods.base import Distiller, Teacher
from kdrec.models.base import Backbone, Batch, Scorer, Vectors, frozen
from kdrec.models.score_table import Columns, score_tables
from kdrec.ranges import Count, NonNegative, Positive, check_ranges
from kdrec.seeding import torch_stream


def ranks(scores: Tensor) -> Tensor:
    """Rank of each item in its row, 0 for the highest score; [B, n] to [B, n], int64."""
    order = scores.argsort(dim=1, descending=True, stable=True)
    places = torch.arange(scores.shape[1], device=scores.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places)


def better_by_far(lead: Tensor, scale: float) -> Tensor:
    """What the student learns from: `tanh(max(scale lead, 0))` of the teacher's lead in ranks."""
    return lead.mul(scale).clamp_(min=0).tanh_()


def better(lead: Tensor, scale: float) -> Tensor:
    """What the teacher learns from: `exp(scale lead)`, up to a factor, of the student's lead."""
    weight = lead.mul(scale)
    return weight.sub_(weight.amax(dim=1, keepdim=True)).exp_()


class BD(Distiller):
    """Bidirectional distillation: a teacher of its own is trained along with the student.

    For each training pair (u, i) of a step an item j of the user's unseen items is drawn for the
    student, and another, k, for the teacher. With the scores s of the student and t of the
    teacher, the two minimise, as means over the step's pairs,

        `L_S = data loss + weight BCE(s_uj, sigmoid(t_uj / tau))`,
        `L_T = data loss + teacher_weight BCE(t_uk, sigmoid(s_uk / tau))`,

    where BCE takes a logit and a target, and targets have no gradient. Items are drawn where the
    ranks of the two differ, the other one's rank being better. With ranks from the best,

        `P(j) ~ tanh(max(student_scale (rank_S(j) - rank_T(j)), 0))`,
        `P(k) ~ exp(teacher_scale (rank_T(k) - rank_S(k)))`.

    The teacher's data loss, its L2 penalty included, and its distillation join this method's loss,
    so that the trainer multiplies them by `weight` too. That changes nothing: the teacher shares
    no parameter with the student, and Adam's steps do not depend on a positive factor of a
    parameter's loss, as long as its gradients are far above Adam's epsilon: a weight below 1e-3
    slows the teacher down. With `weight=0` the teacher learns nothing. Its learning rate and
    batches are the student's.

    The teacher that was trained beforehand is not used: it is in the tables to be compared with,
    and says what model the method's own is. Where no item of a user has a positive weight, as if
    all ranks agree, nothing is distilled.

    Scores are dot products of vectors, which must rank a user's items as the teacher does: the
    teacher may be one of `debias=pd`, whose loss it then has and whose s_ui is t, but not of
    `debias=pda`.

    Decisions and departures: the paper's losses are sums over the pairs of a batch, the data loss
    included; here all are means, which leaves their ratio. The published notebook counts ranks
    from the lowest score, so that it draws items that the *other* one ranks far worse
    (`sign_defect`); and it scores training items 0, so that they may be drawn: here they never
    are. Items are drawn anew in each epoch, from ranks that are renewed every `rank_every` epochs;
    these epochs' draws are kept, 8 bytes an epoch and training pair, and 16 more while drawing.

    Args:
        train: Training pairs.
        teacher: Makes an untrained model of its kind.
        teacher_weight: Weight of what the teacher learns from the student.
        tau: Temperature of the targets.
        student_scale: Of the law of the student's items, 1 over a difference in ranks.
        teacher_scale: Of the law of the teacher's items; at 1e-4 nearly uniform.
        rank_every: Epochs between two rankings of the whole catalogue by both.
        l2: Weight of the teacher's L2 penalty.
        sign_defect: Draws by the opposite sign, as the published notebook does.
        seed: Draws the teacher's initial parameters.
        batch_size: Users ranked at once.
        device: Where to draw and train.

    Raises:
        UsageError: If an option is out of its range, or the teacher makes no fresh model, or one
            whose vectors do not rank as it does.
    """

    def __init__(
        self,
        train: Interactions,
        teacher: Teacher,
        *,
        teacher_weight: NonNegative,
        tau: Positive,
        student_scale: Positive,
        teacher_scale: NonNegative,
        rank_every: Count,
        l2: NonNegative,
        sign_defect: bool,
        seed: int,
        batch_size: int,
        device: torch.device,
    ) -> None:
        super().__init__()
        check_ranges(BD.__init__, locals())
        if teacher.fresh is None:
            raise UsageError(
                "method=bd trains its teacher, and this one is not learnt by gradient descent.",
                "Use teacher=bprmf or teacher=lightgcn.",
            )
        self.teacher = teacher.fresh(torch_stream(seed, "teacher")).to(device)
        if not self.teacher.ranks_by_vectors:
            raise UsageError(
                "method=bd learns from dot products, and this teacher does not rank by them.",
                "Use debias=none or debias=pd.",
            )
        self.teacher_weight, self.tau, self.l2 = teacher_weight, tau, l2
        self.student_scale, self.teacher_scale = student_scale, teacher_scale
        self.rank_every, self.sign_defect = rank_every, sign_defect
        self.train_pairs, self.batch_size, self.device = train, batch_size, device
        #: The number of each training pair, `user * n_items + item`, ascending. Shape [n].
        self.keys = torch.from_numpy(train.keys()).to(device)
        #: For the student and for the teacher, of each epoch until the next ranking, the item of
        #: each training pair, -1 for none. Shape [rank_every, n, 2], int32.
        self.drawn = torch.empty(0, dtype=torch.int32)
        self.first_epoch = 0
        #: This epoch's. Shape [n, 2].
        self.items = self.drawn

    def begin_epoch(self, epoch: int, generator: torch.Generator, student: Backbone) -> None:
        """Takes the epoch's items, drawing those of `rank_every` epochs first where they end."""
        if not len(self.drawn) or not 0 <= epoch - self.first_epoch < self.rank_every:
            self.drawn, self.first_epoch = self._draw(frozen(student), generator), epoch
        self.items = self.drawn[epoch - self.first_epoch]

    def snapshot(self) -> dict[str, Any]:
        """The items of all epochs until the next ranking; the teacher's parameters are learnt."""
        return {"drawn": self.drawn, "first_epoch": self.first_epoch}

    def resume(self, snapshot: Mapping[str, Any]) -> None:
        """Takes them back."""
        self.drawn, self.first_epoch = snapshot["drawn"], snapshot["first_epoch"]

    @torch.no_grad()
    def _draw(self, student: Scorer, generator: torch.Generator) -> Tensor:
        train = self.train_pairs
        shape = (self.rank_every, len(train), 2)
        drawn = torch.empty(shape, dtype=torch.int32, device=self.device)
        # All at once, so that no draw depends on how many users are scored together.
        numbers = uniform(torch.Size(shape), generator)
        columns, everyone = Columns.all(train.n_items, self.device), np.arange(train.n_users)
        tables = (
            score_tables(
                scorer, everyone, mask=[train], columns=columns, batch_size=self.batch_size
            )
            for scorer in (student, frozen(self.teacher))
        )
        starts, users = train.indptr(), torch.from_numpy(train.users).to(self.device)
        for (first, of_student), (_, of_teacher) in zip(*tables, strict=True):
            unseen = of_student > -torch.inf
            lead = (ranks(of_student) - ranks(of_teacher)).float()
            if self.sign_defect:
                lead = -lead
            pairs = slice(int(starts[first]), int(starts[first + len(unseen)]))
            rows = users[pairs] - first
            for side, weight in enumerate(
                (better_by_far(lead, self.student_scale), better(-lead, self.teacher_scale))
            ):
                drawn[:, pairs, side] = draw_columns(
                    weight * unseen,
                    rows.expand(self.rank_every, -1),
                    numbers[:, pairs, side].contiguous(),
                ).int()
        return drawn

    def loss(self, batch: Batch, vectors: Vectors) -> Tensor:
        """What the student learns from the teacher, and the whole loss of the teacher."""
        keys = batch.users * self.train_pairs.n_items + batch.positives
        drawn = self.items.index_select(0, torch.searchsorted(self.keys, keys)).long()
        items, real = drawn.clamp(min=0), drawn >= 0
        own = self.teacher.embed()
        student, teacher = (dots(*of, batch.users, items) for of in (vectors, own))
        for_student = self._distilled(student[:, 0], teacher[:, 0], real[:, 0])
        for_teacher = self._distilled(teacher[:, 1], student[:, 1], real[:, 1])
        data = self.teacher.loss(batch, own, self.l2)
        return for_student + data + self.teacher_weight * for_teacher

    def _distilled(self, logits: Tensor, other: Tensor, real: Tensor) -> Tensor:
        """`BCE(logit, sigmoid(other / tau))`, the mean over pairs; 0 where no item was drawn."""
        target = other.detach().div(self.tau).sigmoid_()
        return functional.binary_cross_entropy_with_logits(logits, target, real.to(logits.dtype))
