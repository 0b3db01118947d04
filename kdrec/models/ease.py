"""EASE^R (Steck, WWW 2019): a linear item-item model in closed form."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import scipy.linalg
import scipy.sparse
import torch
from torch import Tensor

from kdrec.data.interactions import Interactions
from kdrec.errors import KdrecError
from kdrec.models.base import ClosedForm
from kdrec.models.sparse import to_torch
from kdrec.progress import task
from kdrec.ranges import Positive, check_ranges


def available_memory() -> int:
    """Bytes of physical memory that are free now."""
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


log = logging.getLogger(__name__)


class EASE(ClosedForm):
    """`S = X B` with `B = I - P diag(1 / diag P)` and `P = (X^T X + l2 I)^-1`.

    `X` is the binary [n_users, n_items] training matrix. The inverse is taken on the smaller
    side. With fewer users than items, `M = (X X^T + l2 I)^-1` gives `X P = M X` and
    `P_ii = (1 - x_i^T M x_i) / l2`, so that `S = X - M X / diag P` needs users squared instead of
    items squared. Only `P` or `M` is kept.

    Args:
        train: Training pairs.
        reg: The `l2` of the formulas.
        generator: Not used; every model takes one.
        free_memory: Tells the bytes that may be used.

    Raises:
        KdrecError: If the inverse does not fit into memory.
    """

    inverse: Tensor
    diagonal: Tensor

    def __init__(
        self,
        train: Interactions,
        *,
        reg: Positive,
        generator: torch.Generator,
        free_memory: Callable[[], int] = available_memory,
    ) -> None:
        super().__init__()
        del generator
        check_ranges(EASE.__init__, locals())
        self.reg = reg
        self.by_user = train.n_users < train.n_items
        size = min(train.n_users, train.n_items)
        need, free = 3 * 8 * size**2, free_memory()
        if need > free:
            raise KdrecError(
                f"EASE inverts a matrix of {size:,} x {size:,} and needs about "
                f"{need / 2**30:.1f} GiB; {free / 2**30:.1f} GiB are free.",
                "Filter more (dataset.filters.min_user, min_item), or use teacher=bprmf.",
            )
        log.info("EASE inverts %d x %d: about %.1f GiB for a while", size, size, need / 2**30)
        self.matrix = scipy.sparse.csr_array(
            (np.ones(len(train)), (train.users, train.items)),
            shape=(train.n_users, train.n_items),
        )
        self.register_buffer("inverse", torch.zeros(size, size))
        self.register_buffer("diagonal", torch.ones(train.n_items))
        self._sparse: Tensor | None = None

    def fit(self) -> None:
        """Inverts the regularised Gram matrix, in double precision."""
        x = self.matrix
        with task("EASE", total=3, unit="step") as progress:
            gram = (x @ x.T if self.by_user else x.T @ x).toarray()
            gram[np.diag_indices_from(gram)] += self.reg
            progress.advance()
            lower = scipy.linalg.cholesky(gram, lower=True, overwrite_a=True, check_finite=False)
            progress.advance()
            inverse, info = scipy.linalg.lapack.dpotri(lower, lower=True, overwrite_c=True)
            progress.advance()
        if info:
            raise KdrecError(
                f"EASE could not invert its matrix (LAPACK says {info}).",
                f"Raise reg, it is {self.reg}.",
            )
        inverse = np.tril(inverse) + np.tril(inverse, -1).T
        if self.by_user:
            quadratic: npt.NDArray[np.float64] = np.asarray(x.multiply(inverse @ x).sum(axis=0))
            diagonal = (1.0 - quadratic.ravel()) / self.reg
        else:
            diagonal = np.diag(inverse)
        self.diagonal.copy_(torch.from_numpy(np.ascontiguousarray(diagonal)))
        self.inverse.copy_(torch.from_numpy(inverse))

    def scores(self, users: Tensor) -> Tensor:
        """[B] user indices to [B, n_items] scores."""
        rows = torch.from_numpy(self.matrix[users.cpu().numpy()].toarray()).to(self.inverse)
        if not self.by_user:
            return rows - (rows @ self.inverse) / self.diagonal
        if self._sparse is None:
            self._sparse = to_torch(self.matrix.T.tocsr()).to(self.inverse.device)
        product = (self._sparse @ self.inverse[users].T).T
        return rows - product / self.diagonal
