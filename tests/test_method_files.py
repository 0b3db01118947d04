"""Files of conf/method against each other: what stands in two of them is the same."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from tests.contracts.test_methods import FOLDER, load

VARIANTS = sorted(
    path.stem
    for kind in ("legacy", "published", "toolkit")
    for path in FOLDER.glob(f"*_{kind}.yaml")
)


@pytest.mark.parametrize("name", VARIANTS)
def test_what_a_variant_sets_is_not_tuned_away(name: str) -> None:
    """But for the weights, whose value in that code is tuned, too."""
    own = OmegaConf.load(FOLDER / f"{name}.yaml").method.distiller
    tuned = [key for key, space in load(name).method.space.items() if space is not None]
    assert tuned
    for key in tuned:
        assert key.endswith("weight") or OmegaConf.select(own, key.split(".", 2)[-1]) is None


@pytest.mark.parametrize(("name", "part"), [("derrd", "de"), ("derrd", "rrd"), ("pckd", "de")])
def test_a_part_of_a_method_is_as_in_its_own_file(name: str, part: str) -> None:
    files = load(name).method.distiller[part], load(part).method.distiller
    inside, alone = (OmegaConf.to_container(file, resolve=False) for file in files)
    assert inside == alone
