"""The files of a data set: what they are called, whether they are right, where a local copy is."""

from __future__ import annotations

import hashlib
import json
import logging
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from io import FileIO
from pathlib import Path, PurePosixPath
from typing import Any

from kdrec.artifacts import write_json
from kdrec.data.archives import unpack
from kdrec.digests import sha256_file
from kdrec.errors import DataUnavailableError, KdrecError, UsageError

log = logging.getLogger(__name__)

SIDECAR = "checksums.json"


@dataclass(frozen=True, slots=True)
class FileSpec:
    """One raw file of a data set, as its configuration describes it.

    Args:
        name: The file's name on disk.
        urls: Where it is published, in the order to try.
        sha256: Its checksum, or None.
        md5: The publisher's checksum, or None.
        member: For a zip archive, the member that is wanted; None: the file itself is.
    """

    name: str
    urls: tuple[str, ...]
    sha256: str | None
    md5: str | None
    member: str | None

    @classmethod
    def parse(cls, entry: Mapping[str, Any]) -> FileSpec:
        """Makes one from a configuration's entry; what is left out is None.

        Raises:
            UsageError: If a key is unknown, or the name is no plain file name.
        """
        known = [field.name for field in fields(cls)]
        unknown = sorted(set(entry) - set(known))
        if unknown:
            raise UsageError(
                f"An entry of dataset.files has the unknown key {unknown[0]!r}.",
                f"It may have {', '.join(known)}.",
            )
        name = str(entry.get("name") or "")
        if not name or Path(name).name != name:
            raise UsageError(f"The name of a file must be a plain file name, got {name!r}.")
        return cls(
            name,
            tuple(str(url) for url in entry.get("urls") or ()),
            *(str(entry[key]) if entry.get(key) else None for key in ("sha256", "md5", "member")),
        )

    @property
    def target(self) -> str:
        """The name of the file that a reader gets."""
        return PurePosixPath(self.member).name if self.member else self.name


