"""Downloads from a real server on loopback that breaks off, lies, limps and comes back."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import io
import json
import random
import re
import threading
import zipfile
from pathlib import Path

import pytest
import yaml

from kdrec.data import archives, sources
from kdrec.data.files import FileSpec
from kdrec.errors import DataUnavailableError, KdrecError, UsageError

from .conftest import ROOT

BODY = random.Random(0).randbytes(1 << 18)
SHA = hashlib.sha256(BODY).hexdigest()
MD5 = hashlib.md5(BODY).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves `files`; what goes wrong is taken from `faults`, one for each request."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {}
        self.faults = []
        self.requests = []
        self.etag = '"one"'
        self.ranges = True

    def url(self, name):
        return f"http://127.0.0.1:{self.server_address[1]}/{name}"

    def handle_error(self, request, client_address):
        """A client that hangs up is no news."""


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *args):
        """Quiet."""

    def do_GET(self):
        server = self.server
        asked = self.headers.get("Range")
        server.requests.append((self.path, asked))
        fault = server.faults.pop(0) if server.faults else None
        body = server.files.get(self.path.lstrip("/"))
        if isinstance(fault, int):
            self.send_error(fault)
            return
        if body is None:
            self.send_error(404)
            return
        start = int(asked[len("bytes=") : -1]) if asked and server.ranges else 0
        if self.headers.get("If-Range") not in {None, server.etag}:
            start = 0
        if start >= len(body):
            self.send_error(416)
            return
        rest = body[start:]
        if fault == "elsewhere":  # as many bytes as were asked for, from another place
            start, rest = 7, body[7 : 7 + len(rest)]
        if start:
            last = start + len(rest) - 1
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{last}/{len(body)}")
        else:
            self.send_response(200)
        if fault != "no length":
            self.send_header("Content-Length", str(len(rest)))
        if server.etag:
            self.send_header("ETag", server.etag)
        self.end_headers()
        self.wfile.write(rest[: len(rest) // 2] if fault in {"half", "no length"} else rest)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(sources, "BACKOFF_S", 0.001)
    for name in ("KDREC_MIRROR", "KDREC_OFFLINE", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    running = Server()
    running.files["data.bin"] = BODY
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield running
    running.shutdown()
    running.server_close()
    thread.join()


def entry(server, name="data.bin", **change):
    return {"name": name, "urls": [server.url(name)], "sha256": SHA} | change


def get(folder, *files, path=None):
    return sources.fetch(name="set", files=files, raw_dir=folder, path=path)


def left(folder):
    """What is in the data set's folder beside the lock."""
    return sorted(path.name for path in (folder / "set").iterdir() if path.name != ".lock")


def test_a_file_is_fetched_once(server, tmp_path):
    (path,) = get(tmp_path, entry(server))
    assert path == tmp_path / "set" / "data.bin"
    assert path.read_bytes() == BODY
    assert get(tmp_path, entry(server)) == [path]
    assert server.requests == [("/data.bin", None)]
    assert left(tmp_path) == ["checksums.json", "data.bin"]


def test_a_break_is_resumed_where_it_was(server, tmp_path):
    server.faults = ["half", "half"]
    (path,) = get(tmp_path, entry(server))
    assert path.read_bytes() == BODY
    half, quarter = len(BODY) // 2, len(BODY) // 4
    assert [asked for _, asked in server.requests] == [
        None,
        f"bytes={half}-",
        f"bytes={half + quarter}-",
    ]


def test_a_broken_transfer_is_resumed_by_the_next_run(server, tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "ATTEMPTS", 1)
    server.faults = ["half"]
    with pytest.raises(DataUnavailableError, match="broke off after"):
        get(tmp_path, entry(server))
    assert not (tmp_path / "set" / "data.bin").exists()
    assert (tmp_path / "set" / "data.bin.part").stat().st_size == len(BODY) // 2
    (path,) = get(tmp_path, entry(server))
    assert path.read_bytes() == BODY
    assert server.requests[-1][1] == f"bytes={len(BODY) // 2}-"
    assert left(tmp_path) == ["checksums.json", "data.bin"]


