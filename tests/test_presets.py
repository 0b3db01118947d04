"""The presets that rerun tables and figures: what they sweep exists, what they report is read."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from kdrec.cli.app import app
from tests.conftest import ROOT

FOLDER = ROOT / "conf" / "experiment"


def read(path: Path) -> dict[str, dict]:
    return yaml.safe_load(path.read_text("utf-8"))


UNTUNED = {"table4"}
"""Presets whose first combination has no chosen settings yet; the README's status says so."""

PRESETS = [path for path in sorted(FOLDER.glob("*.yaml")) if "report" in read(path)]


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_a_preset_composes_and_sweeps_over_what_it_reports(path: Path) -> None:
    content = read(path)
    params = content["hydra"]["sweeper"]["params"]
    first = [f"{key}={str(value).split(',')[0]}" for key, value in params.items()]
    words = ["distill", f"experiment={path.stem}", *first, "hydra.mode=RUN", "--dry-run"]
    result = CliRunner().invoke(app, words, prog_name="kdrec")
    if path.stem in UNTUNED:
        assert result.exit_code == 2
        assert "have not been tuned" in result.stderr
    else:
        assert result.exit_code == 0, result.stderr
    report = content["report"]
    assert set(report["datasets"]) == set(params["dataset"].split(","))
    rows = {row.get("method", name) for name, row in report.get("methods", {}).items() if row != {}}
    rows |= {name for name, row in report.get("methods", {}).items() if row == {}}
    swept = set(str(params["method"]).split(",")) | {"teacher"}
    assert path.stem == "table2" or swept >= rows - {"none", "unkd", "unkd_official"}
    seeds = str(params.get("seed", "0")).split(",")
    assert report.get("seeds", [0]) == [int(seed) for seed in seeds]


def test_there_is_a_preset_for_every_table_and_figure() -> None:
    tables = {"table1", "table2", "table3", "table4", "figure1", "figure4", "figure5"}
    ours = {"controls", "mu", "lambda", "defect", "teachers", "protocols", "departures", "later"}
    assert {path.stem for path in PRESETS} == tables | ours


def test_what_is_not_tuned_is_said_with_the_way_out() -> None:
    words = ["distill", "experiment=table1", "dataset=gowalla", "method=rd", "--dry-run"]
    result = CliRunner().invoke(app, words, prog_name="kdrec")
    assert result.exit_code == 2
    assert "There is no conf/tuned/" in result.stderr
    assert "kdrec tune" in result.stderr
