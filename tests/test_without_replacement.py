from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from kdrec.kernels.draws import log_exponential
from kdrec.kernels.without_replacement import draw_distinct, draw_places
from kdrec.seeding import torch_stream


def law(size: int, mu: float, better_of: int) -> list[float]:
    """Chance of each rank, by going through all that can be drawn."""
    one = [math.exp(-r / mu) for r in range(size)]
    if better_of == 1:
        return [weight / sum(one) for weight in one]
    both = [sum(one[r] * one[s] * (2 if s > r else 1) for s in range(r, size)) for r in range(size)]
    return [weight / sum(both) for weight in both]


def check_pairs(drawn: Tensor, p: list[float]) -> None:
    """Two columns of each row: any two in any order, as often as one and then the other."""
    drawn, times = drawn.sort(1).values, len(drawn)
    for r, s in itertools.combinations(range(len(p)), 2):
        expected = p[r] * p[s] / (1 - p[r]) + p[s] * p[r] / (1 - p[s])
        found = float(((drawn[:, 0] == r) & (drawn[:, 1] == s)).double().mean())
        assert abs(found - expected) <= 5 * math.sqrt(expected * (1 - expected) / times)


def test_places_are_drawn_by_weight_without_replacement() -> None:
    weights = torch.tensor([1.0, 2.0, 0.0, 4.0, 1e-5])
    places = draw_places(weights.log().expand(100_000, 5), 2, torch_stream(0, "draw"))
    assert places.shape == (100_000, 2)
    check_pairs(places, (weights / weights.sum()).tolist())


def test_a_draw_ends_where_nothing_is_left() -> None:
    log_weights = torch.full((3, 4), -torch.inf)
    log_weights[1, 2] = log_weights[2, 0] = log_weights[2, 3] = 0.0
    places = draw_places(log_weights, 9, torch_stream(0, "draw")).sort(1).values
    assert places.tolist() == [[4, 4, 4, 4], [2, 4, 4, 4], [0, 3, 4, 4]]


def test_no_chance_of_the_numbers_lets_a_weight_of_nothing_win() -> None:
    """A column of weight e^-40 stands no chance, however often it is tried."""
    log_weights = torch.tensor([0.0] * 2 + [-40.0] * 998).expand(20_000, 1000)
    drawn = draw_places(log_weights, 2, torch_stream(0, "draw"))
    assert bool((drawn < 2).all())


def test_exponential_draws_have_their_law_and_finite_logarithms() -> None:
    draws = log_exponential(torch.Size([4_000_000]), torch_stream(0, "draw"))
    assert bool(torch.isfinite(draws).all())
    below = torch.tensor([-8.0, -3.0, -1.0, 0.0, 1.0, 2.0])
    found = (draws.unsqueeze(1) < below).double().mean(0)
    exact = 1 - torch.exp(-below.double().exp())
    assert bool(((found - exact).abs() < 5 * (exact * (1 - exact) / 4e6).sqrt()).all())


@pytest.mark.parametrize("better_of", [1, 2])
@pytest.mark.parametrize(("size", "mu"), [(5, 2.0), (4, 1e5)])
def test_distinct_ranks_are_drawn_without_replacement_by_their_law(
    size: int, mu: float, better_of: int
) -> None:
    sizes, draw = torch.full((40_000,), size), torch_stream(0, "d")
    ranks = draw_distinct(sizes, 2, mu, draw, width=6, better_of=better_of)
    check_pairs(ranks, law(size, mu, better_of))


def test_a_row_with_few_ranks_has_all_of_them() -> None:
    sizes = torch.tensor([0, 1, 3, 9])
    for better_of in (1, 2):
        ranks = draw_distinct(sizes, 4, 0.01, torch_stream(0, "d"), width=9, better_of=better_of)
        found = [set(row.tolist()) - {9} for row in ranks]
        assert found == [set(), {0}, {0, 1, 2}, {0, 1, 2, 3}]


def test_no_more_ranks_are_drawn_than_there_can_be() -> None:
    ranks = draw_distinct(torch.tensor([3, 2]), 7, 1.0, torch_stream(0, "d"), width=3)
    assert ranks.sort(1).values.tolist() == [[0, 1, 2], [0, 1, 3]]
