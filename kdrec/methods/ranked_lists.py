"""Lists of a user's items, drawn by the teacher's ranking: some of its best, some of the rest."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from kdrec.data.interactions import Interactions
from kdrec.data.sampling import Rest
from kdrec.errors import UsageError
from kdrec.kernels.dots import dots
from kdrec.kernels.draws import uniform
from kdrec.kernels.listwise import list_loss
from kdrec.kernels.without_replacement import draw_distinct
from kdrec.methods.base import Teacher
from kdrec.methods.soft_labels import GroupPools
from kdrec.methods.visits import Visits
from kdrec.models.base import Batch, EmbeddingScorer, Vectors


class BestItems:
    """Draws of a user's best items without replacement, in the teacher's order.

    Rank r, from 0, is drawn with `P(r) ~ exp(-r / T)` among those that are left.

    Args:
        pools: The teacher's best items of each user, one group.
        count: How many to draw; a user with fewer has them all.
        temperature: T, in ranks; None takes the first ranks without a draw.
    """

    def __init__(self, pools: GroupPools, count: int, temperature: float | None) -> None:
        self.items, self.sizes = pools.items[:, 0], pools.sizes[:, 0]
        self.width = self.items.shape[1]
        self.count, self.temperature = min(count, self.width), temperature

    def draw(self, generator: torch.Generator) -> Tensor:
        """[n_users, count] items, int32, best first, then -1."""
        if self.temperature is None:
            return self.items[:, : self.count]
        drawn = draw_distinct(self.sizes, self.count, self.temperature, generator, width=self.width)
        ranks = drawn.sort(dim=1).values
        items = self.items.gather(1, ranks.clamp(max=self.width - 1))
        return items.masked_fill_(ranks == self.width, -1)


class OtherItems:
    """Uniform draws without replacement from what is neither in training nor in the pools.

    Robert Floyd's algorithm, for all users at once: of c numbers below n the i-th, from 0, is drawn
    from 0 to `n - c + i`, and is the last of these if what was drawn is there already.

    Args:
        pools: The teacher's best items of each user, one group.
        train: Training pairs.
        count: How many to draw; a user with fewer has them all.
    """

    def __init__(self, pools: GroupPools, train: Interactions, count: int) -> None:
        device, shape = pools.items.device, (train.n_users, pools.items.shape[2])
        items = pools.items[:, 0].cpu()
        pooled = torch.arange(train.n_users).unsqueeze(1).expand(shape)[items >= 0].numpy()
        both = Interactions.from_pairs(
            np.concatenate([train.users, pooled]),
            np.concatenate([train.items, items[items >= 0].numpy()]),
            n_users=train.n_users,
            n_items=train.n_items,
        )
        self.rest, self.count = Rest(both, device=device), min(count, train.n_items)

    def draw(self, generator: torch.Generator) -> Tensor:
        """[n_users, count] items, int32, then -1."""
        free = self.rest.free
        takes = free.clamp(max=self.count)
        numbers = uniform(torch.Size([self.count, len(free)]), generator)
        drawn = torch.empty(numbers.shape, dtype=torch.int64, device=free.device)
        for i in range(self.count):
            last = free - takes + i
            new = numbers[i].mul_(last + 1).long()
            again = (drawn[:i] == new).any(0)
            drawn[i] = torch.where(again, last, new)
        there = (torch.arange(self.count, device=free.device) < takes.unsqueeze(1)).flatten()
        users = torch.arange(len(free), device=free.device).repeat_interleave(self.count)
        places = torch.minimum(drawn.T.flatten(), (free - 1).clamp(min=0).index_select(0, users))
        items = self.rest.at(users, places).masked_fill_(~there, -1)
        return items.to(torch.int32).view(len(free), self.count)


def step_loss(
    lists: Tensor,
    n_listed: int,
    visits: Visits,
    batch: Batch,
    vectors: Vectors,
    *,
    sigmoid: bool = False,
) -> Tensor:
    """The list loss, weighted and summed over the users of the step.

    Args:
        lists: Items in order, then the others; -1 where there is none. Shape [n_users, K + L].
        n_listed: K.
        visits: Whom a step is about.
        batch: The step's.
        vectors: The student's.
        sigmoid: Whether the scores go through a sigmoid.
    """
    users, weights = visits.of_step(batch)
    items = lists.index_select(0, users).long()
    there = items >= 0
    scores = dots(*vectors, users, items.clamp_(min=0))
    if sigmoid:
        scores = scores.sigmoid()
    losses = list_loss(scores, there, n_listed)
    return losses @ weights.to(losses.dtype)


def turn(vectors: Vectors) -> Vectors:
    """Items in the place of users."""
    return Vectors(vectors.items, vectors.users)


def item_side(
    teacher: Teacher, train: Interactions, *, method: str, option: str, weight: float
) -> tuple[EmbeddingScorer, Interactions]:
    """The teacher and the pairs with items in the place of users.

    Args:
        teacher: With vectors.
        train: Training pairs.
        method: Who asks.
        option: Which of its options asks for the item side.
        weight: The option's value.

    Raises:
        UsageError: If the teacher has no vectors.
    """
    if teacher.embedder is None:
        raise UsageError(
            f"{option}={weight:g} ranks the users of each item, for which {method} needs a "
            "teacher with vectors.",
            f"Set method.distiller.{option}=0, or teacher=bprmf.",
        )
    turned = Interactions.from_pairs(
        train.items, train.users, n_users=train.n_items, n_items=train.n_users
    )
    return EmbeddingScorer(turn(teacher.embedder.embed())), turned
