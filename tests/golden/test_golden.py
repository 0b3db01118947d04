from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from kdrec.kernels.draws import RankPairs, draw_ranks
from tests import clitoys
from tests.contracts.test_methods import METHODS
from tests.golden.numbers import COMMANDS, FILE, LOSSES, measure, measure_losses

GOLDEN = json.loads(FILE.read_text("utf-8"))
BEFORE = "citeulike unkd, pairs by rejection"


@pytest.fixture(autouse=True)
def root_logger() -> Iterator[None]:
    yield from clitoys.keep_root_logger()


@pytest.fixture(scope="module")
def losses(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    return measure_losses(METHODS, tmp_path_factory.mktemp("losses"))


def test_there_is_a_number_of_every_method() -> None:
    assert sorted(GOLDEN[LOSSES]) == METHODS


@pytest.mark.parametrize("name", METHODS)
def test_the_loss_of_a_method_is_the_golden_one(name: str, losses: dict[str, float]) -> None:
    """Other draws change it by 1e-5 or more, if the method draws anything in so small a world."""
    assert losses[name] == pytest.approx(GOLDEN[LOSSES][name], rel=8e-6)


def by_rejection(self: RankPairs, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """The naive twin of `RankPairs.draw`: draw two ranks, and both again where they are equal."""
    first, second = (draw_ranks(self.sizes, self.mu, generator) for _ in range(2))
    tied = (first == second).nonzero(as_tuple=True)
    while len(tied[0]):
        for ranks in (first, second):
            ranks[tied] = draw_ranks(self.sizes[tied], self.mu, generator)
        again = first[tied] == second[tied]
        tied = tuple(index[again] for index in tied)
    return torch.minimum(first, second), torch.maximum(first, second)


@pytest.mark.slow
def test_with_the_draws_of_before_unkd_has_the_numbers_of_before(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were measured by the straightforward code that the kernels replaced."""
    monkeypatch.setattr(RankPairs, "draw", by_rejection)
    found = measure("citeulike unkd", shared.resolve(), tmp_path)
    assert found == pytest.approx(GOLDEN[BEFORE], abs=2e-3)
    assert found != pytest.approx(GOLDEN["citeulike unkd"], abs=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_numbers_are_the_golden_ones(name: str, shared: Path, tmp_path: Path) -> None:
    """Counting is exact; training may differ in the last digits between processors."""
    tolerance = 1e-7 if "itempop" in name else 2e-3
    found = measure(name, shared.resolve(), tmp_path)
    assert found == pytest.approx(GOLDEN[name], abs=tolerance)
    assert len(found) > 10
