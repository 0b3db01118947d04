"""Sweeps on Slurm: what is killed, cancelled, preempted or out of time, and what is done about it.

`tests/slurm.py` stands in for Slurm; submitit and the processes are real.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hydra.core.config_store import ConfigStore

from kdrec.cli.launch import queue, slurm
from kdrec.cli.launch.allotted import Allotted
from kdrec.cli.launch.slurm import SlurmLauncher
from kdrec.cli.launch.task import Outcome
from kdrec.errors import KdrecError, UsageError
from kdrec.hangup import HungUp
from tests import clitoys
from tests.conftest import ROOT
from tests.program import kd
from tests.slurm import install, scancel
from tests.test_sweep_workers import needs

pytestmark = [needs("submitit", "slurm"), pytest.mark.usefixtures("heard")]
submitit = pytest.importorskip("submitit")


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, value in install(tmp_path / "slurm").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(queue, "ASK_S", 0.2)
    monkeypatch.setattr(slurm, "LOOK_S", 0.05)
    monkeypatch.setattr(slurm, "GRACE_S", 0.5)
    return tmp_path


def launcher(folder: Path, **options: Any) -> SlurmLauncher:
    known = {"timeout_min": 1, "max_num_timeout": 1, "max_retries": 1, "name": "toys"}
    return SlurmLauncher(submitit_folder=f"{folder}/submitit/%j", **known | options)


@dataclass
class Toy:
    """A task to which something happens the first so many times.

    Args:
        number: Of the job.
        folder: For what it has to tell.
        fate: `fine`; `killed`; `warned`, that its time is nearly up; `waits` to be stopped.
        times: How often.
    """

    number: int
    folder: Path
    fate: str = "fine"
    times: int = 0

    def execute(self) -> Outcome:
        with self.told("tries").open("a") as file:
            file.write("x")
        if len(self.told("tries").read_text()) <= self.times:
            if self.fate == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            try:
                if self.fate == "warned":
                    os.kill(os.getpid(), signal.SIGUSR2)
                time.sleep(30)
            except KeyboardInterrupt:
                self.told("stopped").write_text("x")
                raise
        return Outcome(self.number, self.number, "", "said")

    def fail(self, error: KdrecError) -> Outcome:
        self.told("failed").write_text(f"{error.what}\n{error.hint}")
        return Outcome(self.number, None, "", "")

    def told(self, what: str) -> Path:
        return self.folder / f"{self.number}.{what}"


def outcomes(launched: SlurmLauncher, toys: list[Toy]) -> Iterator[Outcome]:
    tasks = {toy.number: (lambda toy=toy: toy) for toy in toys}
    return launched.run(tasks)  # type: ignore[arg-type]


def tries(folder: Path) -> dict[int, int]:
    return {int(path.stem): len(path.read_text()) for path in folder.glob("*.tries")}


def test_a_killed_job_costs_itself_alone_and_is_submitted_again(cluster):
    toys = [Toy(0, cluster, "killed", 1), Toy(1, cluster), Toy(2, cluster, "killed", 2)]
    found = {one.number: one.value for one in outcomes(launcher(cluster), toys)}
    assert found == {0: 0, 1: 1, 2: None}
    assert tries(cluster) == {0: 2, 1: 1, 2: 2}
    assert "ended as FAILED and left no result" in toys[2].told("failed").read_text()
    assert not toys[0].told("failed").exists()


def test_a_job_that_is_warned_stops_and_begins_again_as_often_as_it_may(cluster):
    toys = [Toy(0, cluster, "warned", 1), Toy(1, cluster, "warned", 9)]
    found = {one.number: one.value for one in outcomes(launcher(cluster, max_retries=0), toys)}
    assert found == {0: 0, 1: None}
    assert tries(cluster) == {0: 2, 1: 2}
    assert toys[0].told("stopped").exists()
    assert "Its time was up too often (Slurm job 1_1)" in toys[1].told("failed").read_text()


def until(path: Path) -> None:
    """Waits for a file."""
    late = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < late, path
        time.sleep(0.05)


def test_a_cancelled_job_stops_and_is_not_submitted_again(cluster):
    toys = [Toy(0, cluster, "waits", 1), Toy(1, cluster)]
    waited = outcomes(launcher(cluster), toys)
    assert next(waited).number == 1
    until(toys[0].told("tries"))
    scancel("1_0")
    assert next(waited).value is None
    assert tries(cluster) == {0: 1, 1: 1}
    assert toys[0].told("stopped").exists(), "it was asked before it was killed"
    assert "ended as CANCELLED" in toys[0].told("failed").read_text()


def test_jobs_of_a_sweep_that_is_interrupted_are_cancelled(cluster):
    toys = [Toy(0, cluster, "waits", 1), Toy(1, cluster)]
    waited = outcomes(launcher(cluster), toys)
    next(waited)
    until(toys[0].told("tries"))
    waited.close()  # type: ignore[attr-defined]
    assert toys[0].told("stopped").exists(), "it is waited for"
    assert (cluster / "slurm/jobs/1_0/state").read_text() == "CANCELLED"


def test_slurm_that_does_not_answer_is_asked_again(cluster, caplog, monkeypatch):
    squeue = cluster / "slurm/bin/squeue"
    text = squeue.read_text()
    calls = cluster / "calls"
    squeue.write_text(f"#!/bin/sh\necho x >> {calls}; echo unable to contact >&2; exit 1\n")
    asked = queue.Queue()
    monkeypatch.setattr(queue, "ASK_S", 60)
    assert asked.states() is None
    assert asked.states() is None
    assert calls.read_text() == "x\n", "not again so soon"
    monkeypatch.setattr(queue, "ASK_S", 0)
    assert asked.states() is None
    assert calls.read_text() == "x\nx\n"
    assert caplog.text.count("unable to contact") == 1
    squeue.write_text(text)
    assert asked.states() == {}


def test_jobs_that_a_silent_slurm_may_still_run_are_named(cluster, caplog, monkeypatch):
    toys = [Toy(0, cluster, "waits", 1), Toy(1, cluster)]
    waited = outcomes(launcher(cluster), toys)
    next(waited)
    until(toys[0].told("tries"))
    for name in ("squeue", "scancel"):
        (cluster / "slurm/bin" / name).write_text("#!/bin/sh\necho no answer >&2; exit 1\n")
    monkeypatch.setattr(slurm, "STOP_S", 0.5)
    waited.close()  # type: ignore[attr-defined]
    assert "scancel: no answer" in caplog.text
    assert "Not seen to have stopped: 1_0" in caplog.text
    scancel("1_0")


def test_a_terminal_that_goes_leaves_the_jobs(cluster):
    toys = [Toy(0, cluster, "waits", 1), Toy(1, cluster)]
    waited = outcomes(launcher(cluster), toys)
    next(waited)
    until(toys[0].told("tries"))
    with pytest.raises(HungUp):
        waited.throw(HungUp())  # type: ignore[attr-defined]
    assert (cluster / "slurm/jobs/1_0/state").read_text() == "RUNNING"
    scancel("1_0")


def test_who_is_impatient_does_not_stop_the_stopping(cluster):
    (cluster / "slurm/bin/scancel").write_text(
        f"#!/bin/sh\ntouch {cluster}/begun; sleep 1; touch {cluster}/over\n"
    )

    def again() -> None:
        until(cluster / "begun")
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=again)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        queue.Queue().cancel(["7"])
    thread.join()
    assert (cluster / "over").exists()


def test_a_job_that_was_cancelled_after_its_warning_is_not_put_back(cluster, monkeypatch):
    environment = SimpleNamespace(job_id="7", _usr_sig=lambda: signal.SIGUSR2)
    monkeypatch.setattr(submitit, "JobEnvironment", lambda: environment)
    put_back = []
    for state in ("COMPLETING", "RUNNING"):
        monkeypatch.setattr(queue.Queue, "states", lambda _, it=state: {"7": it})
        before = {one: signal.getsignal(one) for one in (signal.SIGUSR2, signal.SIGTERM)}
        signal.signal(signal.SIGUSR2, lambda *_: put_back.append(True))
        try:
            with contextlib.suppress(KeyboardInterrupt):
                Allotted()(Toy(0, cluster, "warned", 9))  # type: ignore[arg-type]
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)
        assert bool(put_back) == (state == "RUNNING")


def test_what_slurm_refuses_is_said_and_what_is_not_there(cluster, monkeypatch):
    with pytest.raises(KdrecError, match=r"did not take the jobs: .*nonesuch"):
        next(outcomes(launcher(cluster, partition="nonesuch"), [Toy(0, cluster)]))
    with pytest.raises(UsageError, match=r"does not take these options: .*colour"):
        next(outcomes(launcher(cluster, colour="red"), [Toy(0, cluster)]))
    with pytest.raises(UsageError, match=r"hydra\.launcher\.nodes is not to be set"):
        next(outcomes(launcher(cluster, nodes=2), [Toy(0, cluster)]))
    monkeypatch.setenv("PATH", str(cluster))
    with pytest.raises(UsageError, match="sbatch is not there"):
        next(outcomes(launcher(cluster), [Toy(0, cluster)]))


def test_a_job_has_as_many_threads_as_it_reserves_cores(cluster):
    assert launcher(cluster).threads(100) == 1
    assert launcher(cluster, cpus_per_task=3, partition=None).threads(1) == 3
    assert launcher(cluster, cpus_per_gpu=4, gpus_per_task=2).threads(1) == 8
    assert launcher(cluster, gpus_per_task="a100:1").threads(1) == 1
    with pytest.raises(UsageError, match="cpus_per_task=x"):
        launcher(cluster, cpus_per_task="x").threads(1)
    with pytest.raises(UsageError, match="max_retries=-1"):
        launcher(cluster, max_retries=-1).threads(1)


@dataclass
class Schema:
    _target_: str = "others"


@pytest.mark.parametrize("name", ["joblib", "submitit_slurm"])
def test_a_launcher_of_the_same_name_gives_way(tmp_path, monkeypatch, name):
    clitoys.make(tmp_path, monkeypatch)
    monkeypatch.setenv("PATH", str(tmp_path))
    ConfigStore.instance().store(group="hydra/launcher", name=name, node=Schema)
    words = ["distill", "-m", "seed=0,1", f"hydra/launcher={name}", "hydra.launcher.max_retries=0"]
    kd(*words, "--dry-run")
