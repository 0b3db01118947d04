"""Options of the methods that only show in what is drawn, or when: two values, two results."""

from __future__ import annotations

from typing import Any

import pytest

from kdrec.models.bprmf import BPRMF
from kdrec.seeding import torch_stream
from tests.contracts.test_methods import DIM, batch, build, teacher
from tests.worlds import blocks

SPLIT = blocks(users=20, items=1000)  # so many items that no method draws all that it may
CASES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("unkd", {"mu": 10.0}, {"mu": 20.0}),
    ("cd", {"temperature": 50.0}, {"temperature": 200.0}),
    ("cd", {"better_of": 1}, {"better_of": 2}),
    ("cd_legacy", {"better_of": 1}, {"better_of": 2}),
    ("rrd", {"temperature": 10.0}, {"temperature": 20.0}),
    ("pckd", {"temperature": 10.0}, {"temperature": 20.0}),
    ("hetcomp", {"rank_every": 1, "gain": "teacher"}, {"rank_every": 1, "gain": "student"}),
    ("hetcomp", {"rank_every": 1, "shrink": 1.0}, {"rank_every": 1, "shrink": 0.5}),
    ("hetcomp", {"rank_every": 1, "done": 1.0}, {"rank_every": 1, "done": 0.1}),
]


def losses(name: str, options: dict[str, Any]) -> list[float]:
    """Of some epochs, in each of which the student is another one."""
    method, draw, found = build(name, SPLIT, teacher(SPLIT), **options), torch_stream(0, "d"), []
    for epoch in range(1, 5):
        student = BPRMF(SPLIT.train, dim=DIM, generator=torch_stream(epoch, "init"))
        method.begin_epoch(epoch, draw, student)
        found.append(float(method.loss(batch(SPLIT), student.embed()).detach()))
    return found


@pytest.mark.parametrize(("name", "one", "other"), CASES)
def test_another_value_gives_another_loss(
    name: str, one: dict[str, Any], other: dict[str, Any]
) -> None:
    assert losses(name, one) == losses(name, one)
    assert losses(name, one) != losses(name, other)
