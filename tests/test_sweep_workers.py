"""Sweeps of real runs on several workers: nothing twice, nothing torn, nothing lost."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from kdrec.artifacts import Run, finished_runs
from kdrec.digests import sha256_file
from kdrec.sweeps import records
from tests.conftest import ROOT
from tests.program import kd
from tests.slurm import install

pytestmark = [pytest.mark.usefixtures("here"), pytest.mark.slow]

SMALL = [
    "dataset=synthetic", "dataset.reader.n_users=120", "dataset.reader.n_items=150",
    "dataset.reader.min_per_user=8", "teacher_fit.epochs=5", "teacher_fit.batch_size=256",
    "teacher_dim=12", "fit.epochs=5", "fit.batch_size=256", "student_dim=4", "method=unkd",
]  # fmt: skip
JOBLIB = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]


def needs(package: str, extra: str) -> pytest.MarkDecorator:
    there = importlib.util.find_spec(package) is not None
    return pytest.mark.skipif(not there, reason=f"{package} is not installed: kdrec[{extra}]")


def program(*words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "kdrec", *words],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def ended(process: subprocess.Popen[bytes], status: int = 0) -> str:
    out, err = process.communicate(timeout=240)
    assert process.returncode == status, err.decode()
    return out.decode()


def sweeps() -> list[Path]:
    return sorted(path.parent for path in Path("outputs/sweeps").glob("*/*/sweep.json"))


def states(sweep: Path) -> Counter[str]:
    with (sweep / "sweep.csv").open(newline="", encoding="utf-8") as file:
        return Counter(row["state"] for row in csv.DictReader(file))


def whole(runs: list[Run]) -> bool:
    """Whether every file of the runs is the one that was written."""
    return all(
        sha256_file(run.folder / name) == digest
        for run in runs
        for name, digest in run.manifest["artifacts"].items()
    )


def made() -> tuple[list[Run], list[Run]]:
    """Teachers and students, each of which must be there once."""
    runs = list(finished_runs(Path("outputs")))
    assert whole(runs)
    assert len({run.identity for run in runs}) == len(runs), "a run was made twice"
    teachers = [run for run in runs if run.manifest["labels"]["role"] == "teacher"]
    return teachers, [run for run in runs if run not in teachers]


def test_two_programs_on_one_sweep_make_every_run_once_whatever_fails() -> None:
    words = ["distill", "-m", *SMALL, "seed=0,1", "K=2,3"]
    plain = program(*words)
    workers = program(*words, "device=cpu,none", *JOBLIB)
    assert ended(plain).count("Kept in") == 4
    assert ended(workers, status=1).count("Kept in") == 4
    teachers, students = made()
    assert (len(teachers), len(students)) == (1, 4)
    assert len(list(Path("data/processed/synthetic").iterdir())) == 1
    one, other = sweeps()
    assert states(one) + states(other) == {"done": 4, "found": 4, "failed": 4}
    (folder,) = (sweep for sweep in (one, other) if states(sweep)["failed"])
    failed = json.loads(records.path_of(folder, 1).read_text())
    assert failed["what"] == "device=none is not available here."
    assert failed["what"] in Path(failed["folder"], "distill.log").read_text()
    assert not Path(failed["folder"], "manifest.json").exists()
    assert {run.manifest["threads"] for run in students} == {1}
    assert "K=3" in kd("report", "--n-boot", "20").stdout


def victim(process: subprocess.Popen[bytes]) -> int:
    """Waits until two jobs of the sweep are over and another is under way; its process."""
    for _ in range(15_000):
        found = [records.read(path) for path in Path("outputs").glob("sweeps/*/*/.jobs/*.json")]
        known = [one for one in found if one is not None]
        running = [one for one in known if one.runs and one.elapsed() > 0.3]
        if running and len(known) - sum(one.runs for one in known) >= 2:
            return running[-1].pid
        assert process.poll() is None, process.communicate()[1].decode()
        time.sleep(0.02)
    raise AssertionError("no job was under way")


@needs("ray", "ray")
def test_a_ray_cluster_of_two_workers_outlives_the_death_of_one() -> None:
    words = ["fit.epochs=60", "fit.patience=100", "seed=range(0,6)", "hydra/launcher=ray"]
    process = program("distill", "-m", *SMALL, *words, "hydra.launcher.init.num_cpus=2")
    os.kill(victim(process), signal.SIGKILL)
    shown = ended(process)
    teachers, students = made()
    assert (len(teachers), len(students)) == (1, 6)
    assert sorted(run.manifest["labels"]["seed"] for run in students) == list(range(6))
    (sweep,) = sweeps()
    assert states(sweep) == {"done": 6}
    attempts = [records.read(records.path_of(sweep, number)) for number in range(6)]
    assert sorted(one.attempt for one in attempts if one is not None) == [1, 1, 1, 1, 1, 2]
    assert shown.count("Kept in") == 6


@needs("submitit", "slurm")
def test_slurm_runs_a_sweep_and_its_failure_is_known(tmp_path, monkeypatch) -> None:
    for name, value in (install(tmp_path / "slurm") | {"PYTHONPATH": str(ROOT)}).items():
        monkeypatch.setenv(name, value)
    words = ["hydra/launcher=submitit_slurm", "hydra.launcher.cpus_per_task=2"]
    shown = kd("distill", "-m", *SMALL, *words, "device=cpu,none", status=1)
    assert shown.stdout.count("Kept in") == 1
    (sweep,) = sweeps()
    assert states(sweep) == {"done": 1, "failed": 1}
    _, students = made()
    assert [run.manifest["threads"] for run in students] == [2]


@needs("submitit", "slurm")
def test_submitit_runs_a_sweep_and_its_failure_is_known() -> None:
    kd("distill", "-m", *SMALL, "hydra/launcher=submitit_local", "device=cpu,none", status=1)
    (sweep,) = sweeps()
    assert states(sweep) == {"done": 1, "failed": 1}
    made()
