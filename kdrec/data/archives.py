"""Takes one file out of a zip archive, and nothing that the archive's author slipped in."""

from __future__ import annotations

import gzip
import lzma
import shutil
import stat
import struct
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from kdrec.artifacts import atomic_path
from kdrec.errors import KdrecError

CHUNK = 1 << 20
MAX_RATIO = 100  # text shrinks about tenfold, a bomb a thousandfold
MAX_BYTES = 64 << 30
BROKEN = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, ValueError,
          NotImplementedError, RuntimeError)  # fmt: skip
"""What reading a damaged, encrypted or strange archive raises beside OSError."""


def unpack(archive: Path, member: str, target: Path) -> None:
    """Writes one member of a zip archive to `target`, whole or not at all.

    Args:
        archive: The zip file.
        member: The member's name in the archive.
        target: Where it goes; the archive has no say in it.

    Raises:
        KdrecError: If the archive is damaged, has an entry that would climb out of its folder,
            lacks the member, or unpacks to more than `MAX_RATIO` times its size.
    """
    try:
        with zipfile.ZipFile(archive) as file:
            for info in file.infolist():
                _check_name(archive, info)
            if member not in file.namelist():
                raise KdrecError(
                    f"{archive} has no {member}; it holds {', '.join(file.namelist()[:8])}.",
                    "Is it the right archive?",
                )
            info = file.getinfo(member)
            if info.file_size > min(MAX_BYTES, MAX_RATIO * max(info.compress_size, 1 << 10)):
                raise KdrecError(
                    f"{member} in {archive} unpacks from {info.compress_size} to "
                    f"{info.file_size} bytes: no honest data set does.",
                    "Do not use this archive.",
                )
            # zipfile stops at the declared size and checks the CRC at the end
            with (
                atomic_path(target) as temporary,
                file.open(info) as source,
                temporary.open("wb") as sink,
            ):
                shutil.copyfileobj(source, sink, CHUNK)
    except BROKEN as error:
        raise KdrecError(
            f"{archive} is not a whole zip archive: {error}.", "Remove it and download it again."
        ) from error


def _check_name(archive: Path, info: zipfile.ZipInfo) -> None:
    name = PurePosixPath(info.filename.replace("\\", "/"))
    link = stat.S_ISLNK(info.external_attr >> 16)
    if name.is_absolute() or ".." in name.parts or ":" in "".join(name.parts[:1]) or link:
        raise KdrecError(
            f"{archive} has the entry {info.filename!r}, which "
            f"{'is a link' if link else 'would climb out of its folder'}; nothing was unpacked.",
            "Do not use this archive.",
        )


def whole(path: Path, name: str) -> bool:
    """Whether a file that calls itself .gz or .zip can be read to its end; others pass.

    A page of a hotel's login, or half a file, do not.
    """
    try:
        if name.endswith(".gz"):
            with gzip.open(path, "rb") as file:
                while file.read(CHUNK):
                    pass
        elif name.endswith(".zip"):
            with zipfile.ZipFile(path) as archive:
                return archive.testzip() is None
    except (OSError, *BROKEN):
        return False
    return True
