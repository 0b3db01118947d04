"""States of a training on its way: which are kept, and that they are what they were."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from kdrec.models.bprmf import BPRMF
from kdrec.seeding import torch_stream
from kdrec.training.loop import fit
from kdrec.training.trajectory import Trajectory
from tests.program import kd
from tests.test_loop import OPTIONS
from tests.test_pipeline import DATA, DISTILL, TRAIN, runs
from tests.worlds import blocks

pytestmark = pytest.mark.usefixtures("here")


def kept(n: int, rises: list[bool], every: int = 5) -> tuple[list[int], int]:
    """Epochs that are left of a training whose evaluations were best so far or not."""
    trajectory, model, best, most = Trajectory(n), torch.nn.Linear(1, 1, bias=False), 0, 0
    for number, rise in enumerate(rises, start=1):
        model.weight.data.fill_(number * every)
        trajectory.update(number * every, model, best=rise)
        best = number * every if rise else best
        most = max(most, len(trajectory._before) + len(trajectory._since))
    found = trajectory.spread(best, {"weight": torch.full((1, 1), float(best))})
    assert all(float(state["weight"]) == epoch for epoch, state in found)
    return [epoch for epoch, _ in found], most


@pytest.mark.parametrize("n", [2, 4, 7])
@pytest.mark.parametrize("n_evaluations", [1, 3, 4, 9, 40, 128, 201])
def test_a_training_that_rises_throughout_is_cut_into_even_parts(
    n: int, n_evaluations: int
) -> None:
    found, most = kept(n, [True] * n_evaluations)
    assert found == sorted(set(found))
    assert len(found) == min(n, n_evaluations)
    assert found[-1] == 5 * n_evaluations
    assert most <= 2 * n
    if n_evaluations >= n:
        wanted = [5 * n_evaluations * k / n for k in range(1, n + 1)]
        room = 5 * n_evaluations / n
        assert max(abs(a - b) for a, b in zip(found, wanted, strict=True)) <= room / 2 + 5


def test_what_comes_after_the_best_is_no_part_of_the_way_there() -> None:
    found, most = kept(4, [True] * 12 + [False] * 200)
    assert found == [10, 30, 40, 60]  # every second was kept
    assert most <= 12


def test_a_best_that_comes_late_finds_the_states_before_it() -> None:
    found, most = kept(4, [True] * 10 + [False] * 20 + [True])
    assert found[-1] == 155
    assert max(abs(a - b) for a, b in zip(found, (39, 77, 116, 155), strict=True)) <= 25
    assert most <= 12


@pytest.mark.parametrize("n", [0, 1])
def test_none_are_kept_if_none_are_asked_for(n: int) -> None:
    assert kept(n, [True, False, True])[0] == []


def test_a_state_is_what_the_model_was_and_training_is_not_disturbed() -> None:
    split = blocks()

    def trained(epochs: int, checkpoints: int) -> tuple[BPRMF, list[tuple[int, object]]]:
        model = BPRMF(split.train, dim=4, generator=torch_stream(0, "init"))
        options = {**OPTIONS, "epochs": epochs, "checkpoints": checkpoints, "patience": 1000}
        result = fit(model, None, split, **options)  # type: ignore[arg-type]
        return model, list(result.trajectory)

    whole, trajectory = trained(30, 3)
    assert len(trajectory) == 3
    (early, state), (last, best) = trajectory[0], trajectory[-1]
    without, none = trained(30, 0)
    assert none == []
    assert torch.equal(whole.item_table, without.item_table)
    assert torch.equal(best["item_table"], whole.item_table)  # type: ignore[index]
    assert 0 < early < last <= 30
    model = BPRMF(split.train, dim=4, generator=torch_stream(0, "init"))
    fit(model, None, split, **{**OPTIONS, "epochs": early, "eval_every": early})  # type: ignore[arg-type]
    assert torch.equal(state["item_table"], model.item_table)  # type: ignore[index]


def test_checkpoints_lie_beside_the_model_and_make_another_teacher() -> None:
    kd("train", *TRAIN, "teacher_fit.eval_every=1")
    kd("train", *TRAIN, "teacher_fit.eval_every=1", "teacher_fit.checkpoints=0")
    assert len(runs()) == 1
    assert "teacher_fit.checkpoints" not in runs()[0].manifest["settings"]
    kd("train", *TRAIN, "teacher_fit.eval_every=1", "teacher_fit.checkpoints=3")
    plain, whole = runs()
    if "checkpoints" in plain.manifest["training"]:
        plain, whole = whole, plain
    assert plain.identity != whole.identity
    epochs = whole.manifest["training"]["checkpoints"]
    assert len(epochs) == 3
    assert epochs[-1] == whole.manifest["training"]["best_epoch"]
    files = {name for name in whole.manifest["artifacts"] if name.endswith(".safetensors")}
    assert files == {"model.safetensors", "checkpoint_1.safetensors", "checkpoint_2.safetensors"}
    models = [load_file(run.file("model.safetensors")) for run in (plain, whole)]
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])
    early = load_file(whole.file("checkpoint_1.safetensors"))
    assert not torch.equal(early["item_table"], models[1]["item_table"])


WANTS = """# @package _global_
weight: 0.1
teacher_fit:
  checkpoints: 4
method:
  name: wants
  needs: trajectory
  distiller:
    _target_: tests.test_trajectory.Wants
    _partial_: true
"""


class Wants:
    """Stands for a method; is not reached where the teacher is refused."""


@pytest.fixture
def wants(here: Path) -> list[str]:
    (here / "mine" / "method").mkdir(parents=True)
    (here / "mine" / "method" / "wants.yaml").write_text(WANTS)
    mine = ["-cd", str(here / "mine"), "allow_code=true"]
    return ["distill", *mine, *DISTILL, "method=wants"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["teacher=ease"], "teacher=ease is none"),
        (["teacher=[bprmf,ease]"], "ease in teacher=bprmf+ease is none"),
        (["teacher_fit.checkpoints=1"], "teacher_fit.checkpoints=1 keeps none"),
        (["teacher_fit.checkpoints=-1"], "at least 0"),
    ],
)
def test_a_method_that_needs_a_trajectory_says_so_first(
    wants: list[str], words: list[str], message: str
) -> None:
    assert message in kd(*wants, *words, status=2).stderr
    assert runs() == []


def test_the_command_that_makes_the_teacher_asks_for_its_checkpoints(wants: list[str]) -> None:
    kd("preprocess", *DATA)
    result = kd(*wants, "upstream=require", status=1)
    command = next(line for line in result.stderr.splitlines() if "kdrec train" in line)
    assert command.endswith("teacher_fit.checkpoints=4")
    kd("train", *command.split("kdrec train ")[1].split())
    (teacher,) = runs()
    assert len(teacher.manifest["training"]["checkpoints"]) == 2
