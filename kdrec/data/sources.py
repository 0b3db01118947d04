"""Where raw files come from: a local path, what is in place already, a mirror, the publisher.

This module, `remote` and `kdrec.share.place` alone open the network. A file is fetched into
`<name>.part` (and resumed there after a break), verified, and only then moved to its name.

Checksums: sha256 or md5 where the data set's configuration pins one. Where the publisher gives
none, the sha256 of the first download is recorded in `checksums.json` beside the file and holds
from then on; a compressed file must also be readable to its end. A file that was put in place by
hand is treated alike.

Environment: `KDREC_MIRROR` is a base address that is asked first, for `<mirror>/<dataset>/<file>`;
`KDREC_OFFLINE`, set to anything but 0, forbids the network.
"""

from __future__ import annotations

import http.client
import json
import logging
import os
import re
import socket
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kdrec import progress
from kdrec.artifacts import write_json
from kdrec.data.archives import unpack, whole
from kdrec.data.files import FileSpec, check, local, mismatch, record, unavailable, write_whole
from kdrec.data.remote import UnreadableError, copy
from kdrec.digests import digest
from kdrec.errors import UsageError
from kdrec.locks import lock

log = logging.getLogger(__name__)

CHUNK = 1 << 20
ATTEMPTS = 5  # without a byte gained
BACKOFF_S = 1.0  # doubled after each
MAX_WAIT_S = 60.0
TIMEOUT_S = 30.0
TRANSIENT = {408, 425, 429, 500, 502, 503, 504}


class _UnusableError(Exception):
    """This address will not give the file; the next may."""


