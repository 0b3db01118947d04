"""A disk that is full, a folder that cannot be written, a clock that runs back: one message, and
nothing half."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from kdrec import artifacts
from kdrec.artifacts import (
    atomic_dir,
    atomic_path,
    find_run,
    new_run_folder,
    write_json,
    write_manifest,
)
from kdrec.data import store
from kdrec.data.files import record
from kdrec.errors import StorageError
from kdrec.locks import lock
from kdrec.training.tensors import save_tensors
from tests.conftest import ROOT
from tests.program import kd
from tests.test_store import prepared as prepared  # noqa: PLC0414  (a fixture)

LIMITED = """import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
sys.argv = ["kdrec", *sys.argv[2:]]
from kdrec.__main__ import main
main()
"""
SMALL = ["dataset.reader.n_users=40", "dataset.reader.n_items=30", "dataset.reader.min_per_user=4",
         "teacher_fit.epochs=1", "fit.epochs=1", "teacher_dim=4", "student_dim=2",
         "method=none"]  # fmt: skip


def writers(prepared: object) -> dict[str, Callable[[Path], object]]:
    """Everything that writes, by what it leaves: none of it may be there afterwards."""
    return {
        "json": lambda at: write_json(at / "x.json", {"a": 1}),
        "prepared": lambda at: store.save(prepared, at / "set"),
        "weights": lambda at: save_tensors(at / "w.safetensors", {"a": torch.zeros(9)}),
        "manifest": lambda at: write_manifest(at, {"identity": "a", "finished": "b"}),
        "frame": _frame,
    }


def _frame(at: Path) -> None:
    with atomic_path(at / "x.parquet") as path:
        pd.DataFrame({"a": np.arange(9)}).to_parquet(path)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("name", ["json", "prepared", "weights", "manifest", "frame"])
def test_every_call_of_every_writer_may_fail(
    prepared: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, number: int
) -> None:
    write = writers(prepared)[name]
    tried = 0
    for call in ("fsync", "replace", "mkstemp", "mkdtemp", "chmod"):
        for nth in range(1, 20):
            folder = tmp_path / f"{call}{nth}"
            folder.mkdir()
            done = _fails(monkeypatch, call, nth, number)
            if "temp" in call:
                monkeypatch.setattr(artifacts.tempfile, call, done)
            try:
                write(folder)
                failed = False
            except StorageError as error:
                failed = True
                said = str(error)
            monkeypatch.undo()
            left = sorted(path.name for path in folder.rglob("*"))
            if not failed:
                assert done.count < nth, "the failure was swallowed"  # type: ignore[attr-defined]
                break
            tried += 1
            assert os.strerror(number) in said
            assert str(folder) in said
            assert left == [], "nothing half is left"
    assert tried >= 3


def _fails(
    monkeypatch: pytest.MonkeyPatch, call: str, nth: int, number: int
) -> Callable[..., object]:
    real = {"fsync": os.fsync, "replace": Path.replace, "chmod": Path.chmod,
            "mkstemp": artifacts.tempfile.mkstemp,
            "mkdtemp": artifacts.tempfile.mkdtemp}[call]  # fmt: skip

    def fail(*words: object, **more: object) -> object:
        fail.count += 1  # type: ignore[attr-defined]
        if fail.count == nth:  # type: ignore[attr-defined]
            raise OSError(number, os.strerror(number))
        return real(*words, **more)  # type: ignore[operator]

    fail.count = 0  # type: ignore[attr-defined]
    if call == "fsync":
        monkeypatch.setattr(artifacts.os, "fsync", fail)
    elif call in ("replace", "chmod"):
        monkeypatch.setattr(Path, call, fail)
    return fail


@pytest.mark.slow
@pytest.mark.parametrize("limit", [0, 2000, 7000])
def test_the_program_says_that_a_file_cannot_be_written(here: Path, limit: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(limit), "distill", *SMALL],
        capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "not foreseen" not in done.stderr
    assert os.strerror(errno.EFBIG) in done.stderr
    assert sum(line.startswith("error:") for line in done.stderr.splitlines()) == 1
    assert not list(here.glob("outputs/runs/*/*/manifest.json"))
    assert not list(here.rglob("*.part"))


@pytest.mark.parametrize("key", ["output_dir", "data_dir"])
def test_a_folder_below_a_file_cannot_be_written_and_is_named(here: Path, key: str) -> None:
    (here / "file").touch()
    shown = kd("distill", *SMALL, f"{key}=file/below", status=1).stderr
    assert "file/below" in shown
    assert "output_dir=" in shown
    assert "not foreseen" not in shown


def test_temporaries_lie_beside_their_targets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prepared: object
) -> None:
    """So that they are on the same file system: to replace across two fails with EXDEV."""
    moved: list[tuple[Path, Path]] = []
    replace = Path.replace

    def seen(self: Path, target: Path) -> Path:
        moved.append((self, Path(target)))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", seen)
    (tmp_path / "run").mkdir()
    for write in writers(prepared).values():
        write(tmp_path / "run")
    with atomic_dir(tmp_path / "deep" / "set"):
        pass
    record(tmp_path / "run", "x.json", "here")
    assert len(moved) > 8
    assert all(source.parent == target.parent for source, target in moved)


def test_a_clock_that_was_set_back_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Folders never collide, and of runs of one identity any is right: they have one result."""

    class Clock(artifacts.datetime):  # type: ignore[misc,name-defined]
        hour_now = 12

        @classmethod
        def now(cls, tz: object = None) -> Clock:
            return cls(2026, 1, 2, cls.hour_now, tzinfo=None)

    monkeypatch.setattr(artifacts, "datetime", Clock)
    folders = []
    for hour, finished in ((12, "2026-01-02T12:00"), (11, "2026-01-02T11:00"), (12, "2025")):
        Clock.hour_now = hour
        folder = new_run_folder(tmp_path, "train", "ab")
        write_manifest(folder, {"identity": "ab", "finished": finished})
        folders.append(folder)
    assert len(set(folders)) == 3
    found = find_run(tmp_path, "ab")
    assert found is not None
    assert found.folder == folders[0], "the latest by what the manifests say"


def test_a_lock_in_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="Cannot write"), lock(tmp_path / "file" / "l", "x"):
        pass
