"""Files at any address that fsspec knows: `file://`, `s3://`, `gs://`, `sftp://`, ..."""

from __future__ import annotations

import os
from pathlib import Path

from kdrec import progress
from kdrec.data.files import write_whole
from kdrec.errors import said

_CHUNK = 1 << 20


class UnreadableError(Exception):
    """What is at an address cannot be read from here."""


def copy(url: str, part: Path) -> None:
    """Copies what is at an address to a file.

    Raises:
        UnreadableError: Whatever a kind of address has to say: unknown, its package missing,
            nothing there, no permission, a broken connection.
        KdrecError: If the file cannot be written.
    """
    import fsspec  # noqa: PLC0415  (comes with torch; not needed for what lies here)

    task = progress.task(f"copy {part.stem}", unit="MiB")
    with task, part.open("wb", buffering=0) as target:
        try:
            source = fsspec.open(url, "rb").open()
        except Exception as error:
            raise UnreadableError(said(error)) from error
        with source:
            while chunk := _read(source):
                write_whole(target, chunk, part)
                task.advance(1)
        os.fsync(target.fileno())


def _read(source: object) -> bytes:
    try:
        return bytes(source.read(_CHUNK))  # type: ignore[attr-defined]
    except Exception as error:
        raise UnreadableError(said(error)) from error
