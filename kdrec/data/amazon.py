"""Amazon reviews (McAuley's 2014 and 2018 collections), in three forms.

JSON lines as published (`reviewerID`, `asin`, `overall`, `unixReviewTime`); the published csv of
ratings (user, item, rating, time; no header); and the sequences of whole numbers that the
sequential-recommendation literature made of them (a line a user: the user, then the items in
time order), which know the order but neither time nor rating.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from pandas import DataFrame
from pyarrow import json

from kdrec.data.delimited import read_delimited, to_frame
from kdrec.data.lines import positions, read_int_lines, split_lead
from kdrec.data.raw import UNREADABLE, RawData, check_text, first_line, open_binary, single
from kdrec.errors import KdrecError

FIELDS = {
    "user": "reviewerID",
    "item": "asin",
    "rating": "overall",
    "timestamp": "unixReviewTime",
}


def read(paths: Sequence[Path]) -> RawData:
    """Reads one file of reviews; the form is told by its first line.

    Raises:
        KdrecError: If the file has none of the three forms.
    """
    path = single(paths, "Amazon")
    line = first_line(path)
    if line.startswith("{"):
        return RawData(_read_json(path))
    if line.count(",") == 3:
        names = ("user", "item", "rating", "timestamp")
        return RawData(
            read_delimited(
                path,
                separator=",",
                wanted=dict(zip(names, names, strict=True)),
                names=names,
                int_ids=False,
            )
        )
    if all(word.isdigit() for word in line.split()):
        return RawData(_read_sequences(path))
    raise KdrecError(
        f"{path} is none of the forms of Amazon data kdrec reads; it begins {line[:60]!r}.",
        "Use the published reviews_*_5.json.gz, or dataset=table for a table of your own.",
    )


def _read_json(path: Path) -> DataFrame:
    schema = pa.schema(
        {
            FIELDS["user"]: pa.string(),
            FIELDS["item"]: pa.string(),
            FIELDS["rating"]: pa.float64(),
            FIELDS["timestamp"]: pa.int64(),
        }
    )
    try:
        with open_binary(path) as source:
            table = json.read_json(
                source,
                read_options=json.ReadOptions(block_size=1 << 24),
                parse_options=json.ParseOptions(
                    explicit_schema=schema, unexpected_field_behavior="ignore"
                ),
            )
    except (pa.ArrowException, *UNREADABLE) as error:
        if not isinstance(error, UNREADABLE):
            check_text(path)
        raise KdrecError(
            f"{path} is not whole JSON lines: {error}",
            "Remove it and run `kdrec download` again.",
        ) from error
    return to_frame(path, table, FIELDS)


def _read_sequences(path: Path) -> DataFrame:
    users, counts, items = split_lead(path, *read_int_lines(path), "the user")
    return DataFrame({"user": np.repeat(users, counts), "item": items, "order": positions(counts)})
