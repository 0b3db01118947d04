"""The program goes on with what was interrupted, says so, and says what memory was short for."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from kdrec.artifacts import Run, finished_runs
from kdrec.errors import is_out_of_memory
from kdrec.stages import models
from kdrec.training.trainer import Trainer
from tests.program import kd

pytestmark = pytest.mark.usefixtures("here")

TRAIN = [
    "train", "dataset=synthetic", "dataset.reader.n_users=80", "dataset.reader.n_items=100",
    "dataset.reader.min_per_user=8", "threads=1", "teacher_fit.epochs=10", "teacher_dim=8",
    "teacher_fit.batch_size=256", "teacher_fit.eval_every=2", "lr=0.02",
]  # fmt: skip
UNFINISHED = Path("outputs/.unfinished")


def runs(folder: str = "outputs") -> list[Run]:
    return list(finished_runs(Path(folder)))


def at_epoch(
    monkeypatch: pytest.MonkeyPatch, number: int, happens: Callable[[], None]
) -> list[int]:
    """Lets something happen in the middle of an epoch; returns the epochs that were begun."""
    original, begun = Trainer.epoch, []

    def epoch(self: Trainer, epoch: int, **options: Any) -> Any:
        begun.append(epoch)
        if epoch == number:
            happens()
        return original(self, epoch, **options)

    monkeypatch.setattr(Trainer, "epoch", epoch)
    return begun


def asked() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_what_is_asked_to_stop_is_gone_on_with_by_the_same_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kd(*TRAIN, "output_dir=whole")
    with monkeypatch.context() as patch:
        begun = at_epoch(patch, 4, asked)
        stopped = kd(*TRAIN, status=130)
        assert begun == [1, 2, 3, 4]
    assert "stopping after this epoch" in stopped.stderr
    last = stopped.stderr.strip().splitlines()[-1]
    assert last.startswith("interrupted after epoch 4 of teacher bprmf; the same command goes on")
    assert runs() == []
    assert len(list(UNFINISHED.iterdir())) == 1
    begun = at_epoch(monkeypatch, 0, asked)
    assert "teacher bprmf: continued from epoch 4" in kd(*TRAIN).stderr
    assert begun == [5, 6, 7, 8, 9, 10]
    assert list(UNFINISHED.iterdir()) == []
    (whole,), (run,) = runs("whole"), runs()
    assert run.manifest["training"]["resumed"] == [4]
    assert "resumed" not in whole.manifest["training"]
    assert run.identity == whole.identity
    for name, sha in whole.manifest["artifacts"].items():
        if name == "history.csv":
            tables = [pd.read_csv(one.file(name)).drop(columns="seconds") for one in (whole, run)]
            pd.testing.assert_frame_equal(*tables, check_exact=True)
        else:
            assert run.manifest["artifacts"][name] == sha, name
    assert "is finished already" in kd(*TRAIN, "resume.every_epochs=3").stderr


def test_force_starts_anew_and_so_does_what_is_damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    for words, damaged in ((["force=true"], False), ([], True)):
        with monkeypatch.context() as patch:
            at_epoch(patch, 4, asked)
            stopped = kd(*TRAIN, "force=true", status=130).stderr
        assert "the same command starts anew; without force=true it goes on from there" in stopped
        (folder,) = UNFINISHED.iterdir()
        if damaged:
            (folder / "epoch_4.safetensors").write_bytes(b"nothing")
        with monkeypatch.context() as patch:
            begun = at_epoch(patch, 0, asked)
            said = kd(*TRAIN, *words, "output_dir=outputs").stderr
        assert begun == list(range(1, 11))
        assert ("epoch_4.safetensors is damaged" in said) == damaged
        assert "continued" not in said
        for run in runs():
            (run.folder / "manifest.json").unlink()


def test_an_evaluation_that_breaks_costs_no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: Any, **__: Any) -> None:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9 bytes")

    with monkeypatch.context() as patch:
        patch.setattr(models, "evaluate_model", breaks)
        said = kd(*TRAIN, status=1).stderr
    assert "Out of memory while evaluating teacher bprmf" in said
    assert "evaluation.batch_size (256)" in said
    begun = at_epoch(monkeypatch, 0, asked)
    kd(*TRAIN, "evaluation.batch_size=16")
    assert begun == []
    assert len(runs()) == 1


def test_a_training_without_memory_says_what_to_lower(monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    at_epoch(monkeypatch, 3, full)
    said = kd(*TRAIN, "resume.every_epochs=1", status=1).stderr
    assert "Out of memory while training teacher bprmf: CUDA out of memory" in said
    for setting in ("evaluation.batch_size (256)", "teacher_fit.batch_size (256)", "dim (8)"):
        assert setting in said
    assert "fit.epochs" not in said
    assert [path.name for path in UNFINISHED.glob("*/*.safetensors")] == ["epoch_2.safetensors"]


@pytest.mark.parametrize(
    ("error", "is_it"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), True),
        (RuntimeError("shape mismatch"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_is_out_of_memory(error: Exception, is_it: bool) -> None:
    assert is_out_of_memory(error) == is_it


@pytest.mark.parametrize("word", ["resume.every_minutes=-1", "resume.every_epochs=0"])
def test_a_pace_out_of_range_is_refused(word: str) -> None:
    assert "out of range" in kd(*TRAIN, word, status=2).stderr
    assert runs() == []


@pytest.mark.slow
def test_a_sweep_that_is_asked_to_stop_begins_no_further_job(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        begun = at_epoch(patch, 4, asked)
        assert "epoch 4 of teacher bprmf" in kd(*TRAIN, "-m", "seed=0,1", status=130).stderr
        assert begun == [1, 2, 3, 4]
    assert "continued from epoch 4" in kd(*TRAIN, "-m", "seed=0,1").stderr
    assert len(runs()) == 2
