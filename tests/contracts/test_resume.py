"""Every method in conf/method, interrupted and gone on with, teaches the same bytes."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from kdrec.methods.base import Distiller
from kdrec.models.base import Backbone, Batch, Vectors
from kdrec.training.loop import FitResult, fit
from kdrec.training.unfinished import Pace, Unfinished
from tests.contracts import test_models
from tests.contracts.test_methods import CPU, METHODS, build, load, student, teacher
from tests.worlds import blocks

BREAKS = (1, 3, 4)  # with a ranking in every second epoch: behind one, behind the next, before one
OPTIONS: dict[str, Any] = {
    "name": "test", "optimiser": "adam", "lr": 0.02, "lr_factor": 1.0, "average": 0.5, "l2": 1e-3,
    "batch_size": 400, "epochs": 6, "eval_every": 2, "patience": 50, "cutoff": 5, "checkpoints": 2,
    "data_weight": 1.0, "weight": 0.5, "seed": 0, "eval_batch_size": 64, "device": CPU,
}  # fmt: skip
SPLIT = blocks()
OF = teacher(SPLIT)

#: Options under which a method keeps more, or something else, than with those of its file.
MORE: dict[str, dict[str, object]] = {
    "cd": {"guide": "teacher"},
    "dcd": {"rank_every": 2, "item_weight": 0.5},
    "rrd": {"redraw": "never", "ir_weight": 0.5},
}


def cases() -> list[tuple[str, dict[str, object]]]:
    """All methods; those that rank now and then also with another ranking in the second epoch."""
    ranking = [name for name in METHODS if "rank_every" in load(name).method.distiller]
    return [
        *((name, {}) for name in METHODS),
        *((name, {"rank_every": 2}) for name in ranking),
        *MORE.items(),
    ]


class Copied(Unfinished):
    """Keeps a copy of the folder of each epoch, too."""

    def save(self, epoch: int, of: Mapping[str, Any], tree: Any) -> None:
        super().save(epoch, of, tree)
        shutil.copytree(self.folder, self.folder.parent / str(epoch))


def unfinished(folder: Path, kind: type[Unfinished] = Unfinished) -> Unfinished:
    return kind(folder, "id", versions={"kdrec": "1"}, pace=Pace(None, 1))


def trained(
    distiller: Distiller | None,
    where: Unfinished | None,
    model: Backbone | None = None,
    **options: Any,
) -> tuple[FitResult, dict[str, Tensor]]:
    model = student(SPLIT) if model is None else model
    result = fit(model, distiller, SPLIT, **{**OPTIONS, **options}, unfinished=where)
    learnt = {} if distiller is None else dict(distiller.named_parameters())
    return result, {**model.state_dict(), **{f"method {name}": learnt[name] for name in learnt}}


def without_time(result: FitResult) -> list[dict[str, float]]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in result.history]


def assert_goes_on(
    make: Callable[[], Distiller | None],
    folder: Path,
    model: Callable[[], Backbone | None] = lambda: None,
    **options: Any,
) -> None:
    """A training that is broken after some epochs ends as one that is not, to the last byte."""
    whole, expected = trained(make(), None, model(), **options)
    trained(make(), unfinished(folder / "run", Copied), model(), **options)
    for epoch in BREAKS:
        result, found = trained(make(), unfinished(folder / str(epoch)), model(), **options)
        assert result.resumed == [epoch]
        assert without_time(result) == without_time(whole), f"broken after epoch {epoch}"
        assert {name for name in expected if not torch.equal(found[name], expected[name])} == set()
        assert [at for at, _ in result.trajectory] == [at for at, _ in whole.trajectory]
        assert all(
            torch.equal(one[name], same[name])
            for (_, one), (_, same) in zip(result.trajectory, whole.trajectory, strict=True)
            for name in one
        )


@pytest.mark.parametrize(("name", "options"), cases(), ids=str)
def test_a_method_goes_on_as_if_it_had_not_been_interrupted(
    name: str, options: dict[str, object], tmp_path: Path
) -> None:
    assert_goes_on(lambda: build(name, SPLIT, OF, **options), tmp_path)


class Forgets(Distiller):
    """Pulls the items to where it drew them in the first epoch, and says nothing of that."""

    def __init__(self) -> None:
        super().__init__()
        self.there = torch.empty(0)

    def begin_epoch(self, epoch: int, generator: torch.Generator, student: Backbone) -> None:
        if not len(self.there):
            self.there = torch.randn(SPLIT.n_items, 4, generator=generator)

    def loss(self, batch: Batch, vectors: Vectors) -> Tensor:
        return (vectors.items - self.there).square().mean()


class Remembers(Forgets):
    def snapshot(self) -> dict[str, Any]:
        return {"there": self.there}

    def resume(self, snapshot: Mapping[str, Any]) -> None:
        self.there = snapshot["there"]


def test_a_method_that_forgets_what_it_drew_is_found_out(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="broken after epoch 1"):
        assert_goes_on(Forgets, tmp_path / "forgets")
    assert_goes_on(Remembers, tmp_path / "remembers")


@pytest.mark.parametrize("options", [{"optimiser": "lazy_adam"}, {"average": 0.0}])
def test_the_parts_of_the_loop_go_on(options: dict[str, Any], tmp_path: Path) -> None:
    assert_goes_on(Remembers, tmp_path, **options)


@pytest.mark.parametrize("name", test_models.MODELS)
def test_a_model_goes_on_as_if_it_had_not_been_interrupted(name: str, tmp_path: Path) -> None:
    def make() -> Backbone | None:
        model = test_models.build(name, SPLIT)
        return model if isinstance(model, Backbone) else None

    if make() is not None:  # a closed form has no epochs
        assert_goes_on(lambda: None, tmp_path, make, optimiser="lazy_adam")
