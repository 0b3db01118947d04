"""The pairwise loss of Bayesian personalised ranking (Rendle et al., UAI 2009)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from kdrec.models.base import Batch, Vectors
from kdrec.models.lookup import lookup


def bpr_l2(batch: Batch, vectors: Vectors, penalised: Vectors, l2: float) -> Tensor:
    """BPR of a batch with an L2 penalty on the rows that it touches.

    `mean_b -log sigmoid(<e_u, e_i> - <e_u, e_j>) + l2 * sum_b (|e_u|^2+|e_i|^2+|e_j|^2) / (2 B)`

    Args:
        batch: Users, positives and negatives, each [B].
        vectors: What is scored.
        penalised: What the penalty is on: the same vectors for a factorisation, those of layer
            zero for a graph convolution.
        l2: Weight of the penalty.
    """
    pairs = torch.cat([batch.positives, batch.negatives])
    users, items = lookup(vectors.users, batch.users), lookup(vectors.items, pairs)
    positive, negative = items.chunk(2)
    loss = functional.softplus((users * (negative - positive)).sum(1)).mean()
    if penalised is not vectors:
        users, items = lookup(penalised.users, batch.users), lookup(penalised.items, pairs)
    size = len(batch.users)
    return loss + l2 * 0.5 * (users.square().sum() + items.square().sum()) / size
