"""Early stopping: the best state so far, and when to give up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn


@dataclass
class EarlyStopping:
    """Keeps the parameters of the epoch with the highest validation value.

    Args:
        patience: Epochs without a rise after which training stops.
    """

    patience: int
    best_value: float = float("-inf")
    best_epoch: int = 0
    state: dict[str, Tensor] = field(default_factory=dict)

    def update(self, value: float, epoch: int, model: nn.Module) -> bool:
        """Notes the value of an epoch; True if training should stop."""
        if value > self.best_value:
            self.best_value, self.best_epoch = value, epoch
            self.state = {name: part.detach().clone() for name, part in model.state_dict().items()}
        return epoch - self.best_epoch >= self.patience

    def snapshot(self) -> dict[str, Any]:
        """The best so far: value, epoch and parameters."""
        return {"value": self.best_value, "epoch": self.best_epoch, "state": self.state}

    def resume(self, snapshot: Mapping[str, Any]) -> None:
        """Goes on from a snapshot."""
        self.best_value, self.best_epoch = snapshot["value"], snapshot["epoch"]
        self.state = dict(snapshot["state"])

    def restore(self, model: nn.Module) -> None:
        """Puts the best parameters back."""
        model.load_state_dict(self.state)
