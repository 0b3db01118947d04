"""What every reader gives: pairs with their original ids, nothing filtered yet."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from pandas import DataFrame

from kdrec.errors import KdrecError

GZIP_MAGIC = b"\x1f\x8b"
MAX_RATIO = 100  # text shrinks about tenfold, a bomb a thousandfold
UNREADABLE = (EOFError, OSError, zlib.error)
"""What reading a damaged plain or gzip file raises."""
_WIDE = {codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16"}
EVENT_COLUMNS = ("rating", "timestamp", "order", "split")


@dataclass(frozen=True, slots=True)
class RawData:
    """A data set as it was published.

    Args:
        frame: One row a recorded event, in file order. Columns `user` and `item` (original ids,
            int or str); where the source has them also `rating` (float, NaN: missing),
            `timestamp` (seconds since 1970; float with NaN where some are missing), `order`
            (position in the user's own history, for sources that tell the order but not the
            time) and `split` ("train", "valid" or "test", for published splits).
        unbiased: Columns `user` and `item`: a second test set drawn by true affinity alone.
            Known for synthetic data only.

    Raises:
        KdrecError: If a column is missing or unknown, an id is missing, a rating or time is
            infinite, or there is no row.
    """

    frame: DataFrame
    unbiased: DataFrame | None = None

    def __post_init__(self) -> None:
        for name, frame, allowed in (
            ("frame", self.frame, EVENT_COLUMNS),
            ("unbiased", self.unbiased, ()),
        ):
            if frame is None:
                continue
            columns = [str(column) for column in frame.columns]
            if columns[:2] != ["user", "item"] or not set(columns[2:]) <= set(allowed):
                raise KdrecError(
                    f"A reader's {name} must have the columns user, item"
                    f"{' and any of ' + ', '.join(allowed) if allowed else ''}, got {columns}."
                )
            for column in ("user", "item"):
                if frame[column].isna().any():
                    row = int(frame[column].isna().to_numpy().argmax())
                    raise KdrecError(
                        f"{int(frame[column].isna().sum())} rows have no {column} id; "
                        f"the first is row {row + 1} of the data.",
                        "Remove those rows from the file.",
                    )
        for column in {"rating", "timestamp"} & set(self.frame.columns):
            values = self.frame[column].to_numpy()
            if values.dtype.kind == "f" and np.isinf(values).any():
                row = int(np.isinf(values).argmax())
                raise KdrecError(
                    f"The {column} of row {row + 1} of the data is {values[row]}.",
                    "Mend that row, or leave the column out: "
                    f"dataset.reader.{column}=null (and dataset.filters.min_rating=null).",
                )
        if not len(self.frame):
            raise KdrecError("The data set has no interactions.", "Look at the file: is it whole?")


def is_gzip(path: Path) -> bool:
    """Whether the file begins like a gzip file, whatever its name."""
    with path.open("rb") as file:
        return file.read(2) == GZIP_MAGIC


class _Limited(io.RawIOBase):
    """A gzip file that ends in an error where it unpacks to what no honest file does."""

    def __init__(self, path: Path) -> None:
        self.path, self.left = path, MAX_RATIO * max(path.stat().st_size, 1 << 14)
        self.inner = gzip.open(path, "rb")  # noqa: SIM115  (closed with this one)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self.inner.read(len(buffer))
        self.left -= len(data)
        if self.left < 0:
            raise KdrecError(
                f"{self.path} unpacks to more than {MAX_RATIO} times its size: no honest data set "
                "does.",
                "Do not use this file.",
            )
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self.inner.close()
        super().close()


def open_binary(path: Path) -> BinaryIO | io.BufferedReader:
    """Opens a plain or a gzip file for reading bytes; see `UNREADABLE` for what reading raises."""
    if not is_gzip(path):
        return path.open("rb")
    return io.BufferedReader(_Limited(path), 1 << 20)


def first_line(path: Path, limit: int = 1 << 16) -> str:
    """The first line of a plain or gzip file, without its line end.

    Raises:
        KdrecError: If the file is not UTF-8 text, or the line is empty.
    """
    try:
        with open_binary(path) as file:
            line = file.readline(limit)
    except UNREADABLE as error:
        raise KdrecError(
            f"{path} cannot be read: {error}.", "Is it whole? Download it again."
        ) from error
    text = text_of(path, line, 1).strip("\r\n")
    if not text:
        raise KdrecError(
            f"{path} begins with an empty line, or is empty.",
            "Download it again, or point dataset.path at another file.",
        )
    return text


def text_of(path: Path, line: bytes, number: int) -> str:
    """A line of a file as text.

    Args:
        path: For the message.
        line: Its bytes; the byte order mark of UTF-8 is left out.
        number: Which line it is, from 1.

    Raises:
        KdrecError: If it is not UTF-8, or has NUL bytes; says what it looks like.
    """
    try:
        if b"\0" not in line:
            return line.decode("utf-8-sig")
        what = "it has NUL bytes"
    except UnicodeDecodeError as error:
        what = f"it has the byte 0x{line[error.start]:02x}"
    wide = next((name for mark, name in _WIDE.items() if line.startswith(mark)), None)
    kind = wide or ("UTF-16" if b"\0" in line else "ISO-8859-1")
    raise KdrecError(
        f"{path}, line {number} is not UTF-8 text: {what}.",
        f"If it is text, convert it, perhaps: iconv -f {kind} -t UTF-8 {path.name} > converted",
    )


def check_text(path: Path) -> None:
    """Holds every line of a file against UTF-8.

    Raises:
        KdrecError: Names the first line that is not.
    """
    with open_binary(path) as file:
        for number, line in enumerate(file, start=1):
            text_of(path, line, number)


def single(paths: Sequence[Path], dataset: str) -> Path:
    """The only path of a data set that is one file.

    Raises:
        KdrecError: If there are more or fewer.
    """
    if len(paths) != 1:
        raise KdrecError(
            f"{dataset} is read from one file, got {len(paths)}.", "Set dataset.path=FILE."
        )
    return paths[0]
