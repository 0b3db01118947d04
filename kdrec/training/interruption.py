"""Ctrl-C, SIGTERM and SIGHUP while a training runs: a request to stop where it can go on later."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from kdrec import hangup

log = logging.getLogger(__name__)


class Request:
    """Whether one has been asked to stop.

    The first signal asks. Of the later ones Ctrl-C stops at once; SIGTERM, which a cluster may
    send several times, does not, nor SIGHUP, which says that the terminal is gone.

    Args:
        name: What runs.
    """

    def __init__(self, name: str) -> None:
        self.name, self.asked = name, False

    def __call__(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Handles a signal."""
        if number == signal.SIGHUP:
            hangup.mute()
        if not self.asked:
            self.asked = True
            log.warning("%s: stopping after this epoch (Ctrl-C again: at once)", self.name)
        elif number == signal.SIGINT:
            raise KeyboardInterrupt


@contextmanager
def requests(name: str, *, heard: bool) -> Iterator[Request]:
    """Within the block the signals ask to stop; then they do what they did before.

    A signal that is ignored stays so, as under `nohup`, and threads other than the main one, which
    hear no signals, leave all as it is.

    Args:
        name: What runs.
        heard: False changes nothing: there is no place where to stop.
    """
    request, before = Request(name), {}
    if heard and threading.current_thread() is threading.main_thread():
        before = {
            number: handler
            for number in hangup.STOP
            if (handler := signal.getsignal(number)) not in (None, signal.SIG_IGN)
        }
    try:
        for number in before:
            signal.signal(number, request)
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
