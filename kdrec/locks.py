"""Locks between processes, of one machine or of several that share a file system.

They are `flock` locks: a process that dies lets go of its own. On NFS, Linux takes byte-range
locks for them, which hold between machines too, unless it is mounted with `nolock` or `local_lock`.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from kdrec.errors import StorageError, cannot_write

log = logging.getLogger(__name__)


@contextlib.contextmanager
def lock(path: Path, what: str) -> Iterator[None]:
    """Holds an exclusive lock between processes for the length of the block.

    Args:
        path: The lock file; made if missing, and left in place.
        what: What is being made, for the line that says one is waiting.
    """
    with _lock_file(path) as file:
        try:
            if not _take(file, path):
                log.info("Waiting for %s, which makes %s.", _holder(path), what)
                fcntl.flock(file, fcntl.LOCK_EX)
            _sign(file)
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)


@contextlib.contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """Holds the lock for the length of the block if nobody else does; yields whether it does."""
    with _lock_file(path) as file:
        mine = _take(file, path)
        if mine:
            _sign(file)
        yield mine  # closing the file lets the lock go


def _take(file: TextIO, path: Path) -> bool:
    """Takes the lock if nobody else has it; says whether it did."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise StorageError(
            f"{path} cannot be locked: {error.strerror or error}.",
            "The file system must support locks between processes (NFS: without nolock); choose "
            "another one with output_dir=... and data_dir=...",
        ) from error
    return True


def _sign(file: TextIO) -> None:
    """Writes into a lock file who holds it, for those that wait."""
    file.truncate(0)
    file.write(f"process {os.getpid()} on {platform.node()}")
    file.flush()


def _holder(path: Path) -> str:
    """Who holds the lock, as far as the file tells: it may be about to be written."""
    return path.read_text("utf-8", errors="replace") or "another process"


def _lock_file(path: Path) -> TextIO:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("a")
    except OSError as error:
        raise cannot_write(error, path) from error
