"""What every reader gives: pairs with their original ids, nothing filtered yet."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pandas import DataFrame

from kdrec.errors import KdrecError

GZIP_MAGIC = b"\x1f\x8b"
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
        KdrecError: If a column is missing or unknown, an id is missing, or there is no row.
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
        if not len(self.frame):
            raise KdrecError("The data set has no interactions.", "Look at the file: is it whole?")


def is_gzip(path: Path) -> bool:
    """Whether the file begins like a gzip file, whatever its name."""
    with path.open("rb") as file:
        return file.read(2) == GZIP_MAGIC


def open_binary(path: Path) -> BinaryIO | gzip.GzipFile:
    """Opens a plain or a gzip file for reading bytes."""
    return gzip.open(path, "rb") if is_gzip(path) else path.open("rb")


def first_line(path: Path, limit: int = 1 << 16) -> str:
    """The first line of a plain or gzip file, without its line end.

    Raises:
        KdrecError: If the file is not text, or the line is empty.
    """
    try:
        with open_binary(path) as file:
            text = file.readline(limit).decode("utf-8-sig").strip("\r\n")
    except (UnicodeDecodeError, EOFError, OSError) as error:
        raise KdrecError(f"{path} is not a readable text file: {error}.") from error
    if not text:
        raise KdrecError(
            f"{path} begins with an empty line, or is empty.",
            "Download it again, or point dataset.path at another file.",
        )
    return text


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
