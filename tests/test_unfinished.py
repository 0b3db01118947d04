"""What is kept of a training: whole, checked, and its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kdrec import artifacts
from kdrec.errors import InterruptedTraining, UsageError
from kdrec.hangup import STOP
from kdrec.models.base import Batch, Vectors
from kdrec.training import unfinished as module
from kdrec.training.interruption import requests
from kdrec.training.losses import DivergedError, Losses
from kdrec.training.trainer import Trainer
from kdrec.training.tree import joined, parted
from kdrec.training.unfinished import STATE, Pace, Unfinished
from tests.contracts.test_resume import Remembers, trained, without_time

CPU = torch.device("cpu")
NEVER = Pace(None, None)
OF = {"model": {"table": "float32 [2, 3]"}, "split": "abc"}


def place(
    folder: Path, pace: Pace = NEVER, *, identity: str = "id", kdrec: str = "1"
) -> Unfinished:
    return Unfinished(folder / "x", identity, versions={"kdrec": kdrec}, pace=pace)


def tree(value: float = 0.1) -> dict[str, Any]:
    return {
        "tables": [torch.full((2, 3), value), torch.arange(4, dtype=torch.uint8)],
        "step": torch.tensor(3.0), "none": torch.empty(0), "flag": True, "missing": None,
        "history": [{"epoch": 1.0, "ratio": float("inf"), "loss": 0.1 + 0.2}],
        "best": float("-inf"), "text": "a", "count": 2**53 + 1, "nothing": {}, "pairs": [],
    }  # fmt: skip


def same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


def test_a_tree_comes_back_as_it_was() -> None:
    rest, tensors = parted(tree())
    text = json.dumps(rest, allow_nan=False)
    assert same(joined(json.loads(text), tensors), tree())
    assert np.isnan(joined(json.loads(json.dumps(parted([float("nan")])[0])), {})[0])
    with pytest.raises(TypeError, match="a/0 is a set"):
        parted({"a": [{1}]})


def test_what_was_kept_last_is_found_again_and_alone(tmp_path: Path) -> None:
    assert place(tmp_path).load(OF, CPU) is None
    first = place(tmp_path)
    for epoch in (3, 5):
        first.save(epoch, OF, tree(epoch))
        assert first.epoch == epoch
    assert {path.name for path in first.folder.iterdir()} == {STATE, "epoch_5.safetensors"}
    again = place(tmp_path)
    found = again.load(OF, CPU)
    assert same(found, tree(5))
    assert again.epoch == 5
    found["tables"][0].zero_()  # its own, not the file's
    assert same(place(tmp_path).load(OF, CPU), tree(5))
    again.remove()
    assert not again.folder.exists()
    assert place(tmp_path).load(OF, CPU) is None


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def other_number(path: Path) -> None:
    path.write_text(path.read_text().replace('"epoch": 3', '"epoch": 4'))


DAMAGES: list[tuple[str, Callable[[Path], object], str]] = [
    ("epoch_3.safetensors", flip, "epoch_3.safetensors is damaged: its sha256 is"),
    ("epoch_3.safetensors", lambda path: path.write_bytes(b""), "is damaged"),
    ("epoch_3.safetensors", Path.unlink, "No such file"),
    (STATE, other_number, "state.json is damaged"),
    (STATE, lambda path: path.write_text("{"), "Expecting"),
    (STATE, lambda path: path.write_text("[]"), "not used"),
    (STATE, lambda path: path.write_text("{}"), "body"),
]


@pytest.mark.parametrize(("name", "damage", "says"), DAMAGES)
def test_what_is_damaged_is_said_and_not_used(
    name: str,
    damage: Callable[[Path], object],
    says: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    kept = place(tmp_path)
    kept.save(3, OF, tree())
    damage(kept.folder / name)
    again = place(tmp_path)
    assert again.load(OF, CPU) is None
    assert again.epoch == 0
    assert says in caplog.text
    assert "Training starts anew" in caplog.text


@pytest.mark.parametrize(
    ("options", "of", "says"),
    [
        ({"kdrec": "2"}, OF, "its version kdrec is 1, 2 was expected"),
        ({"identity": "other"}, OF, "its identity is id, other was expected"),
        ({}, {**OF, "split": "xyz"}, "its split is abc, xyz was expected"),
        ({}, {**OF, "model": {"table": "float32 [2, 4]"}},
         "its model table is float32 [2, 3], float32 [2, 4] was expected"),
        ({}, {**OF, "model": {}}, "its model table is float32 [2, 3], nothing was expected"),
    ],
)  # fmt: skip
def test_what_is_of_another_training_is_said_and_not_used(
    options: dict[str, str],
    of: dict[str, Any],
    says: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    place(tmp_path).save(3, OF, tree())
    assert place(tmp_path, **options).load(of, CPU) is None
    assert says in caplog.text


def test_a_kill_between_the_two_files_leaves_the_state_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = place(tmp_path)
    kept.save(3, OF, tree(3))

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        kept.save(4, OF, tree(4))
    assert (kept.folder / "epoch_4.safetensors").is_file()
    again = place(tmp_path)
    assert same(again.load(OF, CPU), tree(3))
    monkeypatch.setattr(module, "write_json", artifacts.write_json)
    again.save(5, OF, tree(5))
    assert {path.name for path in again.folder.iterdir()} == {STATE, "epoch_5.safetensors"}


def test_a_state_that_cannot_be_written_does_not_end_the_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "x").write_text("a file where the folder should be")
    kept = place(tmp_path, Pace(None, 1))
    result, _ = trained(Remembers(), kept)
    assert len(result.history) == 3
    assert "Epoch 1 could not be kept, and training goes on" in caplog.text


def test_a_state_is_due_by_time_or_by_epochs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    kept = place(tmp_path, Pace(2, 10))
    assert [kept.due(epoch) for epoch in (1, 10, 15, 20)] == [False, True, False, True]
    now += 119
    assert not kept.due(21)
    now += 1
    assert kept.due(21)
    kept.save(21, OF, tree())
    assert not kept.due(22)
    assert place(tmp_path, Pace(0, None)).due(1)
    now += 1e6
    assert not place(tmp_path, NEVER).due(10)


@pytest.mark.parametrize("values", [(-1, None), (None, 0), (float("nan"), None)])
def test_a_pace_out_of_range_is_refused(values: tuple[Any, Any]) -> None:
    with pytest.raises(UsageError, match=r"resume\.every_\w+=.* out of range"):
        Pace(*values)


@pytest.fixture
def handlers() -> Iterator[list[Any]]:
    """Handlers of a test's own, for all the signals, that note what they heard."""
    heard: list[Any] = []
    before = [signal.signal(number, lambda got, _: heard.append(got)) for number in STOP]
    yield heard
    for number, handler in zip(STOP, before, strict=True):
        signal.signal(number, handler)


