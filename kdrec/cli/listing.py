"""What there is to choose from: the files of conf/, each with its first comment line."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from pathlib import Path

KINDS = {
    "datasets": "dataset",
    "models": "model",
    "debias": "debias",
    "methods": "method",
    "metrics": "metric",
    "protocols": "protocol",
    "experiments": "experiment",
}
"""What the user asks for, and the folder of conf/ where it lies."""

Entry = dict[str, str]

_NEEDS = re.compile(r"^  needs: *(\w+)", re.MULTILINE)
_NARROWEST = 24  # columns, below which a wrapped summary is harder to read than a long line
_BASE = re.compile(r"^defaults:\n  - (\w+)", re.MULTILINE)


def summary(path: Path) -> str:
    """The first comment line of a config file, Hydra's `# @package` line left out."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if line.strip() and not line.startswith("#"):
                break
            text = line.lstrip("#").strip()
            if text and not text.startswith("@package"):
                return text
    return ""


def needs(path: Path) -> str:
    """What a method asks of its teacher: its file's word, else that of the file it builds on."""
    content = path.read_text(encoding="utf-8")
    found, base = _NEEDS.search(content), _BASE.search(content)
    if found:
        return found[1]
    return needs(path.with_name(f"{base[1]}.yaml")) if base else ""


def entries(kind: str, folders: Sequence[Path]) -> list[Entry]:
    """Name and summary of everything of one kind, by name; of two of a name the first counts."""
    found: dict[str, Entry] = {}
    for folder in folders:
        for path in (folder / KINDS[kind]).glob("*.yaml"):
            entry = {"name": path.stem, "summary": summary(path)}
            if kind == "methods":
                entry["needs"] = needs(path)
            found.setdefault(path.stem, entry)
    return [found[name] for name in sorted(found)]


def text(kind: str, rows: Sequence[Entry], *, indent: str = "", width: int | None = None) -> str:
    """The entries as aligned lines, summaries wrapped beside their column.

    Args:
        kind: What is listed.
        rows: The entries.
        indent: In front of each line.
        width: Of the terminal; None leaves each entry on its one line, for other programs.
    """
    if not rows:
        return f"{indent}(no {kind} yet)"
    columns = [name for name in ("name", "needs") if any(row.get(name) for row in rows)]
    widths = {name: max(len(row[name]) for row in rows) for name in columns}
    room = None if width is None else width - len(indent) - sum(widths.values()) - 2 * len(columns)
    lines = []
    for row in rows:
        head = indent + "".join(f"{row[name]:<{widths[name]}}  " for name in columns)
        summary = [row["summary"]]
        if room is not None and room >= _NARROWEST:
            summary = textwrap.wrap(row["summary"], room) or [""]
        lines += [(head + summary[0]).rstrip()]
        lines += [" " * len(head) + more for more in summary[1:]]
    return "\n".join(lines)
