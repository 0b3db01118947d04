from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from kdrec.errors import UsageError
from kdrec.ranges import Count, NonNegative, Positive, Share, check_range, check_ranges


@pytest.mark.parametrize(
    ("value", "annotation", "fits"),
    [
        (1, Count, True),
        (0, Count, False),
        (0.0, Positive, False),
        (1e-9, Positive, True),
        (math.nan, Positive, False),
        (math.inf, NonNegative, False),
        (0, NonNegative, True),
        (1.0, Share, True),
        (1.01, Share, False),
        (None, Count | None, True),
        (0, Count | None, False),
        ([10, 20], Sequence[Count], True),
        ([10, 0], Sequence[Count], False),
        ("x", str, True),
    ],
)
def test_a_value_is_in_its_range_or_refused(value: object, annotation: object, fits: bool) -> None:
    if fits:
        check_range("key", value, annotation)
        return
    with pytest.raises(UsageError, match="key="):
        check_range("key", value, annotation)


def test_a_function_refuses_what_its_signature_excludes() -> None:
    def train(lr: Positive, epochs: Count, name: str) -> None: ...

    check_ranges(train, {"lr": 0.1, "epochs": 3, "name": "x"})
    with pytest.raises(UsageError, match=r"epochs=0 .* at least 1"):
        check_ranges(train, {"lr": 0.1, "epochs": 0, "name": "x"})