def recorded(folder: Path) -> dict[str, dict[str, str]]:
    """What `checksums.json` of a folder holds: file name to sha256 and origin."""
    path = folder / SIDECAR
    if not path.is_file():
        return {}
    try:
        found: dict[str, dict[str, str]] = json.loads(path.read_text("utf-8"))
        return {name: {"sha256": entry["sha256"], **entry} for name, entry in found.items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise KdrecError(
            f"{path} is not a table of checksums: {error!r}.",
            "Remove it; the checksums are recorded anew.",
        ) from error


def record(folder: Path, name: str, origin: str) -> None:
    """Writes the sha256 of a file into `checksums.json`, where it holds from then on."""
    sha256 = sha256_file(folder / name)
    write_json(folder / SIDECAR, recorded(folder) | {name: {"sha256": sha256, "origin": origin}})


def mismatch(path: Path, *, sha256: str | None, md5: str | None) -> str | None:
    """Says in what a file differs from the checksums that are known; None: in nothing."""
    for kind, expected in (("sha256", sha256), ("md5", md5)):
        if expected is not None:
            with path.open("rb") as file:
                actual = hashlib.file_digest(file, kind).hexdigest()
            if actual != expected.lower():
                return f"{kind} {actual}, not {expected.lower()}"
    return None


def check(folder: Path, name: str, spec: FileSpec) -> None:
    """Checks a file that is in its place, and records its checksum if there was none.

    Raises:
        KdrecError: If it is not the file that was published or recorded.
    """
    pinned = spec if name == spec.name else None  # a member of an archive has no pinned checksum
    known = recorded(folder).get(name)
    wrong = mismatch(
        folder / name,
        sha256=(pinned.sha256 if pinned else None) or (known["sha256"] if known else None),
        md5=pinned.md5 if pinned and not known else None,
    )
    if wrong:
        raise KdrecError(
            f"{folder / name} is not the file it should be: {wrong}.",
            f"Remove it to fetch it again (and its line in {folder / SIDECAR}, if you mean to "
            "replace it), or use a file of your own with dataset.path=FILE.",
        )
    if not known:
        if not (pinned and (pinned.sha256 or pinned.md5)):
            log.info("No checksum of %s is published; its sha256 is recorded now.", name)
        record(folder, name, "found in place")


def local(path: str, specs: Sequence[FileSpec], folder: Path) -> list[Path]:
    """The files of a data set at a path the user gave; nothing is checked or copied.

    Args:
        path: A file, or a folder with files of the names the data set has.
        specs: The files of the data set; empty for a data set that has no names for them.
        folder: Where a member of a local archive is unpacked to.

    Raises:
        UsageError: If nothing is there, or it is not clear which file is meant.
    """
    given = Path(path).expanduser()
    if given.is_file():
        if len(specs) > 1:
            raise UsageError(
                f"This data set has {len(specs)} files, and dataset.path={path} is one.",
                f"Name the folder that holds {', '.join(spec.target for spec in specs)}.",
            )
        return [_opened(given, specs[0] if specs else None, folder)]
    if not given.is_dir():
        raise UsageError(
            f"dataset.path={path} does not exist.",
            f"Paths are taken from the current folder, {Path.cwd()}.",
        )
    found = [_in_folder(given, spec) for spec in specs]
    if specs and all(found):
        return [
            _opened(file, spec, folder)
            for file, spec in zip(found, specs, strict=True)
            if file is not None
        ]
    held = sorted(file for file in given.iterdir() if file.is_file())
    if len(held) == 1 and len(specs) <= 1:
        return [_opened(held[0], specs[0] if specs else None, folder)]
    wanted = ", ".join(spec.target for spec in specs) or "one file"
    raise UsageError(
        f"dataset.path={path} is a folder without {wanted}; it holds "
        f"{', '.join(file.name for file in held[:12]) or 'no files'}.",
        "Name the file itself: dataset.path=FOLDER/FILE.",
    )


def _in_folder(folder: Path, spec: FileSpec) -> Path | None:
    names = [spec.target, f"{spec.target}.gz", spec.member or spec.target, spec.name]
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _opened(file: Path, spec: FileSpec | None, folder: Path) -> Path:
    """The file itself, or the wanted member of an archive, unpacked."""
    if spec is None or spec.member is None or not zipfile.is_zipfile(file):
        return file
    place = folder / f"local-{sha256_file(file)[:12]}"
    if not (place / spec.target).is_file() or spec.target not in recorded(place):
        unpack(file, spec.member, place / spec.target)
        record(place, spec.target, f"{file}:{spec.member}")
    check(place, spec.target, spec)
    return place / spec.target


def unavailable(
    name: str, folder: Path, missing: Sequence[FileSpec], reasons: Sequence[str]
) -> DataUnavailableError:
    """What to fetch from where, and where to put it."""
    lines = []
    for spec in missing:
        known = next((f" ({k} {v})" for k in ("sha256", "md5") if (v := getattr(spec, k))), "")
        lines += [f"Fetch {' or '.join(spec.urls)}{known}", f"and put it at {folder / spec.name}"]
    lines.append("Or name a copy with dataset.path=..., or a mirror with KDREC_MIRROR=https://...")
    return DataUnavailableError(
        "\n  ".join([f"The data set {name} is not here and cannot be fetched.", *reasons]),
        "\n".join(lines),
    )


def write_whole(file: FileIO, chunk: bytes, part: Path) -> None:
    """Writes all of a chunk to the unbuffered file at `part`."""
    try:
        left = memoryview(chunk)
        while left:
            left = left[file.write(left) :]
    except OSError as error:  # not the network's fault: trying again does not help
        raise KdrecError(
            f"Cannot write {part}: {error.strerror or error}.",
            "Free some space, or keep the data elsewhere: data_dir=...",
        ) from error
