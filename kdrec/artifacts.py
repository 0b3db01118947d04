"""Files that are either whole or not there, and runs that are found again by what made them.

A run directory is finished when its `manifest.json` is in place; that file is written last, and
moved into place in one step. Whatever has no manifest is taken for nothing.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from kdrec.digests import SEAL, canonical, digest, is_intact, sealed, sha256_file
from kdrec.errors import KdrecError, StorageError, cannot_write

__all__ = ["canonical", "digest", "sha256_file"]

log = logging.getLogger(__name__)

SCHEMA = 2
UNSEALED = 1  # the schema of manifests that had no checksum of their own; they are read unchecked
MANIFEST = "manifest.json"
REMAKE = "Remove its folder, and run the command again: what is missing is made again."
RUN_PATTERNS = ("runs/*/*/manifest.json", "sweeps/*/*/*/manifest.json")

Json = Mapping[str, Any]


def setting_text(value: object) -> str:
    """A setting as one would type it: `true`, `null`, `0.01`."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return str(value)


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that becomes `path` when the block ends well.

    Raises:
        StorageError: If the file cannot be written (full disk, read-only folder).
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise cannot_write(error, path) from error
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    except OSError as error:
        raise cannot_write(error, path) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_dir(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path` that becomes `path` when the block ends well.

    A folder that already stands at `path` is replaced.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
    except OSError as error:
        raise cannot_write(error, path) from error
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o777 & ~umask)
        if path.exists():
            shutil.rmtree(path)
        temporary.replace(path)
    except OSError as error:
        raise cannot_write(error, path) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_json(path: Path, value: object) -> None:
    """Writes indented JSON, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(
            json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", "utf-8"
        )


def read_json(path: Path) -> Any:
    """Reads JSON.

    Raises:
        StorageError: If the file is missing or is not JSON.
    """
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise StorageError(f"{path} cannot be read: {error}.", REMAKE) from error


@dataclass(frozen=True, slots=True)
class Run:
    """A finished run: its folder and its manifest."""

    folder: Path
    manifest: Json

    @property
    def identity(self) -> str:
        """What determined the result, as a digest."""
        return str(self.manifest["identity"])

    def file(self, name: str) -> Path:
        """The path of an artefact, after its sha256 has been checked.

        Raises:
            StorageError: If the file is missing or its bytes are not those that were written.
        """
        path = self.folder / name
        expected = self.manifest["artifacts"].get(name)
        if expected is None:
            raise StorageError(f"The run {self.folder} has no artefact {name}.")
        if not path.is_file():
            raise StorageError(
                f"{path} is missing, though the run is marked as finished.",
                REMAKE,
            )
        if (actual := sha256_file(path)) != expected:
            raise StorageError(
                f"{path} is damaged: sha256 is {actual[:12]}..., {expected[:12]}... was written.",
                REMAKE,
            )
        return path


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a run, held against its own checksum.

    Raises:
        StorageError: If it is missing, no manifest of this version, or not what was written.
    """
    return check_manifest(read_json(path), path)


def check_manifest(manifest: object, where: object) -> dict[str, Any]:
    """The parsed manifest of a run, held against its own checksum.

    Args:
        manifest: As JSON gave it.
        where: Its path or address, for the message.

    Raises:
        StorageError: If it is no manifest of this version, or not what was written.
    """
    if not isinstance(manifest, dict) or "schema" not in manifest:
        raise StorageError(
            f"{where} is no manifest: it holds no JSON object with a schema.", REMAKE
        )
    schema = manifest["schema"]
    if schema not in (UNSEALED, SCHEMA):
        raise StorageError(f"{where} cannot be read: its schema is {schema}, not {SCHEMA}.", REMAKE)
    if (schema == SCHEMA or SEAL in manifest) and not is_intact(manifest):
        raise StorageError(
            f"{where} is damaged: it does not have the sha256 that it names.", REMAKE
        )
    return manifest


def finished_runs(output_dir: Path, identity: str | None = None) -> Iterator[Run]:
    """The finished runs below `output_dir`; an unreadable manifest is named in a warning.

    Args:
        output_dir: Where `runs/` and `sweeps/` are.
        identity: Only those of this identity. Manifests that nowhere have it are not parsed: each
            job of a sweep looks through the runs of all.
    """
    for pattern in RUN_PATTERNS:
        for path in sorted(output_dir.glob(pattern)):
            try:
                if identity is not None and identity.encode() not in path.read_bytes():
                    continue
                manifest = read_manifest(path)
            except (StorageError, OSError) as error:
                what = error.what if isinstance(error, StorageError) else f"{error}."
                log.warning("%s It is left out.", what)
                continue
            if missing := {"identity", "finished", "artifacts"} - manifest.keys():
                log.warning("%s lacks %s. It is left out.", path, ", ".join(sorted(missing)))
                continue
            if identity is None or manifest["identity"] == identity:
                yield Run(path.parent, manifest)


def find_run(output_dir: Path, identity: str, *, evaluation: str | None = None) -> Run | None:
    """The newest finished run of this identity, or None.

    Args:
        output_dir: Where `runs/` and `sweeps/` are.
        identity: The digest to look for.
        evaluation: If given, the run must have been evaluated in this way too.
    """
    found = [
        run
        for run in finished_runs(output_dir, identity)
        if evaluation is None or run.manifest.get("evaluation") == evaluation
    ]
    return max(found, key=lambda run: str(run.manifest["finished"]), default=None)


def new_run_folder(output_dir: Path, command: str, identity: str) -> Path:
    """Makes `<output_dir>/runs/<date>/<time>_<command>_<id8>/`, never one that exists."""
    now = datetime.now().astimezone()
    base = output_dir / "runs" / f"{now:%Y-%m-%d}"
    name = f"{now:%H-%M-%S}_{command}_{identity[:8]}"
    for attempt in range(1000):
        folder = base / (f"{name}_{attempt}" if attempt else name)
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise cannot_write(error, folder) from error
        return folder
    raise KdrecError(f"{base} has a thousand runs named {name}.", "Choose another output_dir.")


def write_manifest(folder: Path, manifest: Json) -> Run:
    """Hashes every file in the folder, adds the hashes and marks the run as finished.

    The manifest carries its own sha256, over its canonical JSON without that key.
    """
    artifacts = {
        str(path.relative_to(folder)): sha256_file(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and path.name != MANIFEST
        and path.suffix != ".log"
        and not str(path.relative_to(folder)).startswith(".")
    }
    whole = sealed({"schema": SCHEMA, **manifest, "artifacts": artifacts})
    write_json(folder / MANIFEST, whole)
    return Run(folder, whole)
