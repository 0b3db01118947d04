from __future__ import annotations

import pytest
import torch

from kdrec.errors import UsageError
from kdrec.seeding import stream, torch_stream


def test_the_same_names_give_the_same_draws() -> None:
    assert (stream(3, "split").random(5) == stream(3, "split").random(5)).all()
    first, second = (torch.rand(5, generator=torch_stream(3, "init")) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("other", [(4, "split"), (3, "init"), (3, "split", "a"), (3, "spl", "it")])
def test_other_seeds_and_names_give_other_draws(other: tuple[int, str]) -> None:
    assert (stream(3, "split").random(5) != stream(*other).random(5)).all()


def test_no_generator_is_global() -> None:
    before = torch.get_rng_state()
    torch.rand(5, generator=torch_stream(0, "init"))
    assert torch.equal(before, torch.get_rng_state())


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(UsageError, match="-1"):
        stream(-1, "split")
