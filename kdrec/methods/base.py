"""What a distillation method is given and what it must do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdrec.models.base import Batch, Embedder, Scorer, Vectors


@dataclass(frozen=True, slots=True)
class Teacher:
    """A trained recommender, never changed.

    Args:
        scorer: Its scores.
        embedder: Its vectors; None for a teacher that is known by its scores alone.
    """

    scorer: Scorer
    embedder: Embedder | None


class Distiller(nn.Module, ABC):
    """Adds the teacher's knowledge to the student's loss.

    The loop minimises `student.loss + weight * distiller.loss`. Parameters of the distiller join
    the optimiser.
    """

    @abstractmethod
    def begin_epoch(self, epoch: int, generator: torch.Generator) -> None:
        """Draws what the epoch (from 1) needs, from this generator alone."""

    @abstractmethod
    def loss(self, batch: Batch, vectors: Vectors) -> Tensor:
        """The distillation loss of one step, a scalar.

        `kdrec.kernels` has `lookup` for some rows of a table and `dots` for the scores of each
        user's own items; they are several times as fast as indexing. Their gradients come by
        `backward` alone, `torch.autograd.grad` sees none.

        Args:
            batch: The step's training data.
            vectors: The student's vectors, with gradient; they hold for this step, so that what
                is to be kept must be cloned.
        """
