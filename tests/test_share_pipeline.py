"""Two machines with folders of their own and one share: nothing is made twice, nothing torn."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kdrec.artifacts import Run, finished_runs
from kdrec.data import store
from kdrec.errors import UsageError
from kdrec.stages.context import open_share
from tests.conftest import ROOT
from tests.program import kd

pytestmark = pytest.mark.usefixtures("here")

DATA = [
    "dataset=synthetic", "dataset.reader.n_users=60", "dataset.reader.n_items=80",
    "dataset.reader.min_per_user=8", "threads=1",
]  # fmt: skip
TEACHER = ["teacher_fit.epochs=2", "teacher_fit.batch_size=256", "teacher_dim=8"]
DISTILL = [*DATA, *TEACHER, "fit.epochs=2", "fit.batch_size=256", "student_dim=4", "method=unkd"]


def on(machine: str) -> list[str]:
    return [f"output_dir={machine}/outputs", f"data_dir={machine}/data", "share=share"]


def runs(machine: str, **labels: object) -> list[Run]:
    return [
        run
        for run in finished_runs(Path(machine, "outputs"))
        if all(run.manifest["labels"][key] == value for key, value in labels.items())
    ]


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a run or split but its log and Hydra's."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    named = {str(path.relative_to(folder)): path for path in paths}
    return {
        name: path.read_bytes()
        for name, path in named.items()
        if path.suffix != ".log" and not name.startswith(".")
    }


def made(run: Run) -> dict[str, str]:
    """The sha256 of its files, but of the one that has the time that each epoch took."""
    return {name: sha for name, sha in run.manifest["artifacts"].items() if name != "history.csv"}


def splits(machine: str) -> list[Path]:
    return sorted(Path(machine, "data", "processed", "synthetic").iterdir())


def test_the_second_machine_finds_split_teacher_and_student_and_trains_nothing() -> None:
    kd("distill", *DISTILL, *on("a"))
    said = kd("distill", *DISTILL, *on("b")).stderr
    assert said.count("Copied from the share") == 2, "the split and the student: no teacher needed"
    (theirs,), (ours,) = runs("a", role="student"), runs("b")
    assert content(ours.folder) == content(theirs.folder)
    (one,), (other,) = splits("a"), splits("b")
    assert one.name == other.name
    assert content(one) == content(other)
    assert store.load(other).split.digest == ours.manifest["labels"]["split"]
    kd("distill", *DISTILL, "seed=1", *on("b"))
    (teacher,) = runs("b", role="teacher")
    (first,) = runs("a", role="teacher")
    assert content(teacher.folder) == content(first.folder)
    assert len(runs("b", role="student")) == 2
    assert len(list(Path("b/outputs/runs").glob("*/*"))) == 3, "an unused folder was left behind"
    kd("distill", *DISTILL, "seed=1", "upstream=require", *on("c"))
    assert list(Path("share/leases").iterdir()) == []


def test_what_was_finished_before_there_was_a_share_is_found_there_too() -> None:
    places = on("a")[:2]
    kd("train", *DATA, *TEACHER, *places)
    kd("train", *DATA, *TEACHER, "metric=[recall]", *places)
    kd("train", *DATA, *TEACHER, "metric=[recall]", *on("a"))  # has no weights of its own
    kd("distill", *DISTILL, "metric=[recall]", *on("b"))
    trained, evaluated = sorted(runs("b", role="teacher"), key=lambda run: "from" in
                                run.manifest["training"])  # fmt: skip
    assert "model.safetensors" in trained.manifest["artifacts"]
    assert "model.safetensors" not in evaluated.manifest["artifacts"]
    assert {run.identity for run in (trained, evaluated)} == {runs("a")[0].identity}
    assert trained.manifest in [run.manifest for run in runs("a")]


def test_an_ensemble_is_found_with_its_members() -> None:
    words = [*DISTILL, "teacher=[bprmf,itempop]"]
    kd("train", *DATA, *TEACHER, "teacher=bprmf", *on("a")[:2])  # before there was a share
    kd("distill", *words, *on("a"))
    kd("distill", *words, "seed=1", *on("b"))
    first = {run.identity: run.manifest for run in runs("a", role="teacher")}
    assert len(first) == 3
    assert {run.identity: run.manifest for run in runs("b", role="teacher")} == first


def flip(path: Path) -> None:
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 1
    path.write_bytes(bytes(whole))


def test_a_flipped_bit_in_the_share_is_found_not_used_and_mended() -> None:
    kd("train", *DATA, *TEACHER, *on("a"))
    (weights,) = Path("share").glob("runs/*/*/*/model.safetensors")
    (train,) = Path("share").glob("splits/*/*/train.parquet")
    flip(weights)
    flip(train)
    said = kd("train", *DATA, *TEACHER, *on("b")).stderr
    for name in ("model.safetensors", "train.parquet"):
        assert f"{name} is damaged" in said.replace("\n", "")
    (ours,), (theirs,) = runs("b"), runs("a")
    assert ours.manifest["finished"] != theirs.manifest["finished"]
    assert made(ours) == made(theirs), "the same seed, the same bytes"
    kd("train", *DATA, *TEACHER, *on("c"))
    assert runs("c")[0].manifest == ours.manifest


def test_a_share_that_cannot_be_used_is_refused_before_anything_is_made() -> None:
    said = kd("distill", *DISTILL, *on("a"), "share=gone/share", status=1).stderr
    assert "error: The share gone/share cannot be used" in said
    assert "share=null" in said
    assert not Path("a/data").exists()


@pytest.mark.parametrize("value", ["nonsense://x", 3, ""])
def test_what_is_no_address_is_wrong_usage(value: object) -> None:
    with pytest.raises(UsageError, match="share="):
        open_share(value)


def test_a_share_that_is_lost_on_the_way_costs_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    from kdrec.share.place import Place, ShareError

    def lost(self: Place, path: Path, key: str) -> None:
        raise ShareError(f"{self.name(key)} cannot be written: the line is dead.")

    with monkeypatch.context() as patched:
        patched.setattr(Place, "upload", lost)
        said = kd("train", *DATA, *TEACHER, *on("a")).stderr
    (run,) = runs("a")
    assert f"{run.folder} could not be published" in said.replace("\n", "")
    assert list(Path("share").glob("*/*/*")) == []
    kd("train", *DATA, *TEACHER, *on("a"))
    assert list(Path("share").glob("runs/*/*/manifest.json")) != [], "published by the next one"


@pytest.mark.slow
def test_two_machines_that_start_at_once_train_one_teacher() -> None:
    def start(machine: str) -> subprocess.Popen[bytes]:
        words = ["distill", *DISTILL, "teacher_fit.epochs=20", *on(machine), "--json"]
        return subprocess.Popen(
            [sys.executable, "-m", "kdrec", *words, f"seed={machine == 'b':d}"],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    processes = [start(machine) for machine in "ab"]
    ended = [process.communicate(timeout=120) for process in processes]
    for process, (out, err) in zip(processes, ended, strict=True):
        assert process.returncode == 0, err.decode()
        assert json.loads(out)["labels"]["role"] == "student"
    teachers = [*runs("a", role="teacher"), *runs("b", role="teacher")]
    assert len(teachers) == 2
    assert teachers[0].manifest == teachers[1].manifest, "it was trained twice"
    assert sum(err.decode().count("Split kept in") for _, err in ended) == 1
    assert "Traceback" not in "".join(err.decode() for _, err in ended)
    assert list(Path("share/leases").iterdir()) == []
