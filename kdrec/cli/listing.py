"""What there is to choose from: the files of conf/, each with its first comment line."""

from __future__ import annotations

import re
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


def text(kind: str, rows: Sequence[Entry], *, indent: str = "") -> str:
    """The entries as aligned lines."""
    if not rows:
        return f"{indent}(no {kind} yet)"
    columns = [name for name in ("name", "needs") if any(row.get(name) for row in rows)]
    widths = {name: max(len(row[name]) for row in rows) for name in columns}
    return "\n".join(
        (indent + "".join(f"{row[n]:<{widths[n]}}  " for n in columns) + row["summary"]).rstrip()
        for row in rows
    )
