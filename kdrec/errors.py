"""The exceptions that are meant for the user."""

from __future__ import annotations

from pathlib import Path


class KdrecError(Exception):
    """Something the user can mend.

    The message says what is wrong, with the offending value, and what to do next.

    Args:
        what: One sentence with the value in it.
        hint: What to do next: a command, an option, a nearest right name.
        exit_code: 1 a run failed, 2 wrong usage or configuration, 3 data not available.
    """

    def __init__(self, what: str, hint: str = "", *, exit_code: int = 1) -> None:
        super().__init__(f"{what}\n{hint}" if hint else what)
        self.what = what
        self.hint = hint
        self.exit_code = exit_code


class InterruptedTraining(KeyboardInterrupt):
    """A training that was asked to stop, and did so where it can go on: exit status 130.

    Args:
        name: What was trained.
        epoch: The last epoch.
        kept: The epoch of the state that is on disk; 0 if there is none.
        forced: Whether the command had force=true, which does not go on from there.
    """

    def __init__(self, name: str, epoch: int, kept: int, *, forced: bool = False) -> None:
        self.name, self.epoch, self.kept = name, epoch, kept
        there = "from there" if kept == epoch else f"from epoch {kept}"
        if not kept:
            then = "it could not be kept, and the same command starts anew"
        elif forced:
            then = (
                f"the same command starts anew; without force=true it goes on {there}, "
                "or takes what is finished"
            )
        elif kept == epoch:
            then = "the same command goes on from there (force=true starts anew)"
        else:
            then = f"it could not be kept: the same command goes on {there}"
        super().__init__(f"interrupted after epoch {epoch} of {name}; {then}")


class UsageError(KdrecError):
    """A wrong option, key or value: exit status 2."""

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what, hint, exit_code=2)


class StorageError(KdrecError):
    """A file that cannot be written, is gone or is damaged: the settings of a run are not at fault.

    A search does not keep it as the failure of a trial.
    """


class DataUnavailableError(KdrecError):
    """A data set that cannot be had from here: exit status 3."""

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what, hint, exit_code=3)


class NotEnoughMemoryError(KdrecError):
    """The work needs more memory than there is."""

    def __init__(self, during: str, error: BaseException, lower: str) -> None:
        said = next(iter(str(error).splitlines()), "").strip() or type(error).__name__
        super().__init__(f"Out of memory while {during}: {said}", lower)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this is numpy's, torch's or a device's way to say so.

    On Linux the kernel may kill a process that takes too much, without a word to it.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    said = str(error).lower()
    return isinstance(error, RuntimeError) and any(
        words in said for words in ("out of memory", "can't allocate memory", "alloc_failed")
    )


def said(error: BaseException) -> str:
    """What an exception says, on one line; its kind where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def cannot_write(error: OSError, path: Path) -> StorageError:
    """What is to be said of a file or folder that could not be written."""
    return StorageError(
        f"Cannot write {path}: {error.strerror or error}.",
        "Free some space, or choose another folder with output_dir=... or data_dir=...",
    )
