"""The folder of a command's own run: a user may choose it, by hydra.run.dir or hydra.sweep.dir."""

from __future__ import annotations

import logging
from pathlib import Path

from kdrec.artifacts import MANIFEST, RUN_PATTERNS, read_manifest
from kdrec.errors import UsageError

log = logging.getLogger(__name__)


def claim(folder: Path, output_dir: Path, identity: str) -> None:
    """Makes the folder, and sees to it that the run in it costs no other one.

    A run where no command looks for it is told of.

    Args:
        folder: Of the run.
        output_dir: Where finished runs are looked for.
        identity: Of the run.

    Raises:
        UsageError: If another run is finished there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    manifest = folder / MANIFEST
    if manifest.exists() and (there := read_manifest(manifest)["identity"]) != identity:
        raise UsageError(
            f"{folder} has another finished run, {there[:8]}, which would be overwritten.",
            "Give another hydra.run.dir, hydra.sweep.dir or hydra.sweep.subdir, or none.",
        )
    base = output_dir.resolve()
    if not any(manifest.resolve().match(str(base / pattern)) for pattern in RUN_PATTERNS):
        places = (str(output_dir / Path(pattern).parent) for pattern in RUN_PATTERNS)
        log.warning(
            "No command will find the run in %s again: they look in %s",
            folder, " and ".join(places),
        )  # fmt: skip
