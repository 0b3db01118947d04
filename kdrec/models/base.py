"""What a recommender must be able to do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from kdrec.errors import KdrecError


@dataclass(frozen=True, slots=True)
class Batch:
    """One step's training data.

    Args:
        users: Users of the positive pairs. Shape [B], int64.
        positives: Their items. Shape [B], int64.
        negatives: For each pair an item that its user has not in training. Shape [B], int64.
        step: Which step of the epoch this is, from 0.
        n_steps: How many steps the epoch has.
    """

    users: Tensor
    positives: Tensor
    negatives: Tensor
    step: int
    n_steps: int

    def pairs(self) -> Tensor:
        """The positives, then the negatives. Shape [2 B]."""
        return torch.cat([self.positives, self.negatives])


class Vectors(NamedTuple):
    """User vectors [n_users, dim] and item vectors [n_items, dim]; their product is the score."""

    users: Tensor
    items: Tensor


@runtime_checkable
class Scorer(Protocol):
    """Scores all items for some users; higher is better."""

    def scores(self, users: Tensor) -> Tensor:
        """[B] user indices to [B, n_items] finite scores."""
        ...


@runtime_checkable
class Embedder(Protocol):
    """Shows the vectors whose dot product is the score, or ranks a user's items as it does."""

    def embed(self) -> Vectors:
        """User vectors [n_users, dim] and item vectors [n_items, dim]."""
        ...


class Backbone(nn.Module, ABC):
    """A recommender learnt by gradient descent: a scorer and an embedder with a loss.

    A step of training calls `embed` once and hands the vectors to all losses, so that a graph
    convolution is computed once a step.
    """

    #: Whether the dot products of its vectors rank a user's items as its scores do.
    ranks_by_vectors: ClassVar[bool] = True

    @abstractmethod
    def embed(self) -> Vectors:
        """User and item vectors, with gradient; they hold until the next call."""

    @abstractmethod
    def loss(self, batch: Batch, vectors: Vectors, l2: float) -> Tensor:
        """The data loss of one batch, its L2 penalty weighted by `l2` included; a scalar."""

    @abstractmethod
    def penalty(self, batch: Batch, l2: float) -> Tensor:
        """The part of `loss` that is the L2 penalty, a scalar.

        `l2 / (2 B)` times the squared norms of the parameters' rows of the batch, repeats counted.
        """

    def scores(self, users: Tensor) -> Tensor:
        """[B] user indices to [B, n_items] scores."""
        vectors = self.embed()
        return vectors.users[users] @ vectors.items.T

    def freeze(self) -> Scorer:
        """A scorer of the model as it stands; it shows its vectors if these rank as it does."""
        return EmbeddingScorer(self.copied())

    @torch.no_grad()
    def copied(self) -> Vectors:
        """The vectors as they stand, computed once and kept."""
        return Vectors(*(part.detach().clone() for part in self.embed()))


class ClosedForm(nn.Module, ABC):
    """A recommender that is computed from the training pairs, without an epoch."""

    @abstractmethod
    def fit(self) -> None:
        """Computes the buffers from the training pairs that the constructor was given."""

    @abstractmethod
    def scores(self, users: Tensor) -> Tensor:
        """[B] user indices to [B, n_items] scores."""


class EmbeddingScorer(nn.Module):
    """Fixed vectors: what a trained backbone is when it is only asked for scores."""

    def __init__(self, vectors: Vectors) -> None:
        super().__init__()
        self.vectors = Vectors(vectors.users.detach(), vectors.items.detach())

    def embed(self) -> Vectors:
        """The vectors as they are."""
        return self.vectors

    def scores(self, users: Tensor) -> Tensor:
        """[B] user indices to [B, n_items] scores."""
        return self.vectors.users[users] @ self.vectors.items.T


@torch.no_grad()
def frozen(model: nn.Module) -> Scorer:
    """The model as it stands, for scoring: a backbone's vectors are computed once."""
    if isinstance(model, Backbone):
        return model.freeze()
    if isinstance(model, Scorer):
        return model
    raise KdrecError(
        f"{type(model).__name__} cannot score.",
        "A model is a Backbone or a ClosedForm of kdrec.models.base.",
    )
