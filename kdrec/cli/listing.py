"""What there is to choose from: the files of conf/, each with its first comment line."""

from __future__ import annotations

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


def entries(kind: str, folders: Sequence[Path]) -> list[Entry]:
    """Name and summary of everything of one kind, by name; of two of a name the first counts."""
    found: dict[str, str] = {}
    for folder in folders:
        for path in (folder / KINDS[kind]).glob("*.yaml"):
            found.setdefault(path.stem, summary(path))
    return [{"name": name, "summary": found[name]} for name in sorted(found)]


def text(kind: str, rows: Sequence[Entry], *, indent: str = "") -> str:
    """The entries as aligned lines."""
    if not rows:
        return f"{indent}(no {kind} yet)"
    width = max(len(row["name"]) for row in rows)
    return "\n".join(f"{indent}{row['name']:<{width}}  {row['summary']}".rstrip() for row in rows)
