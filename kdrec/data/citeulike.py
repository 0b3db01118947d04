"""CiteULike (`users.dat`): a line a user; first how many items, then the items."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pandas import DataFrame

from kdrec.data.lines import read_int_lines, split_lead
from kdrec.data.raw import RawData, single
from kdrec.errors import KdrecError


def read(paths: Sequence[Path]) -> RawData:
    """Reads `users.dat`; a user's id is the number of the line, from 0.

    The items of a line are sorted by id, so their order tells nothing about time.

    Raises:
        KdrecError: If a line does not have as many items as it says.
    """
    path = single(paths, "CiteULike")
    said, counts, items = split_lead(path, *read_int_lines(path), "the number of items")
    if not np.array_equal(said, counts):
        line = int(np.argmax(said != counts))
        raise KdrecError(
            f"{path}, line {line + 1} says {said[line]} items and has {counts[line]}.",
            "Point dataset.path at users.dat of citeulike-t or citeulike-a.",
        )
    return RawData(DataFrame({"user": np.repeat(np.arange(len(counts)), counts), "item": items}))
