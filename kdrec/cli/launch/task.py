"""One job of a sweep on its way to a worker, and what comes back."""

from __future__ import annotations

import contextlib
import io
import os
import signal
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hydra._internal.hydra import Hydra
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus, run_job
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from kdrec.cli.job import BASIC_SWEEPER
from kdrec.errors import KdrecError
from kdrec.sweeps import records
from kdrec.sweeps.records import Record


@dataclass(frozen=True, slots=True)
class Task:
    """A job as a worker gets it.

    Args:
        context: Hydra's.
        function: What Hydra runs.
        config: The job's composed config.
        folder: Where the sweep was started, which relative paths are seen from.
        environment: Variables that the worker must have, too.
        store: What Hydra's ConfigStore holds: the roles.
    """

    context: HydraContext
    function: TaskFunction
    config: DictConfig
    folder: str
    environment: dict[str, str]
    store: dict[str, Any]

    @property
    def number(self) -> int:
        """Of the job."""
        return int(self.config.hydra.job.num)

    def execute(self) -> Outcome:
        """Runs the job in this process, which does nothing else.

        Its results are kept for the sweep's own standard output; what it says on standard error is
        in its log file, too, and goes nowhere.
        """
        os.chdir(self.folder)
        os.environ.update(self.environment)
        self._prepare()
        with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
            out = io.StringIO()
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(nowhere):
                try:
                    ended = run_job(
                        hydra_context=self.context,
                        task_function=self.function,
                        config=self.config,
                        job_dir_key="hydra.sweep.dir",
                        job_subdir_key="hydra.sweep.subdir",
                    )
                except Exception as error:  # noqa: BLE001  (before the job: no folder, no space)
                    return replace(self.fail(error), output=out.getvalue())
        record = records.read(records.path_of(Path(self.config.hydra.sweep.dir), self.number))
        if ended.status == JobStatus.FAILED:
            raised = ended._return_value  # noqa: SLF001  (reading it would raise)
            what, _ = records.reason(raised, str(ended.working_dir))
            return Outcome(self.number, None, what, out.getvalue(), record)
        return Outcome(self.number, ended.return_value, "", out.getvalue(), record)

    def _prepare(self) -> None:
        """Makes this process one that Hydra knows: a stage may compose configs of its own."""
        ConfigStore.instance().repo.update(self.store)
        hydra = Hydra(str(self.config.hydra.job.name), self.context.config_loader)
        GlobalHydra.instance().clear()
        GlobalHydra.instance().initialize(hydra)

    def fail(self, error: BaseException) -> Outcome:
        """Writes down that the job failed outside of itself, and returns what the sweeper hears."""
        HydraConfig.instance().set_config(self.config)
        hydra = self.config.hydra
        sweep = Path(hydra.sweep.dir)
        record = records.read(records.path_of(sweep, self.number))
        if record is None or record.ended:
            record = records.begin(
                sweep,
                job=self.number,
                overrides=list(hydra.overrides.task),
                folder=str(sweep / hydra.sweep.subdir),
            )
        failed = records.fail(sweep, record, error)
        judged = hydra.sweeper._target_ != BASIC_SWEEPER
        return Outcome(self.number, None, failed.what if judged else "", "", failed)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a worker sends back.

    Args:
        number: Of the job.
        value: What the stage returned.
        failure: What went wrong, if the sweeper is to hear of it.
        output: What the job wrote to standard output.
        record: Of the job, for a launcher that does not see the worker's disk.
    """

    number: int
    value: Any
    failure: str
    output: str
    record: Record | None = None

    def returned(self) -> JobReturn:
        """As Hydra's sweepers want it."""
        found = JobReturn()
        found.status = JobStatus.FAILED if self.failure else JobStatus.COMPLETED
        found.return_value = KdrecError(self.failure) if self.failure else self.value
        return found


def interrupt(*_: object) -> None:
    """What SIGTERM does to a job: what Ctrl-C would do, once."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt
