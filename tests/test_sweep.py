"""A sweep that nobody watches: its records, its table, and what it outlives."""

from __future__ import annotations

import csv
import io
import json
import os
import pickle
import platform
import shutil
import signal
import subprocess
import sys
import time
import typing
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobStatus
from omegaconf import OmegaConf
from rich.console import Console

from kdrec.artifacts import finished_runs
from kdrec.cli import job, sweeptable
from kdrec.cli.launch import processes
from kdrec.cli.launch.processes import JoblibLauncher
from kdrec.cli.launch.task import Outcome, Task
from kdrec.cli.watch import Watch, claimed
from kdrec.errors import KdrecError, StorageError, UsageError
from kdrec.sweeps import records
from kdrec.sweeps.records import Record
from kdrec.sweeps.status import Status, lasting
from tests import clitoys
from tests.conftest import ROOT
from tests.program import kd


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[clitoys.World]:
    keeping = clitoys.keep_root_logger()
    next(keeping)
    yield clitoys.make(tmp_path, monkeypatch)
    next(keeping, None)


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "sweep.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_sweep_outlives_its_failures_and_writes_all_down(world):
    shown = kd("distill", "-m", "fail=data,'',bug", "seed=3", status=1)
    sweep = world.out / "sweep"
    trace = f"The log in {table(sweep)[2]['folder']} has the traceback."
    states = [(row["state"], row["what"], row["hint"]) for row in table(sweep)]
    assert states == [
        ("failed", "no data here", "fetch them"),
        ("found", "", ""),  # the toy stage makes no run of its own
        ("failed", "ValueError: surprise", trace),
    ]
    assert "  fetch them\n" in shown.stderr
    assert f"  {trace}\n" in shown.stderr
    about = json.loads((sweep / "sweep.json").read_text())
    assert (about["state"], about["command"], about["total"]) == ("ended", "distill", 3)
    assert (about["counts"]["failed"], about["counts"]["found"]) == (2, 1)
    assert about["best"] == {"job": 1, "value": 1.0}
    assert about["line"] == ["fail=data,'',bug", "seed=3"]
    logs = [Path(row["folder"], "distill.log").read_text() for row in table(sweep)]
    assert "no data here" in logs[0]
    assert "Traceback" not in logs[0]
    assert "Traceback" in logs[2]
    assert "job 0 failed" in shown.stderr
    assert "fail=data  [" in shown.stderr, "what all jobs share is not repeated"
    assert "Sweep: 3 jobs in" in shown.stderr


@pytest.mark.parametrize("how", ["interrupt", "sigterm"])
def test_an_interrupt_ends_the_sweep_and_so_does_sigterm(world, how):
    shown = kd("distill", "-m", f"fail={how},''", status=130)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert len(world.seen) == 1
    assert json.loads((world.out / "sweep/sweep.json").read_text())["state"] == "interrupted"
    (row,) = table(world.out / "sweep")
    assert (row["state"], row["what"]) == ("interrupted", "stopped")
    assert "Sweep: 1 of 2 jobs" in shown.stderr
    assert "The same command again makes what is missing" in shown.stderr


def test_a_launcher_without_a_sweep_is_refused(world):
    kd("distill", "+hydra/launcher=joblib", "--dry-run", status=2)
    shown = kd("distill", "hydra/launcher=joblib", status=2)
    assert "hydra/launcher=joblib is for sweeps" in shown.stderr
    assert "Add -m" in shown.stderr
    assert world.seen == []


def test_a_table_that_cannot_be_written_does_not_hide_what_ended_the_sweep(
    tmp_path, monkeypatch, caplog
):
    def full(*_, **__):
        raise StorageError("No space left.", "Free some.")

    def stopped() -> None:
        with Watch(tmp_path, "distill", [], None, quiet=True):
            monkeypatch.setattr(Status, "write", full)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert "not up to date: No space left." in caplog.text
    monkeypatch.undo()
    with pytest.raises(StorageError), Watch(tmp_path, "distill", [], None, quiet=True):
        monkeypatch.setattr(Status, "write", full)


def test_a_sweeper_that_judges_its_jobs_hears_of_a_failure(world, monkeypatch):
    monkeypatch.setattr(job, "BASIC_SWEEPER", "of.another")
    kd("distill", "-m", "fail=data,''", status=3)


