"""All that a training is at the end of an epoch."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import Any

import torch

from kdrec.training.average import Average
from kdrec.training.stopping import EarlyStopping
from kdrec.training.trainer import Trainer
from kdrec.training.trajectory import Trajectory
from kdrec.training.tree import Tree
from kdrec.training.unfinished import Unfinished

log = logging.getLogger(__name__)


@dataclass
class Course:
    """The parts of a training, how far it is, and what was found on the way.

    Args:
        trainer: Model, optimiser, distiller and random streams.
        mean: The running mean of the parameters.
        stopping: The best state so far.
        trajectory: States on the way to it.
        split: Digest of the data.
    """

    trainer: Trainer
    mean: Average
    stopping: EarlyStopping
    trajectory: Trajectory
    split: str
    epoch: int = field(default=0, init=False)
    ended: bool = field(default=False, init=False)
    history: list[dict[str, float]] = field(default_factory=list, init=False)
    #: Epochs after which it was interrupted and went on.
    resumed: list[int] = field(default_factory=list, init=False)
    _before: float = field(default=0.0, init=False)
    _started: float = field(default_factory=time.monotonic, init=False)

    @property
    def seconds(self) -> float:
        """Wall time of all its parts."""
        return self._before + time.monotonic() - self._started

    def fits(self) -> dict[str, Any]:
        """What a state must be of, to be this training's."""
        return {**self.trainer.fits(), "split": self.split}

    def save(self, unfinished: Unfinished) -> None:
        """Keeps its state."""
        state: Tree = {
            "trainer": self.trainer.snapshot(),
            "mean": self.mean.snapshot(),
            "stopping": self.stopping.snapshot(),
            "trajectory": self.trajectory.snapshot(),
            "epoch": self.epoch,
            "ended": self.ended,
            "history": self.history,
            "resumed": self.resumed,
            "seconds": self.seconds,
            "threads": torch.get_num_threads(),
        }
        unfinished.save(self.epoch, self.fits(), state)

    def resume(self, unfinished: Unfinished, name: str) -> None:
        """Takes the state up that was kept, if there is one that fits."""
        state = unfinished.load(self.fits(), self.trainer.device)
        if state is None:
            return
        self.trainer.resume(state["trainer"])
        self.mean.resume(state["mean"])
        self.stopping.resume(state["stopping"])
        self.trajectory.resume(state["trajectory"])
        self.epoch, self.ended = state["epoch"], state["ended"]
        self.history, self._before = state["history"], state["seconds"]
        self.resumed = state["resumed"] if self.ended else [*state["resumed"], self.epoch]
        log.info("%s: continued from epoch %d", name, self.epoch)
        now, then = torch.get_num_threads(), state["threads"]
        if self.trainer.device.type == "cpu" and now != then and not self.ended:
            log.warning(
                "%s: it was kept with threads=%d and goes on with %d, so that its last digits "
                "may differ from those of one that was not interrupted", name, then, now,
            )  # fmt: skip