def test_a_server_without_ranges_starts_again(server, tmp_path):
    server.ranges = False
    server.faults = ["half"]
    (path,) = get(tmp_path, entry(server))
    assert path.read_bytes() == BODY


@pytest.mark.parametrize("etag", ['"one"', None])
def test_a_file_that_changed_meanwhile_is_not_stitched_together(server, tmp_path, etag):
    # no checksum is known, so the ETag must say that both pieces are of one file
    server.etag = etag
    server.faults = ["half"]
    new = BODY[::-1]

    class Changing(dict):
        def get(self, name, default=None):
            if server.requests[1:]:
                server.etag = '"two"' if etag else None
                return new
            return BODY

    server.files = Changing()
    (path,) = get(tmp_path, entry(server, sha256=None))
    assert path.read_bytes() == new


def test_pieces_that_do_not_fit_are_fetched_whole(server, tmp_path):
    part = tmp_path / "set" / "data.bin.part"
    part.parent.mkdir()
    part.write_bytes(b"something else")
    (path,) = get(tmp_path, entry(server))
    assert path.read_bytes() == BODY
    assert [asked for _, asked in server.requests] == ["bytes=14-", None]


def test_a_part_that_is_already_whole_or_too_long_is_no_trouble(server, tmp_path):
    part = tmp_path / "set" / "data.bin.part"
    part.parent.mkdir()
    part.write_bytes(BODY)  # 416 comes back
    assert get(tmp_path, entry(server))[0].read_bytes() == BODY


def test_a_server_that_resumes_elsewhere_is_not_believed(server, tmp_path):
    server.faults = ["half", "elsewhere"]
    assert get(tmp_path, entry(server, sha256=None))[0].read_bytes() == BODY


@pytest.mark.parametrize("kind", ["sha256", "md5"])
def test_a_lying_server_gives_nothing(server, tmp_path, kind):
    wrong = {"sha256": None, kind: "0" * (64 if kind == "sha256" else 32)}
    with pytest.raises(DataUnavailableError, match=rf"another file: {kind}") as caught:
        get(tmp_path, entry(server, **wrong))
    assert caught.value.exit_code == 3
    assert left(tmp_path) == []
    assert len(server.requests) == 1, "a whole but wrong file is not asked for again"


def test_the_next_address_is_tried(server, tmp_path):
    server.files["lie.bin"] = b"x" * 100
    urls = [server.url("gone.bin"), server.url("lie.bin"), server.url("data.bin")]
    (path,) = get(tmp_path, entry(server, urls=urls, sha256=None, md5=MD5))
    assert path.read_bytes() == BODY
    recorded = json.loads((tmp_path / "set" / "checksums.json").read_text())
    assert recorded["data.bin"] == {"sha256": SHA, "origin": server.url("data.bin")}


def test_a_busy_server_is_asked_again_and_a_refusal_is_not(server, tmp_path):
    server.faults = [503, 429, 500]
    assert get(tmp_path, entry(server))[0].read_bytes() == BODY
    assert len(server.requests) == 4
    server.requests.clear()
    with pytest.raises(DataUnavailableError, match="HTTP 404"):
        get(tmp_path / "other", entry(server, name="nothing.bin"))
    assert len(server.requests) == 1


def test_patience_ends_without_progress(server, tmp_path):
    server.faults = [503] * 20
    with pytest.raises(DataUnavailableError, match=f"after {sources.ATTEMPTS} attempts"):
        get(tmp_path, entry(server))
    assert len(server.requests) == sources.ATTEMPTS


def test_without_a_published_checksum_the_first_one_holds(server, tmp_path):
    plain = entry(server, sha256=None)
    (path,) = get(tmp_path, plain)
    get(tmp_path, plain)
    path.write_bytes(BODY + b"!")
    with pytest.raises(KdrecError, match=r"not the file it should be: sha256(?s:.)*Remove it"):
        get(tmp_path, plain)


