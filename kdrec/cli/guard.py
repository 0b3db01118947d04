"""From an exception to one message and an exit status.

0 done, 1 the run failed, 2 wrong usage or configuration, 3 data not available, 130 interrupted,
141 nobody reads what a command that only shows something has to show.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from types import FrameType

from kdrec import hangup
from kdrec.errors import KdrecError, is_out_of_memory

INTERRUPTED = 130
BROKEN_PIPE = 141


def say(text: str) -> None:
    """Writes a line to stderr."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _error(what: str, hint: str) -> None:
    plain = not sys.stderr.isatty() or "NO_COLOR" in os.environ
    head = "error:" if plain else "\033[1;31merror:\033[0m"
    lines = "\n".join(f"  {line}" for line in hint.splitlines())
    say(f"{head} {what}" + (f"\n{lines}" if lines else ""))


@contextlib.contextmanager
def heeding_signals() -> Iterator[None]:
    """Within the block SIGTERM and SIGHUP do what Ctrl-C does, unless other plans were made.

    So what was begun is taken down in order, the workers of a sweep with it. A training that is
    under way hears them in its own way. A signal that is ignored stays so, as under `nohup`.
    """
    plans: dict[signal.Signals, Callable[[int, FrameType | None], None]] = {
        signal.SIGTERM: signal.default_int_handler,
        signal.SIGHUP: _hung_up,
    }
    main = threading.current_thread() is threading.main_thread()
    free = [one for one in plans if main and signal.getsignal(one) is signal.SIG_DFL]
    for one in free:
        signal.signal(one, plans[one])
    try:
        yield
    finally:
        for one in free:
            signal.signal(one, signal.SIG_DFL)


def _hung_up(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a shell and the system may both send it
    hangup.mute()
    raise hangup.HungUp


@contextlib.contextmanager
def guard(*, debug: bool = False) -> Iterator[None]:
    """Turns what goes wrong inside into one message on stderr and an exit status.

    Args:
        debug: Also show the traceback.

    Raises:
        SystemExit: With the status of the error.
    """
    try:
        yield
        sys.stdout.flush()
    except SystemExit:
        raise
    except BrokenPipeError:
        hangup.mute_stdout()
        raise SystemExit(BROKEN_PIPE) from None
    except KeyboardInterrupt as interrupt:
        say(f"\n{interrupt}" if str(interrupt) else "\ninterrupted")
        raise SystemExit(INTERRUPTED) from None
    except Exception as error:
        if type(error).__name__ == "Exit" and hasattr(error, "exit_code"):  # Typer's own way out
            raise
        if debug:
            traceback.print_exception(error)
        raise SystemExit(_explain(error)) from None


def _explain(error: Exception) -> int:
    """Says what went wrong, and returns the exit status."""
    if isinstance(error, KdrecError):
        _error(error.what, error.hint)
        return error.exit_code
    if isinstance(error, OSError) and error.errno is not None:
        # who wrote into an open file, as Hydra and a log do, does not know its name any more
        place = error.filename if error.filename is not None else "A file cannot be written"
        what = f"{place}: {error.strerror or error}."
        _error(what, "Choose another place (output_dir=..., data_dir=...), or free some space.")
        return 1
    if is_out_of_memory(error):
        _error(f"Out of memory: {error}", "Use a machine with more of it, or fewer data.")
        return 1
    message = " ".join(str(error).split())
    name = type(error).__name__
    if type(error).__module__.split(".")[0] in {"hydra", "omegaconf", "yaml"}:
        from kdrec.cli.composed import explain  # noqa: PLC0415  (Hydra is loaded by now)

        wrong = explain(error)
        _error(wrong.what, wrong.hint)
        return wrong.exit_code
    _error(
        f"{name}: {message}" if message else name,
        "This was not foreseen: run it again with --debug for the traceback, and report it.\n"
        "A run that had begun has the traceback in its log file, too.",
    )
    return 1
