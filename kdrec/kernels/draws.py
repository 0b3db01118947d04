"""Random draws without a loop and without a wait for the device."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def uniform(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Uniform draws from [0, 1) on the generator's device, in float64 where the device has it."""
    device = generator.device
    real = torch.float32 if device.type == "mps" else torch.float64
    return torch.rand(shape, generator=generator, device=device, dtype=real)


def log_exponential(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Logarithms of exponential draws of mean 1, float32: Gumbel noise with its sign turned.

    All are finite: `torch.rand` gives multiples of 2^-24 below 1, and its 0 is made 2^-25. Taken
    so, it is four times as fast as `exponential_`, and no time is 0, which any weight would win.
    """
    number = torch.rand(shape, generator=generator, device=generator.device)
    return number.clamp_(min=2.0**-25).log_().neg_().log_()


class RankPairs:
    """Two ranks r < s below a size n, with `P(r, s) ~ exp(-(r + s) / mu)`, drawn by inversion.

    That is the law of two independent draws of `P(r) ~ exp(-r / mu)` given that they differ, put
    in order. With `q = exp(-1 / mu)` the weight of all pairs whose smaller rank is at most r is,
    up to a factor and in `y = 1 - q^(r+1)`,

        `W(y) = c y - a y^2`,  `a = q / (1 - q^2)`,  `c = 2 a - q^n / (1 - q)`,

    so that the smaller rank is the root of a quadratic equation; the larger one less r + 1 then
    follows the law of a single rank below n - 1 - r.

    Args:
        sizes: n of each pair, at least 2. Any shape, int64.
        mu: Scale of the law, in ranks.
    """

    def __init__(self, sizes: Tensor, mu: float) -> None:
        real = torch.float32 if sizes.device.type == "mps" else torch.float64
        self.sizes, self.mu = sizes, mu
        q, self._less = math.exp(-1 / mu), -math.expm1(-1 / mu)  # q and 1 - q
        self._a = q / (self._less * (1 + q))
        n = sizes.to(real)
        self._c = torch.expm1(-n / mu).div_(-self._less).sub_(1 / (1 + q))
        most = torch.expm1((1 - n) / mu).neg_()
        self._all = self._c * most - self._a * most.square()

    def draw(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The ranks r < s, of the shape of the sizes, int64."""
        shape = self.sizes.shape
        target = uniform(shape, generator).mul_(self._all)
        root = (self._c.square() - 4 * self._a * target).clamp_(min=0).sqrt_()
        y = target.mul_(2).div_(root.add_(self._c))
        first = y.neg_().log1p_().mul_(-self.mu).long()
        first = torch.minimum(first, self.sizes - 2)
        left = self.sizes - 1 - first
        return first, draw_ranks(left, self.mu, generator).add_(first).add_(1)


def draw_ranks(sizes: Tensor, mu: float, generator: torch.Generator) -> Tensor:
    """Ranks from 0, with `P(r) ~ exp(-r / mu)` for r below the size, by the inverse of the law.

    Args:
        sizes: Number of ranks, at least 1. Any shape.
        mu: Scale of the law, in ranks.
        generator: On the device of `sizes`.
    """
    number = uniform(sizes.shape, generator)
    mass = torch.expm1(sizes.to(number.dtype).div_(-mu))
    ranks = number.mul_(mass).log1p_().mul_(-mu).long()
    return torch.minimum(ranks, sizes - 1)


def draw_columns(weights: Tensor, rows: Tensor, numbers: Tensor) -> Tensor:
    """Columns drawn by their weight in a row, by the inverse of the law.

    Args:
        weights: Not below 0. Shape [n, m].
        rows: Which row each draw is from. Any shape, int64.
        numbers: From `uniform`, one for each row; overwritten. A draw depends on its own number
            and row alone, not on what other rows there are, up to 1e-12 of its chance.

    Returns:
        The columns, of the shape of the rows, int64; -1 where the row has no positive weight.
    """
    mass = weights.to(numbers.dtype).cumsum(dim=1)
    total = mass[:, -1:]
    # The rows' laws one after another, ascending: a row's is from its number to the next. A column
    # without weight ends where it starts and is never the first to exceed a number. The last
    # digits of a number are cut off, so that no sum is rounded up to the next row; the square root
    # is enough for 33 million rows, 1448 in float32, and is the same whatever their number.
    law = (mass / total.clamp(min=torch.finfo(mass.dtype).tiny)).add_(_counted(mass)).view(-1)
    eps = torch.finfo(mass.dtype).eps
    keep = 1 - max(eps**0.5, 2 * len(weights) * eps)
    found = torch.searchsorted(law, numbers.mul_(keep).add_(rows), right=True)
    found = found.sub_(rows * weights.shape[1])
    return found.masked_fill_(total.view(-1).take(rows) <= 0, -1)


def _counted(table: Tensor) -> Tensor:
    return torch.arange(len(table), device=table.device).unsqueeze(1)
