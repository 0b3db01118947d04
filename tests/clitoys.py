"""A small world for the tests of the command line: configs, targets and a stage of their own."""

from __future__ import annotations

import logging
import os
import signal
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

from kdrec import trust
from kdrec.cli import confdir
from kdrec.errors import DataUnavailableError, UsageError

if TYPE_CHECKING:
    from nowhere import Unknown

FILES = {
    "base.yaml": """# @package _global_
output_dir: OUT
allow_code: false
data_dir: data
teacher_dim: 100
student_dim: 10
hydra:
  run:
    dir: ${output_dir}/runs/${hydra.job.config_name}_${kdrec_id:}
  sweep:
    dir: ${output_dir}/sweep
    subdir: ${hydra.job.num}_${kdrec_id:}
""",
    "distill.yaml": """
defaults:
  - base
  - teacher: mf
  - student: mf
  - method: unkd
  - metric: [recall]
  - _self_
  - override hydra/job_logging: kdrec
  - override hydra/hydra_logging: kdrec
seed: 0
lr: 0.001
weight: 1
upstream: make
path: null
fail: ""
fit: {lr: "${lr}", epochs: 10, cutoffs: [10, 20], early: true}
""",
    "train.yaml": """
defaults:
  - base
  - teacher: mf
  - _self_
  - override hydra/job_logging: kdrec
  - override hydra/hydra_logging: kdrec
seed: 0
fail: ""
""",
    "needy.yaml": """
defaults:
  - base
  - _self_
run: ???
""",
    "model/mf.yaml": "# Factors\n_target_: tests.clitoys.Model\n_partial_: true\ndim: 8\n",
    "model/pop.yaml": "# Popularity\n_target_: tests.clitoys.Popular\n_partial_: true\n",
    "model/gcn.yaml": "# Graph\n_target_: tests.clitoys.Graph\n_partial_: true\ndim: 8\n"
    "n_layers: 2\n",
    "method/unkd.yaml": """# @package _global_
# UnKD in short
K: 4
method:
  name: unkd
  distiller:
    _target_: tests.clitoys.unkd
    _partial_: true
    n_groups: ${K}
    strength: ${weight}
    norm: paper
    shares: [0.5, 0.5]
    limit: null
""",
    "method/random.yaml": """# @package _global_
# A control
defaults: [unkd, _self_]
method: {name: random}
""",
    "method/rd.yaml": """# @package _global_
method:
  name: rd
  distiller: null
""",
    "metric/recall.yaml": "# Recall\nrecall: {_target_: tests.clitoys.recall, _partial_: true}\n",
    "metric/ndcg.yaml": "# NDCG\nndcg: {_target_: tests.clitoys.recall, _partial_: true}\n",
}


class Model:
    def __init__(self, *, n_users: int, dim: int) -> None: ...


class Graph(Model):
    def __init__(self, *, n_users: int, dim: int, n_layers: int) -> None: ...


class Popular: ...


def unkd(
    teacher: Unknown,
    *,
    n_groups: int,
    strength: float,
    norm: Literal["paper", "official"],
    shares: list[float],
    limit: int | None,
) -> None: ...


def recall(hits: Unknown) -> None: ...


class World:
    """The toy program: what its stages saw."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.conf = folder / "conf"
        self.out = folder / "out"
        self.seen: list[Any] = []

    def stage(self, config: Any) -> float | None:
        self.seen.append(config)
        fail = config.get("fail", "")
        if fail == "data":
            raise DataUnavailableError("no data here", "fetch them")
        if fail == "usage":
            raise UsageError("wrong")
        if fail == "bug":
            raise ValueError("surprise")
        if fail == "interrupt":
            raise KeyboardInterrupt
        if fail == "sigterm":
            os.kill(os.getpid(), signal.SIGTERM)
        print("result")  # noqa: T201  (a stage's results go to stdout)
        return 1.0


def make(folder: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """Writes the configs, and puts the toy stages where the program looks for its own."""
    world = World(folder)
    for name, content in FILES.items():
        path = world.conf / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content.replace("OUT", str(world.out)))
    (world.conf / "hydra").symlink_to(confdir.conf_dir() / "hydra")
    monkeypatch.setattr(confdir, "conf_dir", lambda: world.conf)
    for command in ("distill", "train"):
        module = types.ModuleType(f"kdrec.stages.{command}")

        def run(config: Any) -> float | None:
            return world.stage(config)

        run.__module__ = module.__name__
        module.run = run  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(trust, "MEANT", (*trust.MEANT, r"tests\.clitoys\.\w+"))
    monkeypatch.setenv("NO_COLOR", "1")
    for name in ("KDREC_JSON", "HYDRA_FULL_ERROR"):
        monkeypatch.setenv(name, "0")
    return world


def keep_root_logger() -> Iterator[None]:
    """Gives the root logger its handlers back: Hydra sets it up for a process of its own."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)
