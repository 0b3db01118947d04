"""What machines share: keys that only one creates, leases that outlive no owner, whole copies."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from kdrec.artifacts import Run, find_run, new_run_folder, write_manifest
from kdrec.errors import KdrecError, UsageError
from kdrec.share import lease, runs
from kdrec.share.lease import Pace, hold
from kdrec.share.place import Place, ShareError
from kdrec.share.store import Share
from tests.conftest import ROOT

QUICK = Pace(renew_s=0.05, poll_s=0.01, periods=6)


@pytest.fixture(params=["file", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A folder by its path, and an address that only fsspec knows."""
    where = {"file": str(tmp_path / "share"), "memory": f"memory://{uuid.uuid4().hex}"}
    made = Place.at(where[request.param])
    made.probe()
    return made


@pytest.fixture
def share(place: Place) -> Share:
    return Share(place)


def finished(output: Path, identity: str = "abc", **fields: object) -> Run:
    folder = new_run_folder(output, "train", identity)
    (folder / "tables").mkdir()
    (folder / "tables" / "all.csv").write_text("1", "utf-8")
    (folder / "data.txt").write_text("whole", "utf-8")
    fields = {"finished": "2026-01-01", "command": "train", "evaluation": "e" * 64, **fields}
    return write_manifest(folder, {"identity": identity, **fields})


def brought(share: Share, output: Path, *, evaluation: str | None = None) -> Run | None:
    return runs.bring(share, output, "abc", evaluation=evaluation, wanted=lambda manifest: True)


def stored(place: Place, name: str) -> str:
    """The key of a file of the one run that was published."""
    top = f"runs/abc/{'e' * 8}"
    (folder,) = (one for one in place.names(top) if one != "manifest.json")
    return f"{top}/{folder}/{name}"


def test_keys_hold_bytes_and_only_one_creates_a_key(place: Place, tmp_path: Path) -> None:
    assert place.exclusive
    assert place.read("a/b") is None
    assert place.names("a") == []
    place.write("a/b", b"1")
    place.write("a/b", b"22")
    assert place.read("a/b") == b"22"
    assert not place.create("a/b", b"3")
    assert place.create("a/c", b"4")
    assert place.names("a") == ["b", "c"]
    place.download("a/c", tmp_path / "c")
    assert (tmp_path / "c").read_bytes() == b"4"
    place.upload(tmp_path / "c", "d/e/f")
    assert place.read("d/e/f") == b"4"
    place.remove("a/b")
    place.remove("a/b")
    assert place.read("a/b") is None
    with pytest.raises(ShareError, match=r"a/b cannot be copied"):
        place.download("a/b", tmp_path / "b")


def test_a_probe_leaves_nothing(place: Place) -> None:
    assert place.names("leases") == []