class _BrokenOffError(Exception):
    """The transfer ended early; it can be taken up again."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


def fetch(
    *, name: str, files: Sequence[Mapping[str, Any]], raw_dir: Path, path: str | None
) -> list[Path]:
    """The raw files of a data set, fetched where they are not in place.

    Args:
        name: The data set; its files are kept in `raw_dir/<name>/`.
        files: Its files: `name`, `urls`, `sha256`, `md5`, `member` each (see `FileSpec`).
        raw_dir: The folder of all raw data.
        path: A local file or folder, or the address of a file, to use instead; None: none.

    Returns:
        One path a file, in the order of `files`; none for a data set that has none.

    Raises:
        UsageError: If `path` does not fit.
        DataUnavailableError: If a file is missing and cannot be had; says what to fetch from
            where, and where to put it.
        KdrecError: If a file in place is not the right one.
    """
    specs = [FileSpec.parse(entry) for entry in files]
    folder = raw_dir.absolute() / name
    if path is not None:
        return local(_here(name, path, folder) if "://" in path else path, specs, folder)
    if not specs:
        return []
    if all((folder / spec.target).is_file() for spec in specs):  # also where nothing may be written
        for spec in specs:
            check(folder, spec.target, spec)
        return [folder / spec.target for spec in specs]
    with lock(folder / ".lock", f"the raw files of {name}"):
        for at, spec in enumerate(specs):
            if not _in_place(spec, folder):
                _obtain(name, spec, folder, specs[at:])
    return [folder / spec.target for spec in specs]


def _here(name: str, url: str, folder: Path) -> str:
    """The path of a copy of the file at an address, made once: what it was then, it stays."""
    place = folder / f"remote-{digest(url)[:12]}"
    file = Path(urllib.parse.urlsplit(url).path).name or name
    spec = FileSpec(file, (url,), None, None, None)
    with lock(place / ".lock", f"a copy of {url}"):
        if not _in_place(spec, place):
            _obtain(name, spec, place, [spec], mirrored=False)
    return str(place / spec.name)


def _in_place(spec: FileSpec, folder: Path) -> bool:
    """Checks what is there; unpacks an archive that is."""
    if (folder / spec.target).is_file():
        check(folder, spec.target, spec)
        return True
    if not (folder / spec.name).is_file():
        return False
    check(folder, spec.name, spec)
    _unpack(spec, folder)
    return True


def _unpack(spec: FileSpec, folder: Path) -> None:
    if spec.member is not None:
        unpack(folder / spec.name, spec.member, folder / spec.target)
        record(folder, spec.target, f"{spec.name}:{spec.member}")


def _obtain(
    name: str, spec: FileSpec, folder: Path, missing: Sequence[FileSpec], *, mirrored: bool = True
) -> None:
    """Fetches one file from the first address that gives it."""
    if os.environ.get("KDREC_OFFLINE", "0") not in {"", "0"}:
        raise unavailable(name, folder, missing, ["KDREC_OFFLINE is set."])
    urls = list(spec.urls)
    if mirrored and (mirror := os.environ.get("KDREC_MIRROR")):
        urls.insert(0, "/".join((mirror.rstrip("/"), name, urllib.parse.quote(spec.name))))
    reasons = []
    for url in urls:
        if "://" not in url:
            raise UsageError(f"{url!r} is no address such as https://...", "Mend KDREC_MIRROR.")
        try:
            _download(url, spec, folder)
        except _UnusableError as error:
            reasons.append(f"{url}: {error}")
            log.warning("%s: %s", url, error)
            continue
        _unpack(spec, folder)
        return
    raise unavailable(name, folder, missing, reasons)


def _download(url: str, spec: FileSpec, folder: Path) -> None:
    """Fetches one file from one address, in as many attempts as it takes.

    Raises:
        _UnusableError: If the address does not give the right file.
    """
    part = folder / f"{spec.name}.part"
    pinned = bool(spec.sha256 or spec.md5)
    log.info("Fetching %s", url)
    while True:
        resumed = _transfer(url, part, pinned=pinned) if _is_http(url) else _copy(url, part)
        wrong = mismatch(part, sha256=spec.sha256, md5=spec.md5)
        if not wrong and not whole(part, spec.name):
            wrong = "it cannot be read to its end"
        if not wrong:
            break
        _discard(part)
        if not resumed:
            raise _UnusableError(f"it gives another file: {wrong}")
        log.warning("What was resumed does not fit together (%s); starting again.", wrong)
    part.replace(folder / spec.name)
    _discard(part)
    record(folder, spec.name, url)
    if not pinned:
        log.info("No checksum of %s is published; its sha256 is recorded now.", spec.name)


def _is_http(url: str) -> bool:
    return url.startswith(("http://", "https://"))


def _copy(url: str, part: Path) -> bool:
    try:
        copy(url, part)
    except UnreadableError as error:
        raise _UnusableError(f"it cannot be read: {error}") from error
    return False


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _validator_file(part).unlink(missing_ok=True)


def _transfer(url: str, part: Path, *, pinned: bool) -> bool:
    """Brings the whole body into `part`; says whether it was put together from pieces."""
    failures, most, resumed = 0, 0, False
    while True:
        try:
            return _attempt(url, part, pinned=pinned) or resumed
        except _BrokenOffError as error:
            size = part.stat().st_size if part.is_file() else 0
            failures = 1 if size > most else failures + 1
            most, resumed = max(most, size), True
            if failures >= ATTEMPTS:
                raise _UnusableError(f"{error} (given up after {ATTEMPTS} attempts)") from error
            wait = min(error.wait_s or BACKOFF_S * 2 ** (failures - 1), MAX_WAIT_S)
            log.warning("%s: %s; again in %.0f s.", url, error, wait)
            time.sleep(wait)


def _attempt(url: str, part: Path, *, pinned: bool) -> bool:
    """One request; says whether it took up where an earlier one broke off."""
    headers = {"User-Agent": "kdrec", "Accept-Encoding": "identity"}
    have = part.stat().st_size if part.is_file() else 0
    validator = _validator(part, url)
    if have and (pinned or validator):  # else the pieces may be of two files
        headers["Range"] = f"bytes={have}-"
        if validator:
            headers["If-Range"] = validator
    try:
        request = urllib.request.Request(url, headers=headers)  # noqa: S310  (checked: http)
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:  # noqa: S310
            return _receive(url, response, part, have)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # what we have is no beginning of what there is
            _discard(part)
            raise _BrokenOffError("the rest of the file cannot be had") from error
        if error.code in TRANSIENT:
            after = error.headers.get("Retry-After", "")
            raise _BrokenOffError(
                f"HTTP {error.code} {error.reason}", float(after) if after.isdigit() else None
            ) from error
        raise _UnusableError(f"HTTP {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise _UnusableError(
                f"the server's certificate is not valid: {reason.verify_message}"
            ) from error
        if isinstance(reason, socket.gaierror):
            raise _UnusableError(f"no such host can be found from here: {reason}") from error
        raise _BrokenOffError(f"the connection broke: {reason or type(error).__name__}") from error


def _receive(url: str, response: http.client.HTTPResponse, part: Path, have: int) -> bool:
    """Writes the body to `part`, behind what is there if the server agreed to go on from there."""
    span = re.match(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range") or "")
    resumed = response.status == 206
    if resumed and (span is None or int(span[1]) != have):
        _discard(part)
        raise _BrokenOffError("the server resumed at another place")
    total: int | None = None
    if span is not None and resumed:
        total = int(span[2]) if span[2] != "*" else None
    elif (length := response.headers.get("Content-Length")) is not None:
        total = int(length)
    if not resumed:
        etag = response.headers.get("ETag") or ""
        tag = etag if etag.startswith('"') else response.headers.get("Last-Modified")
        _validator_file(part).unlink(missing_ok=True)
        part.write_bytes(b"")
        if tag:
            write_json(_validator_file(part), {"url": url, "validator": tag})
    size = have if resumed else 0
    n_chunks = None if total is None else -(-(total - size) // CHUNK)
    with (
        progress.task(f"download {part.stem}", n_chunks, "MiB") as task,
        part.open("ab", buffering=0) as file,
    ):
        while chunk := response.read(CHUNK):
            write_whole(file, chunk, part)
            size += len(chunk)
            task.advance(1)
        os.fsync(file.fileno())
    if total is not None and size < total:
        raise _BrokenOffError(f"it broke off after {size} of {total} bytes")
    if total is not None and size > total:
        _discard(part)
        raise _BrokenOffError(f"it gave {size} bytes, {total} were announced")
    return resumed


def _validator_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _validator(part: Path, url: str) -> str | None:
    """The ETag or date under which this address gave the piece that is there."""
    try:
        noted = json.loads(_validator_file(part).read_text("utf-8"))
        return str(noted["validator"]) if noted["url"] == url else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
