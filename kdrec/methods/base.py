"""What a distillation method is given and what it must do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kdrec.models.base import Backbone, Batch, Embedder, Scorer, Vectors

NEEDS = {
    "scores": "any teacher",
    "vectors": "a teacher with vectors",
    "trajectory": "teachers with checkpoints of their training",
    "training": "a teacher that is learnt by gradient descent and ranks by its vectors",
}
"""What a method may ask of its teacher, `needs` in its config file, and how that is called."""


@dataclass(frozen=True, slots=True)
class Teacher:
    """A trained recommender, never changed.

    Args:
        scorer: Its scores.
        embedder: Its vectors; None for a teacher that is known by its scores alone.
        trajectory: What it was at some epochs of its training, the first first, itself last; empty
            if that was not kept.
        members: The teachers whose ensemble it is; empty for a single one.
        fresh: Makes an untrained model of its kind, for methods that train the teacher along with
            the student; None for one that is not learnt by gradient descent.
    """

    scorer: Scorer
    embedder: Embedder | None
    trajectory: tuple[Scorer, ...] = ()
    members: tuple[Teacher, ...] = ()
    fresh: Callable[[torch.Generator], Backbone] | None = None


class Distiller(nn.Module, ABC):
    """Adds the teacher's knowledge to the student's loss.

    The loop minimises `student.loss + weight * distiller.loss`. Parameters of the distiller join
    the optimiser.

    A training that was interrupted goes on from the end of an epoch, with a method that was made
    anew. Learnt parameters and the generator are put back by the trainer; a method that keeps
    anything else from one epoch to the next, such as a ranking that serves several, or what was
    drawn once, hands it out by `snapshot` and takes it back by `resume`.
    """

    def snapshot(self) -> dict[str, Any]:
        """What it keeps between epochs: tensors, numbers, texts, None, or lists of them.

        Always the same keys. The parts of a method that are distillers themselves are asked on
        their own.
        """
        return {}

    def resume(self, snapshot: Mapping[str, Any]) -> None:
        """Takes it back, in a method that was made with the same options; tensors are its own."""

    def told(self) -> dict[str, float]:
        """What a user should know of how far it is, by name: columns of `history.csv`.

        Always the same names, none of them one of the loop's. Only the method itself is asked, not
        the methods that it is made of.
        """
        return {}

    @abstractmethod
    def begin_epoch(self, epoch: int, generator: torch.Generator, student: Backbone) -> None:
        """Draws what the epoch needs.

        Args:
            epoch: From 1.
            generator: The only source of randomness.
            student: As it stands; `frozen` makes a scorer of it, for its ranking of the items.
        """

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


def parts(distiller: Distiller) -> dict[str, Distiller]:
    """The method and the methods that it is made of, by their names within it."""
    return {name: part for name, part in distiller.named_modules() if isinstance(part, Distiller)}
