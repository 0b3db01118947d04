"""Finished things in a share: files, and a manifest that is written last.

Layout: `<key>/manifest.json`, and its files in `<key>/<first 16 of the manifest's sha256>/`, so
that two machines that made the same thing never write into each other's files, and a manifest of
which a bit has flipped finds none. A key is `splits/<identity>` or `runs/<identity>/<evaluation>`.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from kdrec.artifacts import MANIFEST, atomic_path
from kdrec.digests import sha256_file
from kdrec.errors import StorageError
from kdrec.share.lease import hold
from kdrec.share.place import Place, ShareError

log = logging.getLogger(__name__)

Listed = Callable[[object, str], Mapping[str, str]]
"""From a parsed manifest and its address to the sha256 of each file by name; StorageError if it is
no manifest."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A finished thing in a share: its key, its manifest, and the sha256 of its files."""

    key: str
    manifest: bytes
    content: Mapping[str, Any]
    files: Mapping[str, str]


class Share:
    """What machines share. What goes wrong with it is a warning, and work goes on without it.

    Args:
        place: Where it is; has been probed.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self._refused: set[str] = set()  # keys of damaged copies, which a new one replaces

    @classmethod
    def open(cls, url: str) -> Share:
        """The share at a path or an fsspec URL.

        Raises:
            UsageError: If the kind of address is unknown, or its package is not installed.
            ShareError: If it cannot be reached, written or read.
        """
        place = Place.at(url)
        place.probe()
        return cls(place)

    def keys(self, key: str) -> list[str]:
        """The keys directly below a key."""
        try:
            return [f"{key}/{name}" for name in self.place.names(key)]
        except ShareError as error:
            log.warning("%s It is left out.", error.what)
            return []

    def find(self, key: str, listed: Listed) -> Entry | None:
        """The finished thing under a key; None if there is none, or no usable one."""
        try:
            manifest = self.place.read(f"{key}/{MANIFEST}")
        except ShareError as error:
            log.warning("%s It is left out.", error.what)
            return None
        if manifest is None:
            return None
        name = self.place.name(f"{key}/{MANIFEST}")
        try:
            content = json.loads(manifest)
            files = listed(content, name)
        except (ValueError, StorageError) as error:
            what = error.what if isinstance(error, StorageError) else f"{name} is damaged: {error}."
            self._refuse(key, what)
            return None
        if outside := [file for file in files if not _is_inside(file)]:
            self._refuse(key, f"{name} names {outside[0]!r}, which is no file of it.")
            return None
        return Entry(key, manifest, content, files)

    def fetch(self, entry: Entry, into: AbstractContextManager[Path]) -> bool:
        """Copies a finished thing, the manifest last; says whether all of it was right.

        Args:
            entry: What `find` found.
            into: Makes the folder, and drops it where the block raises.

        Raises:
            StorageError: If the manifest cannot be written here.
        """
        try:
            with into as folder:
                self._copy(entry, folder)
        except ShareError as error:
            self._refuse(entry.key, error.what)
            return False
        log.info("Copied from the share: %s", self.place.name(entry.key))
        return True

    def _copy(self, entry: Entry, folder: Path) -> None:
        for name, expected in entry.files.items():
            key, path = f"{_files(entry.key, entry.manifest)}/{name}", folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            self.place.download(key, path)
            if (actual := sha256_file(path)) != expected:
                raise ShareError(
                    f"{self.place.name(key)} is damaged: sha256 is {actual[:12]}..., "
                    f"{expected[:12]}... was written."
                )
        with atomic_path(folder / MANIFEST) as path:
            path.write_bytes(entry.manifest)

    def publish(
        self, key: str, folder: Path, files: Mapping[str, str], *, replace: bool = False
    ) -> None:
        """Copies a finished folder there, unless something usable stands under its key.

        Args:
            key: Made of what identifies it.
            folder: Has the files and the manifest.
            files: The sha256 of each file by name.
            replace: Whether it takes the place of what is there.
        """
        try:
            there = self.place.read(f"{key}/{MANIFEST}") is not None
            if there and not replace and key not in self._refused:
                return
            manifest = (folder / MANIFEST).read_bytes()
            for name, expected in files.items():
                if sha256_file(folder / name) != expected:
                    raise StorageError(f"{folder / name} is damaged.")
                self.place.upload(folder / name, f"{_files(key, manifest)}/{name}")
            self.place.write(f"{key}/{MANIFEST}", manifest)
        except (StorageError, OSError) as error:
            what = error.what if isinstance(error, StorageError) else str(error)
            log.warning("%s could not be published; it is kept here alone: %s", folder, what)
            return
        self._refused.discard(key)
        log.info("Published: %s", self.place.name(key))

    def hold(self, identity: str, what: str) -> AbstractContextManager[None]:
        """A lock between machines for the length of a block.

        Args:
            identity: Of what is being made.
            what: It in words, for those that wait.
        """
        return hold(self.place, f"leases/{identity}.json", what)

    def _refuse(self, key: str, what: str) -> None:
        self._refused.add(key)
        log.warning("%s The share's copy is not used.", what)


def _files(key: str, manifest: bytes) -> str:
    return f"{key}/{hashlib.sha256(manifest).hexdigest()[:16]}"


def _is_inside(name: str) -> bool:
    """Whether a name from a manifest is that of a file within its folder."""
    path = PurePosixPath(name)
    return name not in ("", MANIFEST) and not path.is_absolute() and ".." not in path.parts
