"""The users and items of a step side by side: their rows of the teacher's and student's vectors."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from kdrec.errors import UsageError
from kdrec.kernels.first import FirstOf
from kdrec.kernels.rows import lookup
from kdrec.methods.base import Teacher
from kdrec.models.base import Batch, Vectors


class Rows(NamedTuple):
    """Some users, or some items, of which each counts once.

    On a CPU there are no repeats; elsewhere the host would wait for their number.

    Args:
        ids: Which users or items. Shape [n].
        teacher: Their vectors, without gradient. Shape [n, d_t].
        student: Their vectors, with gradient. Shape [n, d_s].
        first: 1.0 for the first row of an id and 0.0 for its repeats. Shape [n].
    """

    ids: Tensor
    teacher: Tensor
    student: Tensor
    first: Tensor


class StepRows:
    """Looks the rows of a step up: its users; its positive and negative items.

    Args:
        teacher: Known by its vectors.
        device: Where to train.

    Raises:
        UsageError: If the teacher has no vectors.
    """

    def __init__(self, teacher: Teacher, device: torch.device) -> None:
        if teacher.embedder is None:
            raise UsageError(
                "The teacher is known by its scores alone; the method needs its vectors.",
                "Use a teacher such as bprmf or lightgcn.",
            )
        with torch.no_grad():
            self.users, self.items = (part.detach().to(device) for part in teacher.embedder.embed())
        self._first_users = FirstOf(len(self.users), device)
        self._first_items = FirstOf(len(self.items), device)

    def __call__(self, batch: Batch, vectors: Vectors) -> tuple[Rows, Rows]:
        """Users, at most [B], and items, at most [2 B], of the batch."""
        return (
            _rows(self._first_users, batch.users, self.users, vectors.users),
            _rows(self._first_items, batch.pairs(), self.items, vectors.items),
        )


def _rows(first_of: FirstOf, ids: Tensor, teacher: Tensor, student: Tensor) -> Rows:
    first = first_of(ids)
    if ids.device.type == "cpu":
        ids = ids.index_select(0, torch.from_numpy(np.flatnonzero(first.numpy())))
        first = torch.ones_like(ids, dtype=torch.bool)
    real = student.dtype
    return Rows(ids, teacher.index_select(0, ids).to(real), lookup(student, ids), first.to(real))
