"""Delimited text (csv, tsv, `::`) into a frame, with errors that name the line or the columns."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pandas import DataFrame, Series
from pyarrow import csv

from kdrec.data.raw import UNREADABLE, check_text, first_line, open_binary
from kdrec.errors import KdrecError, UsageError

SEPARATORS = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".inter": "\t"}
CANDIDATES = ("::", "\t", ",", ";", "|", " ")
SPLITS = {"train": "train", "valid": "valid", "validation": "valid", "val": "valid", "test": "test"}


def sniff(path: Path) -> str:
    """The separator of a file: by its extension, else the commonest candidate of its first line.

    Raises:
        UsageError: If the first line has none of the candidates.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    if suffixes and suffixes[-1] in SEPARATORS:
        return SEPARATORS[suffixes[-1]]
    line = first_line(path)
    counts = {candidate: line.count(candidate) for candidate in CANDIDATES}
    best = max(counts, key=lambda candidate: counts[candidate])  # the first of equals
    if not counts[best]:
        raise UsageError(
            f"Cannot tell how the columns of {path} are separated; it begins {line[:60]!r}.",
            "Say it: dataset.reader.separator=';' (or '\\t', ',', '::').",
        )
    return best


def header(path: Path, separator: str) -> list[str]:
    """The names in the first line; RecBole's `:type` endings and quotes are taken off."""
    names = [name.strip().strip('"') for name in first_line(path).split(separator)]
    typed = (":token", ":token_seq", ":float", ":float_seq")
    return [name.rsplit(":", 1)[0] if name.endswith(typed) else name for name in names]


def pick(path: Path, available: Sequence[str], wanted: Mapping[str, str]) -> None:
    """Checks that every wanted column is there.

    Args:
        path: For the message.
        available: The columns of the file.
        wanted: What kdrec calls a column, and its name in the file.

    Raises:
        UsageError: If one is missing; names the columns there are and the closest one.
    """
    for role, name in wanted.items():
        if name not in available:
            close = difflib.get_close_matches(name, available, n=1, cutoff=0.4)
            guess = f" Did you mean dataset.reader.{role}={close[0]}?" if close else ""
            raise UsageError(
                f"{path} has no column {name!r} for the {role}; it has {', '.join(available)}.",
                f"Set dataset.reader.{role}=COLUMN, or dataset.reader.separator if the columns "
                f"are not split rightly.{guess}",
            )


def read_delimited(
    path: Path,
    *,
    separator: str,
    wanted: Mapping[str, str],
    names: Sequence[str] | None,
    int_ids: bool,
) -> DataFrame:
    """Reads the wanted columns of a delimited file, plain or gzip.

    Args:
        path: The file.
        separator: One character, or `::`.
        wanted: What kdrec calls a column (user, item, rating, timestamp, split) and its name in
            the file.
        names: Names of the columns, for a file without a header line; None: it has one.
        int_ids: Whether user and item ids are whole numbers. Ids are kept as text otherwise, so
            that `007` and `7` stay two.

    Returns:
        Columns named as `wanted` names them, in its order; see `to_frame`.

    Raises:
        UsageError: If a column is missing.
        KdrecError: If a line cannot be parsed; the message names it.
    """
    available = list(names) if names is not None else header(path, separator)
    pick(path, available, wanted)
    twice = [name for name in wanted.values() if list(available).count(name) > 1]
    if twice:
        raise KdrecError(
            f"{path} has more than one column {twice[0]!r}; it has {', '.join(available)}.",
            "Give the columns different names.",
        )
    delimiter = separator
    if separator == "::":  # the parser takes one character, and sees an empty column in between
        available = [cell for name in available for cell in (name, f"::{name}")][:-1]
        delimiter = ":"
    ids = pa.int64() if int_ids else pa.string()
    kinds = {"user": ids, "item": ids, "rating": pa.float64(), "split": pa.string()}
    table = _parse(
        path,
        read={"column_names": available, "skip_rows": int(names is None)},
        delimiter=delimiter,
        convert={
            "column_types": {wanted[role]: kinds[role] for role in wanted if role in kinds},
            "include_columns": list(wanted.values()),
            "strings_can_be_null": True,
            "null_values": [""],  # a user may be called NA
        },
    )
    frame = to_frame(path, table, wanted)
    for role in ("user", "item"):
        _check_ids(path, wanted[role], table.column(wanted[role]))
    return frame


