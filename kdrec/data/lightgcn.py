"""The LightGCN text form: `train.txt` and `test.txt`, a line a user, the user and then the items.

It carries its own split, so it goes with `protocol=given`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from pandas import DataFrame

from kdrec.data.lines import read_int_lines, split_lead
from kdrec.data.raw import RawData
from kdrec.errors import KdrecError

PARTS = ("train", "valid", "test")


def read(paths: Sequence[Path]) -> RawData:
    """Reads `train.txt`, `test.txt` and, where there is one, `valid.txt`.

    A line that has a user and no item is allowed: that user has nothing in this part.

    Raises:
        KdrecError: If a file is none of the three, or the training part is missing.
    """
    by_part = {path.name.split(".")[0]: path for path in paths}
    unknown = sorted(set(by_part) - set(PARTS))
    if unknown or "train" not in by_part or len(by_part) != len(paths):
        raise KdrecError(
            f"The LightGCN form is train.txt and test.txt, got {[path.name for path in paths]}.",
            "Set dataset.path to the folder that holds both.",
        )
    return RawData(
        pd.concat([_part(by_part[part], part) for part in PARTS if part in by_part]).reset_index(
            drop=True
        )
    )


def _part(path: Path, part: str) -> DataFrame:
    users, counts, items = split_lead(path, *read_int_lines(path), "the user")
    return DataFrame({"user": np.repeat(users, counts), "item": items, "split": part})
