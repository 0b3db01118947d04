"""A folder, here or at an address that fsspec knows, as a store of bytes under keys."""

from __future__ import annotations

import errno
import inspect
import logging
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kdrec.artifacts import atomic_path
from kdrec.errors import StorageError, UsageError, said

log = logging.getLogger(__name__)

HINT = "Correct share=..., or leave it out: share=null."


class ShareError(StorageError):
    """A share that cannot be reached, or what is in it cannot be used."""


class Place:
    """Bytes under keys such as `runs/ab12/manifest.json`.

    What is written to a local folder appears in one step, and so it does in an object store.

    Args:
        url: As the user gave it.
        fs: fsspec's file system.
        root: Where in it.
    """

    def __init__(self, url: str, fs: Any, root: str) -> None:
        self._url = re.sub(r"//[^/@]*@", "//", url.rstrip("/"))  # no password into a log
        self._fs, self._root = fs, root.rstrip("/")
        self._is_local = "file" in ([fs.protocol] if isinstance(fs.protocol, str) else fs.protocol)
        #: Whether two machines that create the same key are told apart; known after `probe`.
        self.exclusive = False

    def __str__(self) -> str:
        return self._url

    @classmethod
    def at(cls, url: str) -> Place:
        """The place at a path or an fsspec URL; nothing is opened yet.

        Raises:
            UsageError: If the kind of address is unknown, its package is not installed, or it is
                not of this machine and `KDREC_OFFLINE` is set.
        """
        from fsspec.core import url_to_fs  # noqa: PLC0415  (only for who shares)

        try:
            fs, root = url_to_fs(url)
        except Exception as error:
            raise UsageError(f"share={url} cannot be opened: {said(error)}.", HINT) from error
        place = cls(url, fs, str(root))
        if not place._is_local and os.environ.get("KDREC_OFFLINE", "0") not in {"", "0"}:
            raise UsageError(
                f"share={place} is not of this machine, and KDREC_OFFLINE is set.", HINT
            )
        return place

    def name(self, key: str) -> str:
        """The address of a key, for messages."""
        return f"{self._url}/{key}"

    def probe(self) -> None:
        """Writes, reads and removes something small, and finds out whether keys can be exclusive.

        Raises:
            ShareError: If the place cannot be reached, written or read.
        """
        key, content = f"leases/probe-{uuid.uuid4().hex}", b"kdrec"
        try:
            if self._is_local:
                with self._told("", "opened"):
                    Path(self._root).mkdir(exist_ok=True)  # an absent mount is no new folder
            self.write(key, content)
            if self.read(key) != content:
                raise ShareError(f"{self.name(key)} was written and cannot be read back.")
        except ShareError as error:
            raise ShareError(f"The share {self} cannot be used: {error.what}", HINT) from error
        try:
            refused = not self.create(key, content)
            self.remove(key)
            created = self.create(key, content)
            self.remove(key)
            why = "" if refused and created else "it creates what is there already"
        except ShareError as error:
            why = error.what
        self.exclusive = not why
        if why:
            log.warning(
                "The share %s has no locks: two machines may make the same thing twice (%s).",
                self, why,
            )  # fmt: skip

    def read(self, key: str) -> bytes | None:
        """What is there; None if nothing is.

        Raises:
            ShareError: If it cannot be read.
        """
        with self._told(key, "read"):
            try:
                return bytes(self._fs.cat_file(self._path(key)))
            except FileNotFoundError:
                return None

    def write(self, key: str, content: bytes) -> None:
        """Puts something small there, in the place of what is there.

        Raises:
            ShareError: If it cannot be written.
        """
        with self._told(key, "written"):
            if self._is_local:
                with atomic_path(Path(self._path(key))) as path:
                    path.write_bytes(content)
            else:
                self._make_folder(key)
                self._fs.pipe_file(self._path(key), content)

    def create(self, key: str, content: bytes) -> bool:
        """Puts something small there if nothing is; says whether it did.

        Object stores do it by a conditional request, others by opening a new file alone. Not all
        say by the same exception that something is there, so that this is looked up.

        Raises:
            ShareError: If it cannot be written, or not in this way.
        """
        path = self._path(key)
        with self._told(key, "created"):
            try:
                if self._fs.async_impl:
                    if "mode" not in inspect.signature(self._fs._pipe_file).parameters:  # noqa: SLF001
                        raise NotImplementedError("it knows no exclusive creation")
                    self._fs.pipe_file(path, content, mode="create")
                else:
                    self._make_folder(key)
                    with self._fs.open(path, "xb") as file:
                        file.write(content)
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno == errno.EBUSY or self.read(key) is not None:
                    return False  # another creates it at this moment, or has
                raise
            return True

    def remove(self, key: str) -> None:
        """Removes what is there, if anything is.

        Raises:
            ShareError: If it cannot be removed.
        """
        with self._told(key, "removed"):
            try:
                self._fs.rm_file(self._path(key))
            except FileNotFoundError:
                return

    def names(self, key: str) -> list[str]:
        """The names directly below a key; none if it is not there.

        Raises:
            ShareError: If they cannot be listed.
        """
        path = self._path(key)
        with self._told(key, "listed"):
            self._fs.invalidate_cache()
            try:
                found = self._fs.ls(path, detail=False)
            except FileNotFoundError:
                return []
        return sorted(str(one).rstrip("/").rpartition("/")[2] for one in found)

    def upload(self, path: Path, key: str) -> None:
        """Copies a file there.

        Raises:
            ShareError: If it cannot be written.
        """
        with self._told(key, "written"):
            if self._is_local:
                with atomic_path(Path(self._path(key))) as temporary:
                    shutil.copyfile(path, temporary)
            else:
                self._make_folder(key)
                self._fs.put_file(str(path), self._path(key))

    def download(self, key: str, path: Path) -> None:
        """Copies what is there to a file.

        Raises:
            ShareError: If it is not there or cannot be read, or the file not be written.
        """
        with self._told(key, f"copied to {path}"):
            self._fs.get_file(self._path(key), str(path))

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}" if key else self._root

    def _make_folder(self, key: str) -> None:
        """Makes the folder of a key; object stores have none, and would make a bucket."""
        if not self._fs.async_impl:
            self._fs.makedirs(self._path(key).rpartition("/")[0], exist_ok=True)

    @contextmanager
    def _told(self, key: str, done: str) -> Iterator[None]:
        """Turns whatever a kind of address has to say into one error that names the key."""
        try:
            yield
        except Exception as error:
            what = error.what if isinstance(error, StorageError) else said(error)
            raise ShareError(f"{self.name(key)} cannot be {done}: {what.rstrip('.')}.") from error
