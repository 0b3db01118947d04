"""The built-in presets: what they have reported can be read, and no stage minds it."""

from __future__ import annotations

import math

import pytest

from kdrec.cli import confdir
from kdrec.cli.reported import Reported
from kdrec.report.preset import Preset, column
from kdrec.report.published import Published

CONF = confdir.conf_dir()


def reported(name):
    return Reported.of([f"experiment={name}"], None, [CONF])


def names():
    paths = sorted((CONF / "experiment").glob("*.yaml"))
    return [path.stem for path in paths if "\nreport:" in path.read_text("utf-8")]


def test_there_are_presets_with_a_report():
    assert {"table1", "figure1", "figure5"} <= set(names())


@pytest.mark.parametrize("name", names())
def test_a_built_in_section_is_right_and_the_paper_knows_its_rows(name):
    asked = reported(name)
    preset = Preset.of(name, asked.section)
    assert set(preset.datasets) <= {path.stem for path in (CONF / "dataset").glob("*.yaml")}
    assert set(preset.protocols) <= {path.stem for path in (CONF / "protocol").glob("*.yaml")}
    if asked.paper is not None and preset.table == "comparison":
        paper = Published.of(preset.paper, asked.paper)
        known = {method for _, _, method, _ in paper.values}
        assert {row.paper for row in preset.rows if row.paper} <= known


def test_a_section_reaches_the_config_and_changes_no_identity():
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    confdir.register([CONF])
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("distill", ["+report={table: share}"])
        plain = compose("distill")
    assert config.report.table == "share"
    assert confdir.run_id(_root_=config) == confdir.run_id(_root_=plain)
    rest = OmegaConf.masked_copy(config, [key for key in config if key != "report"])
    assert rest == plain


@pytest.mark.parametrize("name", names())
def test_a_built_in_preset_composes_for_a_stage(name):
    from hydra import compose, initialize_config_dir

    confdir.register([CONF])
    with initialize_config_dir(str(CONF), version_base="1.3"):
        assert compose("run", [f"experiment={name}"]).report.datasets


def test_the_papers_numbers_are_those_of_its_tables():
    paper = Published.of("unkd", reported("table1").paper)
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
