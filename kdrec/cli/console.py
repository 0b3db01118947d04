"""Progress on a terminal: bars on stderr that vanish when the work is done."""

from __future__ import annotations

import logging
import sys
from types import TracebackType
from typing import TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from kdrec import progress
from kdrec.progress import Field, LinesTask, describe


class StderrHandler(logging.StreamHandler[TextIO]):
    """Logs to whatever `sys.stderr` is at the time, so that a line and a bar do not mix."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        """The present stderr."""
        return sys.stderr


class BarTask(LinesTask):
    """A bar that says how far, how well and how long still; a log line is left when it closes."""

    def __init__(self, bars: Bars, name: str, total: int | None, unit: str) -> None:
        super().__init__(name, total, unit, every=float("inf"))
        self._bars = bars
        self._id = bars.open(name, total, unit)

    def advance(self, amount: int = 1, **fields: Field) -> None:
        """Moves the bar, and shows the fields behind it."""
        super().advance(amount, **fields)
        self._bars.progress.update(self._id, advance=amount, fields=describe(self.fields))

    def skip(self, amount: int) -> None:
        """Moves the bar, and not the estimate."""
        super().skip(amount)
        self._bars.progress.reset(
            self._id, completed=amount, unit=self.unit, fields=describe(self.fields)
        )  # it forgets the fields that are not given

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.close(self._id)
        super().__exit__(kind, error, trace)


class Bars:
    """All tasks under way, a bar each; drawn only while there is one."""

    def __init__(self, console: Console) -> None:
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}s"),
            TimeElapsedColumn(),
            TextColumn("left at most"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[fields]}", markup=False),
            console=console,
            transient=True,
            redirect_stdout=False,
        )

    def task(self, name: str, total: int | None, unit: str) -> BarTask:
        """Begins a task with a bar of its own."""
        return BarTask(self, name, total, unit)

    def open(self, name: str, total: int | None, unit: str) -> TaskID:
        """Adds a bar, and begins to draw if it is the first."""
        if not self.progress.task_ids:
            self.progress.start()
        return self.progress.add_task(name, total=total, unit=unit, fields="")

    def close(self, task: TaskID) -> None:
        """Takes a bar away, and stops to draw if it was the last."""
        self.progress.remove_task(task)
        if not self.progress.task_ids:
            self.progress.stop()


def install(*, quiet: bool = False) -> None:
    """Shows progress as bars on a terminal, as log lines elsewhere, or (quiet) not at all.

    `NO_COLOR` and `TERM=dumb` are respected.
    """
    logging.raiseExceptions = False  # no traceback for a log line that finds the disk full
    console = Console(stderr=True)
    if quiet:
        progress.install(progress.Lines(every=float("inf")))
    elif console.is_terminal and not console.is_dumb_terminal:
        progress.install(Bars(console))
    else:
        progress.install(progress.Lines())
