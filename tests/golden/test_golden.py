from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import clitoys
from tests.golden.numbers import COMMANDS, FILE, measure

GOLDEN = json.loads(FILE.read_text("utf-8"))


@pytest.fixture(autouse=True)
def root_logger() -> Iterator[None]:
    yield from clitoys.keep_root_logger()


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_numbers_are_the_golden_ones(name: str, shared: Path, tmp_path: Path) -> None:
    """Counting is exact; training may differ in the last digits between processors."""
    tolerance = 1e-7 if "itempop" in name else 2e-3
    found = measure(name, shared.resolve(), tmp_path)
    assert found == pytest.approx(GOLDEN[name], abs=tolerance)
    assert len(found) > 10
