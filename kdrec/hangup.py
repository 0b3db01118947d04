"""SIGHUP: the terminal that a command was started from is gone, and the command is not yet."""

from __future__ import annotations

import os
import stat


def mute() -> None:
    """Sends what goes to standard output and error nowhere, where that was a terminal.

    Writing to a terminal that is gone fails, and would stop what has still to be taken down or
    kept. Files and pipes are left as they are.
    """
    null = os.open(os.devnull, os.O_WRONLY)
    for number in (1, 2):
        try:
            device = stat.S_ISCHR(os.fstat(number).st_mode)
        except OSError:  # closed
            continue
        if device:
            os.dup2(null, number)
    os.close(null)
