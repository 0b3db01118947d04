"""The terminal goes while the program runs: what was begun is kept all the same."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kdrec import hangup

pytestmark = pytest.mark.usefixtures("heard")

TRAIN = [
    "train", "dataset=synthetic", "dataset.reader.n_users=80", "dataset.reader.n_items=100",
    "dataset.reader.min_per_user=8", "threads=1", "teacher_fit.epochs=100000", "teacher_dim=8",
    "teacher_fit.patience=100000", "teacher_fit.eval_every=1000", "teacher_fit.batch_size=256",
]  # fmt: skip


#: Makes its standard input the terminal of its session, and becomes the program.
START = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", "kdrec", *sys.argv[1:]])
"""


def on_a_terminal(words: list[str], folder: Path) -> tuple[subprocess.Popen[bytes], int]:
    """The program on a terminal of its own, of which the other end is returned."""
    ours, theirs = os.openpty()
    environment = {name: value for name, value in os.environ.items() if "KDREC" not in name}
    environment |= {"TERM": "xterm", "PYTHONPATH": str(Path(__file__).parents[1])}
    process = subprocess.Popen(
        [sys.executable, "-c", START, *words], cwd=folder, env=environment,
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    return process, ours


def read_until(terminal: int, text: bytes) -> bytes:
    seen = b""
    while text not in seen:
        try:
            seen += os.read(terminal, 4096)
        except OSError:
            pytest.fail(f"the program ended: {seen.decode()}")
    return seen


@pytest.mark.slow
def test_a_training_whose_terminal_goes_is_kept_and_goes_on(tmp_path: Path) -> None:
    process, terminal = on_a_terminal(TRAIN, tmp_path)
    read_until(terminal, b"loss")  # a bar, so that its epochs have begun
    os.close(terminal)
    assert process.wait(60) == 130
    (kept,) = (tmp_path / "outputs/.unfinished").iterdir()
    assert (kept / "state.json").is_file()
    process, terminal = on_a_terminal(TRAIN, tmp_path)
    read_until(terminal, b"continued from epoch")
    os.close(terminal)
    assert process.wait(60) == 130


def test_files_and_pipes_are_not_muted(tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as out:
        done = subprocess.run(
            [sys.executable, "-c",
             "import os, kdrec.hangup as h; h.mute(); os.write(1, b'out'); os.write(2, b'error')"],
            stdout=out, stderr=subprocess.PIPE, check=True, cwd=Path(__file__).parents[1],
        )  # fmt: skip
    assert (tmp_path / "out").read_bytes() == b"out"
    assert done.stderr == b"error"


def test_a_terminal_is_muted_and_what_is_closed_stays_closed() -> None:
    ours, theirs = os.openpty()
    kept, error = os.dup(1), os.dup(2)
    try:
        os.dup2(theirs, 1)
        os.close(2)
        hangup.mute()
        assert not os.isatty(1)
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(2)
    finally:
        os.dup2(kept, 1)
        os.dup2(error, 2)
        for number in (kept, error, ours, theirs):
            os.close(number)


def test_what_is_held_back_is_heard_at_the_end() -> None:
    done = []

    @hangup.held_back()
    def work() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        done.append(True)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == [True]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_signal_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    from kdrec.cli.guard import heeding_signals

    muted = []
    monkeypatch.setattr(hangup, "mute", lambda: muted.append(True))

    @heeding_signals()
    def work() -> None:
        try:
            os.kill(os.getpid(), signal.SIGHUP)
        finally:
            os.kill(os.getpid(), signal.SIGHUP)  # what takes things down is not stopped by another
            muted.append(False)

    with pytest.raises(hangup.HungUp):
        work()
    assert muted == [True, False]
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with heeding_signals():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert muted == [True, False]
