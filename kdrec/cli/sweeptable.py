"""The table of a sweep that is under way, on a terminal."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import TaskID
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from kdrec import progress
from kdrec.cli.console import Bars
from kdrec.sweeps import records
from kdrec.sweeps.records import Record
from kdrec.sweeps.status import Status, lasting

SHOWN = 8
"""How many jobs of a kind are listed."""

_STYLES = {records.FAILED: "red", records.LOST: "red"}


class SweepBars(Bars):
    """Bars of the jobs' own work, drawn below the table of the sweep and not by themselves."""

    def open(self, name: str, total: int | None, unit: str) -> TaskID:
        """Adds a bar."""
        return self.progress.add_task(name, total=total, unit=unit, fields="")

    def close(self, task: TaskID) -> None:
        """Takes a bar away."""
        self.progress.remove_task(task)


def live(console: Console, drawn: Callable[[], RenderableType]) -> Live:
    """What is drawn twice a second, and below it the bars of what runs in this process."""
    bars = SweepBars(console)
    progress.install(bars)
    return Live(
        get_renderable=lambda: Group(drawn(), bars.progress),
        console=console,
        transient=True,
        refresh_per_second=2,
        redirect_stdout=sys.stdout.isatty(),
    )


def table(command: str, status: Status, left: str, name: Callable[[Record], str]) -> RenderableType:
    """How far the sweep is; the best job, those that run and those that failed.

    Args:
        command: Of the jobs.
        status: Of the sweep.
        left: How long still, as text to append.
        name: What to call a job.
    """
    head = Table.grid(padding=(0, 2))
    total = status.total
    bar = ProgressBar(total or 1, status.ended, width=24)
    of = f"{status.ended}/{total}" if total else f"{status.ended}"
    head.add_row(Text(f"sweep of {command}"), bar, of, status.counted() + left)
    rows = Table.grid(padding=(0, 2))
    if status.best is not None:
        rows.add_row("best", str(status.best.job), f"{status.best.value:.4f}",
                     Text(name(status.best)))  # fmt: skip
    for one in status.running[:SHOWN]:
        where = "" if one.host == platform.node() else f" on {one.host}"
        rows.add_row("running" + where, str(one.job), lasting(one.elapsed()), Text(name(one)))
    for one in status.unfinished[-SHOWN:]:
        rows.add_row(Text(one.state, _STYLES.get(one.state, "")), str(one.job), "",
                     Text(f"{name(one)}: {one.what}"))  # fmt: skip
    return Group(head, rows)
