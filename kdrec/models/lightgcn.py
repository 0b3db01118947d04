"""LightGCN (He et al., SIGIR 2020): linear graph convolution over the training pairs."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse
import torch
from torch import Tensor, nn

from kdrec.data.interactions import Interactions
from kdrec.kernels.bpr import BPRLoss, squared_norm
from kdrec.kernels.propagate import MeanOfLayers
from kdrec.models.base import Backbone, Batch, Vectors
from kdrec.models.sparse import to_torch
from kdrec.ranges import Count, Natural, NonNegative, check_ranges


def normalised_adjacency(train: Interactions) -> Tensor:
    """`D^-1/2 A D^-1/2` of the bipartite graph, sparse CSR, [n_users + n_items] squared.

    A node without a neighbour has an empty row: its propagated vector is zero.
    """
    pairs = scipy.sparse.coo_array(
        (np.ones(len(train)), (train.users, train.items)), shape=(train.n_users, train.n_items)
    )
    graph = scipy.sparse.block_array([[None, pairs], [pairs.T, None]], format="csr")
    scale = scipy.sparse.diags_array(1.0 / np.sqrt(np.maximum(graph.sum(axis=1), 1)))
    return to_torch(scipy.sparse.csr_array(scale @ graph @ scale))


class LightGCN(Backbone):
    """Mean of the layers 0..L of `E^(l+1) = D^-1/2 A D^-1/2 E^(l)`.

    No self-loops, no weights, no dropout; the tables start at N(0, init_std^2).

    Args:
        train: Training pairs, the edges of the graph.
        dim: Width of the vectors.
        n_layers: Number L of propagations.
        init_std: Standard deviation of the initial vectors.
        generator: Draws the initial vectors.
    """

    def __init__(
        self,
        train: Interactions,
        *,
        dim: Count,
        n_layers: Natural,
        init_std: NonNegative,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        check_ranges(LightGCN.__init__, locals())
        self.n_users = train.n_users
        self.table = nn.Parameter(torch.empty(train.n_users + train.n_items, dim))
        nn.init.normal_(self.table, std=init_std, generator=generator)
        self.adjacency = normalised_adjacency(train)
        self.mean = MeanOfLayers(n_layers, train.n_users)
        self.bpr = BPRLoss()

    def _apply(self, fn: Any, recurse: bool = True) -> LightGCN:  # noqa: FBT001, FBT002
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.adjacency = fn(self.adjacency)
        return self

    def embed(self) -> Vectors:
        """The mean over layers, split into users and items."""
        return Vectors(*self.mean(self.adjacency, self.table))

    def loss(self, batch: Batch, vectors: Vectors, l2: float) -> Tensor:
        """BPR on the propagated vectors, with the penalty on the rows of layer zero."""
        data = self.bpr(*vectors, batch.users, batch.pairs(), 0.0)
        return data + self.penalty(batch, l2)

    def penalty(self, batch: Batch, l2: float) -> Tensor:
        """On the rows of layer zero."""
        rows = torch.cat([batch.users, batch.pairs() + self.n_users])
        return squared_norm(self.table, rows) * (0.5 * l2 / len(batch.users))
