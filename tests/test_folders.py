"""Run folders of the user's choice: no run is overwritten, none gets lost unsaid."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from kdrec.artifacts import write_manifest
from kdrec.errors import UsageError
from kdrec.stages.folders import claim


@pytest.mark.parametrize(
    ("place", "found"),
    [
        ("out/runs/day/run", True),
        ("out/sweeps/day/sweep/0", True),
        ("out/sweeps/sweep/0", False),
        ("out/mine", False),
        ("runs/day/run", False),
    ],
)
def test_a_run_where_no_command_looks_is_told_of(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    place: str,
    found: bool,
) -> None:
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.WARNING, "kdrec")
    claim(Path(place), Path("out"), "abc")
    assert Path(place).is_dir()
    assert ("No command will find the run in" in caplog.text) == (not found)


def test_another_finished_run_is_not_overwritten_and_the_same_one_may_be_made_again(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "runs/day/run"
    claim(folder, tmp_path, "abc")
    write_manifest(folder, {"identity": "abc", "finished": "2026-01-01"})
    claim(folder, tmp_path, "abc")
    with pytest.raises(UsageError, match=r"has another finished run, abc, which would be overw"):
        claim(folder, tmp_path, "abcd")
