"""The settings that a preset's own command gives, as the report prefers them."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from kdrec.cli.foreseen import Settings
from tests.conftest import ROOT

CONF = ROOT / "conf"


def test_they_are_the_tuned_ones_over_the_methods_defaults():
    found = Settings("lambda", [CONF])("citeulike", "bprmf", "unkd", "bprmf")
    tuned = OmegaConf.load(CONF / "tuned" / "citeulike-bprmf-unkd.yaml")
    assert found["fit.weight"] == tuned.weight != 0.1  # of conf/method/unkd.yaml
    assert found["fit.lr"] == tuned.lr != 0.001
    assert found["method.n_pairs"] == tuned.method.distiller.n_pairs
    assert (found["method.swap_defect"], found["method.n_groups"]) == (False, 4)
    assert (found["teacher_fit.lr"], found["teacher_fit.l2"]) == (0.001, 0.01)
    assert "_target_" not in " ".join(found)


def test_what_was_never_tuned_is_left_open():
    found = Settings("figure5", [CONF])("ml-100k", "bprmf", "unkd", "bprmf")
    assert found["method.swap_defect"] is False
    assert not {"fit.lr", "fit.weight", "method.mu", "teacher_fit.lr"} & set(found)
    untuned = Settings("unkd-citeulike", [CONF])("citeulike", "bprmf", "unkd", "bprmf")
    assert untuned["fit.lr"], "a preset without tuned files says its settings itself"


def test_the_users_files_and_debiased_teachers_are_found(tmp_path: Path):
    (tmp_path / "tuned").mkdir()
    for name, lr in (("gowalla-bprmf-cd", 0.5), ("gowalla-bprmf-cd-pd", 0.25)):
        (tmp_path / "tuned" / f"{name}.yaml").write_text(f"# @package _global_\nlr: {lr}\n")
    settings = Settings("table4", [CONF, tmp_path])
    assert settings("gowalla", "bprmf", "cd", "bprmf")["fit.lr"] == 0.5
    debiased = settings("gowalla", "bprmf", "cd", "bprmf+pd")
    assert debiased["fit.lr"] == 0.25
    assert "teacher_debias.gamma" in debiased


@pytest.mark.parametrize("names", [("no", "bprmf", "cd", ""), ("citeulike", "no", "cd", "")])
def test_what_cannot_be_composed_is_no_preference(names):
    assert Settings("table1", [CONF])(*names) == {}
