"""The task that Hydra runs, alone or as a job of a sweep."""

from __future__ import annotations

import gc
import importlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdrec import trust
from kdrec.artifacts import MANIFEST
from kdrec.cli import confdir
from kdrec.errors import KdrecError
from kdrec.sweeps import records

if TYPE_CHECKING:
    from omegaconf import DictConfig

_OWN_RUN = frozenset({"train", "distill", "evaluate"})
"""The commands whose result is a run in the folder that Hydra made for them."""

BASIC_SWEEPER = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"
"""Hydra's own sweeper, which knows its jobs beforehand and judges none of them."""


class Job:
    """The task that Hydra runs: checks the job's config, then runs the stage.

    Pickled by the name of its command, so that a worker process of a launcher makes it anew, and
    with it what Hydra must know there, and whether the command line allows code of others: what a
    config says of that does not count. In a single run it keeps the stage's exception for
    `forward` to raise: Hydra would print a line of its own before it. In a sweep it writes down
    what became of the job, and the sweep goes on; a sweeper that is not Hydra's basic one gets the
    exception, to judge it in its own way.
    """

    def __init__(self, command: str, allow_code: bool = False) -> None:  # noqa: FBT001, FBT002
        confdir.register_resolvers()
        self.command = command
        self.allow_code = allow_code
        self.error: Exception | None = None
        self.__module__ = f"kdrec.stages.{command}"  # Hydra names the job after it

    def __reduce__(self) -> tuple[type[Job], tuple[str, bool]]:
        return Job, (self.command, self.allow_code)

    def __call__(self, config: DictConfig) -> float | None:
        """Runs the stage, and returns what it is worth to a sweeper; None if it failed."""
        from hydra.core.hydra_config import HydraConfig  # noqa: PLC0415
        from hydra.types import RunMode  # noqa: PLC0415

        hydra = HydraConfig.get()
        if hydra.mode == RunMode.MULTIRUN:
            return self._in_sweep(config, hydra)
        try:
            return self._run(config)
        except Exception as error:  # noqa: BLE001  (raised by `forward`)
            _keep(error)
            self.error = error
            return None

    def _run(self, config: DictConfig) -> float | None:
        from kdrec.cli import trusted  # noqa: PLC0415
        from kdrec.cli.composed import check_config  # noqa: PLC0415

        with trust.allowing(self.allow_code):
            trusted.check(config)
            check_config(config)
            return stage(self.command)(config)

    def _in_sweep(self, config: DictConfig, hydra: Any) -> float | None:
        sweep, folder = Path(hydra.sweep.dir), Path(hydra.runtime.output_dir)
        record = records.begin(
            sweep,
            job=int(hydra.job.num),
            overrides=list(hydra.overrides.task),
            folder=str(folder),
        )
        before = _stamp(folder)
        try:
            value = self._run(config)
        except Exception as error:
            _keep(error)
            records.fail(sweep, record, error)
            if hydra.sweeper._target_ != BASIC_SWEEPER:
                raise
        except BaseException as stopped:
            records.end(sweep, record, records.INTERRUPTED, what=str(stopped) or "stopped")
            raise
        else:
            made = self.command not in _OWN_RUN or _stamp(folder) != before
            records.end(sweep, record, records.DONE if made else records.FOUND, value=value)
            return value
        gc.collect()  # the failed job's tensors may hang on its traceback: the next one needs room
        return None


def _stamp(folder: Path) -> int | None:
    """Tells one manifest of a folder from a later one."""
    manifest = folder / MANIFEST
    return manifest.stat().st_mtime_ns if manifest.exists() else None


def _keep(error: Exception) -> None:
    """Writes an error to the run's log file and not to the terminal, unforeseen with traceback."""
    if isinstance(error, KdrecError):
        text, trace = f"The run failed: {error}", None
    else:
        text, trace = "The run failed.", (type(error), error, error.__traceback__)
    record = logging.LogRecord("kdrec", logging.ERROR, __file__, 0, text, None, trace)
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handle(record)


def stage(command: str) -> Callable[[DictConfig], float | None]:
    """The function that does the command's work."""
    run: Callable[[Any], float | None] = importlib.import_module(f"kdrec.stages.{command}").run
    return run
