"""DE, distillation experts (Kang et al., CIKM 2020): the teacher's vectors as hints."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from kdrec.data.interactions import Interactions
from kdrec.errors import UsageError
from kdrec.kernels.rows import lookup
from kdrec.methods.base import Distiller, Teacher
from kdrec.methods.experts import Experts, Temperature, annealed
from kdrec.methods.visits import HalfItems, Unique, When
from kdrec.models.base import Backbone, Batch, Vectors
from kdrec.ranges import Count, check_ranges
from kdrec.seeding import torch_stream


class DE(Distiller):
    """Regression of the teacher's vectors on the student's, through experts chosen for each.

    Users and items have M experts each, `E_m: d_s -> (d_s + d_t) / 2 -> d_t`, and a gate on the
    teacher's vector t, whose Gumbel-softmax at temperature T gives the shares z. With s the
    student's vectors as the backbone gives them, the loss of a step of B interactions is

        `L = (1/B) [sum_u |t_u - sum_m z_m E_m(s_u)|^2 + 1/2 (sum_pos + sum_neg) |t_i - ...|^2]`

    over the unique users, positive items and negative items of the batch. The published code adds
    the sum to the sum of the data loss over the interactions, of which ours is the mean, so that
    `weight` is its lambda; it grows with the teacher's dimension. With `visits="once"` an epoch
    goes over the users and the items once, and each weighs as often as it is expected in the
    batches; with "batch" it is as published.

    T falls geometrically from `first_temperature` in the first epoch to `last_temperature` after
    `anneal_epochs`, and then stays. The published code anneals over the largest number of epochs.
    So does `conf/method/de.yaml`, whose `anneal_epochs` is `fit.epochs`: a longer or shorter fit
    anneals more slowly or faster. With 1000, T is 0.1 after 100 epochs and 0.001 after 300, where
    nearly every row has one expert, so that stopping early changes little. The first 75 of these
    epochs, in which many experts have a share, cost two to three times the later
    ones on a CPU, and eight times with `visits="batch"`; a smaller `anneal_epochs` shortens them.

    Departures: the gate is `softmax((W t + b + g) / T)`, where the published code adds 1e-10 to
    the probabilities before their logarithm; the optimiser's weight decay does not reach the
    experts; the Gumbel noise is drawn anew in each step from the method's own generator.

    The variant in the published code of UnKD is `expert=relu_last n_experts=5` with both
    temperatures 10 and lambda 0.001; its outputs cannot be negative. It also takes a LightGCN
    student's vectors before propagation, which is not offered.

    Args:
        train: Training pairs.
        teacher: With vectors.
        student_dim: Width of the student's vectors.
        n_experts: M.
        expert: "relu_inside", Linear-ReLU-Linear, or "relu_last", Linear-Linear-ReLU.
        first_temperature: Of the first epoch.
        last_temperature: After the last epoch of annealing.
        anneal_epochs: How many epochs it falls.
        visits: "once" or "batch": the users and items of a step, see `kdrec.methods.visits`.
        seed: Draws the experts' parameters.
        batch_size: Not used.
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
        n_experts: Count,
        expert: Literal["relu_inside", "relu_last"],
        first_temperature: Temperature,
        last_temperature: Temperature,
        anneal_epochs: Count,
        visits: When,
        seed: int,
        batch_size: int,
        device: torch.device,
    ) -> None:
        super().__init__()
        check_ranges(DE.__init__, locals())
        if teacher.embedder is None:
            raise UsageError("DE needs a teacher with vectors.", "teacher=bprmf has vectors.")
        self.annealing = (first_temperature, last_temperature, anneal_epochs)
        generator = torch_stream(seed, "experts")
        self.users, self.items = (
            Experts(
                targets.detach().to(device),
                student_dim=student_dim,
                n_experts=n_experts,
                expert=expert,
                generator=generator,
            )
            for targets in teacher.embedder.embed()
        )
        self.visit_users = Unique(train, visits, device)
        self.visit_items = HalfItems(train, visits, device)
        #: T of this epoch.
        self.temperature = first_temperature
        #: Draws the Gumbel noise.
        self.generator = torch.Generator()

    def begin_epoch(self, epoch: int, generator: torch.Generator, student: Backbone) -> None:  # noqa: ARG002
        """Sets the temperature, draws the order of users and items, keeps the generator."""
        self.temperature = annealed(epoch, *self.annealing)
        self.generator = generator
        for visits in (self.visit_users, self.visit_items):
            visits.begin_epoch(generator)

    def project(self, experts: Experts, ids: Tensor, vectors: Tensor, used: Tensor) -> Tensor:
        """What the experts make of the student's vectors of these users or items.

        Args:
            experts: `self.users` or `self.items`.
            ids: [B].
            vectors: Their student's vectors. Shape [B, d_s].
            used: Which rows matter. Shape [B], bool.

        Returns:
            [B, d_t].
        """
        shares = experts.shares(ids, self.temperature, self.generator)
        projected: Tensor = experts(vectors, shares, used)
        return projected

    def loss(self, batch: Batch, vectors: Vectors) -> Tensor:
        """The squares of the step's users and items, weighted and summed."""
        of_users = self._squares(self.users, vectors.users, *self.visit_users.of_step(batch))
        of_items = self._squares(self.items, vectors.items, *self.visit_items.of_step(batch))
        return of_users + of_items

    def _squares(self, experts: Experts, table: Tensor, ids: Tensor, weights: Tensor) -> Tensor:
        projected = self.project(experts, ids, lookup(table, ids), weights > 0)
        distances = (experts.targets.index_select(0, ids) - projected).square().sum(1)
        return distances @ weights.to(distances.dtype)