@pytest.mark.parametrize("where", ["gone/share", "file/share"])
def test_a_folder_that_is_not_there_is_refused_not_made(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(KdrecError, match=rf"share {tmp_path / where} cannot be used") as caught:
        Share.open(str(tmp_path / where))
    assert "share=null" in caught.value.hint
    assert not (tmp_path / "gone").exists()


@pytest.mark.parametrize("url", ["nonsense://x", "s3nowhere://bucket/x"])
def test_an_unknown_kind_of_address_is_wrong_usage(url: str) -> None:
    with pytest.raises(UsageError, match="cannot be opened"):
        Share.open(url)


def test_offline_means_no_share_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KDREC_OFFLINE", "1")
    with pytest.raises(UsageError, match="KDREC_OFFLINE"):
        Place.at("memory://x")
    assert Place.at(str(tmp_path)).name("a") == f"{tmp_path}/a"


def test_a_password_in_an_address_is_in_no_message() -> None:
    place = Place("ftp://me:secret@host/x", MemoryFileSystem(), "/nowhere")
    assert place.name("a") == "ftp://host/x/a"


def test_a_place_without_exclusive_creation_is_gone_on_without_once_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def overwrite(self: Place, key: str, content: bytes) -> bool:
        self.write(key, content)
        return True

    monkeypatch.setattr(Place, "create", overwrite)
    share = Share.open(f"memory://{uuid.uuid4().hex}")
    with share.hold("abc", "the thing"), share.hold("abc", "the thing"):
        assert share.place.names("leases") == []
    (warning,) = caplog.records
    assert "has no locks" in warning.getMessage()


def test_a_lease_is_held_by_one_at_a_time_and_removed_also_on_errors(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    order: list[str] = []

    def wait() -> None:
        with hold(place, "leases/x", "the thing", QUICK):
            order.append("second")

    def fail() -> None:
        with hold(place, "leases/x", "the thing", QUICK):
            other.start()
            time.sleep(QUICK.dead_s * 2)  # renewed meanwhile, or it would be taken over
            order.append("first")
            raise KeyboardInterrupt

    other = threading.Thread(target=wait)
    with pytest.raises(KeyboardInterrupt):
        fail()
    other.join(10)
    assert order == ["first", "second"]
    assert place.read("leases/x") is None
    (waiting,) = (record.getMessage() for record in caplog.records)
    assert f"Waiting for process {os.getpid()} on" in waiting
    assert "makes the thing" in waiting


def test_a_claim_is_removed_once_it_is_old_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(lease.time, "monotonic", lambda: clock[0])
    place = Place.at(str(tmp_path / "share"))
    place.probe()
    waits = lease._Lease(place, "leases/x", "the thing", QUICK)
    for claim in (b"of one", b"of another"):
        place.write("leases/x.claim", claim)
        for _ in range(3):  # however long the lease itself has been dead
            waits._bury("leases/x.claim")
            assert place.read("leases/x.claim") == claim
        clock[0] += QUICK.dead_s
    waits._bury("leases/x.claim")
    assert place.read("leases/x.claim") is None


@pytest.mark.parametrize("left", [b"", b"no JSON", b'{"nonce": "1", "pid": 7, "host": "far"}'])
@pytest.mark.parametrize("claimed", [False, True])
def test_a_lease_that_nobody_renews_is_taken_over_by_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, left: bytes, claimed: bool
) -> None:
    place = Place.at(str(tmp_path / "share"))
    place.probe()
    place.write("leases/x", left)
    if claimed:  # by one that died before it had taken it over
        place.write(f"leases/x.{hashlib.sha256(left).hexdigest()[:16]}", b"")
    inside: list[int] = []
    most: list[int] = []

    def take() -> None:
        with hold(place, "leases/x", "the thing", QUICK):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.05)
            inside.pop()

    workers = [threading.Thread(target=take) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(20)
    assert most == [1, 1, 1]
    assert place.names("leases") == []
    taken = [one for one in caplog.records if "taking it over" in one.getMessage()]
    assert len(taken) == 1


def test_an_owner_whose_lease_was_taken_over_says_so_and_leaves_the_new_one(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    theirs = b'{"nonce": "1", "pid": 7, "host": "far"}'
    with hold(place, "leases/x", "the thing", QUICK):
        place.write("leases/x", theirs)
        time.sleep(QUICK.dead_s)
    assert place.read("leases/x") == theirs
    assert any("was taken over" in one.getMessage() for one in caplog.records)


def test_a_share_that_fails_while_a_lease_is_held_stops_nothing(
    place: Place, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ShareError("the line is dead")

    with hold(place, "leases/x", "the thing", QUICK):
        monkeypatch.setattr(place, "write", broken)
        monkeypatch.setattr(place, "read", broken)
        time.sleep(QUICK.renew_s * 4)
    said = " ".join(one.getMessage() for one in caplog.records)
    assert "was not renewed: the line is dead" in said
    assert "was not released" in said
    monkeypatch.undo()
    place.remove("leases/x")
    calls, create = iter((broken, broken)), place.create

    def at_the_third(key: str, content: bytes) -> bool | None:
        return next(calls, create)(key, content)

    monkeypatch.setattr(place, "create", at_the_third)
    with hold(place, "leases/x", "the thing", QUICK):
        assert place.names("leases") == ["x"], "what fails for a moment is tried again"
    monkeypatch.setattr(place, "create", broken)
    with hold(place, "leases/x", "the thing", QUICK):
        pass
    assert "Going on without a lock" in caplog.records[-1].getMessage()


def test_ctrl_c_while_a_lease_is_being_taken_leaves_none(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = place.create

    def interrupted(key: str, content: bytes) -> bool:
        create(key, content)
        raise KeyboardInterrupt

    monkeypatch.setattr(place, "create", interrupted)
    with pytest.raises(KeyboardInterrupt), hold(place, "leases/x", "the thing", QUICK):
        pass
    assert place.names("leases") == []


@contextmanager
def owner(share: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds a lease of a share."""
    code = """import sys, time
from kdrec.share.lease import hold
from kdrec.share.place import Place
place = Place.at(sys.argv[1])
place.probe()
with hold(place, "leases/x", "the thing"):
    print("taken", flush=True)
    time.sleep(600)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(share)],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "taken\n"
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_the_lease_of_a_killed_process_is_taken_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = Place.at(str(tmp_path / "share"))
    place.probe()
    with owner(tmp_path / "share") as process:
        os.kill(process.pid, signal.SIGKILL)
        process.wait(10)
        with hold(place, "leases/x", "the thing", QUICK):
            pass
    assert f"process {process.pid} on" in caplog.text
    assert "taking it over" in caplog.text
    assert place.read("leases/x") is None


def test_a_run_is_published_and_brought_whole(share: Share, tmp_path: Path) -> None:
    assert brought(share, tmp_path / "b") is None
    run = finished(tmp_path / "a")
    for _ in range(2):
        runs.publish(share, run, replace=False)
    for evaluation in ("e" * 64, None):
        copy = brought(share, tmp_path / "b", evaluation=evaluation)
        assert copy is not None
        assert copy.manifest == run.manifest
        assert copy.file("tables/all.csv").read_bytes() == b"1"
        assert (copy.folder / "manifest.json").read_bytes() == (
            run.folder / "manifest.json"
        ).read_bytes()
    assert brought(share, tmp_path / "b", evaluation="f" * 64) is None
    found = find_run(tmp_path / "b", "abc")
    assert found is not None
    assert len(list((tmp_path / "b" / "runs").glob("*/*"))) == 1, "it was copied twice"


def test_the_first_of_two_that_made_the_same_stays_unless_it_is_made_anew(
    share: Share, tmp_path: Path
) -> None:
    first, second = finished(tmp_path / "a"), finished(tmp_path / "b", finished="2026-01-02")
    runs.publish(share, first, replace=False)
    runs.publish(share, second, replace=False)
    assert brought(share, tmp_path / "c").manifest == first.manifest  # type: ignore[union-attr]
    runs.publish(share, second, replace=True)
    assert brought(share, tmp_path / "d").manifest == second.manifest  # type: ignore[union-attr]


@pytest.mark.parametrize("what", ["data.txt", "tables/all.csv", "manifest.json"])
@pytest.mark.parametrize("how", ["flipped", "shortened", "removed"])
def test_a_damaged_copy_is_named_not_used_and_replaced(
    share: Share, tmp_path: Path, caplog: pytest.LogCaptureFixture, what: str, how: str
) -> None:
    run = finished(tmp_path / "a")
    runs.publish(share, run, replace=False)
    key = f"runs/abc/{'e' * 8}/manifest.json"
    key = key if what == "manifest.json" else stored(share.place, what)
    content = share.place.read(key)
    assert content is not None
    if how == "removed":
        share.place.remove(key)
    else:
        middle = len(content) // 2
        flipped = bytes([content[middle] ^ 1])
        whole = content[:middle] + flipped + content[middle + 1 :]
        share.place.write(key, whole if how == "flipped" else content[:middle])
    assert brought(share, tmp_path / "b") is None
    assert list((tmp_path / "b").glob("runs/*/*")) == [], "something half is left"
    if (what, how) != ("manifest.json", "removed"):  # that one is as if it had not been published
        assert share.place.name(key) in caplog.text
        assert "The share's copy is not used" in caplog.text
    runs.publish(share, run, replace=False)
    assert brought(share, tmp_path / "b") is not None


def test_every_flipped_bit_of_a_shared_manifest_is_seen(share: Share, tmp_path: Path) -> None:
    runs.publish(share, finished(tmp_path / "a"), replace=False)
    key = f"runs/abc/{'e' * 8}/manifest.json"
    content = share.place.read(key)
    assert content is not None
    for place in range(0, len(content), 7):
        share.place.write(key, content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        assert brought(share, tmp_path / "b") is None
    assert list((tmp_path / "b").glob("runs/*/*")) == []


@pytest.mark.parametrize("name", ["../../evil", "/evil", "manifest.json", "a/../../evil"])
def test_a_manifest_that_names_a_file_outside_is_refused(
    share: Share, tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    key = f"runs/abc/{'e' * 8}/manifest.json"
    manifest = {"schema": 1, "identity": "abc", "finished": "x", "command": "train",
                "evaluation": "e" * 64, "artifacts": {name: "0" * 64}}  # fmt: skip
    share.place.write(key, json.dumps(manifest).encode())
    assert brought(share, tmp_path / "b") is None
    assert repr(name) in caplog.text


def test_a_run_under_the_key_of_another_is_refused(
    share: Share, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = finished(tmp_path / "a", identity="other")
    files = other.manifest["artifacts"]
    share.publish(f"runs/abc/{'e' * 8}", other.folder, files)
    assert brought(share, tmp_path / "b") is None
    assert "is of another run" in caplog.text


def test_what_cannot_be_published_is_named_and_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    share, run = Share.open(str(tmp_path / "share")), finished(tmp_path / "a")
    shutil.rmtree(tmp_path / "share")
    (tmp_path / "share").touch()
    runs.publish(share, run, replace=False)
    assert f"{run.folder} could not be published" in caplog.text
    assert run.file("data.txt").is_file()


def test_a_run_that_is_damaged_here_is_not_published(
    share: Share, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = finished(tmp_path / "a")
    (run.folder / "data.txt").write_text("wh0le", "utf-8")
    runs.publish(share, run, replace=False)
    assert "data.txt is damaged" in caplog.text
    assert brought(share, tmp_path / "b") is None
