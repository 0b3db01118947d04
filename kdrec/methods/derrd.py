"""DE-RRD (Kang et al., CIKM 2020): the teacher's vectors and its ranking together."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from kdrec.data.interactions import Interactions
from kdrec.methods.base import Distiller, Teacher
from kdrec.methods.de import DE
from kdrec.methods.rrd import RRD
from kdrec.models.base import Backbone, Batch, Vectors
from kdrec.ranges import NonNegative, check_ranges


class DERRD(Distiller):
    """`de_weight * DE + rrd_weight * RRD`, with all options of both.

    The two weights are the paper's lambdas, so that lambda itself is 1.

    Args:
        train: Training pairs.
        teacher: With vectors.
        de: Makes the DE part.
        rrd: Makes the RRD part.
        de_weight: Lambda of DE.
        rrd_weight: Lambda of RRD.
        seed: Draws the experts' parameters and the order of ties.
        batch_size: Users scored at once.
        device: Where to draw and train.

    Raises:
        UsageError: If an option is out of its range, or the teacher has no vectors.
    """

    def __init__(
        self,
        train: Interactions,
        teacher: Teacher,
        *,
        de: Callable[..., DE],
        rrd: Callable[..., RRD],
        de_weight: NonNegative,
        rrd_weight: NonNegative,
        seed: int,
        batch_size: int,
        device: torch.device,
    ) -> None:
        super().__init__()
        check_ranges(DERRD.__init__, locals())
        self.de = de(train, teacher, seed=seed, batch_size=batch_size, device=device)
        self.rrd = rrd(train, teacher, seed=seed, batch_size=batch_size, device=device)
        self.de_weight, self.rrd_weight = de_weight, rrd_weight

    def begin_epoch(self, epoch: int, generator: torch.Generator, student: Backbone) -> None:
        """Begins the epoch of both."""
        self.rrd.begin_epoch(epoch, generator, student)
        self.de.begin_epoch(epoch, generator, student)

    def loss(self, batch: Batch, vectors: Vectors) -> Tensor:
        """The weighted sum of both losses."""
        of_de, of_rrd = (part.loss(batch, vectors) for part in (self.de, self.rrd))
        return self.de_weight * of_de + self.rrd_weight * of_rrd
