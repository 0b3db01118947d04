"""Shared by all tests: where real data are, one thread per process, signals that are heard."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with the real data sets; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("KDREC_SHARED", ROOT.parent / "shared")) / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set KDREC_SHARED")
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working folder for the program, which leaves the root logger as it was."""
    from tests.clitoys import keep_root_logger

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KDREC_OUTPUT_DIR", raising=False)
    monkeypatch.delenv("KDREC_DATA_DIR", raising=False)
    keeping = keep_root_logger()
    next(keeping)
    yield tmp_path
    next(keeping, None)


@pytest.fixture
def heard() -> Iterator[None]:
    """SIGINT and SIGHUP as in a terminal, for us and for what a test starts.

    Under nohup, or in the background of a script, they are ignored, and that is inherited.
    """
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}
    before = {one: signal.signal(one, handler) for one, handler in usual.items()}
    yield
    for one, handler in before.items():
        signal.signal(one, handler)
