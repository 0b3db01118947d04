"""`debias=` in the real program."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from omegaconf import DictConfig, OmegaConf

from kdrec.artifacts import finished_runs
from kdrec.errors import UsageError
from kdrec.stages.debias import teacher_config, teacher_settings
from kdrec.stages.members import teacher_name
from kdrec.stages.needs import check_needs
from tests.conftest import ROOT
from tests.program import kd
from tests.test_pipeline import DATA, DISTILL, STUDENT, TRAIN, runs

pytestmark = pytest.mark.usefixtures("here")


def config(teacher: str, debias: str, needs: str = "scores") -> DictConfig:
    conf = ROOT / "conf"
    return OmegaConf.create(
        {
            "teacher": OmegaConf.load(conf / "model" / f"{teacher}.yaml"),
            "debias": OmegaConf.load(conf / "debias" / f"{debias}.yaml"),
            "method": {"name": "some", "needs": needs},
        }
    )


def test_a_debiased_teacher_is_another_one_with_its_own_name_and_students() -> None:
    kd("train", *TRAIN)
    kd("train", *TRAIN, "debias=pd")
    kd("distill", *DISTILL, "method=unkd")
    kd("distill", *DISTILL, "method=unkd", "debias=pd")
    kd("distill", *DISTILL, "method=unkd", "debias=pda", "debias.gamma=0.1")
    teachers = {run.manifest["labels"]["model"]: run for run in runs(role="teacher")}
    students = {run.manifest["labels"]["teacher"]: run for run in runs(role="student")}
    assert set(teachers) == set(students) == {"bprmf", "bprmf+pd", "bprmf+pda"}
    assert len(runs()) == 6
    assert len({run.identity for run in [*teachers.values(), *students.values()]}) == 6
    for name, student in students.items():
        manifest = student.manifest
        assert manifest["parents"]["teacher"]["identity"] == teachers[name].identity
        assert manifest["labels"]["teacher_identity"] == teachers[name].identity
        assert manifest["settings"].get("teacher_debias.gamma") == {
            "bprmf": None, "bprmf+pd": 0.02, "bprmf+pda": 0.1,
        }[name]  # fmt: skip
    assert teachers["bprmf+pda"].manifest["settings"]["teacher_debias.rank_gamma"] == 0.1
    assert teachers["bprmf+pd"].manifest["labels"]["dim"] == 12
    shown = kd("report", "--n-boot", "20").stdout
    for name in teachers:
        assert f"teacher {name}" in shown


def test_a_debiased_teacher_is_found_again_and_evaluated_as_it_was() -> None:
    kd("train", *TRAIN, "debias=pda")
    (teacher,) = runs()
    lists = pd.read_parquet(teacher.file("topk.parquet"))
    assert (lists["score"] >= 0).all()
    kd("evaluate", f"run={teacher.folder}")
    kd("evaluate", f"run={teacher.folder}", "evaluation.cutoffs=[10,20,5]")
    again = max(runs(), key=lambda run: str(run.manifest["finished"]))
    assert again.folder != teacher.folder
    rows = {
        (row["target"], row["scope"], row["group"], row["form"], row["metric"]): row["value"]
        for row in teacher.manifest["metrics"]
    }
    both = 0
    for row in again.manifest["metrics"]:
        key = (row["target"], row["scope"], row["group"], row["form"], row["metric"])
        if key in rows and row["scope"] == "all":
            assert row["value"] == rows[key]
            both += 1
    assert both > 5


def test_the_command_for_a_missing_teacher_repeats_debias() -> None:
    kd("preprocess", *DATA)
    words = (*DISTILL, "debias=pd", "debias.gamma=0.1", "upstream=require")
    result = kd("distill", *words, status=1)
    assert "teacher bprmf+pd is missing" in result.stderr
    command = next(line for line in result.stderr.splitlines() if "kdrec train" in line)
    assert "debias=pd debias.gamma=0.1" in command
    kd("train", *command.split("kdrec train ")[1].split())
    kd("distill", *words)


@pytest.mark.parametrize("teacher", ["ease", "itempop"])
def test_a_closed_form_is_not_debiased(teacher: str) -> None:
    words = [*DATA, f"teacher={teacher}", "debias=pd"]
    for result in (
        kd("train", *words, status=2),
        kd("distill", *words, *STUDENT, "method=unkd", status=2),
    ):
        assert f"teacher={teacher} is computed in closed form" in result.stderr
        assert "debias=none" in result.stderr
    assert list(finished_runs(Path("outputs"))) == []


def test_without_debiasing_the_teacher_is_its_model_and_nothing_else() -> None:
    now = config("bprmf", "none")
    before = OmegaConf.create({"teacher": now.teacher})
    for cfg in (now, before):
        assert teacher_config(cfg) is cfg.teacher
        assert teacher_name(cfg) == "bprmf"
        assert teacher_settings(cfg) == {"teacher.dim": 10}


def test_pd_has_vectors_and_pda_has_none() -> None:
    check_needs(config("lightgcn", "pd", "vectors"))
    check_needs(config("bprmf", "pda", "scores"))
    with pytest.raises(UsageError, match=r"needs a teacher with vectors.*bprmf\+pda is none"):
        check_needs(config("bprmf", "pda", "vectors"))


def test_a_teacher_that_does_not_rank_by_its_vectors_is_not_trained_along() -> None:
    check_needs(config("bprmf", "pd", "training"))
    with pytest.raises(UsageError, match=r"ranks by its vectors.*bprmf\+pda is none"):
        check_needs(config("bprmf", "pda", "training"))


def test_what_there_is_to_debias_with_is_listed() -> None:
    names = [row["name"] for row in json.loads(kd("list", "debias", "--json").stdout)]
    assert names == ["none", "pd", "pda"]


def test_a_method_that_trains_its_teacher_makes_one_of_the_same_kind() -> None:
    for words in (["teacher=lightgcn"], ["debias=pd"]):
        kd("distill", *DISTILL, "method=bd", "fit.epochs=5", *words)
    assert {run.manifest["labels"]["teacher"] for run in runs(method="bd")} == {
        "lightgcn", "bprmf+pd",
    }  # fmt: skip
    refused = kd("distill", *DATA, *STUDENT, "method=bd", "teacher=ease", status=2)
    assert "learnt by gradient descent" in refused.stderr
