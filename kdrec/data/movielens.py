"""MovieLens ratings, in any of the forms GroupLens has used.

100K: `u.data`, tabs, no header. 1M: `ratings.dat`, `::`, no header. 20M and later: `ratings.csv`
with a header. A tab-separated copy with a header is read too; a rating that is empty there is
missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kdrec.data.delimited import header, read_delimited
from kdrec.data.raw import RawData, first_line, single
from kdrec.errors import KdrecError

COLUMNS = ("user", "item", "rating", "timestamp")


def read(paths: Sequence[Path]) -> RawData:
    """Reads one file of ratings; the form is told by its first line.

    Raises:
        KdrecError: If the first line has not four columns, or a line cannot be parsed.
    """
    path = single(paths, "MovieLens")
    line = first_line(path)
    separator = next((mark for mark in ("::", "\t", ",") if mark in line), "\t")
    names = header(path, separator)
    if len(names) != len(COLUMNS):
        raise KdrecError(
            f"{path} has {len(names)} columns; MovieLens ratings have user, movie, rating and "
            f"timestamp. It begins {line[:60]!r}.",
            "Point dataset.path at ratings.csv, ratings.dat or u.data.",
        )
    headed = not names[0].isdigit()
    frame = read_delimited(
        path,
        separator=separator,
        wanted=dict(zip(COLUMNS, names if headed else COLUMNS, strict=True)),
        names=None if headed else COLUMNS,
        int_ids=True,
    )
    return RawData(frame)
