"""What Slurm says of its jobs: by `squeue`, which needs no accounting as `sacct` does."""

from __future__ import annotations

import logging
import os
import subprocess
import time
from dataclasses import dataclass, field

from kdrec.hangup import held_back

log = logging.getLogger(__name__)

ASK_S = 10.0
"""Between two questions to Slurm, which has other users."""
_ANSWER_S = 60.0

OVER = frozenset({
    "", "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY",
    "PREEMPTED", "TIMEOUT",
})  # fmt: skip
"""The states of a job that runs no more; "": Slurm has forgotten it, as it does after minutes."""


@dataclass(slots=True)
class Queue:
    """The jobs of this user."""

    _asked: float = field(default=float("-inf"), init=False)
    _silent: bool = field(default=False, init=False)

    def states(self, *, at_once: bool = False) -> dict[str, str] | None:
        """The state of every job by its number (`17`, in an array `17_3`).

        None where Slurm was asked a moment ago or does not answer: nothing is known then.

        Args:
            at_once: Ask even if that was a moment ago.
        """
        if not at_once and time.monotonic() - self._asked < ASK_S:
            return None
        self._asked = time.monotonic()
        asked = ["squeue", "--noheader", "--array", "--states=all", f"--user={os.getuid()}",
                 "--format=%i|%T"]  # fmt: skip
        try:
            said = subprocess.run(  # noqa: S603
                asked, check=True, capture_output=True, text=True, timeout=_ANSWER_S
            ).stdout
        except (OSError, subprocess.SubprocessError) as error:
            if not self._silent:
                why = getattr(error, "stderr", None) or error
                log.warning("Slurm does not answer, and is asked again: %s", str(why).strip())
            self._silent = True
            return None
        self._silent = False
        rows = (line.partition("|") for line in said.splitlines())
        return {number.strip(): state.strip() for number, _, state in rows}

    def cancel(self, jobs: list[str]) -> None:
        """Ends jobs; what Slurm says against it is told and no more."""
        asked = ["scancel", *jobs]
        with held_back():  # who is impatient would else stop the stopping
            done = subprocess.run(  # noqa: S603
                asked, check=False, capture_output=True, text=True, start_new_session=True
            )
        if done.returncode:
            log.warning("scancel: %s", done.stderr.strip())
