"""A user's own table: csv, tsv, RecBole's `.inter`, or parquet; columns by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pandas import DataFrame
from pyarrow import parquet

from kdrec.data.delimited import pick, read_delimited, sniff, to_frame
from kdrec.data.raw import RawData, first_line, single
from kdrec.errors import KdrecError, UsageError

PARQUET_MAGIC = b"PAR1"


def read(
    paths: Sequence[Path],
    *,
    user: str | int,
    item: str | int,
    rating: str | int | None,
    timestamp: str | int | None,
    split: str | int | None,
    separator: str | None,
    header: bool,
) -> RawData:
    """Reads one table; gzip is read as it is, parquet is told by its first bytes.

    Ids are kept as text (parquet: as they are), so that `007` and `7` stay two users.

    Args:
        paths: The file, one.
        user: Column of the user's id.
        item: Column of the item's id.
        rating: Column of the rating; None: there is none.
        timestamp: Column of the time, in seconds since 1970 or as an ISO date; None: none.
        split: Column that says train, valid or test, for `protocol=given`; None: none.
        separator: What separates the columns; None: told by the extension (.csv .tsv .inter),
            else by the first line. A backslash and a t stand for the tab.
        header: Whether the first line names the columns. If not, name them by number from 0.

    Raises:
        UsageError: If no file was given, or a column is missing.
        KdrecError: If a line cannot be read.
    """
    if not paths:
        raise UsageError("dataset=table needs a file.", "Set dataset.path=FILE.")
    path = single(paths, "A table")
    named = {
        "user": user,
        "item": item,
        "rating": rating,
        "timestamp": timestamp,
        "split": split,
    }
    wanted = {role: str(name) for role, name in named.items() if name is not None}
    repeated = [name for name in wanted.values() if list(wanted.values()).count(name) > 1]
    if repeated:
        raise UsageError(
            f"Column {repeated[0]!r} is named for two things: {wanted}.",
            "Give each its own column.",
        )
    with path.open("rb") as file:
        if file.read(4) == PARQUET_MAGIC:
            return RawData(_read_parquet(path, wanted))
    mark = sniff(path) if separator is None else separator.replace("\\t", "\t")
    if mark != "::" and len(mark) != 1:
        raise UsageError(
            f"A separator is one character or '::', got {separator!r}.",
            "Set dataset.reader.separator.",
        )
    names = None if header else [str(at) for at in range(len(first_line(path).split(mark)))]
    return RawData(read_delimited(path, separator=mark, wanted=wanted, names=names, int_ids=False))


def _read_parquet(path: Path, wanted: dict[str, str]) -> DataFrame:
    try:
        pick(path, parquet.read_schema(path).names, wanted)
        table = parquet.read_table(path, columns=list(wanted.values()))
    except (pa.ArrowException, OSError) as error:
        raise KdrecError(f"{path} is not a readable parquet file: {error}") from error
    for role in ("user", "item"):
        kind = table.schema.field(wanted[role]).type
        if not (pa.types.is_integer(kind) or pa.types.is_string(kind)):
            at = table.schema.names.index(wanted[role])
            try:
                column = pc.cast(table.column(at), pa.string())
            except pa.ArrowException as error:
                raise KdrecError(
                    f"Column {wanted[role]!r} of {path} holds {kind}, which is no {role} id."
                ) from error
            table = table.set_column(at, wanted[role], column)
    return to_frame(path, table, wanted)
