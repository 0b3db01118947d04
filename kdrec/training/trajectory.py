"""States of a training on the way to its best epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn

State = Mapping[str, Tensor]


class Kept(NamedTuple):
    """One evaluation's parameters: its number from 1, its epoch, and they themselves."""

    number: int
    epoch: int
    state: State


class Trajectory:
    """Keeps states of a training, few at any time, of which `n` are spread evenly in the end.

    The best epoch is not known before the end. Up to the best so far every `stride`-th evaluation
    is kept, and the stride is doubled whenever these are more than 2 n; of those after it at most
    n, in the same way, for it may yet turn out that the best comes later.

    Args:
        n: How many are wanted, the best included; 0 and 1 keep nothing.
    """

    def __init__(self, n: int) -> None:
        self.n = n
        self._number = 0
        self._before: list[Kept] = []
        self._since: list[Kept] = []
        self._stride = self._since_stride = 1

    def update(self, epoch: int, model: nn.Module, *, best: bool) -> None:
        """Notes an evaluation.

        Args:
            epoch: Which epoch's.
            model: As it was evaluated.
            best: Whether none before was as good.
        """
        if self.n < 2:
            return
        self._number += 1
        if not best and self._number % self._since_stride:
            return
        state = {name: part.detach().clone() for name, part in model.state_dict().items()}
        now = Kept(self._number, epoch, state)
        if best:
            self._before, self._stride = _thinned(
                [*self._before, *self._since, now], self._stride, 2 * self.n
            )
            self._since, self._since_stride = [], self._stride
        else:
            self._since, self._since_stride = _thinned(
                [*self._since, now], self._since_stride, self.n
            )

    def snapshot(self) -> dict[str, Any]:
        """What is kept, and the counts by which more will be."""
        return {
            "number": self._number,
            "before": [tuple(one) for one in self._before],
            "since": [tuple(one) for one in self._since],
            "strides": [self._stride, self._since_stride],
        }

    def resume(self, snapshot: Mapping[str, Any]) -> None:
        """Goes on from a snapshot."""
        self._number = snapshot["number"]
        self._before = [Kept(*one) for one in snapshot["before"]]
        self._since = [Kept(*one) for one in snapshot["since"]]
        self._stride, self._since_stride = snapshot["strides"]

    def spread(self, best_epoch: int, best: State) -> list[tuple[int, State]]:
        """Epoch and parameters of n states or, if fewer were evaluated, of fewer; the best last.

        Those before it are the kept ones nearest to `best_epoch * k / n`, k = 1 to n - 1.
        """
        if self.n < 2:
            return []
        there = [one for one in self._before if one.epoch < best_epoch]
        found: list[tuple[int, State]] = []
        start, wanted = 0, min(self.n - 1, len(there))
        for k in range(1, wanted + 1):
            stop = len(there) - (wanted - k)
            near = min(
                range(start, stop), key=lambda at: abs(there[at].epoch - best_epoch * k / self.n)
            )
            found.append((there[near].epoch, there[near].state))
            start = near + 1
        return [*found, (best_epoch, best)]


def _thinned(kept: list[Kept], stride: int, most: int) -> tuple[list[Kept], int]:
    """Those whose number the stride divides, and the stride, doubled until they are few."""
    while True:
        kept = [one for one in kept if one.number % stride == 0]
        if len(kept) <= most:
            return kept, stride
        stride *= 2