def test_a_compressed_file_must_be_readable_to_its_end(server, tmp_path):
    server.files["x.json.gz"] = b"<html>Please log in</html>"
    with pytest.raises(DataUnavailableError, match="cannot be read to its end"):
        get(tmp_path, entry(server, name="x.json.gz", sha256=None))
    server.files["x.json.gz"] = gzip.compress(BODY)
    server.faults = ["no length"]  # the server never says how much there is, and stops half way
    with pytest.raises(DataUnavailableError, match="cannot be read to its end"):
        get(tmp_path, entry(server, name="x.json.gz", sha256=None))
    (path,) = get(tmp_path, entry(server, name="x.json.gz", sha256=None))
    assert gzip.decompress(path.read_bytes()) == BODY


def test_the_mirror_is_asked_first_and_the_publisher_after(server, tmp_path, monkeypatch):
    monkeypatch.setenv("KDREC_MIRROR", server.url("mirror/"))
    server.files["mirror/set/data.bin"] = BODY
    get(tmp_path / "a", entry(server))
    del server.files["mirror/set/data.bin"]
    get(tmp_path / "b", entry(server))
    assert [path for path, _ in server.requests] == [
        "/mirror/set/data.bin",
        "/mirror/set/data.bin",
        "/data.bin",
    ]


def test_a_mirror_must_be_an_address(server, tmp_path, monkeypatch):
    monkeypatch.setenv("KDREC_MIRROR", "/etc")
    with pytest.raises(UsageError, match=r"/etc/set/data\.bin"):
        get(tmp_path, entry(server))


def test_offline_says_what_to_fetch_and_where_to_put_it(server, tmp_path, monkeypatch):
    monkeypatch.setenv("KDREC_OFFLINE", "1")
    second = entry(server, name="second.bin", sha256=None)
    with pytest.raises(DataUnavailableError) as caught:
        get(tmp_path, entry(server), second)
    hint = caught.value.hint
    for said in (
        server.url("data.bin"),
        SHA,
        str(tmp_path / "set" / "data.bin"),
        server.url("second.bin"),
        str(tmp_path / "set" / "second.bin"),
        "dataset.path=",
        "KDREC_MIRROR",
    ):
        assert said in hint
    assert not server.requests
    for name in ("data.bin", "second.bin"):  # what it says helps
        (tmp_path / "set" / name).write_bytes(BODY)
    assert [path.name for path in get(tmp_path, entry(server), second)] == [
        "data.bin",
        "second.bin",
    ]


def test_a_wrong_file_put_there_by_hand_is_refused_and_kept(server, tmp_path):
    path = tmp_path / "set" / "data.bin"
    path.parent.mkdir()
    path.write_bytes(b"mine")
    with pytest.raises(KdrecError, match="not the file it should be"):
        get(tmp_path, entry(server))
    assert path.read_bytes() == b"mine"


def test_an_unknown_host_is_no_reason_to_wait(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "BACKOFF_S", 60)
    monkeypatch.delenv("KDREC_MIRROR", raising=False)
    monkeypatch.delenv("KDREC_OFFLINE", raising=False)
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    spec = {"name": "x", "urls": ["http://nowhere.invalid/x"]}
    with pytest.raises(DataUnavailableError, match="no such host"):
        get(tmp_path, spec)


