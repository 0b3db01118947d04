"""A method is one code file and one conf file: a copy of kdrec gets a new one and finds it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

CODE = '''"""Toy (nobody, never): the student scores each user's best items of the teacher high."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from kdrec.data.interactions import Interactions
from kdrec.kernels.dots import dots
from kdrec.methods.base import Distiller, Teacher
from kdrec.methods.soft_labels import rank_all
from kdrec.models.base import Backbone, Batch, Vectors
from kdrec.ranges import Count, check_ranges
from kdrec.seeding import torch_stream


class Toy(Distiller):
    """`-log sigmoid(s)` of the teacher's best `n_items` for the users of the batch."""

    def __init__(
        self,
        train: Interactions,
        teacher: Teacher,
        *,
        n_items: Count,
        seed: int,
        batch_size: int,
        device: torch.device,
    ) -> None:
        super().__init__()
        check_ranges(Toy.__init__, locals())
        pools = rank_all(
            teacher.scorer,
            train,
            pool=n_items,
            batch_size=batch_size,
            generator=torch_stream(seed, "ties"),
            device=device,
        )
        self.best = pools.items[:, 0].long().clamp(min=0)

    def begin_epoch(self, epoch: int, generator: torch.Generator, student: Backbone) -> None:
        """Draws nothing."""

    def loss(self, batch: Batch, vectors: Vectors) -> Tensor:
        """The mean over the batch."""
        items = self.best.index_select(0, batch.users)
        return functional.softplus(-dots(*vectors, batch.users, items)).mean()
'''
CONF = """# @package _global_
# Toy: a method for a test (nobody, never)
weight: 1.0
method:
  name: toy
  needs: scores
  distiller:
    _target_: kdrec.methods.toy.Toy
    _partial_: true
    n_items: 3
  space:
    weight: interval(0.1, 1.0)
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kdrec")
    for part in ("kdrec", "conf", "tests"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    (folder / "kdrec" / "methods" / "toy.py").write_text(CODE, "utf-8")
    (folder / "conf" / "method" / "toy.yaml").write_text(CONF, "utf-8")
    return folder


def python(folder: Path, *words: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=folder, env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_contracts_try_it(copy: Path) -> None:
    out = python(copy, "pytest", "-q", "-p", "no:cacheprovider", "-k", "toy", "tests/contracts")
    passed = int(out.strip().splitlines()[-1].split(" passed")[0].split()[-1])
    assert passed >= 6


@pytest.mark.slow
def test_it_is_listed_and_runs(copy: Path) -> None:
    listed = python(copy, "kdrec", "list", "methods")
    assert "toy" in listed
    assert "(nobody, never)" in listed
    few = ["fit.epochs=5", "teacher_fit.epochs=5", "dataset.reader.n_users=100"]
    assert "toy" in python(copy, "kdrec", "run", "method=toy", *few)
