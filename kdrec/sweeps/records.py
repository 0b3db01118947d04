"""One record for each job of a sweep: `<sweep>/.jobs/<number>.json`.

The process that runs a job writes its record, and nobody else does while that process lives, so
that workers of several machines never write the same file. Every version of a record is moved into
place in one step.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path

from kdrec.artifacts import write_json
from kdrec.errors import KdrecError

JOBS = ".jobs"

RUNNING = "running"
DONE = "done"
FOUND = "found"
FAILED = "failed"
INTERRUPTED = "interrupted"
LOST = "lost"
STATES = (DONE, FOUND, FAILED, INTERRUPTED, LOST, RUNNING)
"""`found`: finished by an earlier run; `lost`: its process ended without a word."""


@dataclass(frozen=True, slots=True)
class Record:
    """What became of one job.

    Args:
        job: Its number in the sweep.
        state: One of `STATES`.
        overrides: What was given for it.
        folder: Its folder, with its log.
        attempt: From 1; more if the process of an earlier attempt was killed.
        host: Where it runs or ran.
        pid: The process.
        started: ISO 8601, UTC.
        seconds: How long it took; None while it runs.
        value: What the stage returned: the validation metric.
        what: What went wrong.
        hint: What to do about it.
    """

    job: int
    state: str
    overrides: tuple[str, ...]
    folder: str
    attempt: int
    host: str
    pid: int
    started: str
    seconds: float | None = None
    value: float | None = None
    what: str = ""
    hint: str = ""

    @property
    def runs(self) -> bool:
        """Whether it is under way, as far as the record tells."""
        return self.state == RUNNING

    @property
    def ended(self) -> bool:
        """Whether it is over for good: a cluster may begin again what it has interrupted."""
        return self.state in (DONE, FOUND, FAILED)

    def elapsed(self) -> float:
        """Seconds since it began."""
        return (datetime.now(UTC) - datetime.fromisoformat(self.started)).total_seconds()


def path_of(sweep: Path, job: int) -> Path:
    """Where the record of a job lies."""
    return sweep / JOBS / f"{job}.json"


def begin(sweep: Path, *, job: int, overrides: Sequence[str], folder: str) -> Record:
    """Writes down that this process begins a job.

    A record that still says `running` is of an attempt whose process was killed, and one that was
    interrupted begins again where a cluster took its machine away.
    """
    before = read(path_of(sweep, job))
    record = Record(
        job=job,
        state=RUNNING,
        overrides=tuple(overrides),
        folder=folder,
        attempt=before.attempt + 1 if before is not None and not before.ended else 1,
        host=platform.node(),
        pid=os.getpid(),
        started=datetime.now(UTC).isoformat(timespec="milliseconds"),
    )
    write(sweep, record)
    return record


def end(
    sweep: Path, record: Record, state: str, *, value: float | None = None, what: str = ""
) -> None:
    """Writes down that a job ended in this state."""
    ended = replace(record, state=state, seconds=round(record.elapsed(), 3))
    write(sweep, replace(ended, value=value, what=what))


def fail(sweep: Path, record: Record, error: BaseException) -> Record:
    """Writes down that a job failed, and why; returns what it wrote."""
    what, hint = reason(error, record.folder)
    ended = replace(record, state=FAILED, seconds=round(record.elapsed(), 3))
    failed = replace(ended, what=what, hint=hint)
    write(sweep, failed)
    return failed


def reason(error: BaseException, folder: str) -> tuple[str, str]:
    """What went wrong in a job with this folder, and what to do about it."""
    if isinstance(error, KdrecError):
        return error.what, error.hint
    text = " ".join(str(error).split())
    name = type(error).__name__
    return (f"{name}: {text}" if text else name), f"The log in {folder} has the traceback."


def write(sweep: Path, record: Record) -> None:
    """Puts a record into place."""
    write_json(path_of(sweep, record.job), asdict(record))


def bring(sweep: Path, record: Record) -> None:
    """Puts a record here that a worker wrote, if it did so on a disk of its own."""
    if read(path_of(sweep, record.job)) != record:
        write(sweep, record)


def read(path: Path) -> Record | None:
    """The record in this file; None if there is none, or none of this form."""
    try:
        content = json.loads(path.read_text("utf-8"))
        known = {field.name: content[field.name] for field in fields(Record)}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Record(**known | {"overrides": tuple(known["overrides"])})
