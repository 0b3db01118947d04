"""Locks between machines that share nothing but a place: leases, which their owners renew.

A lease is a small object that only one can create. Its owner renews it from a thread of its own;
who finds it taken looks again and again, and takes it over if it has not changed for long by the
waiter's own clock: the clocks of machines need not agree. Of those who find it dead, the one that
can create a second object beside it, named after what it holds, puts its own in its place. An owner
that was held up for so long that its lease was taken over is not stopped: a thing is then made
twice, and published whole each time.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime

from kdrec.share.place import Place, ShareError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pace:
    """How often a lease is renewed and looked at.

    Args:
        renew_s: Seconds between two renewals by its owner.
        poll_s: Seconds between two looks of a waiter.
        periods: After so many periods without a renewal its owner is taken for dead.
    """

    renew_s: float
    poll_s: float
    periods: int

    @property
    def dead_s(self) -> float:
        """Seconds without a renewal after which a lease is taken over."""
        return self.renew_s * self.periods


PACE = Pace(renew_s=10.0, poll_s=2.0, periods=6)


@contextmanager
def hold(place: Place, key: str, what: str, pace: Pace | None = None) -> Iterator[None]:
    """Holds the lease under a key for the length of the block.

    A share without exclusive creation, or one that fails meanwhile, is gone on without, with a
    warning.

    Args:
        place: Of the share.
        key: Of the lease.
        what: What is being made, for those that wait.
        pace: How often; by default that of this module.
    """
    lease = _Lease(place, key, what, pace or PACE)
    taken = place.exclusive
    try:
        if taken:
            lease.take()
    except ShareError as error:
        log.warning("Going on without a lock between machines: %s", error.what)
        taken = False
    except BaseException:
        lease.release()  # it may have been taken when Ctrl-C came
        raise
    with lease.renewed() if taken else nullcontext():
        yield


class _Lease:
    """One process's wish for a lease, and then the lease."""

    def __init__(self, place: Place, key: str, what: str, pace: Pace) -> None:
        self.place, self.key, self.what, self.pace = place, key, what, pace
        self.nonce, self.renewals = uuid.uuid4().hex, 0
        self.seen, self.since = b"", time.monotonic()  # what stood there last, and since when
        self.claim: bytes | None = None  # to take it over, as somebody else left it
        self.claimed = time.monotonic()
        self.told = ""  # for whom one waits

    def content(self) -> bytes:
        """What stands in the lease: it changes with each renewal."""
        about = {"host": platform.node(), "pid": os.getpid(), "what": self.what,
                 "time": datetime.now(UTC).isoformat(), "renewals": self.renewals,
                 "nonce": self.nonce}  # fmt: skip
        return json.dumps(about).encode()

    def take(self) -> None:
        """Waits until the lease is this one's.

        Raises:
            ShareError: If the share has failed for as long as makes an owner a dead one.
        """
        failing: float | None = None
        while True:
            try:
                if self._try():
                    return
                failing = None
            except ShareError:
                failing = failing or time.monotonic()
                if time.monotonic() - failing >= self.pace.dead_s:
                    raise
            time.sleep(self.pace.poll_s)

    def _try(self) -> bool:
        """Takes the lease if it is free, or its owner dead; says whether it did."""
        if self.place.create(self.key, self.content()):
            return True
        found = self.place.read(self.key)
        if found is None:
            return False  # released just now
        owner = _read(found)
        if owner.nonce == self.nonce:
            return True  # a request that was repeated below had gone through before
        if owner.nonce != self.told:
            log.info("Waiting for %s, which makes %s.", owner, self.what)
            self.told = owner.nonce
        if found != self.seen:
            self.seen, self.since = found, time.monotonic()
        if not self._take_over(found, time.monotonic() - self.since):
            return False
        log.warning("%s has not renewed its lock: taking it over.", owner)
        return True

    def _take_over(self, seen: bytes, idle_s: float) -> bool:
        """Puts this lease in the place of a dead one; says whether it did: only one waiter does.

        Args:
            seen: What stands there.
            idle_s: How long it has not changed.
        """
        if idle_s < self.pace.dead_s:
            return False
        claim = f"{self.key}.{hashlib.sha256(seen).hexdigest()[:16]}"
        if not self.place.create(claim, self.content()):
            self._bury(claim)
            return False
        try:
            if self.place.read(self.key) != seen:
                return False
            self.place.write(self.key, self.content())
        finally:
            self.place.remove(claim)
        return True

    def _bury(self, claim: str) -> None:
        """Removes the claim of one who was to take the lease over, and has died, too."""
        found, now = self.place.read(claim), time.monotonic()
        if found != self.claim:
            self.claim, self.claimed = found, now
        elif found is not None and now - self.claimed >= self.pace.dead_s:
            self.place.remove(claim)

    def _stands(self) -> bool:
        found = self.place.read(self.key)
        return found is not None and _read(found).nonce == self.nonce

    @contextmanager
    def renewed(self) -> Iterator[None]:
        """Renews the lease for the length of the block, and removes it at its end."""
        done = threading.Event()
        thread = threading.Thread(target=self._renew, args=(done,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join(self.pace.dead_s)
            self.release()

    def _renew(self, done: threading.Event) -> None:
        while not done.wait(self.pace.renew_s):
            try:
                if not self._stands():
                    log.warning("The lock of %s was taken over: it may be made twice.", self.what)
                    return
                self.renewals += 1
                self.place.write(self.key, self.content())
            except ShareError as error:
                log.warning("The lock of %s was not renewed: %s", self.what, error.what)

    def release(self) -> None:
        """Removes the lease if it is this one's; a failure is a warning."""
        try:
            if self._stands():
                self.place.remove(self.key)
        except ShareError as error:
            log.warning(
                "The lock of %s was not released; others wait for %.0f s: %s",
                self.what, self.pace.dead_s, error.what,
            )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Owner:
    """Who holds a lease, as far as it tells: it may be about to be written."""

    nonce: str
    pid: object
    host: object

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}" if self.nonce else "another machine"


def _read(content: bytes) -> _Owner:
    try:
        about = json.loads(content)
        return _Owner(str(about["nonce"]), about["pid"], about["host"])
    except (ValueError, KeyError, TypeError):
        return _Owner("", None, None)