def make_zip(*members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return buffer.getvalue()


def zipped(server, *members, member="in/data.txt"):
    server.files["set.zip"] = make_zip(*members)
    return entry(server, name="set.zip", sha256=None, member=member)


def test_a_member_is_taken_out_of_an_archive(server, tmp_path):
    spec = zipped(server, ("in/README", b"hello"), ("in/data.txt", BODY))
    (path,) = get(tmp_path, spec)
    assert path == tmp_path / "set" / "data.txt"
    assert path.read_bytes() == BODY
    assert left(tmp_path) == ["checksums.json", "data.txt", "set.zip"]
    path.unlink()
    assert get(tmp_path, spec)[0].read_bytes() == BODY
    assert len(server.requests) == 1, "the archive is still there"


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "in/../../evil", "..\\evil", "C:\\evil"])
def test_an_archive_that_climbs_out_is_refused(server, tmp_path, name):
    spec = zipped(server, ("in/data.txt", b"good"), (name, b"evil"))
    with pytest.raises(KdrecError, match="climb out"):
        get(tmp_path, spec)
    assert not (tmp_path / "set" / "data.txt").exists()
    assert not list(tmp_path.rglob("*evil*"))


def test_an_archive_with_a_link_is_refused(server, tmp_path):
    link = zipfile.ZipInfo("in/data.txt")
    link.external_attr = 0o120777 << 16
    with pytest.raises(KdrecError, match="is a link"):
        get(tmp_path, zipped(server, (link, b"/etc/passwd")))


def test_an_archive_that_explodes_is_refused(server, tmp_path):
    spec = zipped(server, ("in/data.txt", bytes(archives.MAX_RATIO << 14)))
    with pytest.raises(KdrecError, match="no honest data set"):
        get(tmp_path, spec)


def test_an_archive_without_the_member_says_what_it_has(server, tmp_path):
    with pytest.raises(KdrecError, match=r"no in/data\.txt; it holds other\.txt"):
        get(tmp_path, zipped(server, ("other.txt", b"x")))


SPECS = ({"name": "train.txt"}, {"name": "test.txt"})


def test_a_local_file_or_folder_is_used_where_it_is(tmp_path, monkeypatch):
    monkeypatch.setenv("KDREC_OFFLINE", "1")
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in ("train.txt", "test.txt.gz", "notes"):
        (folder / name).write_text("x")
    file = folder / "train.txt"
    raw = tmp_path / "raw"
    assert get(raw, SPECS[0], path=str(file)) == [file]
    assert get(raw, path=str(file)) == [file], "a data set without files of its own"
    assert get(raw, *SPECS, path=str(folder)) == [file, folder / "test.txt.gz"]
    assert not raw.exists()


def test_a_local_archive_is_opened(tmp_path):
    (tmp_path / "copy.zip").write_bytes(make_zip(("in/data.txt", BODY)))
    spec = {"name": "set.zip", "member": "in/data.txt"}
    (path,) = get(tmp_path / "raw", spec, path=str(tmp_path / "copy.zip"))
    assert path.name == "data.txt"
    assert path.read_bytes() == BODY


@pytest.mark.parametrize(
    ("specs", "path", "says"),
    [
        (SPECS, "mine/train.txt", "has 2 files"),
        (SPECS, "mine", r"without train\.txt, test\.txt; it holds notes, train\.txt"),
        (({"name": "users.dat"},), "mine", r"without users\.dat(?s:.)*FOLDER/FILE"),
        ((), "mine", "without one file"),
        (SPECS, "elsewhere", r"elsewhere does not exist(?s:.)*current folder"),
    ],
)
def test_a_local_path_that_does_not_fit_is_explained(tmp_path, specs, path, says):
    (tmp_path / "mine").mkdir()
    for name in ("train.txt", "notes"):
        (tmp_path / "mine" / name).write_text("x")
    with pytest.raises(UsageError, match=says):
        get(tmp_path / "raw", *specs, path=str(tmp_path / path))


@pytest.mark.parametrize(
    "bad", [{"name": "../x"}, {"name": ""}, {"name": "x", "sha512": "0"}, {"urls": []}]
)
def test_a_wrong_entry_is_refused(tmp_path, bad):
    with pytest.raises(UsageError):
        get(tmp_path, bad)


