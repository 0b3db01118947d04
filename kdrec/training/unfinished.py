"""The state of a training that is not finished, on disk: whole, or not there."""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from kdrec.artifacts import write_json
from kdrec.digests import digest, sha256_file
from kdrec.errors import StorageError
from kdrec.ranges import Count, NonNegative, check_range
from kdrec.training.tensors import save_tensors
from kdrec.training.tree import Tree, joined, parted

log = logging.getLogger(__name__)

SCHEMA = 2
STATE = "state.json"


@dataclass(frozen=True, slots=True)
class Pace:
    """How often a training is kept; at its end and when it is interrupted it is in any case.

    Args:
        every_minutes: Kept at the end of an epoch if the last time is so long ago; None: never.
        every_epochs: Kept after so many epochs, too; None: never.

    Raises:
        UsageError: If one is out of its range.
    """

    every_minutes: NonNegative | None
    every_epochs: Count | None

    def __post_init__(self) -> None:
        for name, annotation in get_type_hints(Pace, include_extras=True).items():
            check_range(f"resume.{name}", getattr(self, name), annotation)


class Unfinished:
    """A folder with the last state of one training; its user holds the lock of that training.

    `epoch_<n>.safetensors` has the tensors. `state.json`, which takes its place in one step and
    last, has all else, the sha256 of that file and of itself: until then the state before is the
    one that counts.

    Args:
        folder: `<output_dir>/.unfinished/<identity>`.
        identity: What determines the training.
        versions: Of what its numbers depend on.
        pace: How often to keep it.
    """

    def __init__(
        self, folder: Path, identity: str, *, versions: Mapping[str, str], pace: Pace
    ) -> None:
        self.folder, self.pace = folder, pace
        self.owner = {"identity": identity, "version": dict(versions)}
        #: The epoch of the state that is on disk, as far as this process knows; 0 if none is.
        self.epoch = 0
        self._last = time.monotonic()

    def due(self, epoch: int) -> bool:
        """Whether the training is to be kept at the end of this epoch."""
        minutes, epochs = self.pace.every_minutes, self.pace.every_epochs
        late = minutes is not None and time.monotonic() - self._last >= 60 * minutes
        return late or (epochs is not None and epoch % epochs == 0)

    def save(self, epoch: int, of: Mapping[str, Any], tree: Tree) -> None:
        """Keeps the state at the end of an epoch in the place of the one before.

        If it cannot be written, a warning says so and training goes on: the run itself has lost
        nothing.

        Args:
            epoch: From 1.
            of: What the state fits: names, shapes, device.
            tree: The state.
        """
        rest, tensors = parted(tree)
        path = self.folder / f"epoch_{epoch}.safetensors"
        self._last = time.monotonic()
        try:
            save_tensors(path, tensors)
            body = {"schema": SCHEMA, "of": {**self.owner, **of}, "epoch": epoch,
                    "file": path.name, "sha256": sha256_file(path), "state": rest}  # fmt: skip
            write_json(self.folder / STATE, {"sha256": digest(body), "body": body})
            for other in self.folder.iterdir():
                if other.name not in (STATE, path.name):
                    other.unlink()
        except (StorageError, OSError) as error:
            what = error.what if isinstance(error, StorageError) else str(error)
            log.warning("Epoch %d could not be kept, and training goes on: %s", epoch, what)
            return
        self.epoch = epoch

    def load(self, of: Mapping[str, Any], device: torch.device) -> Tree | None:
        """The state on disk; None, with a line that says why, if it is damaged or another's.

        Args:
            of: What it must fit: as given to `save`.
            device: Where its tensors are wanted.
        """
        if not (self.folder / STATE).is_file():
            return None
        try:
            body = self._body()
            if wrong := next(_differences("", {**self.owner, **of}, body["of"]), None):
                raise ValueError(wrong)
            path = self.folder / body["file"]
            if (actual := sha256_file(path)) != body["sha256"]:
                raise ValueError(f"{path.name} is damaged: {_not(actual, body['sha256'])}")
            # Copied, since the tensors of a file that was just read may still lie in that file.
            tensors = {name: part.clone() for name, part in load_file(path).items()}
            tensors = {name: part.to(device) for name, part in tensors.items()}
            state = joined(body["state"], tensors)
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            log.warning(
                "What %s has of an interrupted training is not used: %s. Training starts anew.",
                self.folder, error,
            )  # fmt: skip
            return None
        self.epoch = int(body["epoch"])
        return state

    def remove(self) -> None:
        """Removes the folder, if it is there."""
        if self.folder.is_dir():
            shutil.rmtree(self.folder, ignore_errors=True)
        self.epoch = 0

    def _body(self) -> dict[str, Any]:
        """What `state.json` says, checked."""
        whole = json.loads((self.folder / STATE).read_text("utf-8"))
        body: dict[str, Any] = whole["body"]
        if (actual := digest(body)) != whole["sha256"]:
            raise ValueError(f"{STATE} is damaged: {_not(actual, whole['sha256'])}")
        if body["schema"] != SCHEMA:
            raise ValueError(f"its schema is {body['schema']}, {SCHEMA} was expected")
        return body


def _not(actual: str, expected: str) -> str:
    return f"its sha256 is {actual[:12]}..., {expected[:12]}... was expected"


def _differences(path: str, expected: Any, there: Any) -> Iterator[str]:
    """What differs, in words."""
    if isinstance(expected, dict) and isinstance(there, dict):
        for key in sorted({*expected, *there}):
            yield from _differences(
                f"{path} {key}".strip(), expected.get(key, "nothing"), there.get(key, "nothing")
            )
    elif expected != there:
        yield f"its {path} is {there}, {expected} was expected"
