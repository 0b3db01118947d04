"""What the launchers share: from Hydra's lists of overrides to tasks, and from outcomes back."""

from __future__ import annotations

import logging
import os
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, configure_log, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from kdrec import hangup
from kdrec.cli.launch.task import Outcome, Task
from kdrec.sweeps import records

log = logging.getLogger(__name__)

Tasks = Mapping[int, Callable[[], Task]]
"""By the number of the job; composed when its turn comes."""

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class ParallelLauncher(Launcher):
    """Runs the jobs of a sweep in other processes, and outlives theirs."""

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Takes what Hydra knows of the sweep."""
        self.context = hydra_context
        self.function = task_function
        self.config = config

    @abstractmethod
    def threads(self, n_jobs: int) -> int:
        """How many threads each of so many jobs may have."""

    @abstractmethod
    def run(self, tasks: Tasks) -> Iterator[Outcome]:
        """Runs the tasks and yields what comes of them, in any order."""

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Runs the jobs; what they print goes to standard output as each ends."""
        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        threads = self.threads(len(job_overrides))
        log.info("Jobs to run: %d; threads of each: %d", len(job_overrides), threads)
        tasks = {
            number: partial(self._task, number, overrides, threads)
            for number, overrides in enumerate(job_overrides, start=initial_job_idx)
        }
        returned: dict[int, JobReturn] = {}
        for outcome in self.run(tasks):
            hangup.tell(outcome.output)
            if outcome.record is not None:
                records.bring(Path(self.config.hydra.sweep.dir), outcome.record)
            returned[outcome.number] = outcome.returned()
        return [returned[number] for number in tasks]

    def _task(self, number: int, overrides: Sequence[str], threads: int) -> Task:
        config = self.context.config_loader.load_sweep_config(self.config, list(overrides))
        with open_dict(config):
            config.hydra.job.id = str(number)
            config.hydra.job.num = number
            if "threads" in config and config.threads is None:
                config.threads = threads
        own = {name: value for name, value in os.environ.items() if name.startswith("KDREC_")}
        share = {name: os.environ.get(name, str(threads)) for name in _THREADS}
        store = ConfigStore.instance().repo
        return Task(self.context, self.function, config, str(Path.cwd()), own | share, store)


def cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
