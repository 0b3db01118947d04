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


def cannot_write(error: OSError, path: Path) -> StorageError:
    """What is to be said of a file or folder that could not be written."""
    return StorageError(
        f"Cannot write {path}: {error.strerror or error}.",
        "Free some space, or choose another folder with output_dir=... or data_dir=...",
    )
