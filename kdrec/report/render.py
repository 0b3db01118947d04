"""Tables on a terminal, or wherever its output goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from kdrec import hangup
from kdrec.report.cells import Cell, Row, Table

_ASCII = str.maketrans({"±": "~", "·": "-", "–": "-", "↑": "^", "↓": "v", "Δ": "d"})
_GAP = 2
_NARROWEST = 12


class _Stdout(Console):
    """A console whose reader may leave: the work behind the tables goes on."""

    def on_broken_pipe(self) -> None:
        """Prints no more, where rich would end the program."""
        self.quiet = True
        hangup.mute_stdout()


def console() -> Console:
    """Standard output: colours on a terminal only, and not with NO_COLOR."""
    return _Stdout(highlight=False)


def say(text: str, out: Console, style: str = "") -> None:
    """A paragraph, wrapped at words; characters that the encoding lacks are replaced."""
    out.print(Text(encodable(text, out), style=style))


def show_table(table: Table, out: Console, legend: str = "") -> None:
    """A table in as many pieces as its width needs, each with the row labels in front."""
    say(table.title, out, "bold")
    # Without ANSI codes bold is lost: the best gets a star instead.
    starred = out.color_system is None
    texts = [[_text(cell, starred=starred) for cell in row.cells] for row in table.rows]
    labels = [row.label for row in table.rows]
    widths = [
        max(len(word) for word in [*table.columns[at].split(), *(row[at] for row in texts)])
        for at in range(len(table.columns))
    ]
    label_width = min(max(map(len, labels), default=0), max(12, out.width // 3))
    counted = any(row.n_runs for row in table.rows)
    room = out.width - label_width - _GAP - (len("runs") + _GAP) * counted
    widest = max(_NARROWEST, room - _GAP)  # a longer text goes on below, at words
    for piece in _pieces(widths, room) if table.rows else []:
        drawn = RichTable(
            box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, _GAP - 1, 0, 0)
        )
        drawn.add_column("", width=label_width, overflow="fold")
        for at in piece:
            heading = Text(encodable(table.columns[at], out))
            side: Literal["left", "right"] = "left" if widths[at] > widest else "right"
            width = min(widths[at], widest)
            drawn.add_column(heading, justify=side, width=width, overflow="fold")
        if counted:
            drawn.add_column("runs", justify="right", overflow="fold")
        for row, label, text in zip(table.rows, labels, texts, strict=True):
            cells = [
                Text(encodable(text[at], out), style="bold" if row.cells[at].best else "")
                for at in piece
            ]
            cells += [Text(str(row.n_runs or ""))] * counted
            drawn.add_row(Text(encodable(label, out), style=_style(row)), *cells)
        out.print(drawn)
        out.print()
    best = any(cell.best for row in table.rows for cell in row.cells)
    emphasis = f"{'*' if starred else 'Bold'}: best student. " if best else ""
    for note in (*table.notes, (emphasis + legend).strip()):
        if note:
            say(note, out, "dim")
    out.print()


def _pieces(widths: Sequence[int], room: int) -> list[list[int]]:
    """Columns, in order, parted so that each piece fits; at least one column a piece."""
    pieces: list[list[int]] = [[]]
    left = room
    for at, width in enumerate(widths):
        if pieces[-1] and width + _GAP > left:
            pieces.append([])
            left = room
        pieces[-1].append(at)
        left -= width + _GAP
    return pieces


def _text(cell: Cell, *, starred: bool) -> str:
    return cell.text() + ("*" if starred and cell.best else "")


def _style(row: Row) -> str:
    return "" if row.role == "student" else "dim"


def encodable(text: str, out: Console) -> str:
    """The text with what the console's encoding lacks replaced."""
    return text if out.encoding.startswith("utf") else text.translate(_ASCII)


def summary(records: Sequence[Mapping[str, Any]], title: str, out: Console) -> None:
    """One run's compact table at its first cut-off, overall and by group.

    Args:
        records: Rows of the evaluation's summary.
        title: What the run is.
        out: Where to print.
    """
    found = {
        (r["target"], r["scope"], r["group"], r["form"], r["metric"]): float(r["value"])
        for r in records
        if r["value"] is not None
    }
    first = next((key[4] for key in found if key[:2] == ("test", "all") and "@" in key[4]), None)
    if first is None:
        say(f"{title}: not evaluated on a test set.", out)
        return
    k = first.partition("@")[2]
    metrics = [key[4] for key in found if key[:2] == ("test", "all") and key[4].endswith(f"@{k}")]
    places: dict[str, tuple[str, str, str, str]] = {"all": ("test", "all", "all", "")}
    places |= {
        key[2]: key[:4] for key in found if key[:2] == ("test", "items") and key[3] == "eligible"
    }
    for scope, word in (("activeness", "active"), ("consistency", "consist.")):
        for key in found:
            if key[:2] == ("test", scope) and key[2] in ("head", "tail"):
                places[f"{key[2]} {word}"] = key[:4]
    if ("unbiased", "all", "all", "", first) in found:
        places["unbiased"] = ("unbiased", "all", "all", "")
    rows = [
        Row(
            metric,
            "student",
            0,
            [Cell(found.get((*place, metric), float("nan"))) for place in places.values()],
        )
        for metric in metrics
    ]
    keys = [(*place, metrics[0]) for place in places.values()]
    users, skipped = (
        found.get(("test", "all", "all", "", name), 0.0) for name in ("users", "users_skipped")
    )
    notes = [f"{users:,.0f} users evaluated; {skipped:,.0f} have no test item."]
    shares = [
        f"{key[2]} {100 * value:.1f}% ({100 * found[*key[:4], 'share_in_test']:.1f}%)"
        for key, value in found.items()
        if key[:2] == ("test", "beyond") and key[4] == f"exposure@{k}"
        if (*key[:4], "share_in_test") in found
    ]
    if shares:
        notes.append(f"Exposure in the top {k} (share of the test data): {', '.join(shares)}.")
    show_table(Table("summary", title, list(places), keys, rows, notes), out)
