"""The trials of a search as a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kdrec.artifacts import setting_text
from kdrec.report.cells import NOTHING
from kdrec.report.render import encodable, say


def show_trials(rows: Sequence[Mapping[str, Any]], title: str, metric: str, out: Console) -> None:
    """Prints the trials in the order given, with a rank for those that finished.

    Args:
        rows: For each `trial`, `state`, `value`, `settings`, `epochs`, `seconds`, `reason`.
        title: What was searched.
        metric: What `value` is.
        out: Where to print.
    """
    say(title, out, "bold")
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in ("rank", metric):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("settings", overflow="fold")
    for heading in ("epochs", "s", "trial"):
        table.add_column(heading, justify="right", no_wrap=True)
    for rank, row in enumerate(rows, start=1):
        value, seconds, epochs = row["value"], row["seconds"], row["epochs"]
        cells = [
            str(rank) if value is not None else "",
            f"{value:.4f}" if value is not None else row["state"],
            " ".join(f"{key}={setting_text(one)}" for key, one in row["settings"].items()),
            str(epochs) if epochs is not None else NOTHING,
            f"{seconds:.0f}" if seconds is not None else NOTHING,
            str(row["trial"]),
        ]
        style = "bold" if rank == 1 and value is not None else ""
        table.add_row(*[Text(encodable(cell, out), style=style) for cell in cells])
    out.print(table)
    for row in rows:
        if row["reason"]:
            say(f"Trial {row['trial']} failed: {row['reason']}", out)