def _check_ids(path: Path, name: str, column: pa.ChunkedArray) -> None:
    """Refuses ids that nobody meant: below zero where they are numbers, with NUL bytes in text."""
    if pa.types.is_string(column.type):
        if pc.any(pc.match_substring(column, "\0")).as_py():
            check_text(path)
        return
    wrong = pc.index(pc.less(column, 0), True).as_py()
    if wrong >= 0:
        raise KdrecError(
            f"{path} has the id {column[wrong].as_py()} in column {name!r}, row {wrong + 1} of the "
            "data; ids are not negative.",
            "Mend that line, or use dataset=table, which takes any text for an id.",
        )


def _parse(
    path: Path, *, read: dict[str, object], delimiter: str, convert: dict[str, object]
) -> pa.Table:
    def attempt(*, threads: bool) -> pa.Table:
        with open_binary(path) as source:
            return csv.read_csv(
                source,
                read_options=csv.ReadOptions(use_threads=threads, block_size=1 << 24, **read),
                parse_options=csv.ParseOptions(delimiter=delimiter),
                convert_options=csv.ConvertOptions(**convert),
            )

    try:
        return attempt(threads=True)
    except (pa.ArrowException, *UNREADABLE):
        pass
    try:
        return attempt(threads=False)  # only one thread knows the number of the line
    except (pa.ArrowException, *UNREADABLE) as error:
        if not isinstance(error, UNREADABLE):
            check_text(path)  # the parser does not say which line it was
        raise KdrecError(
            f"{path} cannot be read: {error}",
            "Mend that line, or set the separator and the column names (dataset.reader.*).",
        ) from error


def to_frame(path: Path, table: pa.Table, wanted: Mapping[str, str]) -> DataFrame:
    """Renames the columns and brings rating, timestamp and split to kdrec's types.

    Times become seconds since 1970: numbers are taken as they are, dates and date-times are
    converted. A column of times with gaps is float with NaN.

    Raises:
        KdrecError: If times or ratings are text, or a split is none of train, valid and test.
    """
    columns: dict[str, object] = {}
    for role, name in wanted.items():
        column = table.column(name)
        if role == "timestamp":
            columns[role] = _seconds(path, name, column)
        elif role == "rating":
            columns[role] = _numbers(path, name, column)
        elif role == "split":
            columns[role] = _splits(path, name, column)
        else:
            columns[role] = column.to_pandas()
    return DataFrame(columns)


def _numbers(path: Path, name: str, column: pa.ChunkedArray) -> np.ndarray[tuple[int], np.dtype]:
    try:
        return np.asarray(pc.cast(column, pa.float64()).to_numpy())
    except pa.ArrowException as error:
        raise KdrecError(
            f"The ratings in column {name!r} of {path} are no numbers, but {column.type}: {error}.",
            "Convert them, or leave them out: dataset.reader.rating=null.",
        ) from error


def _seconds(path: Path, name: str, column: pa.ChunkedArray) -> np.ndarray[tuple[int], np.dtype]:
    kind = column.type
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        column = pc.cast(pc.cast(column, pa.timestamp("s"), safe=False), pa.int64())
    elif pa.types.is_null(kind):
        column = pc.cast(column, pa.float64())
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise KdrecError(
            f"The times in column {name!r} of {path} are neither numbers nor ISO dates; "
            f"the first is {column[0].as_py()!r}.",
            "Convert them to seconds since 1970, or leave them out: dataset.reader.timestamp=null.",
        )
    return np.asarray(column.to_numpy())


def _splits(path: Path, name: str, column: pa.ChunkedArray) -> Series:
    values: Series = column.to_pandas()
    known = values.map(SPLITS)
    if known.isna().any():
        wrong = sorted({str(value) for value in values[known.isna()].unique()})[:5]
        raise KdrecError(
            f"Column {name!r} of {path} must say train, valid or test; found {', '.join(wrong)}.",
            "Rename them, or leave the column out: dataset.reader.split=null.",
        )
    return known
