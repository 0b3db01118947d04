"""Shared by all tests: where real data are, and one thread per process."""

from __future__ import annotations

import os
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
