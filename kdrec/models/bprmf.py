"""Matrix factorisation trained with the BPR loss (Rendle et al., UAI 2009)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kdrec.data.interactions import Interactions
from kdrec.kernels.bpr import BPRLoss, squared_norm
from kdrec.models.base import Backbone, Batch, Vectors
from kdrec.ranges import Count, check_ranges


class BPRMF(Backbone):
    """`s_ui = <e_u, e_i>`, without biases.

    The tables start Xavier-uniform, as in the published code of UnKD.

    Args:
        train: Training pairs; only their sizes are used.
        dim: Width of the vectors.
        generator: Draws the initial vectors.
    """

    def __init__(self, train: Interactions, *, dim: Count, generator: torch.Generator) -> None:
        super().__init__()
        check_ranges(BPRMF.__init__, locals())
        self.user_table = nn.Parameter(torch.empty(train.n_users, dim))
        self.item_table = nn.Parameter(torch.empty(train.n_items, dim))
        self.bpr = BPRLoss()
        for table in (self.user_table, self.item_table):
            nn.init.xavier_uniform_(table, generator=generator)

    def embed(self) -> Vectors:
        """The two tables."""
        return Vectors(self.user_table, self.item_table)

    def loss(self, batch: Batch, vectors: Vectors, l2: float) -> Tensor:
        """BPR with the penalty on the rows of the batch."""
        return self.bpr(*vectors, batch.users, batch.pairs(), l2)

    def penalty(self, batch: Batch, l2: float) -> Tensor:
        """The penalty alone, on the rows of the two tables; `loss` has it from its kernel."""
        norms = squared_norm(self.user_table, batch.users)
        norms = norms + squared_norm(self.item_table, batch.pairs())
        return norms * (0.5 * l2 / len(batch.users))
