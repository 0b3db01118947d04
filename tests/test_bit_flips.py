"""One flipped bit in anything that kdrec writes and reads again is found, named and never used."""

from __future__ import annotations

import json
import logging
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kdrec.artifacts import Run, find_run, finished_runs, read_manifest, write_manifest
from kdrec.cli.forward import forward
from kdrec.data import store
from kdrec.data.sources import fetch
from kdrec.digests import SEAL
from kdrec.errors import KdrecError, StorageError
from kdrec.report import build
from kdrec.tuning.journal import JOURNAL
from kdrec.tuning.journal import SEAL as JOURNAL_SEAL
from kdrec.tuning.search import Search
from kdrec.tuning.space import Choice
from tests.clitoys import keep_root_logger
from tests.test_sources import make_zip

FLIPS = 24
"""Places of a file, where nothing else is said; of the smallest every bit is tried."""
N_MANIFEST = 1500


def flips(path: Path, n: int = FLIPS) -> Iterator[str]:
    """Flips one bit of a file after another, first and last among them; all if `n` is 0."""
    whole = path.read_bytes()
    places = range(8 * len(whole))
    if n:
        rng = random.Random(f"{path.name} {len(whole)}")
        places = sorted({0, len(places) - 1, *rng.sample(places, n)})
    try:
        for place in places:
            data = bytearray(whole)
            data[place // 8] ^= 1 << place % 8
            path.write_bytes(data)
            yield f"bit {place % 8} of byte {place // 8}"
    finally:
        path.write_bytes(whole)


def message(read: Callable[[], object]) -> str:
    """How the reading is refused; empty if it is not."""
    try:
        read()
    except KdrecError as error:
        return str(error)
    return ""


def refused(read: Callable[[], object], *names: str) -> None:
    said = message(read)
    assert any(name in said for name in names), said


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A finished teacher with a checkpoint on the way, and a student."""
    folder = tmp_path_factory.mktemp("world")
    before = Path.cwd()
    keeping = keep_root_logger()
    next(keeping)
    os.chdir(folder)
    try:
        forward(
            "distill",
            ["dataset.reader.n_users=60", "dataset.reader.n_items=80",
             "dataset.reader.min_per_user=8", "teacher_fit.epochs=20", "teacher_lr=0.02",
             "fit.epochs=2", "teacher_fit.checkpoints=4", "teacher_dim=4", "student_dim=2",
             "method=rd", "output_dir=outputs", "data_dir=data"],
            quiet=True,
        )  # fmt: skip
        yield folder
    finally:
        os.chdir(before)
        next(keeping, None)


def runs(world: Path) -> list[Run]:
    return list(finished_runs(world / "outputs"))


def test_every_file_of_a_prepared_data_set(world: Path) -> None:
    (folder,) = world.glob("data/processed/*/*")
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["items.parquet", "manifest.json", "stats.json", "test.parquet",
                     "train.parquet", "unbiased.parquet", "users.parquet",
                     "valid.parquet"]  # fmt: skip
    for name in names:
        for _ in flips(folder / name, 200 if name == "manifest.json" else FLIPS):
            # of the manifest also: the file whose checksum it has changed
            refused(lambda: store.load(folder), name, *(names if name == "manifest.json" else ()),
                    str(folder))  # fmt: skip
    assert store.load(folder).split.digest


def test_every_artefact_of_a_run(world: Path) -> None:
    kinds = set()
    for run in runs(world):
        for name in run.manifest["artifacts"]:
            kinds.add(name)
            for _ in flips(run.folder / name):
                refused(lambda run=run, name=name: run.file(name), str(run.folder / name))
    assert {"model.safetensors", "checkpoint_1.safetensors", "history.csv", "topk.parquet",
            "per_user.parquet"} < kinds  # fmt: skip
    assert any(name.startswith("tables/") for name in kinds)


def test_weights_and_checkpoints_are_not_loaded(world: Path) -> None:
    from omegaconf import OmegaConf

    from kdrec.stages.preprocess import Data
    from kdrec.stages.weights import load_model

    (folder,) = world.glob("data/processed/*/*")
    data = Data(store.load(folder), "", folder)
    (teacher,) = (run for run in runs(world) if run.manifest["labels"]["role"] == "teacher")
    model = OmegaConf.create(dict(teacher.manifest["config"]["teacher"]))
    for name in ("model.safetensors", "checkpoint_1.safetensors"):
        load_model(teacher, model, data, "cpu", file=name)
        for _ in flips(teacher.folder / name, 8):
            refused(lambda name=name: load_model(teacher, model, data, "cpu", file=name), name)


def test_weights_of_another_model_or_shape_are_refused_with_both(world: Path) -> None:
    from omegaconf import OmegaConf

    from kdrec.stages.preprocess import Data
    from kdrec.stages.weights import load_model

    (folder,) = world.glob("data/processed/*/*")
    data = Data(store.load(folder), "", folder)
    (teacher,) = (run for run in runs(world) if run.manifest["labels"]["role"] == "teacher")
    config = dict(teacher.manifest["config"]["teacher"])
    for change, says in (
        ({"dim": 5}, r"expected \w+ \[\d+, 5\] .*; found \[\d+, 4\]"),
        ({"_target_": "kdrec.models.itempop.ItemPop"}, r"expected .*; found .*"),
    ):
        other = {key: value for key, value in (config | change).items()
                 if key != "dim" or "_target_" not in change}  # fmt: skip
        with pytest.raises(StorageError, match=says):
            load_model(teacher, OmegaConf.create(other), data, "cpu")


def test_every_kind_of_bit_of_a_manifest(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "runs" / "d" / "t"
    folder.mkdir(parents=True)
    (folder / "x.csv").write_text("1\n", "utf-8")
    written = write_manifest(
        folder, {"identity": "ab", "finished": "2026", "metrics": [{"value": 0.25}], "n": 1e-7}
    )
    path = folder / "manifest.json"
    same = 0
    for _ in flips(path, N_MANIFEST):
        if said := message(lambda: read_manifest(path)):
            assert str(path) in said
        else:
            same += 1
            assert read_manifest(path) == written.manifest
    assert same <= 1, "1e-07 and 1E-07 are the same number"
    with caplog.at_level(logging.WARNING):
        for _ in flips(path, 5):
            assert find_run(tmp_path, "ab") is None, "never used"
    assert str(path) in caplog.text
    assert find_run(tmp_path, "ab") is not None


def test_a_manifest_of_the_time_before_checksums_is_read(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    old = {"schema": 1, "identity": "ab", "artifacts": {}}
    path.write_text(json.dumps(old), "utf-8")
    assert read_manifest(path) == old
    for wrong in ({**old, "schema": 2}, {**old, SEAL: "0" * 64}, {**old, "schema": 3}, [], "x"):
        path.write_text(json.dumps(wrong), "utf-8")
        with pytest.raises(StorageError, match=r"manifest\.json"):
            read_manifest(path)


def test_what_a_report_reads(world: Path) -> None:
    for run in runs(world):
        for name in ("manifest.json", "per_user.parquet"):
            path = run.folder / name
            for _ in flips(path, 4):
                made = build(world / "outputs", n_boot=5)
                only_one = run.manifest["labels"]["role"] == "teacher" and "per_user" in name
                assert any(str(path) in one for one in made.problems) or only_one
    assert build(world / "outputs", n_boot=5).problems == []


def test_a_raw_file_its_unpacked_member_and_their_checksums(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    (raw / "set").mkdir(parents=True)
    file = raw / "set" / "set.zip"
    file.write_bytes(make_zip(("in/data.txt", b"1 2\n3 4\n")))
    entry = {"name": "set.zip", "urls": [], "member": "in/data.txt"}

    def get(path: str | None = None) -> Path:
        (found,) = fetch(name="set", files=[entry], raw_dir=raw, path=path)
        return found

    target = get()
    assert target.read_bytes() == b"1 2\n3 4\n"
    for _ in flips(target, 0):
        refused(get, str(target))
    target.unlink()
    for _ in flips(file, 100):
        refused(get, str(file))
    (tmp_path / "mine.zip").write_bytes(file.read_bytes())
    mine = get(str(tmp_path / "mine.zip"))
    for _ in flips(mine, 0):
        refused(lambda: get(str(tmp_path / "mine.zip")), str(mine))
    assert get(str(tmp_path / "mine.zip")).read_bytes() == b"1 2\n3 4\n"
    get()
    sidecar = raw / "set" / "checksums.json"
    for _ in flips(sidecar, 150):
        before = sidecar.read_bytes()
        if said := message(get):
            assert str(sidecar) in said
        else:  # what changed is where the file came from, or the name of another one
            assert target.read_bytes() == b"1 2\n3 4\n"
        sidecar.write_bytes(before)


def test_the_journal_of_a_search(tmp_path: Path) -> None:
    def search() -> Search:
        return Search(tmp_path / "s", {"lr": Choice((0.1, 0.2, 0.3))}, first={}, seed=0, anew=False)

    one = search()
    for value in (0.5, 0.4):
        with one.begin(2) as trial:
            assert trial is not None
            one.finish(trial, value)
    for name in (JOURNAL, JOURNAL_SEAL):
        for _ in flips(tmp_path / "s" / name, 60):
            refused(search, name)
    assert [trial.value for trial in search().trials()] == [0.5, 0.4]
    (tmp_path / "s" / JOURNAL_SEAL).unlink()
    assert len(search().trials()) == 2, "a search of the time before is read"
    shutil.copy(tmp_path / "s" / JOURNAL, tmp_path / "journal")
    with (tmp_path / "s" / JOURNAL).open("rb+") as file:
        file.truncate(10)
    refused(search, JOURNAL)