def test_a_worker_gets_all_that_a_job_needs_and_sends_back_what_it_printed(world, monkeypatch):
    hydras = []

    def here(self, tasks):
        for compose in tasks.values():
            task = pickle.loads(pickle.dumps(compose()))
            GlobalHydra.instance().clear()
            ConfigStore.instance().repo.pop("teacher", None)
            yield task.execute()
            hydras.append((GlobalHydra.instance().hydra, "teacher" in ConfigStore.instance().repo))

    monkeypatch.setattr(JoblibLauncher, "run", here)
    words = ["+threads=null", "fail='',data", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    shown = kd("distill", "-m", *words, status=1)
    assert shown.stdout == "result\n"
    assert [config.threads for config in world.seen] == [JoblibLauncher(n_jobs=2, max_retries=0)
                                                         .threads(2)] * 2  # fmt: skip
    assert all(hydra is not None and roles for hydra, roles in hydras)
    assert len(hydras) == 2
    assert [row["state"] for row in table(world.out / "sweep")] == ["found", "failed"]


def test_jobs_of_machines_with_a_disk_of_their_own_are_counted(world, monkeypatch):
    sweep = world.out / "sweep"

    def elsewhere(self, tasks):
        with monkeypatch.context() as far:
            far.setattr("platform.node", lambda: "far")
            found = [compose().execute() for compose in tasks.values()]
        for folder in sweep.iterdir():
            if folder.is_dir():
                shutil.rmtree(folder)
        yield from found

    monkeypatch.setattr(JoblibLauncher, "run", elsewhere)
    words = ["+threads=1", "fail='',data", "hydra/launcher=joblib"]
    shown = kd("distill", "-m", *words, status=1)
    assert [(row["state"], row["host"]) for row in table(sweep)] == [
        ("found", "far"), ("failed", "far"),
    ]  # fmt: skip
    assert "no data here" in shown.stderr
    assert "Not on this machine but on far: what 1 of them left." in shown.stderr


def test_a_sweeper_that_judges_hears_of_a_job_that_never_began(tmp_path, monkeypatch):
    monkeypatch.setattr(HydraConfig, "set_config", lambda *_: None)

    def outcome(sweeper: str) -> Outcome:
        hydra = {
            "job": {"num": 3}, "overrides": {"task": ["seed=3"]}, "sweeper": {"_target_": sweeper},
            "sweep": {"dir": str(tmp_path), "subdir": "3"},
        }  # fmt: skip
        config = OmegaConf.create({"hydra": hydra})
        return Task(None, None, config, "", {}, {}).fail(KdrecError("killed"))  # type: ignore[arg-type]

    assert outcome(job.BASIC_SWEEPER).returned().status is JobStatus.COMPLETED
    judged = outcome("of.another").returned()
    assert judged.status is JobStatus.FAILED
    record = records.read(records.path_of(tmp_path, 3))
    assert record is not None
    assert (record.state, record.what) == ("failed", "killed")


def test_the_table_shows_how_far_the_best_what_runs_and_what_failed():
    status = Status(
        [
            one(0, records.DONE, value=0.25, seconds=2.0),
            one(1, records.FAILED, what="no [data] here"),
            one(2, records.RUNNING, host=platform.node()),
        ],
        4,
    )
    console = Console(width=60, file=io.StringIO())
    console.print(sweeptable.table("distill", status, ", soon", lambda record: f"n={record.job}"))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    words = [" ".join(line.replace("\u2501", "").split()) for line in text.splitlines()]
    assert "2/4 1 done, 1 failed, 1" in words[0]
    assert any(line.startswith("best 0 0.2500 n=0") for line in words)
    assert any(line.startswith("running 2") and line.endswith("n=2") for line in words)
    assert "failed 1 n=1: no [data] here" in words


def test_a_folder_may_have_any_name(world):
    kd("distill", "-m", "seed=0,1", f'output_dir="{world.folder}/it\'s here"')
    assert len(table(world.folder / "it's here" / "sweep")) == 2


def test_a_process_that_ended_without_a_word_is_lost_and_no_result(tmp_path, capsys):
    watch = Watch(tmp_path, "distill", [], [["seed=0"], ["seed=1"]], quiet=True)
    with watch:
        records.begin(tmp_path, job=0, overrides=["seed=0"], folder="x")
    assert [row["state"] for row in table(tmp_path)] == ["lost"]
    with pytest.raises(KdrecError, match="1 of 1 jobs did not finish"):
        watch.check()
    assert "job 0 lost" in capsys.readouterr().err


def test_jobs_elsewhere_outlive_the_interrupt_of_the_one_who_watches(tmp_path):
    def watch() -> None:
        with Watch(tmp_path, "distill", [], None, quiet=True):
            records.begin(tmp_path, job=0, overrides=["seed=0"], folder="x")
            records.write(tmp_path, one(1, records.RUNNING))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        watch()
    assert [row["state"] for row in table(tmp_path)] == ["interrupted", "running"]


def test_a_job_that_a_cluster_interrupts_and_begins_again_is_followed_to_its_end(tmp_path, capsys):
    def told(what: str) -> bool:
        time.sleep(0.05)
        return what in capsys.readouterr().err

    with Watch(tmp_path, "distill", [], [["seed=0"]], quiet=False) as watch:
        records.end(tmp_path, begun(tmp_path), records.INTERRUPTED)
        while not told("job 0 interrupted"):
            pass
        again = begun(tmp_path)
        assert again.attempt == 2
        records.end(tmp_path, again, records.DONE, value=0.5)
    watch.check()
    assert [(row["state"], row["attempt"]) for row in table(tmp_path)] == [("done", "2")]


def begun(sweep: Path) -> Record:
    return records.begin(sweep, job=0, overrides=["seed=0"], folder="x")


def test_a_job_is_called_by_what_was_typed_and_sets_it_apart(tmp_path, capsys):
    jobs = [["seed=0", "lr=1e-4", "force=true"], ["seed=1", "lr=1e-4", "force=true"]]
    with Watch(tmp_path, "distill", [], jobs, quiet=False):
        for number in range(2):  # Hydra writes them in its own way
            words = (f"seed={number}", "lr=0.0001", "force=True")
            records.write(tmp_path, one(number, records.DONE, overrides=words))
    told = capsys.readouterr().err
    assert "seed=1  [2 of 2]" in told
    assert "force" not in told


def test_two_sweeps_never_share_a_folder_and_a_second_begins_anew(tmp_path):
    record = one(0, records.FAILED)
    with claimed(tmp_path / "a") as first, claimed(tmp_path / "a") as second:
        assert (first.name, second.name) == ("a", "a_1")
        records.write(first, record)
    with claimed(tmp_path / "a") as again:
        assert again == first
        assert records.read(records.path_of(again, 0)) is None


def one(number: int, state: str, **more: typing.Any) -> Record:
    words, begun = (f"seed={number}", "K=4"), "2026-01-01T00:00+00:00"
    return replace(Record(number, state, words, "folder", 1, "host", 1, begun), **more)


def test_a_record_tells_its_attempts_and_is_never_half_there(tmp_path):
    first = records.begin(tmp_path, job=3, overrides=["K=2"], folder="x")
    assert (first.attempt, first.pid, first.runs) == (1, os.getpid(), True)
    again = records.begin(tmp_path, job=3, overrides=["K=2"], folder="x")
    assert again.attempt == 2, "the first was killed"
    records.end(tmp_path, again, records.DONE, value=0.5)
    kept = records.read(records.path_of(tmp_path, 3))
    assert kept is not None
    assert (kept.state, kept.value, kept.overrides) == ("done", 0.5, ("K=2",))
    assert kept.seconds is not None
    assert records.begin(tmp_path, job=3, overrides=[], folder="x").attempt == 1
    records.path_of(tmp_path, 4).write_text('{"job": 4, "sta')
    assert records.read(records.path_of(tmp_path, 4)) is None


def test_time_left_goes_by_the_jobs_done_and_how_many_run_at_once():
    begun = (datetime.now(UTC) - timedelta(seconds=4)).isoformat()
    done = [one(0, records.DONE, seconds=10.0, value=0.2), one(1, records.DONE, seconds=20.0)]
    found = one(2, records.FOUND, seconds=0.1, value=0.3)
    running = [one(n, records.RUNNING, started=begun) for n in (3, 4)]
    status = Status([*done, found, *running], total=11)
    assert status.seconds_left() == pytest.approx((6 * 15 + 2 * 11) / 2, abs=0.5)
    assert status.counted() == "2 done, 1 found, 2 running"
    assert status.best == found
    assert status.ended == 3
    assert Status([found, *running], total=11).seconds_left() is None
    assert Status([*done, *running], total=None).seconds_left() is None
    assert Status([*done, *running], total=4).seconds_left() == pytest.approx(11, abs=0.5)
    assert [lasting(s) for s in (4.21, 125.0, 3600.0, 7530.0)] == [
        "4.2 s", "2 min", "1 h 00 min", "2 h 06 min",
    ]  # fmt: skip


@dataclass
class Toy:
    """A task that kills its own process so many times before it succeeds."""

    number: int
    folder: Path
    deaths: int = 0

    def execute(self) -> Outcome:
        with (self.folder / f"{self.number}.tries").open("a") as file:
            file.write(f"{os.getpid()}\n")
        if len(self.tries) <= self.deaths:
            os.kill(os.getpid(), signal.SIGKILL)
        return Outcome(self.number, self.number, "", os.environ["OMP_NUM_THREADS"])

    def fail(self, error: BaseException) -> Outcome:
        (self.folder / f"{self.number}.failed").write_text(str(error))
        return Outcome(self.number, None, "", "")

    @property
    def tries(self) -> list[str]:
        return (self.folder / f"{self.number}.tries").read_text().split()


def test_a_killed_worker_costs_its_own_job_alone_and_that_begins_again(tmp_path):
    toys = [Toy(n, tmp_path, deaths={1: 1, 3: 2}.get(n, 0)) for n in range(6)]
    launcher = JoblibLauncher(n_jobs=2, max_retries=1)
    tasks = {toy.number: (lambda toy=toy: toy) for toy in toys}
    outcomes = {one.number: one.value for one in launcher.run(tasks)}  # type: ignore[arg-type]
    assert outcomes == {0: 0, 1: 1, 2: 2, 3: None, 4: 4, 5: 5}
    assert [len(toy.tries) for toy in toys] == [1, 2, 1, 2, 1, 1]
    assert "SIGKILL" in (tmp_path / "3.failed").read_text()
    assert not (tmp_path / "1.failed").exists()
    pids = {pid for toy in toys for pid in toy.tries}
    assert len(pids) < 8, "a worker takes one job after another"
    assert str(os.getpid()) not in pids


@pytest.mark.parametrize("gone", [True, False])
def test_a_worker_that_dies_before_it_has_its_job_costs_no_more(tmp_path, monkeypatch, gone):
    made = []

    class Frail(processes.Worker):
        def __init__(self) -> None:
            super().__init__()
            made.append(self)
            if len(made) == 1:  # as when the kernel takes it while it still imports
                self._process.kill()
                if gone:
                    self._process.join()

    monkeypatch.setattr(processes, "Worker", Frail)
    tasks = {n: (lambda n=n: Toy(n, tmp_path)) for n in range(2)}
    outcomes = JoblibLauncher(n_jobs=1, max_retries=1).run(tasks)  # type: ignore[arg-type]
    assert {one.number: one.value for one in outcomes} == {0: 0, 1: 1}
    assert len(made) == 2


@dataclass
class Sleeper(Toy):
    """A task that takes a minute, unless it is asked to stop."""

    def execute(self) -> Outcome:
        place = self.folder / "sleeper"
        place.write_text("sleeps")
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            place.write_text("stopped")
            raise
        return Outcome(self.number, None, "", "")


def test_workers_stop_when_their_launcher_is_killed(tmp_path):
    code = (
        "from pathlib import Path; from tests.test_sweep import JoblibLauncher, Sleeper; "
        f"sleeper = Sleeper(0, Path({str(tmp_path)!r})); "
        "list(JoblibLauncher(n_jobs=1, max_retries=0).run({0: lambda: sleeper}))"
    )
    launcher = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    for wanted in ("sleeps", "stopped"):
        for _ in range(600):
            place = tmp_path / "sleeper"
            if place.exists() and place.read_text() == wanted:
                break
            time.sleep(0.05)
        else:
            raise AssertionError(f"the worker never said {wanted}")
        launcher.kill()
    launcher.wait()


def test_the_cores_are_shared_out(monkeypatch):
    monkeypatch.setattr("kdrec.cli.launch.processes.cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    of = [JoblibLauncher(n_jobs=n, max_retries=0) for n in (2, 3, -1, -7, 16)]
    assert [(one.at_once(100), one.threads(100)) for one in of] == [
        (2, 4), (3, 2), (8, 1), (2, 4), (16, 1),
    ]  # fmt: skip
    assert (of[0].at_once(1), of[0].threads(1)) == (1, 8)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert of[0].threads(100) == 3
    with pytest.raises(UsageError, match="n_jobs=0"):
        JoblibLauncher(n_jobs=0, max_retries=0).at_once(1)
    with pytest.raises(UsageError, match="max_retries=-1 is out of range"):
        JoblibLauncher(n_jobs=1, max_retries=-1).at_once(1)


def test_a_launchers_options_are_checked_beforehand(world):
    words = ["hydra/launcher=joblib", "hydra.launcher.jobs=2"]
    shown = kd("distill", "-m", "seed=0,1", *words, status=2)
    assert "jobs" in shown.stderr
    assert world.seen == []


def test_finished_runs_are_found_in_any_sweep(tmp_path):
    (tmp_path / "sweeps/d/t/.jobs").mkdir(parents=True)
    (tmp_path / "sweeps/d/t/.jobs/0.json").write_text("{}")
    assert list(finished_runs(tmp_path)) == []


def test_jobs_of_a_sweep_take_turns_on_several_gpus(monkeypatch):
    from kdrec.stages.context import choose_device

    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert [str(choose_device("auto", turn)) for turn in range(3)] == ["cuda:0", "cuda:1", "cuda:0"]
    assert str(choose_device("auto")) == "cuda"
    assert str(choose_device("cuda:1", 0)) == "cuda:1"
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    assert str(choose_device("auto", 1)) == "cuda"
