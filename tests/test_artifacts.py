from __future__ import annotations

import errno
import multiprocessing
import os
import platform
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from kdrec import artifacts
from kdrec.artifacts import (
    atomic_dir,
    atomic_path,
    digest,
    find_run,
    finished_runs,
    new_run_folder,
    read_json,
    write_json,
    write_manifest,
)
from kdrec.errors import KdrecError, StorageError
from kdrec.locks import lock, try_lock


def finished(output: Path, identity: str, when: str, **fields: object) -> Path:
    folder = new_run_folder(output, "train", identity)
    (folder / "data.txt").write_text("whole", "utf-8")
    write_manifest(folder, {"identity": identity, "finished": when, **fields})
    return folder


def test_digest_looks_at_the_value_not_at_the_order_of_keys() -> None:
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})
    assert digest({"a": 1}) != digest({"a": 1.5})


def test_a_file_is_whole_or_not_there(tmp_path: Path) -> None:
    target = tmp_path / "x.txt"

    def interrupted() -> None:
        with atomic_path(target) as path:
            path.write_text("half", "utf-8")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        interrupted()
    assert list(tmp_path.iterdir()) == []
    with atomic_path(target) as path:
        path.write_text("whole", "utf-8")
        assert not target.exists()
    assert target.read_text("utf-8") == "whole"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_is_whole_or_not_there(tmp_path: Path) -> None:
    target = tmp_path / "x"

    def interrupted() -> None:
        with atomic_dir(target) as path:
            (path / "half").touch()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        interrupted()
    assert list(tmp_path.iterdir()) == []
    with atomic_dir(target) as path:
        (path / "one").touch()
    with atomic_dir(target) as path:
        (path / "two").touch()
    assert [path.name for path in target.iterdir()] == ["two"]


def test_an_unwritable_place_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(KdrecError, match="Cannot write"), atomic_path(tmp_path / "file" / "x"):
        pass


def test_a_run_without_manifest_is_not_found(tmp_path: Path) -> None:
    new_run_folder(tmp_path, "train", "abc")
    assert find_run(tmp_path, "abc") is None
    finished(tmp_path, "abc", "2026-01-01")
    found = find_run(tmp_path, "abc")
    assert found is not None
    assert found.file("data.txt").read_text("utf-8") == "whole"


def test_the_newest_run_of_an_identity_and_evaluation_is_found(tmp_path: Path) -> None:
    finished(tmp_path, "abc", "2026-01-02", evaluation="e1")
    newest = finished(tmp_path, "abc", "2026-01-03", evaluation="e2")
    finished(tmp_path, "abc", "2026-01-01", evaluation="e1")
    finished(tmp_path, "other", "2026-01-09", evaluation="e1")
    assert find_run(tmp_path, "abc").folder == newest  # type: ignore[union-attr]
    first = find_run(tmp_path, "abc", evaluation="e1")
    assert first is not None
    assert first.manifest["finished"] == "2026-01-02"


def test_only_manifests_with_the_identity_are_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("abc", "other", "another"):
        finished(tmp_path, name, "2026-01-01")
    parsed: list[str] = []
    original = artifacts.read_manifest

    def counted(path: Path) -> dict[str, Any]:
        manifest = original(path)
        parsed.append(manifest["identity"])
        return manifest

    monkeypatch.setattr(artifacts, "read_manifest", counted)
    run = find_run(tmp_path, "other")
    assert run is not None
    assert run.identity == "other", "and not one that only contains it"
    assert sorted(parsed) == ["another", "other"]


def test_a_damaged_artefact_is_named(tmp_path: Path) -> None:
    folder = finished(tmp_path, "abc", "2026-01-01")
    run = next(finished_runs(tmp_path))
    (folder / "data.txt").write_text("wh0le", "utf-8")
    with pytest.raises(KdrecError, match=r"data.txt is damaged"):
        run.file("data.txt")
    (folder / "data.txt").unlink()
    with pytest.raises(KdrecError, match=r"data.txt is missing"):
        run.file("data.txt")


def test_an_unreadable_manifest_is_named_and_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = finished(tmp_path, "abc", "2026-01-01")
    (folder / "manifest.json").write_text('{"schema"', "utf-8")
    assert list(finished_runs(tmp_path)) == []
    assert str(folder) in caplog.text


def test_run_folders_never_collide(tmp_path: Path) -> None:
    folders = {new_run_folder(tmp_path, "train", "abc") for _ in range(5)}
    assert len(folders) == 5


def test_json_that_is_none_is_said(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1})
    assert read_json(tmp_path / "a.json") == {"b": 1}
    (tmp_path / "a.json").write_text("{", "utf-8")
    with pytest.raises(KdrecError, match=r"a\.json"):
        read_json(tmp_path / "a.json")


def _append(folder: Path, name: str) -> None:
    with lock(folder / "l", "the thing"):
        with (folder / "log").open("a") as file:
            file.write(f"{name} in\n")
        time.sleep(0.05)
        with (folder / "log").open("a") as file:
            file.write(f"{name} out\n")


def test_a_lock_is_held_by_one_process_at_a_time(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_append, args=(tmp_path, name)) for name in "abc"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    words = [line.split() for line in (tmp_path / "log").read_text("utf-8").splitlines()]
    assert len(words) == 6
    assert all(
        first[0] == second[0] and (first[1], second[1]) == ("in", "out")
        for first, second in zip(words[::2], words[1::2], strict=True)
    )


def test_who_waits_for_a_lock_is_told_for_whom(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def take() -> None:
        with lock(tmp_path / "l", "the thing"):
            pass

    caplog.set_level("INFO")
    with ThreadPoolExecutor(1) as pool:
        with lock(tmp_path / "l", "the thing"):
            waiting = pool.submit(take)
            while not caplog.records:
                time.sleep(0.01)
            assert not waiting.done()
        waiting.result(timeout=10)
    (record,) = caplog.records
    assert f"process {os.getpid()} on {platform.node()}, which makes the thing" in (
        record.getMessage()
    )


def test_a_file_system_without_locks_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(StorageError, match="cannot be locked"), try_lock(tmp_path / "l"):
        pass
