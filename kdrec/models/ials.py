"""Implicit ALS (Hu, Koren and Volinsky, ICDM 2008), computed by the `implicit` package."""

from __future__ import annotations

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from kdrec.data.interactions import Interactions
from kdrec.errors import KdrecError
from kdrec.models.base import ClosedForm, Vectors
from kdrec.progress import task
from kdrec.ranges import Count, NonNegative, check_ranges


class IALS(ClosedForm):
    """Weighted matrix factorisation: confidence `1 + alpha` on training pairs, 1 elsewhere.

    Args:
        train: Training pairs.
        dim: Width of the vectors.
        reg: L2 regularisation.
        alpha: Extra confidence of a training pair.
        iterations: Sweeps over users and items.
        generator: Seeds the initial vectors.

    Raises:
        KdrecError: If `implicit` is not installed.
    """

    user_table: Tensor
    item_table: Tensor

    def __init__(
        self,
        train: Interactions,
        *,
        dim: Count,
        reg: NonNegative,
        alpha: NonNegative,
        iterations: Count,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        check_ranges(IALS.__init__, locals())
        self.dim, self.reg, self.alpha, self.iterations = dim, reg, alpha, iterations
        self.train_pairs = train
        self.seed = int(torch.randint(2**31, (), generator=generator))
        self.register_buffer("user_table", torch.zeros(train.n_users, dim))
        self.register_buffer("item_table", torch.zeros(train.n_items, dim))

    def fit(self) -> None:
        """Runs the alternating least squares, on one thread so that the result repeats."""
        try:
            from implicit.als import AlternatingLeastSquares  # noqa: PLC0415
        except ImportError as error:
            raise KdrecError(
                f"teacher=ials needs the package implicit ({error}).",
                "Install it with: pip install 'kdrec[ials]'",
            ) from error
        train = self.train_pairs
        matrix = scipy.sparse.csr_matrix(
            (np.ones(len(train), np.float32), (train.users, train.items)),
            shape=(train.n_users, train.n_items),
        )
        model = AlternatingLeastSquares(
            factors=self.dim,
            regularization=self.reg,
            alpha=1.0 + self.alpha,
            iterations=self.iterations,
            use_gpu=False,
            num_threads=1,
            random_state=self.seed,
        )
        with task("iALS", total=self.iterations, unit="iteration") as progress:
            model.fit(matrix, show_progress=False, callback=lambda *_: progress.advance())
        self.user_table.copy_(torch.from_numpy(np.asarray(model.user_factors)))
        self.item_table.copy_(torch.from_numpy(np.asarray(model.item_factors)))

    def embed(self) -> Vectors:
        """User and item vectors."""
        return Vectors(self.user_table, self.item_table)

    def scores(self, users: Tensor) -> Tensor:
        """[B] user indices to [B, n_items] scores."""
        return self.user_table[users] @ self.item_table.T