def test_a_file_comes_from_any_address_once_and_is_held_to_what_it_was(tmp_path, monkeypatch):
    there = tmp_path / "share" / "mine.csv"
    there.parent.mkdir()
    there.write_bytes(BODY)
    url, raw = f"file://{there}", tmp_path / "raw"

    def mine(path):
        return sources.fetch(name="table", files=[], raw_dir=raw, path=path)

    (copied,) = mine(url)
    assert copied.read_bytes() == BODY
    assert copied.is_relative_to(raw / "table")
    assert copied.name == "mine.csv"
    there.unlink()
    monkeypatch.setenv("KDREC_OFFLINE", "1")
    assert mine(url) == [copied], "a copy is not made twice"
    with pytest.raises(DataUnavailableError, match="KDREC_OFFLINE"):
        mine(f"{url}.gz")
    monkeypatch.delenv("KDREC_OFFLINE")
    with pytest.raises(DataUnavailableError, match="it cannot be read"):
        mine(f"{url}.gz")
    with pytest.raises(DataUnavailableError, match="nowhere"):
        mine("nowhere://a/b.csv")
    copied.write_bytes(b"other")
    with pytest.raises(KdrecError, match="is not the file it should be"):
        mine(url)


def test_a_mirror_may_be_a_folder_and_a_pinned_file_is_checked(tmp_path, monkeypatch):
    mirror = tmp_path / "mirror" / "toy"
    mirror.mkdir(parents=True)
    monkeypatch.setenv("KDREC_MIRROR", f"file://{mirror.parent}")
    entry = {"name": "a.bin", "urls": [], "sha256": SHA}
    fetch = {"name": "toy", "files": [entry], "raw_dir": tmp_path / "raw", "path": None}
    (mirror / "a.bin").write_bytes(b"other")
    with pytest.raises(DataUnavailableError, match="it gives another file: sha256"):
        sources.fetch(**fetch)
    (mirror / "a.bin").write_bytes(BODY)
    (found,) = sources.fetch(**fetch)
    assert found.read_bytes() == BODY


NETWORK = re.compile(
    r"^\s*(import|from) (urllib|http|socket|ssl|ftplib|fsspec|requests|urllib3|httpx|aiohttp)\b",
    re.MULTILINE,
)


def test_only_three_modules_open_the_network():
    found = [
        path.name for path in (ROOT / "kdrec").rglob("*.py") if NETWORK.search(path.read_text())
    ]
    assert sorted(found) == ["place.py", "remote.py", "sources.py"]


DATASETS = sorted((ROOT / "conf" / "dataset").glob("*.yaml"))


@pytest.mark.parametrize("path", DATASETS, ids=lambda path: path.stem)
def test_every_data_set_of_conf_is_whole(path: Path):
    text = path.read_text()
    conf = yaml.safe_load(text)
    assert text.startswith("# ")
    assert conf["name"] == path.stem
    assert conf["path"] is None
    assert conf["licence"]
    assert conf["citation"]
    assert set(conf["filters"]) == {"min_rating", "min_user", "min_item", "core"}
    for spec in map(FileSpec.parse, conf["files"]):
        assert spec.urls
        assert all(url.startswith("https://") for url in spec.urls)
        assert spec.sha256 is None or len(spec.sha256) == 64
        assert spec.md5 is None or len(spec.md5) == 32
        assert (spec.member is not None) == spec.name.endswith(".zip")
        assert spec.sha256 or spec.md5 or path.stem.startswith("amazon-"), "publishers give one"


def test_the_pinned_citeulike_is_the_real_one(shared, tmp_path, monkeypatch):
    monkeypatch.setenv("KDREC_OFFLINE", "1")
    conf = yaml.safe_load((ROOT / "conf" / "dataset" / "citeulike.yaml").read_text())
    copy = tmp_path / "set" / "users.dat"
    copy.parent.mkdir()
    copy.write_bytes((shared / "citeulike-t" / "users.dat").read_bytes())
    assert get(tmp_path, *conf["files"]) == [copy]
