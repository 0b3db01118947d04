"""An epoch of training as the device sees it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from kdrec.data.interactions import Split
from kdrec.kernels import rows
from kdrec.methods.base import Teacher
from kdrec.methods.unkd import UnKD
from kdrec.models.base import Backbone, frozen
from kdrec.models.bprmf import BPRMF
from kdrec.models.lightgcn import LightGCN
from kdrec.seeding import torch_stream
from kdrec.training.trainer import Trainer
from tests.waits import Seen
from tests.worlds import blocks

CPU = torch.device("cpu")


def bprmf(split: Split) -> Backbone:
    return BPRMF(split.train, dim=4, generator=torch_stream(0, "init"))


def lightgcn(split: Split) -> Backbone:
    start = torch_stream(0, "init")
    return LightGCN(split.train, dim=4, n_layers=2, init_std=0.1, generator=start)


@pytest.mark.parametrize("model", [bprmf, lightgcn])
@pytest.mark.parametrize("norm", [None, "paper", "official"])
@pytest.mark.parametrize("optimiser", ["adam", "lazy_adam"])
def test_within_an_epoch_nothing_waits_for_the_device(
    model: Callable[[Split], Backbone], norm: Any, optimiser: str
) -> None:
    split = blocks()
    method = norm and UnKD(
        split.train, Teacher(frozen(model(split)), None), n_groups=2, grouping="popularity",
        n_pairs=6, mu=4.0, pool=50, norm=norm, visits="batch", swap_defect=True,
        seed=0, batch_size=64, device=CPU,
    )  # fmt: skip
    trainer = Trainer(
        model(split), method, split, optimiser=optimiser, lr=0.01, l2=1e-3, batch_size=64,
        data_weight=1.0, weight=0.1, seed=0, device=CPU,
    )  # fmt: skip
    with Seen() as seen:
        trainer.epoch(1, with_ratio=True)
    assert len(seen.names) > 100
    assert seen.waits() == set()


def test_the_ratio_of_gradients_is_that_of_their_norms() -> None:
    split = blocks()
    trainer = Trainer(
        bprmf(split), None, split, optimiser="adam", lr=0.01, l2=1e-3, batch_size=64,
        data_weight=1.0, weight=0.0, seed=0, device=CPU,
    )  # fmt: skip
    users, items = trainer.own_parameters
    distilled = 12 * users[0, 0] - 5 * items[1, 1]
    expected = 13 / (3 * math.sqrt(users.numel()))
    assert float(trainer.gradient_ratio(3 * users.sum(), distilled)) == pytest.approx(expected)
    assert float(trainer.gradient_ratio(0 * users.sum(), distilled)) == math.inf


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("model", [bprmf, lightgcn])
def test_a_gpu_is_waited_for_once_an_epoch(model: Callable[[Split], Backbone]) -> None:
    split, device = blocks(), torch.device("cuda")
    trainer = Trainer(
        model(split).to(device), None, split, optimiser="adam", lr=0.01, l2=1e-3, batch_size=64,
        data_weight=1.0, weight=0.0, seed=0, device=device,
    )  # fmt: skip
    trainer.epoch(1, with_ratio=False)
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with pytest.warns(UserWarning, match="synchroniz") as caught:
            trainer.epoch(2, with_ratio=False)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(caught) == 1  # for the losses, at the end


def test_an_epoch_reads_numbers_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the operators do not show: tensors turned into numbers or arrays."""
    monkeypatch.setattr(rows, "_MANY", math.inf)  # below, repeats are found on a CPU alone
    calls: list[str] = []

    def noting(name: str) -> Callable[..., Any]:
        original = getattr(torch.Tensor, name)

        def noted(self: torch.Tensor, *args: Any) -> Any:
            calls.append(name)
            return original(self, *args)

        return noted

    split = blocks()
    trainer = Trainer(
        bprmf(split), None, split, optimiser="lazy_adam", lr=0.01, l2=1e-3, batch_size=64,
        data_weight=1.0, weight=0.0, seed=0, device=CPU,
    )  # fmt: skip
    for name in ("tolist", "cpu", "numpy", "item", "__bool__", "__float__", "__int__"):
        monkeypatch.setattr(torch.Tensor, name, noting(name))
    trainer.epoch(1, with_ratio=False)
    assert calls == ["tolist"]


def test_a_wait_is_seen() -> None:
    with Seen() as seen:
        float(torch.ones(3).sum())
        torch.ones(3).nonzero()
    assert seen.waits() == {"_local_scalar_dense.default", "nonzero.default"}
