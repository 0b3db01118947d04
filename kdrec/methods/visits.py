"""One pass over the users in each epoch, a share of them in each step."""

from __future__ import annotations

from torch import Tensor

from kdrec.models.base import Batch


def users_of_step(order: Tensor, batch: Batch) -> Tensor:
    """The step's share of the users, so that an epoch's steps visit each of them once.

    A sum over the users of a step, times its number of steps, has over an epoch's steps the mean
    that is the sum over all users.

    Args:
        order: The users in the order of this epoch. Shape [n_users].
        batch: Says which step of how many this is.
    """
    first = batch.step * len(order) // batch.n_steps
    last = (batch.step + 1) * len(order) // batch.n_steps
    return order[first:last]
