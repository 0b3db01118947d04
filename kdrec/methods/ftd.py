"""FTD (Kang et al., KDD 2021): full topology distillation.

Vectors of different widths cannot be compared, but their topologies can: how alike each two users,
two items, or a user and an item are. The student copies the teacher's topology of each step.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from kdrec.data.interactions import Interactions
from kdrec.kernels.topology import topology_distance, unit_rows
from kdrec.methods.base import Distiller, Teacher
from kdrec.methods.rows import StepRows
from kdrec.models.base import Backbone, Batch, Vectors


class FTD(Distiller):
    """Full topology distillation.

    Over the unique users and items of a step, positives and negatives,

        `L = |A(T) - A(S)|_F^2`,  `A(X)_pq = cos(x_p, x_q)`,

    a sum over all ordered pairs, each with itself included, computed from Gram matrices in place of
    A, and reported without `|A(T)|_F^2`, which no parameter moves (`kdrec.kernels.topology`).

    The published code adds lambda L to a data loss that is a sum over the step's B interactions.
    Here the data loss is their mean, so that with `norm="interactions"` L is divided by B as well:
    then the whole is the published one divided by B, and lambda means the same. `norm="sum"` leaves
    L as it is.

    Departures: a vector of zeros has the cosine 0 with all others, where the published code
    divides by 0.

    Args:
        train: Not used; every method is given it.
        teacher: Known by its vectors.
        norm: "interactions" or "sum".
        seed: Not used; nothing is drawn.
        batch_size: Not used; no users are scored.
        device: Where to train.

    Raises:
        UsageError: If the teacher has no vectors.
    """

    def __init__(
        self,
        train: Interactions,  # noqa: ARG002
        teacher: Teacher,
        *,
        norm: Literal["interactions", "sum"],
        seed: int,  # noqa: ARG002
        batch_size: int,  # noqa: ARG002
        device: torch.device,
    ) -> None:
        super().__init__()
        self.norm = norm
        self.rows = StepRows(teacher, device)

    def begin_epoch(self, epoch: int, generator: torch.Generator, student: Backbone) -> None:
        """Nothing is drawn."""

    def loss(self, batch: Batch, vectors: Vectors) -> Tensor:
        """The distance of the two topologies of this step's users and items."""
        users, items = self.rows(batch, vectors)
        first = torch.cat([users.first, items.first])
        distance = topology_distance(
            unit_rows(torch.cat([users.teacher, items.teacher]), first),
            unit_rows(torch.cat([users.student, items.student]), first),
        )
        return distance / len(batch.users) if self.norm == "interactions" else distance
