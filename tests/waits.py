"""Sees where the host would wait for the device, on the CPU too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

WAITS = (
    "_local_scalar_dense",
    "nonzero",
    "masked_select",
    "unique",
    "is_nonzero",
    "equal.",
    "bincount",
)
"""Operators after which the host must wait: what they return depends on the numbers."""


class Seen(TorchDispatchMode):
    """Notes the name of every operator that torch runs."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        self.names.append(str(func).removeprefix("aten."))
        return func(*args, **(kwargs or {}))

    def waits(self) -> set[str]:
        return {name for name in self.names if any(part in name for part in WAITS)}
