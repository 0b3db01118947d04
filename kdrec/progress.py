"""How long-running work says how far it is.

The work calls `task(...)`; who shows it is decided by the program that runs it: `install` sets
the display. Without one, a line is logged at most every ten seconds.
"""

from __future__ import annotations

import logging
import time
from types import TracebackType
from typing import Protocol, Self

log = logging.getLogger(__name__)

Field = float | int | str


class Task(Protocol):
    """One piece of work under way; a context manager that closes it."""

    def advance(self, amount: int = 1, **fields: Field) -> None:
        """Moves on by `amount` units and shows `fields` (for example `loss=0.41`)."""
        ...

    def skip(self, amount: int) -> None:
        """Counts units as done that were done earlier, and took no time now."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class Display(Protocol):
    """Something that shows tasks."""

    def task(self, name: str, total: int | None, unit: str) -> Task:
        """Begins to show a task of `total` units (None: unknown)."""
        ...


def describe(fields: dict[str, Field]) -> str:
    """`loss 0.4131 ndcg@20 0.0512`."""
    return " ".join(
        f"{name} {value:.4f}" if isinstance(value, float) else f"{name} {value}"
        for name, value in fields.items()
    )


class LinesTask:
    """A task shown as log lines, one at most every `every` seconds."""

    def __init__(self, name: str, total: int | None, unit: str, every: float) -> None:
        self.name, self.total, self.unit, self.every = name, total, unit, every
        self.done = self.skipped = 0
        self.fields: dict[str, Field] = {}
        self.start = self.last = time.monotonic()

    def skip(self, amount: int) -> None:
        """Leaves them out of the estimate of the time that is left."""
        self.done += amount
        self.skipped += amount

    def advance(self, amount: int = 1, **fields: Field) -> None:
        """Logs a line when the last one is old enough."""
        self.done += amount
        self.fields |= fields
        now = time.monotonic()
        if now - self.last >= self.every:
            self.last = now
            of = f"/{self.total}" if self.total is not None else ""
            rest = ""
            if self.total and self.done > self.skipped:
                each = (now - self.start) / (self.done - self.skipped)
                left = each * (self.total - self.done)
                rest = f" at most {left:.0f} s left"
            log.info(
                "%s: %s %d%s %s%s", self.name, self.unit, self.done, of, describe(self.fields), rest
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        took = time.monotonic() - self.start
        if kind is None and took >= 2:
            log.info(
                "%s: %d %ss in %.1f s %s",
                self.name,
                self.done - self.skipped,
                self.unit,
                took,
                describe(self.fields),
            )


class Lines:
    """The default display: log lines."""

    def __init__(self, every: float = 10.0) -> None:
        self.every = every

    def task(self, name: str, total: int | None, unit: str) -> Task:
        """Begins a task that logs lines."""
        return LinesTask(name, total, unit, self.every)


_display: Display = Lines()


def install(display: Display) -> None:
    """Makes `display` show all tasks from now on in this process."""
    global _display  # noqa: PLW0603  (one terminal, one display)
    _display = display


def task(name: str, total: int | None = None, unit: str = "step") -> Task:
    """Begins a task on the installed display; use it in a `with` statement."""
    return _display.task(name, total, unit)
