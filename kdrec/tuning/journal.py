"""Optuna's journal on disk, and beside it how much of it was written whole.

`journal.log` is Optuna's own, which only ever grows, and has no checksums. `journal.json` has the
sha256 of as much of it as a search has written: what is in there is checked before a search goes
on from it, since a changed digit would choose other settings. All functions here are for who holds
the lock of the search.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from kdrec.artifacts import read_json, write_json
from kdrec.errors import StorageError

JOURNAL = "journal.log"
SEAL = "journal.json"


def forget(folder: Path) -> None:
    """Removes the journal, to begin anew."""
    (folder / JOURNAL).unlink(missing_ok=True)
    (folder / SEAL).unlink(missing_ok=True)


def mend(folder: Path) -> None:
    """Removes what a killed process left (half a line, Optuna's lock), and checks the rest.

    A journal of an older search has no checksum, and is not checked.

    Raises:
        StorageError: If what was written before is there no longer.
    """
    journal = folder / JOURNAL
    journal.with_name(f"{journal.name}.lock").unlink(missing_ok=True)
    content = journal.read_bytes() if journal.exists() else b""
    if content and not content.endswith(b"\n"):
        content = content[: content.rfind(b"\n") + 1]
        with journal.open("rb+") as file:
            file.truncate(len(content))
    if not (folder / SEAL).exists():
        return
    noted = read_json(folder / SEAL)
    if noted != _seal(content[: noted["bytes"]] if _has_size(noted) else content):
        raise StorageError(
            f"{journal} is damaged: it does not have the sha256 in {folder / SEAL}.",
            "To begin the search anew (the runs of its trials are found again): force=true",
        )


def seal(folder: Path) -> None:
    """Notes the checksum of the journal as it is now."""
    write_json(folder / SEAL, _seal((folder / JOURNAL).read_bytes()))


def _has_size(noted: object) -> bool:
    return isinstance(noted, dict) and type(noted.get("bytes")) is int and noted["bytes"] >= 0


def _seal(content: bytes) -> dict[str, object]:
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
