"""The tables as Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Sequence
from typing import Any

from kdrec.report.cells import Cell, Table

_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "&": r"\&",
        "%": r"\%",
        "$": r"\$",
        "#": r"\#",
        "_": r"\_",
        "{": r"\{",
        "}": r"\}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"$<$",
        ">": r"$>$",
        "±": r"$\pm$",
        "↑": r"$^{\uparrow}$",
        "↓": r"$^{\downarrow}$",
        "–": "--",
        "·": r"$\cdot$",
    }
)
CSV_HEADER = (
    "block", "dataset", "protocol", "student", "dim", "evaluation", "table", "row", "role",
    "n_runs", "column", "target", "scope", "group", "form", "metric", "kind", "value", "spread",
    "low", "high", "p_adjusted", "best", "significant", "words",
)  # fmt: skip


def latex_escape(text: str) -> str:
    """Text as LaTeX prints it."""
    return text.translate(_LATEX)


def _markdown_escape(text: str) -> str:
    for letter in "\\|*_<`[":
        text = text.replace(letter, f"\\{letter}")
    return text


def markdown(tables: Sequence[Table], title: str, facts: str, legend: str) -> str:
    """A section with a pipe table for each table, and what marks mean below the first."""
    lines = [f"## {_markdown_escape(title)}", "", _markdown_escape(facts), ""]
    for table in tables:
        lines += [f"### {_markdown_escape(table.title)}", ""]
        lines += [_pipes(["", *map(_markdown_escape, table.columns), "runs"])]
        lines += [_pipes(["---", *(["---:"] * (len(table.columns) + 1))])]
        for row in table.rows:
            cells = [_emphasised(cell, _markdown_escape, "**{}**") for cell in row.cells]
            lines.append(_pipes([_markdown_escape(row.label), *cells, str(row.n_runs or "")]))
        lines += ["", *(f"{_markdown_escape(note)}\n" for note in _notes(table, legend))]
        legend = "" if table.marked else legend  # said once a section is enough
    return "\n".join(lines).rstrip() + "\n"


def _pipes(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _emphasised(cell: Cell, escape: Callable[[str], str], form: str) -> str:
    text = escape(cell.text())
    return form.replace("{}", text) if cell.best else text


def _notes(table: Table, legend: str) -> list[str]:
    best = any(cell.best for row in table.rows for cell in row.cells)
    shared = (("Bold: best student. " if best else "") + legend).strip() if table.marked else ""
    return [note for note in (*table.notes, shared) if note]


def latex(tables: Sequence[Table], title: str, facts: str, legend: str) -> str:
    """A `table` environment for each table; needs the package booktabs."""
    parts = [f"% {title}\n% {facts}\n% needs \\usepackage{{booktabs}}\n"]
    for table in tables:
        head = " & ".join(["", *(latex_escape(name) for name in table.columns), "runs"])
        lines = [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{latex_escape(f'{table.title}. {title}.')}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(table.columns) + 1)}}}",
            r"\toprule",
            rf"{head} \\",
            r"\midrule",
        ]
        previous = None
        for row in table.rows:
            if previous is not None and row.role != previous:
                lines.append(r"\midrule")
            previous = row.role
            cells = [_emphasised(cell, latex_escape, r"\textbf{{}}") for cell in row.cells]
            # A first cell that begins with a bracket would be an argument of \\ before it.
            texts = [f"{{{latex_escape(row.label)}}}", *cells, str(row.n_runs or "")]
            lines.append(" & ".join(texts) + r" \\")
        lines += [r"\bottomrule", r"\end{tabular}"]
        lines += [
            rf"\par\smallskip{{\footnotesize {latex_escape(note)}\par}}"
            for note in _notes(table, legend)
        ]
        parts.append("\n".join([*lines, r"\end{table}", ""]))
    return "\n".join(parts)


def markdown_figure(name: str, caption: str) -> str:
    """A figure that lies beside the file."""
    text = _markdown_escape(caption or name)
    return f"\n![{text}]({name}.png)\n\n{text}\n"


def latex_figure(name: str, caption: str) -> str:
    """A `figure` environment; needs the package graphicx."""
    return "\n".join(
        [
            r"\begin{figure}",
            r"\centering",
            rf"\includegraphics[width=\linewidth]{{{name}.png}}",
            rf"\caption{{{latex_escape(caption or name)}}}",
            r"\end{figure}",
            "",
        ]
    )


def csv_rows(tables: Sequence[Table], block: Sequence[object]) -> list[list[object]]:
    """A line a number, in full precision; an empty field where there is none."""
    return [
        [
            *block, table.name, row.label, row.role, row.n_runs, column, *key, cell.kind,
            *(_exact(one) for one in (cell.value, cell.spread, cell.low, cell.high, cell.p)),
            int(cell.best), {"↑": "better", "↓": "worse"}.get(cell.mark, ""), cell.words,
        ]
        for table in tables
        for row in table.rows
        for column, key, cell in zip(table.columns, table.keys, row.cells, strict=True)
    ]  # fmt: skip


def _exact(value: float) -> str:
    return repr(float(value)) if math.isfinite(value) else ""


def csv_text(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """CSV with a header line."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return out.getvalue()


def table_json(table: Table) -> dict[str, Any]:
    """A table for a program; a number that does not exist is null."""
    return {
        "name": table.name,
        "title": table.title,
        "columns": list(table.columns),
        "rows": [
            {
                "label": row.label,
                "role": row.role,
                "n_runs": row.n_runs,
                "cells": [
                    {
                        "value": _finite(cell.value),
                        "spread": _finite(cell.spread),
                        "low": _finite(cell.low),
                        "high": _finite(cell.high),
                        "p_adjusted": _finite(cell.p),
                        "best": cell.best,
                        "mark": cell.mark,
                        "words": cell.words,
                    }
                    for cell in row.cells
                ],
            }
            for row in table.rows
        ],
        "notes": list(table.notes),
    }


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
