"""A sweep as it goes: a live table on a terminal, lines elsewhere, files in its folder."""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live

from kdrec.cli.guard import say
from kdrec.cli.sweeptable import SHOWN, live, table
from kdrec.errors import KdrecError
from kdrec.locks import try_lock
from kdrec.sweeps import records
from kdrec.sweeps.records import JOBS, Record
from kdrec.sweeps.status import Status, lasting

log = logging.getLogger(__name__)

_EVERY_S = 0.5
_OUTDATED = "The table of the sweep is not up to date: %s"


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[Path]:
    """A sweep's folder that no other sweep writes to while the block lasts.

    `folder` itself, or where another sweep is at work there `folder_1`, `folder_2`, ...

    Raises:
        KdrecError: If a thousand are taken.
    """
    for number in range(1000):
        chosen = folder.with_name(f"{folder.name}_{number}") if number else folder
        with try_lock(chosen / ".lock") as mine:
            if mine:
                for old in (chosen / JOBS).glob("*.json"):
                    old.unlink()
                yield chosen
                return
    raise KdrecError(f"A thousand sweeps are at work in {folder}.", "Give another hydra.sweep.dir.")


@dataclass(slots=True)
class Watch:
    """Follows the records of a sweep in a thread, for as long as its block lasts.

    Args:
        folder: The sweep's.
        command: Of its jobs.
        line: The command line's overrides.
        jobs: The overrides of every job; None if a sweeper makes them up as it goes.
        quiet: Tell failures only.
    """

    folder: Path
    command: str
    line: Sequence[str]
    jobs: Sequence[Sequence[str]] | None
    quiet: bool
    _status: Status = field(init=False)
    _over: dict[int, Record] = field(default_factory=dict, init=False)
    _told: set[tuple[int, int, str]] = field(default_factory=set, init=False)
    _seen: Status | None = field(default=None, init=False)
    _started: datetime = field(default_factory=lambda: datetime.now(UTC), init=False)
    _stop: threading.Event = field(default_factory=threading.Event, init=False)
    _thread: threading.Thread | None = field(default=None, init=False)
    _live: Live | None = field(default=None, init=False)

    def __enter__(self) -> Self:
        self._status = Status([], self._total)
        self._refresh("running")
        console = Console(stderr=True)
        if not self.quiet and console.is_terminal and not console.is_dumb_terminal:
            self._live = live(
                console, lambda: table(self.command, self._status, self._left(), self._name)
            )
            self._live.start()
        self._thread = threading.Thread(target=self._follow, name="kdrec-sweep", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        if self._live is not None:
            self._live.stop()
        try:
            if kind is None:
                self._refresh("ended", gone=records.LOST)
            elif issubclass(kind, Exception):  # the launcher gave up; jobs may still be under way
                self._refresh("failed")
            else:
                self._refresh("interrupted", gone=records.INTERRUPTED)
        except KdrecError as full:
            if error is None:
                raise
            log.warning(_OUTDATED, full)  # what ended the sweep is what matters
        if not self.quiet and self._status.records:
            say(self._summary())
        if isinstance(error, KeyboardInterrupt) and not str(error):  # jobs of other processes
            say("The same command again makes what is missing, and goes on where it was stopped.")

    def check(self) -> None:
        """Says what failed.

        Raises:
            KdrecError: If a job ended without a result.
        """
        bad = self._status.unfinished
        if not bad:
            return
        few = bad[:SHOWN]
        lines, hints = [], set()
        for one in few:
            lines.append(f"job {one.job} ({self._name(one)}), {one.state}: {one.what}")
            if one.hint not in hints:  # jobs often fail for one reason
                lines += [f"  {line}" for line in one.hint.splitlines()]
            hints.add(one.hint)
        lines += [f"and {len(bad) - len(few)} more: {self.folder / 'sweep.csv'}"] * (bad != few)
        lines.append(
            "Once that is mended, the same command makes these alone: what is finished is found."
        )
        what = f"{len(bad)} of {len(self._status.records)} jobs did not finish."
        raise KdrecError(what, "\n".join(lines))

    @property
    def _total(self) -> int | None:
        return None if self.jobs is None else len(self.jobs)

    def _follow(self) -> None:
        while not self._stop.wait(_EVERY_S):
            try:
                self._refresh("running")
            except KdrecError as error:  # a full disk: the jobs themselves will say so too
                log.warning(_OUTDATED, error)

    def _refresh(self, state: str, *, gone: str | None = None) -> None:
        """Reads what is new, tells it and writes it down.

        Args:
            state: Of the sweep.
            gone: What became of jobs that are said to run, if none can any more.
        """
        found = {}
        for path in (self.folder / JOBS).glob("*.json"):
            number = int(path.stem)
            record = self._over.get(number) or records.read(path)
            if record is not None:
                found[number] = _without_end(record, gone)
        self._over = {number: one for number, one in found.items() if one.ended}
        self._status = Status([found[number] for number in sorted(found)], self._total)
        for one in self._status.records:
            news = (one.job, one.attempt, one.state)
            if not one.runs and news not in self._told:
                self._told.add(news)
                self._tell(one)
        if self._status != self._seen or state != "running":
            self._status.write(self.folder, **self._about(state))
            self._seen = self._status

    def _about(self, state: str) -> dict[str, object]:
        now = datetime.now(UTC)
        return {
            "command": self.command,
            "line": list(self.line),
            "state": state,
            "host": platform.node(),
            "pid": os.getpid(),
            "started": self._started.isoformat(timespec="seconds"),
            "updated": now.isoformat(timespec="seconds"),
            "seconds": round((now - self._started).total_seconds(), 1),
        }

    def _name(self, record: Record) -> str:
        """What sets the job apart from the others, as it was typed if that is known."""
        jobs = self.jobs or [one.overrides for one in self._status.records]
        words = self.jobs[record.job] if self.jobs else record.overrides
        common = set.intersection(*(set(job) for job in jobs)) if len(jobs) > 1 else set()
        words = [word for word in words if not word.lstrip("+~").startswith("hydra")]
        own = [word for word in words if word not in common]
        return " ".join(own or words)

    def _tell(self, record: Record) -> None:
        bad = record.state in (records.FAILED, records.LOST)
        if self.quiet and not bad:
            return
        took = f" in {lasting(record.seconds)}" if record.seconds and record.seconds >= 1 else ""
        worth = "" if record.value is None else f", {record.value:.4f}"
        why = f": {record.what}" if bad else ""
        of = "" if self._total is None else f" of {self._total}"
        say(
            f"job {record.job} {record.state}{took}{worth}  {self._name(record)}  "
            f"[{self._status.ended}{of}{self._left()}]{why}"
        )

    def _left(self) -> str:
        left = self._status.seconds_left()
        return "" if left is None else f", about {lasting(left)} left"

    def _summary(self) -> str:
        took = lasting((datetime.now(UTC) - self._started).total_seconds())
        begun, total = len(self._status.records), self._total
        some = f"{begun} of {total}" if total not in (None, begun) else f"{begun}"
        some += " job" if total == 1 or (total is None and begun == 1) else " jobs"
        best = self._status.best
        worth = f"; best {best.value:.4f}: {self._name(best)}" if best and best.value else ""
        table = self.folder / "sweep.csv"
        said = f"Sweep: {some} in {took}: {self._status.counted()}{worth}\nIts table: {table}"
        return said + _elsewhere(self._status.records)


def _elsewhere(jobs: Sequence[Record]) -> str:
    """Which jobs ran on a machine whose disk is not seen from here."""
    here = platform.node()
    away = [one for one in jobs if one.ended and one.state != records.FOUND and one.host != here
            and not Path(one.folder).is_dir()]  # fmt: skip
    if not away:
        return ""
    hosts = ", ".join(sorted({one.host for one in away}))
    return (
        f"\nNot on this machine but on {hosts}: what {len(away)} of them left. "
        "With share=... the same command brings finished runs here."
    )


def _without_end(record: Record, gone: str | None) -> Record:
    """What a record comes to if it says that its job runs, and no job can any more.

    An interrupt reaches the jobs of this machine alone.
    """
    elsewhere = gone == records.INTERRUPTED and record.host != platform.node()
    if gone is None or not record.runs or elsewhere:
        return record
    interrupted = gone == records.INTERRUPTED
    what = "stopped" if interrupted else "its process ended without a word (killed?)"
    return replace(record, state=gone, what=what, hint=f"See {record.folder}.")
