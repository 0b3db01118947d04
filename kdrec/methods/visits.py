"""Whom a step's distillation loss is about, and what each weighs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from kdrec.data.interactions import IntArray, Interactions
from kdrec.kernels.first import FirstOf
from kdrec.models.base import Batch

FloatArray = npt.NDArray[np.float64]
When = Literal["once", "batch"]


class Pass:
    """One pass over the ids 0..n-1 in each epoch, in random order, a share of them in each step.

    A sum over the ids of a step, times its number of steps, has over an epoch's steps the mean
    that is the sum over all ids.

    Args:
        n: How many ids.
    """

    def __init__(self, n: int) -> None:
        self.n = n
        #: The ids in the order of this epoch. Shape [n].
        self.order = torch.empty(0, dtype=torch.int64)

    def begin_epoch(self, generator: torch.Generator) -> None:
        """Draws the order."""
        self.order = torch.randperm(self.n, generator=generator, device=generator.device)

    def of_step(self, batch: Batch) -> Tensor:
        """The step's share of the ids."""
        first = batch.step * self.n // batch.n_steps
        last = (batch.step + 1) * self.n // batch.n_steps
        return self.order[first:last]


class Visits(ABC):
    """The ids, of users or of items, whose losses make a step's loss, and their weights.

    "batch" is what papers do: a step is about what stands in its batch, whose number of
    interactions its sum is divided by, as our data loss is. "once" is the same in expectation
    with far fewer visits: an epoch goes over the ids once, a share of them in each step, and an id
    weighs as many times as "batch" is expected to visit it in an epoch. With N pairs and S steps
    an id that is visited v times has in its one step the weight `v S / N`; as the mean over steps
    is `v / N` in both cases, so is its gradient, if the student stood still.

    The N pairs are taken to fall into S steps of N / S; a shorter last step is not seen.

    Args:
        when: "once" or "batch".
        n: Ids are 0..n-1.
        n_pairs: N.
    """

    def __init__(self, when: When, n: int, n_pairs: int) -> None:
        self.when, self.ids, self.n_pairs = when, Pass(n), n_pairs
        self._n_steps = 0
        self._weights = torch.empty(0)

    @abstractmethod
    def in_batch(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Ids [n] and how many visits each place is [n]; an id may stand in many places."""

    @abstractmethod
    def expected(self, n_steps: int) -> FloatArray:
        """How many visits each id is expected to have in an epoch of `n_steps`. Shape [n]."""

    def begin_epoch(self, generator: torch.Generator) -> None:
        """Draws the order of the ids, after all else of the epoch.

        So `when` changes no other draw of the first epoch; those of later ones follow this one.
        """
        if self.when == "once":
            self.ids.begin_epoch(generator)

    def of_step(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Ids and their weights, [n] each: the loss is the weighted sum of theirs.

        A place of weight 0 may be left uncomputed.
        """
        if self.when == "batch":
            ids, visits = self.in_batch(batch)
            return ids, visits / len(batch.users)
        ids = self.ids.of_step(batch)
        if self._n_steps != batch.n_steps:
            self._n_steps = batch.n_steps
            weights = self.expected(batch.n_steps) * (batch.n_steps / self.n_pairs)
            self._weights = torch.from_numpy(weights.astype(np.float32)).to(ids.device)
        return ids, self._weights.index_select(0, ids)


class PerInteraction(Visits):
    """The user of each interaction: the mean over a batch's interactions.

    Args:
        train: Training pairs.
        when: "once" or "batch".
    """

    def __init__(self, train: Interactions, when: When) -> None:
        super().__init__(when, train.n_users, len(train))
        self.counts = train.user_counts()

    def in_batch(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Each place is one."""
        return batch.users, torch.ones(len(batch.users), device=batch.users.device)

    def expected(self, n_steps: int) -> FloatArray:  # noqa: ARG002
        """One for each interaction."""
        return self.counts.astype(np.float64)


class Unique(Visits):
    """The unique users, or the unique positive items, of a batch.

    Args:
        train: Training pairs.
        when: "once" or "batch".
        device: Where to train.
        of: "users" or "positives".
    """

    def __init__(
        self,
        train: Interactions,
        when: When,
        device: torch.device,
        of: Literal["users", "positives"] = "users",
    ) -> None:
        self.of, users = of, of == "users"
        self.counts: IntArray = train.user_counts() if users else train.item_counts()
        super().__init__(when, len(self.counts), len(train))
        self.first_of = FirstOf(len(self.counts), device)

    def in_batch(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The first place of each; all ids where these are fewer than the places."""
        ids: Tensor = getattr(batch, self.of)
        n = self.ids.n
        if len(ids) <= n:
            return ids, self.first_of(ids).float()
        there = torch.zeros(n, device=ids.device).index_fill_(0, ids, 1.0)
        return torch.arange(n, device=ids.device), there

    def expected(self, n_steps: int) -> FloatArray:
        """`expected_steps` of each id's pairs."""
        return expected_steps(self.counts, n_steps)


class Items(Visits):
    """The unique items of a batch, positives and negatives together.

    Args:
        train: Training pairs.
        when: "once" or "batch".
        device: Where to train.
    """

    def __init__(self, train: Interactions, when: When, device: torch.device) -> None:
        super().__init__(when, train.n_items, len(train))
        self.counts, self.chance = train.item_counts(), negative_chance(train)
        self.first_of = FirstOf(train.n_items, device)

    def in_batch(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The first place of each."""
        pairs = batch.pairs()
        return pairs, self.first_of(pairs).float()

    def expected(self, n_steps: int) -> FloatArray:
        """The steps with the item as positive, negative or both, drawn independently."""
        positive = expected_steps(self.counts, n_steps) / n_steps
        negative = in_some(self.chance, self.n_pairs / n_steps)
        either: FloatArray = n_steps * (positive + negative - positive * negative)
        return either


class HalfItems(Items):
    """The unique positive items and the unique negative ones of a batch, for half a visit each."""

    def in_batch(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The first place of each as positive, and of each as negative."""
        first = [self.first_of(ids) for ids in (batch.positives, batch.negatives)]
        return batch.pairs(), torch.cat(first) / 2

    def expected(self, n_steps: int) -> FloatArray:
        """Half the steps with the item as positive, and half of those with it as negative."""
        negative = n_steps * in_some(self.chance, self.n_pairs / n_steps)
        both: FloatArray = expected_steps(self.counts, n_steps) + negative
        return both / 2


def negative_chance(train: Interactions) -> FloatArray:
    """Chance of each item to be the negative of a random training pair. Shape [n_items]."""
    users = train.user_counts()
    chance = users / np.maximum(train.n_items - users, 1)
    own = np.bincount(train.items, weights=chance[train.users], minlength=train.n_items)
    found: FloatArray = np.maximum(chance.sum() - own, 0) / len(train)
    return found


def in_some(chance: FloatArray, n_draws: float) -> FloatArray:
    """Chance that at least one of so many independent draws is the one of this chance."""
    with np.errstate(divide="ignore"):  # log 0 where it is every draw's
        found: FloatArray = -np.expm1(np.log1p(-np.minimum(chance, 1)) * n_draws)
    return found


def expected_steps(counts: IntArray, n_steps: int) -> FloatArray:
    """How many steps of an epoch are expected to have an id of so many pairs.

    Each of the S steps has b = N / S of the N pairs, drawn without replacement, and lacks all n of
    the id's with the chance `prod_(k<n) (1 - b / (N - k))`: about `(1 - 1/S)^n`.

    Args:
        counts: Pairs n of each id; their sum is N.
        n_steps: S.

    Returns:
        `S (1 - chance)`, float64, of the shape of the counts.
    """
    pairs = counts.sum()
    left = pairs - np.arange(counts.max())
    with np.errstate(divide="ignore"):  # log 0 where some pair must be in the step
        one = np.log1p(-np.minimum(pairs / n_steps / left, 1))
    absent = np.append(0.0, one.cumsum())[counts]
    found: FloatArray = -np.expm1(absent) * n_steps
    return found
