"""One thread for work that is too small to share."""

from __future__ import annotations

from types import TracebackType

import torch

_SMALL = 1 << 17  # numbers that one thread goes over in the time that waking another one may take


class few_threads:  # noqa: N801  (reads as a statement)
    """Runs its block on one thread where it goes over few numbers.

    Waking a second thread takes from one to some forty microseconds, depending on what else the
    machine does; a step of a small model is thirty such blocks.

    Args:
        numbers: Size of the largest tensor in the block.
        calls: How many operators of that size the block has. The bound is on their product: a
            block of one operator wakes the others once, and may go over four times as much.
    """

    def __init__(self, numbers: int, *, calls: int = 4) -> None:
        self._before = torch.get_num_threads()
        self._switch = numbers * calls < 4 * _SMALL and self._before > 1

    def __enter__(self) -> None:
        if self._switch:
            torch.set_num_threads(1)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._switch:
            torch.set_num_threads(self._before)
