"""Signals that ask a command to stop, and what to do when who listened is gone."""

from __future__ import annotations

import os
import signal
import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

STOP = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What asks to stop."""


class HungUp(KeyboardInterrupt):
    """The terminal is gone: what needs none may go on."""


@contextmanager
def held_back() -> Iterator[None]:
    """Signals that ask to stop are heard at the end of the block.

    Not by blocking them for a thread: Python hears in the main thread what another one is sent.
    """
    caught: list[int] = []
    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {
            number: handler
            for number in STOP
            if (handler := signal.getsignal(number)) not in (None, signal.SIG_IGN)
        }
    try:
        for number in before:
            signal.signal(number, lambda got, _: caught.append(got))
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if caught:
            signal.raise_signal(caught[0])


def mute() -> None:
    """Sends what goes to standard output and error nowhere, where that was a terminal.

    Writing to a terminal that is gone fails, and would stop what has still to be taken down or
    kept. Files and pipes are left as they are.
    """
    for number in (1, 2):
        try:
            device = stat.S_ISCHR(os.fstat(number).st_mode)
        except OSError:  # closed
            continue
        if device:
            _to_nowhere(number)


def tell(text: str) -> None:
    """Writes to standard output; if nobody reads it any more, the work behind it goes on."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        mute_stdout()


def mute_stdout() -> None:
    """Sends standard output nowhere from now on, and what its buffer holds: nobody reads it."""
    with suppress(OSError, ValueError):  # it is closed, or no file
        _to_nowhere(sys.stdout.fileno())


def _to_nowhere(number: int) -> None:
    """Lets a file descriptor write into nothing."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, number)
    os.close(null)
