"""A job in the time that Slurm allots it, and what it does when that is taken away."""

from __future__ import annotations

import contextlib
import signal
from typing import Any

from kdrec.cli.launch.queue import Queue
from kdrec.cli.launch.task import Outcome, Task, interrupt
from kdrec.errors import KdrecError


class Allotted:
    """Runs a task, and stops it where it can go on.

    Slurm sends SIGTERM when it takes the job away (`scancel`, preemption), and the signal that
    submitit names to it (SIGUSR2) some time before the end. Either asks a training to stop after
    its epoch, which is kept, and anything else to stop at once. After SIGUSR2 the job is then
    submitted again, as often as submitit allows; after SIGTERM that is Slurm's own business.
    """

    def __call__(self, task: Task) -> Outcome:
        """Runs the task in a process of submitit's, whose handler of SIGUSR2 is set already."""
        from submitit import JobEnvironment  # noqa: PLC0415  (an extra)
        from submitit.core.utils import UncompletedJobError  # noqa: PLC0415

        environment = JobEnvironment()
        soon = environment._usr_sig()  # noqa: SLF001  (a site may choose another)
        again: Any = signal.getsignal(soon)
        warned = []

        def warn(*_: object) -> None:
            warned.append(True)
            signal.raise_signal(signal.SIGTERM)

        signal.signal(signal.SIGTERM, interrupt)
        signal.signal(soon, warn)
        try:
            return task.execute()
        except KeyboardInterrupt:
            if not warned:
                raise
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # Slurm's, as it takes the job back
        states = Queue().states()
        if states is not None and states.get(environment.job_id) != "RUNNING":
            raise KeyboardInterrupt  # cancelled meanwhile: not again
        with contextlib.suppress(UncompletedJobError):  # not again
            again(soon, None)
        return task.fail(
            KdrecError(
                f"Its time was up too often (Slurm job {environment.job_id}).",
                "The same command goes on where it was stopped. A job gets more time by "
                "hydra.launcher.timeout_min=..., and more turns by max_num_timeout=...",
            )
        )

    def checkpoint(self, task: Task) -> Any:
        """What submitit is to run when the job begins again."""
        from submitit.helpers import DelayedSubmission  # noqa: PLC0415

        return DelayedSubmission(self, task)
