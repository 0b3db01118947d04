"""`hydra/launcher=joblib`: so many jobs at once, in processes of this machine.

The name and `n_jobs` are those of Hydra's own launcher of this name. That one stands on a pool of
joblib, which gives up all its work when one of its processes is killed, as the kernel does when
memory runs out. Here each worker has a pipe of its own, so that the death of one is known for what
it is, and costs that one job.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait

from kdrec.cli.launch.base import ParallelLauncher, Tasks, cores
from kdrec.cli.launch.task import Outcome, Task, interrupt
from kdrec.errors import KdrecError, UsageError
from kdrec.ranges import Natural, check_range

log = logging.getLogger(__name__)

_GRACE_S = 10.0


class JoblibLauncher(ParallelLauncher):
    """Runs jobs in processes of this machine.

    Args:
        n_jobs: How many at once; -1: one a core, -2: all cores but one, and so on.
        max_retries: How many times a job begins again whose process was killed.
    """

    def __init__(self, *, n_jobs: int, max_retries: int) -> None:
        self.n_jobs = n_jobs
        self.max_retries = max_retries

    def threads(self, n_jobs: int) -> int:
        """The cores, or what `OMP_NUM_THREADS` allows of them, shared out."""
        share = max(1, cores() // self.at_once(n_jobs))
        allowed = os.environ.get("OMP_NUM_THREADS", "")
        return min(share, int(allowed)) if allowed.isdecimal() and int(allowed) else share

    def at_once(self, n_jobs: int) -> int:
        """As many as were asked for, and no more than there are jobs.

        Raises:
            UsageError: If none was asked for, or fewer than no retries.
        """
        if self.n_jobs == 0:
            raise UsageError(
                "hydra.launcher.n_jobs=0 runs nothing.",
                "Give how many jobs are to run at once; -1: one a core.",
            )
        check_range("hydra.launcher.max_retries", self.max_retries, Natural)
        asked = self.n_jobs if self.n_jobs > 0 else cores() + 1 + self.n_jobs
        return max(1, min(asked, n_jobs))

    def run(self, tasks: Tasks) -> Iterator[Outcome]:
        """Hands the jobs out in their order; a killed one comes last."""
        waiting = deque((number, 0) for number in tasks)
        at_once = self.at_once(len(tasks))
        busy: dict[Connection, tuple[Worker, Task, int]] = {}
        idle: list[Worker] = []
        try:
            while waiting or busy:
                while waiting and len(busy) < at_once:
                    number, died = waiting.popleft()
                    task = tasks[number]()
                    worker = idle.pop() if idle else Worker()
                    with contextlib.suppress(OSError):  # a dead one is known by its pipe's end
                        worker.pipe.send(task)
                    busy[worker.pipe] = (worker, task, died)
                for pipe in [pipe for pipe in wait(list(busy)) if isinstance(pipe, Connection)]:
                    worker, task, died = busy.pop(pipe)
                    try:
                        outcome = pipe.recv()
                    except (EOFError, OSError):  # OSError: dead before it took the task, or midway
                        error = worker.death()
                        if died < self.max_retries:
                            log.warning("Job %d: %s It begins again.", task.number, error.what)
                            waiting.append((task.number, died + 1))
                        else:
                            yield task.fail(error)
                    else:
                        idle.append(worker)
                        yield outcome
        except KeyboardInterrupt:
            log.warning("Jobs to stop: %d; a training ends its epoch first", len(busy))
            raise
        finally:
            for worker in [*idle, *(worker for worker, _, _ in busy.values())]:
                worker.stop()
            for worker in [*idle, *(worker for worker, _, _ in busy.values())]:
                worker.join()


class Worker:
    """A process that does one task after another, and a pipe to it."""

    def __init__(self) -> None:
        spawn = multiprocessing.get_context("spawn")
        self.pipe, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()  # so that the pipe ends with the process

    def death(self) -> KdrecError:
        """What is to be said of the process, which is gone."""
        self._process.join()
        code = self._process.exitcode or 0
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with status {code}"
        return KdrecError(
            f"Its process ended {how}.",
            "Where it was killed, memory may have run out: fewer at once, hydra.launcher.n_jobs=1.",
        )

    def stop(self) -> None:
        """Asks the process to end; a job that is under way is interrupted."""
        self.pipe.close()
        self._process.terminate()

    def join(self) -> None:
        """Waits until it has ended."""
        self._process.join(_GRACE_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _serve(pipe: Connection) -> None:
    """Does what comes through the pipe until it ends."""
    for one in (signal.SIGINT, signal.SIGHUP):  # the launcher says when to stop
        signal.signal(one, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # between two tasks the end of the pipe says it
    threading.Thread(target=_outlive, name="kdrec-launcher", daemon=True).start()
    with contextlib.suppress(EOFError, BrokenPipeError, KeyboardInterrupt):
        while True:
            task = pipe.recv()
            signal.signal(signal.SIGTERM, interrupt)
            outcome = task.execute()
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            pipe.send(outcome)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    pipe.close()
    logging.disable()  # what libraries have to say at the exit


def _outlive() -> None:
    """Asks this process to stop once the launcher is gone, which may have been killed."""
    launcher = multiprocessing.parent_process()
    if launcher is not None:
        launcher.join()
        os.kill(os.getpid(), signal.SIGTERM)
