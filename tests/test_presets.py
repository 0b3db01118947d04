"""The presets that rerun tables and figures: what they sweep exists, what they report is read."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from kdrec.cli import confdir
from kdrec.cli.app import app
from kdrec.cli.reported import Reported
from kdrec.report.preset import Preset
from kdrec.report.published import Published
from kdrec.report.section import column
from tests.conftest import ROOT

FOLDER = ROOT / "conf" / "experiment"


def read(path: Path) -> dict[str, dict]:
    return yaml.safe_load(path.read_text("utf-8"))


UNTUNED = [
    ("departures", "citeulike", ""),
    ("later", "citeulike", ""),
    ("table3", "ml-1m", "student=lightgcn"),
]
"""What a preset's report shows and its own command leaves out: the README's *Not run* says so."""

PRESETS = [path for path in sorted(FOLDER.glob("*.yaml")) if "report" in read(path)]


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_a_preset_composes_and_sweeps_over_what_it_reports(path: Path) -> None:
    content = read(path)
    params = content["hydra"]["sweeper"]["params"]
    first = [f"{key}={str(value).split(',')[0]}" for key, value in params.items()]
    words = ["distill", f"experiment={path.stem}", *first, "hydra.mode=RUN", "--dry-run"]
    result = CliRunner().invoke(app, words, prog_name="kdrec")
    assert result.exit_code == 0, result.stderr
    report = content["report"]
    left_out = set(report["datasets"]) - set(params["dataset"].split(","))
    assert left_out == {dataset for name, dataset, _ in UNTUNED if name == path.stem}
    assert set(params["dataset"].split(",")) <= set(report["datasets"])
    rows = {
        row.get("method", name)
        for name, row in report.get("methods", {}).items()
        if row.get("role") != "teacher"
    }
    swept = set(str(params["method"]).split(","))
    assert path.stem == "table2" or swept >= rows - {"none", "unkd", "unkd_official"}
    seeds = str(params.get("seed", "0")).split(",")
    assert report.get("seeds", [0]) == [int(seed) for seed in seeds]


def dry_run(line: str) -> Result:
    words = ["distill", *f"experiment={line}".split(), "--dry-run"]
    return CliRunner().invoke(app, words, prog_name="kdrec")


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_a_presets_own_command_runs_as_it_is(path: Path) -> None:
    """With nothing else on the line: every settings file that one of its jobs wants is there."""
    result = dry_run(path.stem)
    assert result.exit_code == 0, result.stderr


@pytest.mark.parametrize(("preset", "dataset", "words"), UNTUNED)
def test_what_a_presets_own_command_leaves_out_has_no_settings(
    preset: str, dataset: str, words: str
) -> None:
    result = dry_run(f"{preset} dataset={dataset} {words}")
    assert result.exit_code == 2
    assert "have not been tuned" in result.stderr


def test_table3_has_the_other_backbone_of_movielens() -> None:
    assert dry_run("table3 dataset=ml-1m student=bprmf").exit_code == 0


def test_the_studys_search_composes_for_any_teacher_that_has_settings() -> None:
    line = "tune experiment=search dataset=ml-1m method=cd tune.trials=8 --dry-run"
    result = CliRunner().invoke(app, line.split(), prog_name="kdrec")
    assert result.exit_code == 0, result.stderr
    shown = yaml.safe_load(result.stdout)
    assert shown["tune"]["space"]["l2"] == "choice(0.0001,0.001,0.01,0.1,0.3)"
    assert (shown["fit"]["batch_size"], shown["tune"]["trials"]) == (8192, 8)
    assert shown["teacher_lr"] == read(ROOT / "conf/tuned/teacher/ml-1m-bprmf.yaml")["teacher_lr"]


PARAMS = {"fit.weight": "weight", "method.mu": "method.distiller.mu", "method.n_groups": "K"}
"""What a setting of a manifest is called on the command line."""


def reported(name: str) -> Reported:
    return Reported.of([f"experiment={name}"], None, [confdir.conf_dir()])


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_a_section_is_right_and_asks_for_what_the_preset_sweeps_over(path: Path) -> None:
    asked = reported(path.stem)
    preset = Preset.of(path.stem, asked.section)
    params = {
        key: str(value).split(",")
        for key, value in read(path)["hydra"]["sweeper"]["params"].items()
    }
    for group, chosen in (("dataset", preset.datasets), ("protocol", preset.protocols)):
        known = {file.stem for file in (confdir.conf_dir() / group).glob("*.yaml")}
        assert set(chosen) <= known
    assert set(preset.protocols) <= set(params.get("protocol", ["paper"]))
    assert set(preset.students) <= set(params.get("student", ["bprmf"]))
    assert [str(seed) for seed in preset.teacher_seeds or [0]] == params.get("teacher_seed", ["0"])
    for row in preset.rows:
        if row.varied:
            swept = params[PARAMS[row.varied]]
            assert row.x in [float(value) for value in swept]
            same = [one for one in preset.rows if one.series == row.series]
            assert len(same) == len(swept)
    if asked.paper is not None:
        paper = Published.of(preset.paper, asked.paper)
        known = {method for _, _, method, _ in paper.values}
        assert {row.paper for row in preset.rows if row.paper} <= known
        assert {row.name for row in preset.rows if row.paper} or preset.table == "statistics"


def test_the_papers_numbers_are_those_of_its_tables() -> None:
    asked = reported("table1")
    assert asked.paper is not None
    paper = Published.of("unkd", asked.paper)
    tail = column("recall@10 unpopular diluted").key
    ndcg = column("ndcg@10").key
    assert paper.value("citeulike", "bprmf", "unkd", tail) == 0.0208
    assert paper.value("amazon-apps", "lightgcn", "pd-htd", tail) == 0.0093
    assert paper.value("ml-1m", "lightgcn", "teacher", ndcg) == 0.3012
    assert math.isnan(paper.value("ml-1m", "lightgcn", "rd", tail))
    assert len(paper.values) == 3 * (2 * 7 * 2 + 8 * 2 + 6 * 2 + 1 * 2)
    for dataset in ("ml-1m", "amazon-apps", "citeulike"):
        for student in ("bprmf", "lightgcn"):
            for key in (ndcg, column("recall@10").key):
                values = [
                    paper.value(dataset, student, method, key)
                    for method in ("none", "rd", "cd", "derrd", "htd")
                ]
                assert max(values) < paper.value(dataset, student, "unkd", key)
                assert min(values) == values[0]


def test_there_is_a_preset_for_every_table_and_figure() -> None:
    tables = {"table1", "table2", "table3", "table4", "figure1", "figure4", "figure5"}
    ours = {"controls", "mu", "lambda", "defect", "teachers", "protocols", "departures", "later",
            "published"}  # fmt: skip
    assert {path.stem for path in PRESETS} == tables | ours


def test_settings_that_build_on_others_find_them() -> None:
    paths = sorted((ROOT / "conf" / "tuned").glob("**/*.yaml"))
    bases = [(path, base) for path in paths for base in (read(path) or {}).get("defaults", [])]
    assert bases
    assert [path.stem for path, base in bases if not (path.parent / f"{base}.yaml").is_file()] == []


def test_what_is_not_tuned_is_said_with_the_way_out() -> None:
    words = ["distill", "experiment=table1", "dataset=gowalla", "method=rd", "--dry-run"]
    result = CliRunner().invoke(app, words, prog_name="kdrec")
    assert result.exit_code == 2
    assert "There is no conf/tuned/" in result.stderr
    assert "kdrec tune" in result.stderr


def test_of_a_teacher_that_is_not_tuned_the_way_out_is_a_teachers() -> None:
    words = ["distill", "experiment=figure1", "dataset=ml-1m", "method=unkd", "teacher=lightgcn"]
    result = CliRunner().invoke(app, [*words, "--dry-run"], prog_name="kdrec")
    assert result.exit_code == 2
    assert "kdrec tune with role=teacher and the same dataset=, teacher= and debias=" in (
        result.stderr
    )
    file = "tuning/ml-1m-lightgcn_*/tuned/teacher/ml-1m-lightgcn.yaml"
    assert f"cp OUTPUT_DIR/{file} " in result.stderr
    assert "conf/tuned/teacher/" in result.stderr


def test_a_presets_name_in_place_of_a_folder_is_seen() -> None:
    result = CliRunner().invoke(app, ["report", "figure1"], prog_name="kdrec")
    assert result.exit_code == 2
    assert "Did you mean experiment=figure1?" in result.stderr


def test_an_option_that_is_written_as_an_override_is_named(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["report", "experiment=table1", "dataset=citeulike"])
    assert result.exit_code == 2
    assert "There is no run folder dataset=citeulike." in result.stderr
    assert "Did you mean --dataset citeulike?" in result.stderr
