"""HTD (Kang et al., KDD 2021): hierarchical topology distillation.

A small student cannot copy the cosines of all pairs. HTD learns groups of users and groups of items
and asks for two coarser things: the cosines within a group, and those with the groups' prototypes.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from kdrec.data.interactions import Interactions
from kdrec.kernels.rows import lookup
from kdrec.kernels.topology import (
    positive_topology_distance,
    topology_distance,
    topology_distance_within,
    unit_rows,
)
from kdrec.methods.base import Distiller, Teacher
from kdrec.methods.experts import Experts, Temperature, annealed
from kdrec.methods.rows import Rows, StepRows
from kdrec.methods.visits import Items, Unique, When
from kdrec.models.base import Backbone, Batch, Vectors
from kdrec.ranges import Count, Share, check_ranges
from kdrec.seeding import torch_stream


class HTD(Distiller):
    """Hierarchical topology distillation.

    K groups of users and K of items. A gate `W t + b` on the teacher's vector t says which group an
    entity belongs to, and the gates are learnt: a group is what one small network f_k can map from
    the student's vectors to the teacher's. Over the unique users and items of a step, positives and
    negatives,

        `L = alpha L_TD + (1 - alpha) L_GA`,
        `L_GA = sum_x |t_x - sum_k z_xk f_k(s_x)|^2`,  `z_x ~ GumbelSoftmax(W t_x + b; T)`,
        `L_TD = sum_(p,q of one group) (cos(t_p, t_q) - cos(s_p, s_q))^2 + L_G`,

    where the groups of L_TD are the arg max of the gates and its pairs are ordered, each entity
    with itself included. A group's prototype P is the mean of its members' vectors, in the
    teacher's space and in the student's, taken as a constant. L_G is

    - `group_level="second"`: `sum_(k,x) (cos(P^t_k, t_x) - cos(P^s_k, s_x))^2`, over all groups of
      both kinds and all entities; `own_group=False` leaves an entity's own group out;
    - `group_level="first"`: `sum_(k,l) (cos(P^t_k, P^t_l) - cos(P^s_k, P^s_l))^2`; this teaches
      only with `prototype_gradient=True`.

    The squares of the teacher's own cosines move no parameter and would take a third of an epoch
    (`kdrec.kernels.topology`): they are left out of what is reported, which may be negative, of
    `pairs="all"`, of `group_level="first"`, and of "second" with the default options.

    T falls geometrically from `first_temperature` in the first epoch to `last_temperature` after
    `anneal_epochs`, and then stays. The published code anneals over the largest number of epochs.

    The published code adds lambda L to a data loss that is a sum over the step's B interactions.
    Here the data loss is their mean, so that with `norm="interactions"` L is divided by B as well:
    then the whole is the published one divided by B, and lambda means the same. `norm="sum"` leaves
    L as it is. With `visits="once"` L_GA is that of a share of all users and items, each once an
    epoch and with the weight of the steps that are expected to have it (`kdrec.methods.visits`):
    the same in expectation; with batches of 8192 an epoch of CiteULike takes a third to two thirds
    of the time. With "batch" it is as published. L_TD is of the step's own users and items in both
    cases.

    The published code counts, within groups, only pairs whose teacher's cosine is above 0
    (`pairs="positive"`; slower on an accelerator, which then looks at every pair), and its "first"
    has no gradient. The variant in UnKD's code is `alpha=1 own_group=false pairs=positive`: L_GA
    has no weight and the gates stay as they started, so that the temperature, there 0.1, does not
    matter. It also takes a LightGCN student's vectors before propagation, which is not offered.

    Departures: a vector of zeros has the cosine 0 with all others, where the published code
    divides by 0; the gate's chances are not raised by 1e-10.

    Args:
        train: Training pairs.
        teacher: Known by its vectors.
        student_dim: Width of the student's vectors.
        n_groups: K.
        alpha: Share of L_TD.
        group_level: "second" or "first".
        pairs: "all" pairs of a group, or the "positive".
        own_group: Whether "second" compares an entity with its own group's prototype.
        prototype_gradient: Whether the student's prototypes are learnt, too.
        first_temperature: T of the first epoch.
        last_temperature: T after the last epoch of annealing.
        anneal_epochs: How many epochs it falls.
        norm: "interactions" or "sum".
        visits: Of L_GA: "once" or "batch".
        seed: Draws how gates and networks start.
        batch_size: Not used; no users are scored.
        device: Where to train.

    Raises:
        UsageError: If an option is out of its range, or the teacher has no vectors.
    """

    def __init__(
        self,
        train: Interactions,
        teacher: Teacher,
        *,
        student_dim: Count,
        n_groups: Count,
        alpha: Share,
        group_level: Literal["second", "first"],
        pairs: Literal["all", "positive"],
        own_group: bool,
        prototype_gradient: bool,
        first_temperature: Temperature,
        last_temperature: Temperature,
        anneal_epochs: Count,
        norm: Literal["interactions", "sum"],
        visits: When,
        seed: int,
        batch_size: int,
        device: torch.device,
    ) -> None:
        super().__init__()
        check_ranges(HTD.__init__, locals())
        self.student_dim, self.n_groups, self.alpha = student_dim, n_groups, alpha
        self.group_level, self.pairs, self.own_group = group_level, pairs, own_group
        self.prototype_gradient, self.norm = prototype_gradient, norm
        #: Whether L_G takes no pass of its own: it comes with the groups' Gram matrices.
        self.folds = (pairs, group_level, own_group) == ("all", "second", True)
        self.folds &= not prototype_gradient
        self.annealing = (first_temperature, last_temperature, anneal_epochs)
        self.rows = StepRows(teacher, device)
        draw = torch_stream(seed, "experts")
        self.users, self.items = (
            Experts(
                targets,
                student_dim=student_dim,
                n_experts=n_groups,
                expert="relu_inside",
                generator=draw,
            )
            for targets in (self.rows.users, self.rows.items)
        )
        self.visit_users = Unique(train, visits, device)
        self.visit_items = Items(train, visits, device)
        self.requires_grad_(alpha < 1)  # at 1 nothing teaches the groups
        #: T of this epoch.
        self.temperature = first_temperature
        #: Draws this epoch's Gumbel noise.
        self.noise = torch.Generator(device=device)

    def begin_epoch(self, epoch: int, generator: torch.Generator, student: Backbone) -> None:  # noqa: ARG002
        """Sets the temperature; draws the start of the epoch's Gumbel noise, and who is visited."""
        self.temperature = annealed(epoch, *self.annealing)
        if self.alpha < 1:
            start = torch.randint(1 << 62, (), generator=generator, device=generator.device)
            self.noise.manual_seed(int(start))
            for visits in (self.visit_users, self.visit_items):
                visits.begin_epoch(generator)

    def loss(self, batch: Batch, vectors: Vectors) -> Tensor:
        """`alpha L_TD + (1 - alpha) L_GA` of this step's users and items."""
        users, items = self.rows(batch, vectors)
        loss = self.alpha * self._topology(users, items) / len(batch.users)
        if self.alpha < 1:
            of_users = self._assignment(self.users, vectors.users, *self.visit_users.of_step(batch))
            of_items = self._assignment(self.items, vectors.items, *self.visit_items.of_step(batch))
            loss = loss + (1 - self.alpha) * (of_users + of_items)
        return loss if self.norm == "interactions" else loss * len(batch.users)

    def _assignment(self, experts: Experts, table: Tensor, ids: Tensor, weights: Tensor) -> Tensor:
        """L_GA of the users, or of the items, by the step's interactions."""
        shares = experts.shares(ids, self.temperature, self.noise)
        projected: Tensor = experts(lookup(table, ids), shares, weights > 0)
        distances = (experts.targets.index_select(0, ids) - projected).square().sum(1)
        return distances @ weights.to(distances.dtype)

    @torch.no_grad()
    def groups(self, experts: Experts, rows: Rows) -> Tensor:
        """The group that the gate finds likeliest for each row. Shape [n], int64."""
        if self.n_groups == 1:
            return torch.zeros_like(rows.ids)
        return torch.addmm(experts.gate_bias, rows.teacher, experts.gate).argmax(1)

    def _topology(self, users: Rows, items: Rows) -> Tensor:
        """L_TD of the users and items together."""
        rows = Rows(*(torch.cat(pair) for pair in zip(users, items, strict=True)))
        of_user, of_item = self.groups(self.users, users), self.groups(self.items, items)
        groups = torch.cat([of_user, of_item + self.n_groups])
        teacher, student = (unit_rows(part, rows.first) for part in (rows.teacher, rows.student))
        members = self._members(groups, teacher.dtype)
        prototypes = self._prototypes(rows, members)
        if self.folds:
            return topology_distance_within(teacher, student, groups, 2 * self.n_groups, prototypes)
        if self.pairs == "positive":
            n = len(of_user)
            entity = positive_topology_distance(teacher[:n], student[:n], of_user)
            entity = entity + positive_topology_distance(teacher[n:], student[n:], of_item)
        else:
            entity = topology_distance_within(teacher, student, groups, 2 * self.n_groups)
        if self.group_level == "first":
            return entity + topology_distance(*prototypes)
        of_teacher, of_student = prototypes
        gap = (teacher @ of_teacher.T - student @ of_student.T).square()
        if not self.own_group:
            gap = gap * (1 - members)
        return entity + gap.sum()

    def _members(self, groups: Tensor, real: torch.dtype) -> Tensor:
        """1 for the group of a row, 0 for the others. Shape [n, 2 K]."""
        kinds = torch.arange(2 * self.n_groups, device=groups.device)
        return (groups.unsqueeze(1) == kinds).to(real)

    def _prototypes(self, rows: Rows, members: Tensor) -> tuple[Tensor, Tensor]:
        """Unit rows of the groups' prototypes, [2 K, d_t] and [2 K, d_s]."""
        with torch.set_grad_enabled(self.prototype_gradient and torch.is_grad_enabled()):
            # Sums in place of means: no cosine depends on a prototype's length.
            sums = (members * rows.first.unsqueeze(1)).T
            return unit_rows(sums @ rows.teacher), unit_rows(sums @ rows.student)