def test_the_first_signal_asks_and_a_second_interrupt_stops_at_once(
    handlers: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    with requests("it", heard=True) as request:
        assert not request.asked
        os.kill(os.getpid(), signal.SIGTERM)
        assert request.asked
        assert "it: stopping after this epoch" in caplog.text
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert handlers == []
    for number in STOP:
        os.kill(os.getpid(), number)
    assert handlers == list(STOP)


def test_what_is_ignored_stays_ignored_and_other_threads_hear_nothing(handlers: list[Any]) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    with requests("it", heard=True) as request:
        os.kill(os.getpid(), signal.SIGINT)
        assert not request.asked
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    signal.signal(signal.SIGINT, before)
    found = []

    def elsewhere() -> None:
        with requests("it", heard=True):
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    with requests("it", heard=False):
        assert found == [signal.getsignal(signal.SIGTERM)]


class Stopped(Remembers):
    """Sends a signal to its own process in the middle of an epoch."""

    def __init__(self, epoch: int) -> None:
        super().__init__()
        self.stops, self.epoch = epoch, 0

    def begin_epoch(self, epoch: int, *rest: Any) -> None:
        super().begin_epoch(epoch, *rest)
        self.epoch = epoch

    def loss(self, batch: Batch, vectors: Vectors) -> Tensor:
        if (self.epoch, batch.step) == (self.stops, 1):
            os.kill(os.getpid(), signal.SIGTERM)
        return super().loss(batch, vectors)


@pytest.mark.parametrize("epoch", [1, 4, 6])
def test_a_training_that_is_asked_to_stop_ends_its_epoch_and_goes_on_later(
    epoch: int, tmp_path: Path, handlers: list[Any]
) -> None:
    whole, expected = trained(Stopped(0), None)
    with pytest.raises(
        InterruptedTraining, match=f"epoch {epoch} of test; the same command"
    ) as error:
        trained(Stopped(epoch), place(tmp_path))
    assert isinstance(error.value, KeyboardInterrupt)
    result, found = trained(Stopped(0), place(tmp_path))
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert without_time(result) == without_time(whole)
    seconds = [row["seconds"] for row in result.history]
    assert seconds == sorted(seconds)
    assert result.seconds >= seconds[-1] > 0
    assert handlers == []


def test_going_on_with_other_threads_is_said(
    tmp_path: Path, handlers: list[Any], monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    for epoch, threads in ((2, 3), (4, 3), (0, 2)):
        monkeypatch.setattr(torch, "get_num_threads", lambda it=threads: it)
        with contextlib.suppress(InterruptedTraining):
            trained(Stopped(epoch), place(tmp_path))
        assert ("kept with threads=3 and goes on with 2" in caplog.text) == (threads == 2)


def test_without_a_place_a_signal_does_what_it_did(handlers: list[Any]) -> None:
    trained(Stopped(2), None)
    assert handlers == [signal.SIGTERM]


def test_a_training_that_has_ended_is_not_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, expected = trained(Remembers(), place(tmp_path))
    monkeypatch.setattr(Trainer, "epoch", None)
    result, found = trained(Remembers(), place(tmp_path))
    assert (result.epochs, result.resumed) == (6, [])
    assert torch.equal(found["item_table"], expected["item_table"])


def losses(steps: list[list[float]]) -> Losses:
    return Losses(np.array(steps, dtype=np.float32), 0.5)


def test_means_are_those_of_adding_step_by_step() -> None:
    rng = np.random.default_rng(0)
    steps = rng.random((2, 1000)).astype(np.float32)
    sums = torch.zeros(2)
    for column in torch.from_numpy(steps).unbind(1):
        sums += column
    assert list(Losses(steps, 0.5).means().values()) == [*(sums / 1000).tolist(), 0.5]


@pytest.mark.parametrize(
    ("steps", "epoch", "weight", "what", "hint"),
    [
        ([[1, 1, float("nan")], [0, 0, 0]], 7, 0.0, "epoch 7, batch 3 of 3", "(lr=0.001)."),
        ([[1, float("inf"), 1], [0, 1, 1]], 7, 0.5, "batch 2 of 3", "distillation weight (0.5)"),
        ([[1, 1, 1], [0, float("nan"), 1]], 2, 0.5, "batch 2 of 3", "Lower the distillation"),
        ([[1, 1], [float("nan"), 1]], 1, 0.5, "epoch 1, batch 1", "scores of the teacher"),
        ([[float("inf"), 1], [0, 0]], 1, 0.0, "epoch 1, batch 1", "options of the model"),
    ],
)
def test_the_first_loss_that_is_not_finite_is_named_with_the_likely_setting(
    steps: list[list[float]], epoch: int, weight: float, what: str, hint: str
) -> None:
    with pytest.raises(DivergedError) as error:
        losses(steps).check("it", epoch, lr=0.001, lr_factor=1.0, weight=weight)
    assert what in error.value.what
    assert hint in error.value.hint
    losses([[1, 2], [0, 0]]).check("it", 1, lr=0.001, lr_factor=1.0, weight=weight)


def test_what_diverges_is_not_kept(tmp_path: Path) -> None:
    kept = place(tmp_path, Pace(None, 1))
    with pytest.raises(DivergedError, match="not finite in epoch"):
        trained(Remembers(), kept, lr=1e30)
    assert not kept.folder.exists()
