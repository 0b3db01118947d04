"""`hydra/launcher=submitit_slurm`: jobs on a cluster of Slurm, through submitit.

The name and the options are those of Hydra's own launcher of this name. That one gives the sweep up
at the first job that is killed, and a job that is preempted loses what it has not yet kept.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from kdrec.cli.launch.allotted import Allotted
from kdrec.cli.launch.base import ParallelLauncher, Tasks
from kdrec.cli.launch.queue import OVER, Queue
from kdrec.cli.launch.task import Outcome, Task
from kdrec.errors import KdrecError, UsageError, said
from kdrec.hangup import HungUp, held_back
from kdrec.ranges import Count, Natural, check_range

if TYPE_CHECKING:
    import submitit

log = logging.getLogger(__name__)

LOOK_S = 1.0
"""Between two looks for results."""
GRACE_S = 60.0
"""How long after its job a result may appear: NFS remembers a folder for so long."""
STOP_S = 30.0
"""How long cancelled jobs are waited for."""

_SHARED = frozenset(
    {"name", "timeout_min", "mem_gb", "cpus_per_task", "gpus_per_node", "stderr_to_stdout"}
)
"""The options that submitit does not want named after Slurm."""


@dataclass(slots=True, eq=False)
class Submitted:
    """A job of the sweep as Slurm has it.

    Args:
        task: What it does.
        job: Submitit's.
        died: How often its process was killed before.
        state: What Slurm said last of it.
        gone: When it was first seen to be over, without a result so far; None if it is not.
    """

    task: Task
    job: submitit.Job[Outcome]
    died: int = 0
    state: str = field(default="PENDING", init=False)
    gone: float | None = field(default=None, init=False)


class SlurmLauncher(ParallelLauncher):
    """Runs jobs as an array of Slurm.

    Args:
        submitit_folder: For what submitit keeps of a job; `%j` is its number in Slurm.
        max_num_timeout: How many times a job is submitted again whose time was up.
        max_retries: How many times a job is submitted again whose process was killed.
        **options: Of submitit, those that are null left out.
    """

    def __init__(
        self, *, submitit_folder: str, max_num_timeout: int, max_retries: int, **options: Any
    ) -> None:
        self.folder = submitit_folder
        self.max_num_timeout = max_num_timeout
        self.max_retries = max_retries
        plain: dict[str, Any] = {
            name: OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
            for name, value in options.items()
        }
        self.options = {name: value for name, value in plain.items() if value is not None}

    def threads(self, n_jobs: int) -> int:  # noqa: ARG002  (the cluster says how many at once)
        """As many as a job reserves cores."""
        check_range("hydra.launcher.max_retries", self.max_retries, Natural)
        check_range("hydra.launcher.max_num_timeout", self.max_num_timeout, Natural)
        of = self.options.get
        if (cpus := of("cpus_per_task")) is not None:
            if not isinstance(cpus, int):
                raise UsageError(f"hydra.launcher.cpus_per_task={cpus}.", "Give a whole number.")
            check_range("hydra.launcher.cpus_per_task", cpus, Count)
            return cpus
        per_gpu, gpus = of("cpus_per_gpu"), of("gpus_per_task", of("gpus_per_node"))
        return per_gpu * gpus if isinstance(per_gpu, int) and isinstance(gpus, int) else 1

    def run(self, tasks: Tasks) -> Iterator[Outcome]:
        """Submits all jobs as one array and waits for them; one that was killed begins again."""
        executor, queue = self._executor(), Queue()
        composed = [compose() for compose in tasks.values()]
        waiting: list[Submitted] = []
        try:
            with held_back():  # no job is in the queue and not among those waited for
                jobs = _submitted(executor, composed)
                waiting += map(Submitted, composed, jobs)
            while waiting:
                states = queue.states()
                for one in list(waiting):
                    if (outcome := self._outcome(one, states)) is not None:
                        waiting.remove(one)
                        yield outcome
                    elif one.gone is not None and time.monotonic() - one.gone > GRACE_S:
                        with held_back():
                            again = self._again(executor, one)
                            waiting.remove(one)
                            waiting += [again] if again else []
                        if again is None:
                            yield self._dead(one)
                if waiting:
                    time.sleep(LOOK_S)
        except HungUp:
            raise  # the jobs need no terminal, and the same line finds what they make
        except BaseException:
            _cancel(queue, [one.job.job_id for one in waiting])
            raise

    def _executor(self) -> submitit.AutoExecutor:
        """Submitit's, set up.

        Raises:
            UsageError: If it or Slurm is not there, or an option is none of its.
        """
        try:
            import submitit  # noqa: PLC0415  (an extra)
        except ImportError as error:
            raise UsageError("submitit is not installed.", "pip install 'kdrec[slurm]'") from error
        for program in ("sbatch", "srun", "squeue", "scancel"):
            if shutil.which(program) is None:
                raise UsageError(
                    f"{program} is not there: this machine does not belong to a Slurm cluster.",
                    "Start the sweep where sbatch works, or take hydra/launcher=joblib.",
                )
        executor = submitit.AutoExecutor(
            cluster="slurm", folder=self.folder, slurm_max_num_timeout=self.max_num_timeout
        )
        for name in ("nodes", "tasks_per_node", "ntasks_per_node"):
            if name in self.options:
                raise UsageError(
                    f"hydra.launcher.{name} is not to be set.", "A job is one process."
                )
        named = {name if name in _SHARED else f"slurm_{name}": value
                 for name, value in self.options.items()}  # fmt: skip
        try:
            executor.update_parameters(nodes=1, tasks_per_node=1, **named)
        except (NameError, AssertionError, TypeError) as error:
            what = str(error).partition("\n")[0]
            raise UsageError(f"submitit does not take these options: {what}",
                             "See those of `kdrec distill hydra/launcher=submitit_slurm "
                             "--cfg hydra -p hydra.launcher`.") from error  # fmt: skip
        return executor

    def _outcome(self, one: Submitted, states: dict[str, str] | None) -> Outcome | None:
        """What came of a job, if it has left a result; else notes whether it is over."""
        if one.job.paths.result_pickle.exists():
            try:
                return one.job.result()
            except Exception as error:  # noqa: BLE001  (whatever submitit says, the sweep goes on)
                lines = [line for line in str(error).splitlines() if "Error: " in line]
                why = lines[-1] if lines else said(error)
                what = f"Its Slurm job {one.job.job_id} failed: {why}"
                return one.task.fail(KdrecError(what, f"See {one.job.paths.stderr}."))
        if states is not None:
            one.state = states.get(one.job.job_id, "")
            if one.state not in OVER:
                one.gone = None
            elif one.gone is None:
                one.gone = time.monotonic()
        if one.gone is not None:
            with contextlib.suppress(OSError):  # makes NFS look again
                one.job.paths.folder.chmod(one.job.paths.folder.stat().st_mode)
        return None

    def _again(self, executor: submitit.AutoExecutor, one: Submitted) -> Submitted | None:
        """Submits a job once more whose process was killed; None if it was not, or too often."""
        if one.state in ("CANCELLED", "TIMEOUT", "DEADLINE") or one.died >= self.max_retries:
            return None
        log.warning("Job %d: %s It begins again.", one.task.number, _end(one))
        try:
            (job,) = _submitted(executor, [one.task])
        except KdrecError as error:  # the others are under way
            log.warning("%s", error.what)
            return None
        return Submitted(one.task, job, one.died + 1)

    def _dead(self, one: Submitted) -> Outcome:
        """What is to be said of a job that left nothing."""
        paths = one.job.paths
        told = paths.stdout if self.options.get("stderr_to_stdout") else paths.stderr
        hint = f"What it said: {told}."
        if one.state == "TIMEOUT":
            hint += (
                "\nGive more time (hydra.launcher.timeout_min), or say longer before that it is up "
                "(signal_delay_s), so that an epoch can end."
            )
        elif one.state == "OUT_OF_MEMORY":
            hint += "\nGive more memory (hydra.launcher.mem_gb)."
        return one.task.fail(KdrecError(_end(one), hint))


def _submitted(executor: submitit.AutoExecutor, tasks: list[Task]) -> list[submitit.Job[Outcome]]:
    """Hands tasks to Slurm.

    Raises:
        KdrecError: If it does not take them.
    """
    from submitit.core.utils import FailedJobError, FailedSubmissionError  # noqa: PLC0415

    work = Allotted()
    try:
        if len(tasks) == 1:
            return [executor.submit(work, tasks[0])]
        return executor.map_array(work, tasks)
    except (FailedJobError, FailedSubmissionError) as error:
        raise KdrecError(
            f"Slurm did not take the jobs: {said(error)}",
            "Give what your cluster wants: hydra.launcher.partition=..., account=..., "
            "timeout_min=...; `sinfo` shows the partitions. Does it answer? An array often takes "
            "1,000 jobs at most.",
        ) from error


def _end(one: Submitted) -> str:
    how = f"ended as {one.state}" if one.state else "is not known to Slurm any more"
    return f"Its Slurm job {one.job.job_id} {how} and left no result."


def _cancel(queue: Queue, jobs: list[str]) -> None:
    """Asks Slurm to stop jobs, and waits a little for them to say what they have kept."""
    if not jobs:
        return
    queue.cancel(jobs)
    log.warning(
        "Jobs asked to stop: %d; a training ends its epoch first (Ctrl-C: do not wait)", len(jobs)
    )
    until = time.monotonic() + STOP_S
    while jobs and time.monotonic() < until:
        states = queue.states()
        if states is not None:
            jobs = [job for job in jobs if states.get(job, "") not in OVER]
        if jobs:
            time.sleep(LOOK_S)
    if jobs:
        log.warning("Not seen to have stopped: %s", " ".join(jobs))
