"""The program is killed at random moments, and what it makes in the end has the same bytes."""

from __future__ import annotations

import io
import logging
import multiprocessing
import os
import random
import shutil
import sys
import time
from collections.abc import Iterator
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

import pandas as pd
import pytest

from kdrec.artifacts import finished_runs

SMALL = [
    "dataset=synthetic", "dataset.reader.n_users=80", "dataset.reader.n_items=100",
    "dataset.reader.min_per_user=8", "threads=1", "resume.every_epochs=1", "metric=[recall,ndcg]",
    "evaluation.cutoffs=[10]",
]  # fmt: skip
TEACHER = ["teacher_fit.epochs=40", "teacher_fit.batch_size=256", "teacher_dim=8"]
STUDENT = ["fit.epochs=40", "fit.batch_size=256", "student_dim=4", "fit.average=0.5"]
OF_DATA = [word for word in SMALL if word.startswith(("dataset", "threads"))]
#: In this order each finds what it needs made by those before it.
COMMANDS = {
    "preprocess": OF_DATA,
    "train": [*SMALL, *TEACHER],
    "distill": [*SMALL, *TEACHER, *STUDENT, "method=cd", "method.distiller.rank_every=3"],
    "evaluate": ["run=NEWEST", "evaluation.cutoffs=[5]", "metric=[recall]", "threads=1"],
    "tune": [*SMALL, *STUDENT, "fit.epochs=20", "method=none", "tune.trials=2"],
}
TRAIN = ("train", "distill", "tune")  # every other kill of these waits until training has begun
KILLS = int(os.environ.get("KDREC_KILLS", "20"))  # 100: twenty of each
PRELOAD = ["kdrec.cli.app", *(f"kdrec.stages.{command}" for command in COMMANDS), "kdrec.report",
           "kdrec.tuning.search", "tests.test_kill"]  # fmt: skip


def program(folder: str, words: list[str]) -> None:
    """`kdrec` with these words, as a process that has its libraries loaded already."""
    os.chdir(folder)
    for name in ("KDREC_DATA_DIR", "KDREC_OUTPUT_DIR"):
        os.environ.pop(name, None)
    sys.stdout = io.StringIO()
    sys.stderr = Path("stderr.txt").open("a", buffering=1)  # noqa: SIM115  (until the process ends)
    logging.raiseExceptions = False
    from kdrec.cli.app import app

    app(words, prog_name="kdrec")


def start(context: ForkServerContext, folder: Path, command: str) -> ForkServerProcess:
    words = list(COMMANDS[command])
    if command == "evaluate":
        run = next(one for one in finished_runs(folder / "outputs")
                   if one.manifest["command"] == "distill")  # fmt: skip
        words[0] = f"run={run.identity[:12]}"
    process = context.Process(target=program, args=(str(folder), [command, *words]))
    process.start()
    return process


def made(folder: Path) -> dict[str, bytes]:
    """Every file of the split and of the finished runs, times left out."""
    found: dict[str, bytes] = {}
    for path in sorted((folder / "data" / "processed").glob("*/[!.]*/*")):
        found[f"split {path.name}"] = path.read_bytes()
    for run in finished_runs(folder / "outputs"):
        key = f"{run.manifest['command']} {run.identity[:8]} {run.manifest['evaluation'][:8]}"
        for name in run.manifest["artifacts"]:
            content = run.file(name).read_bytes()
            if name == "history.csv":
                content = pd.read_csv(run.file(name)).drop(columns="seconds").to_csv().encode()
            found[f"{key} {name}"] = content
    for path in sorted((folder / "outputs" / "tuning").glob("*/*.yaml")):
        found[f"{path.parent.name} {path.name}"] = path.read_bytes()
    return found


@pytest.fixture(scope="module")
def context() -> ForkServerContext:
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(PRELOAD)
    first = found.Process(target=int)  # comes back when all is loaded
    first.start()
    first.join()
    return found


@pytest.fixture(scope="module")
def stages(
    context: ForkServerContext, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, tuple[Path, float, dict[str, bytes]]]]:
    """Of each command: the folder before it, how long it takes, and what is there after it."""
    found, here = {}, tmp_path_factory.mktemp("whole")
    for command in COMMANDS:
        before = here.parent / f"before_{command}"
        shutil.copytree(here, before)
        began = time.monotonic()
        process = start(context, here, command)
        process.join()
        assert process.exitcode == 0, (here / "stderr.txt").read_text()
        found[command] = (before, time.monotonic() - began, made(here))
    yield found
    for before, _, _ in found.values():
        shutil.rmtree(before)


@pytest.mark.slow
def test_a_program_that_is_killed_makes_the_same_bytes_when_it_is_run_again(
    context: ForkServerContext,
    stages: dict[str, tuple[Path, float, dict[str, bytes]]],
    tmp_path: Path,
) -> None:
    kills, trainings = dict.fromkeys(COMMANDS, 0), 0
    for number in range(3 * KILLS):
        if sum(kills.values()) == KILLS:
            break
        command = min(kills, key=kills.__getitem__)
        before, took, expected = stages[command]
        folder = tmp_path / str(number)
        shutil.copytree(before, folder)
        process = start(context, folder, command)
        draw = random.Random(number)
        if command in TRAIN and kills[command] % 2:
            while process.is_alive() and not list(folder.glob("outputs/.unfinished/*/state.json")):
                process.join(0.002)
            process.join(took * draw.uniform(0, 0.2))
        else:
            process.join(took * draw.uniform(0.1, 0.9))
        process.kill()
        process.join()
        kills[command] += process.exitcode == -9
        again = start(context, folder, command)
        again.join()
        said = (folder / "stderr.txt").read_text()
        assert again.exitcode == 0, said
        trainings += "continued from epoch" in said
        found = made(folder)
        assert found.keys() == expected.keys()
        assert [name for name in expected if found[name] != expected[name]] == []
        assert list((folder / "outputs" / ".unfinished").glob("*")) == []
        shutil.rmtree(folder)
    assert sum(kills.values()) == KILLS
    assert min(kills.values()) == KILLS // len(COMMANDS)
    assert trainings >= 3, "too few kills hit a training"
