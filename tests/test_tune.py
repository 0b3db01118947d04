"""`kdrec tune` as its user meets it, on small data."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from kdrec.artifacts import Run, finished_runs
from kdrec.errors import KdrecError, StorageError
from kdrec.tuning.search import Search
from kdrec.tuning.space import Choice
from tests.program import kd

pytestmark = pytest.mark.usefixtures("here")

DATA = [
    "dataset=synthetic", "dataset.reader.n_users=80", "dataset.reader.n_items=100",
    "dataset.reader.min_per_user=8", "threads=1",
]  # fmt: skip
SHORT = [
    "teacher_fit.epochs=5", "teacher_fit.batch_size=256", "teacher_dim=8", "teacher_lr=0.02",
    "fit.epochs=5", "fit.batch_size=256", "student_dim=4",
]  # fmt: skip
TUNE = [*DATA, *SHORT, "tune.trials=3"]


def tune(*words: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(kd("tune", "--json", *TUNE, *words).stdout)
    return found


def runs(role: str = "student") -> list[Run]:
    return [run for run in finished_runs(Path("outputs")) if run.manifest["labels"]["role"] == role]


@pytest.mark.slow
def test_a_search_chooses_on_validation_and_its_experiment_runs_as_it_is():
    shown = kd("tune", *TUNE, "method=unkd", "K=2", "tune.space.K=choice(2,3)")
    for word in ("rank", "ndcg@20", "lr=", "K=", "weight=", "To run the best"):
        assert word in shown.stdout
    for word in ("recall", "test", "unbiased"):
        assert word not in shown.stdout
    assert "Trial 3 of 3" in shown.stderr
    for word in ("optuna", "experimental", "A new study", "Warning"):
        assert word not in shown.output
    found = tune("method=unkd", "K=2", "tune.space.K=choice(2,3)")
    first = next(row for row in found["trials"] if row["trial"] == 1)
    assert first["settings"] == {
        "lr": 0.001, "l2": 0.001, "K": 2, "weight": 0.1,
        "method.distiller.n_pairs": 30, "method.distiller.mu": 20.0,
    }  # fmt: skip
    values = [row["value"] for row in found["trials"]]
    assert values == sorted(values, reverse=True)
    assert len(runs()) == 3
    assert len(runs("teacher")) == 1
    by_folder = {str(run.folder): run.manifest for run in runs()}
    for row in found["trials"]:
        manifest = by_folder[row["folder"]]
        assert manifest["training"]["best_value"] == row["value"]
        assert manifest["config"]["method"]["distiller"]["n_groups"] == row["settings"]["K"]
        assert manifest["config"]["fit"]["lr"] == row["settings"]["lr"]
        assert manifest["labels"]["seed"] == 0
    file = Path(found["experiment"])
    assert file.name == "synthetic-bprmf-unkd.yaml"
    assert file.read_text().startswith("# @package _global_\n# Chosen by kdrec tune")
    assert "weight=tag(log,interval(0.001,1.0)) " in file.read_text().splitlines()[1]
    _, *words = shlex.split(found["command"])
    again = kd(*words)
    assert found["best"]["folder"] in again.stdout, "the best trial is the run that it asks for"
    assert len(runs()) == 3
    assert "synthetic-bprmf-unkd" in kd("list", "experiments", "-cd", found["folder"]).stdout
    settings = ("--config-dir", found["folder"], "tuned=synthetic-bprmf-unkd", "method=unkd")
    assert found["best"]["folder"] in kd("distill", *settings, *DATA, *SHORT).stdout
    assert len(runs()) == 3
    assert not [path for path in Path("outputs/runs").glob("*/*") if "_tune_" in path.name]


@pytest.mark.slow
def test_more_trials_are_added_and_nothing_is_trained_twice():
    three = tune("method=none")
    folders = {run.folder for run in runs()}
    assert len(folders) == 3
    assert runs("teacher") == [], "without a method there is no teacher"
    five = tune("method=none", "tune.trials=5")
    assert five["folder"] == three["folder"]
    key = lambda row: row["trial"]  # noqa: E731
    assert sorted(five["trials"], key=key)[:3] == sorted(three["trials"], key=key)
    assert len(runs()) == 5
    assert tune("method=none") == three, "a smaller budget is what it was"
    tune("method=none", "tune.trials=5", "force=true")
    assert len(runs()) == 5, "begun anew, it finds what is trained"
    assert tune("method=none", "tune.seed=1")["folder"] != three["folder"]


@pytest.mark.slow
def test_a_space_of_few_points_ends_when_all_are_tried():
    fixed = ["method=none", "tune.space.l2=null"]
    found = tune(*fixed, "tune.space.lr=0.01")
    assert [row["settings"] for row in found["trials"]] == [{"lr": 0.01}]
    assert found["space_size"] == 1
    shown = kd("tune", *TUNE, *fixed, "tune.space.lr=choice(0.01,0.02)").stdout
    assert "2 trials of 2 points" in shown
    assert "lies at an end" not in shown, "of two values each is an end"
    three = [*fixed, "tune.space.lr=choice(0.01,0.02,0.1)"]
    found = tune(*three)
    best = found["best"]["settings"]["lr"]
    assert found["at_ends"] == ({} if best == 0.02 else {"lr": best})
    at_end = "The best lies at an end of what was searched (lr in choice(0.01,0.02,0.1))"
    assert (at_end in kd("tune", *TUNE, *three).stdout) == (best != 0.02)
    nothing = kd("tune", *TUNE, *fixed, "tune.space.lr=null", status=2)
    assert "nothing to search" in nothing.stderr


def test_a_failed_trial_is_kept_with_its_reason_and_the_search_goes_on(monkeypatch):
    import kdrec.stages.tuner as module

    real = module.ensure_student

    def brittle(cfg: Any, *args: Any) -> Run:
        if cfg.lr == 0.01:
            raise KdrecError("The loss is not finite in epoch 3.")
        return real(cfg, *args)

    monkeypatch.setattr(module, "ensure_student", brittle)
    few = ["method=none", "tune.space.l2=null", "tune.space.lr=choice(0.01,0.02)", "lr=0.01"]
    result = kd("tune", *TUNE, *few)
    assert "failed" in result.stdout
    assert "Trial 1 failed: The loss is not finite in epoch 3." in result.stdout
    assert tune(*few)["best"]["settings"] == {"lr": 0.02}
    assert len(runs()) == 1
    none = kd("tune", *TUNE, "method=none", "tune.space.l2=null", "tune.space.lr=0.01", status=1)
    assert "No trial" in none.stderr
    assert "not finite" in none.stderr


@pytest.mark.slow
def test_an_interrupted_search_goes_on_with_the_trial_that_was_under_way(monkeypatch):
    import kdrec.stages.tuner as module

    whole = tune("method=none")
    real, calls = module.ensure_student, []

    def interrupted(cfg: Any, *args: Any) -> Run:
        calls.append(cfg.lr)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(cfg, *args)

    monkeypatch.setattr(module, "ensure_student", interrupted)
    kd("tune", *TUNE, "method=none", "force=true", status=130)
    assert tune("method=none") == whole


def test_what_another_process_makes_is_said():
    found = tune("method=none", "tune.trials=1")
    space = {"lr": Choice((0.01, 0.001, 0.0001)), "l2": Choice((0.1, 0.01, 0.001, 0.0001))}
    other = Search(Path(found["folder"]), space, first={}, seed=0, anew=False)
    with other.begin(2) as trial:
        assert trial is not None
        shown = kd("tune", *TUNE, "method=none", "tune.trials=2").stdout
        assert "Another process makes 1 more" in shown
        assert "running" in shown
        assert len(runs()) == 1
        (settings,) = Path(found["folder"]).glob("tuned/*.yaml")
        assert "the best of 2 trials (1 of them not finished);" in settings.read_text()
        other.finish(trial, 0.9)
    shown = kd("tune", *TUNE, "method=none", "tune.trials=2").stdout
    assert "Another process" not in shown
    assert "1   0.9000" in shown
    assert "the best of 2 trials;" in settings.read_text()


@pytest.mark.slow
def test_a_teachers_settings_are_searched_too():
    found = tune("role=teacher", "teacher=bprmf", "tune.space.teacher_lr='choice(0.02,0.05)'")
    assert Path(found["experiment"]).name == "synthetic-bprmf.yaml"
    assert set(found["best"]["settings"]) == {"teacher_lr", "teacher_l2"}
    assert len(runs("teacher")) == 3
    assert runs() == []
    kd(*shlex.split(found["command"])[1:], "method=unkd", *SHORT[4:])
    assert len(runs("teacher")) == 3
    (student,) = runs()
    best = next(run for run in runs("teacher") if str(run.folder) == found["best"]["folder"])
    assert student.manifest["parents"]["teacher"]["identity"] == best.identity
    folder = str(Path(found["experiment"]).parents[1])
    short = [word for word in SHORT if not word.startswith("teacher_lr")]
    kd("distill", "--config-dir", folder, "tuned/teacher=synthetic-bprmf", *DATA, *short)
    assert len(runs("teacher")) == 3


@pytest.mark.slow
def test_a_closed_form_is_searched_by_its_own_setting():
    ease = ["role=teacher", "teacher=ease"]
    assert "nothing to search" in kd("tune", *TUNE, *ease, status=2).stderr
    found = tune(*ease, "tune.space.teacher.reg='tag(log,interval(10,1000))'")
    assert len(found["trials"]) == 3
    assert {run.manifest["settings"]["teacher.reg"] for run in runs("teacher")} == {
        row["settings"]["teacher.reg"] for row in found["trials"]
    }
    result = kd("tune", *TUNE, *ease, "tune.space.teacher.reg=choice(1.0,2.0)",
                "evaluation.cutoffs=[5]", status=2)  # fmt: skip
    assert "cutoffs" in result.stderr


def test_the_users_own_folder_is_respected(here):
    mine = here / "mine"
    (mine / "experiment").mkdir(parents=True)
    (mine / "experiment" / "few.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /method: none\n"
        "tune:\n  space:\n    lr: choice(0.01, 0.02)\n    l2: null\n"
    )
    found = tune("--config-dir", "mine", "experiment=few")
    assert {row["settings"]["lr"] for row in found["trials"]} == {0.01, 0.02}
    make, copy, command = found["command"].split(" && ")
    assert make == f"mkdir -p {mine}/experiment"
    file, place = shlex.split(copy)[1:]
    (Path(place) / Path(file).name).write_text(Path(file).read_text())
    kd(*shlex.split(command)[1:])
    assert len(runs()) == 2


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["method=unkd", "tune.space.weight=choice(-1,0.5)"], "weight=-1"),
        (["method=unkd", "tune.space.weight=interval(-1,0.5)"], "at least 0"),
        (["method=unkd", "tune.space.K=interval(2,5)"], "whole number"),
        (["method=unkd", "tune.space.wieght=choice(1,2)"], "Did you mean weight"),
        (["method=none", "tune.space.weight=choice(1,2)"], "weight"),
        (["method=none", "tune.space.method=choice(none,unkd)"], "no single setting"),
        (["method=none", "tune.space.lr=choice("], "tune.space.lr"),
        (["method=none", "tune.space.lr=tag(log,interval(0,1))"], "lr=0.0 is out of range"),
        (["method=none", "tune.space.seed=choice(1,2)"], "seed"),
        (["method=none", "tune.space.teacher_lr=choice(0.1,0.2)"], "changes nothing"),
        (["method=none", "tune.trials=0"], "at least 1"),
        (["role=pupil"], "student, teacher"),
    ],
)
def test_a_wrong_space_is_refused_before_anything_is_trained(words, says):
    result = kd("tune", *TUNE, *words, status=2)
    assert says in result.stderr
    assert "Traceback" not in result.stderr
    assert list(finished_runs(Path("outputs"))) == []


def test_without_optuna_one_message_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    result = kd("tune", *TUNE, "method=none", status=1)
    assert result.stderr.splitlines()[-2:] == [
        "error: kdrec tune needs the package optuna, which is not installed.",
        "  Install it with: pip install 'kdrec[tune]'",
    ]
    assert not Path("data").exists()


def test_a_full_disk_is_no_failed_trial(monkeypatch):
    import kdrec.stages.tuner as module

    real, full = module.ensure_student, [True]

    def brittle(cfg: Any, *args: Any) -> Run:
        if cfg.lr == 0.01 and full:
            raise StorageError("Cannot write outputs/x: No space left on device.")
        return real(cfg, *args)

    monkeypatch.setattr(module, "ensure_student", brittle)
    few = ["method=none", "tune.space.l2=null", "tune.space.lr=choice(0.01,0.02)", "lr=0.01"]
    assert "No space left" in kd("tune", *TUNE, *few, status=1).stderr
    full.clear()
    found = tune(*few)
    assert [row["state"] for row in found["trials"]] == ["finished", "finished"]


def test_failed_trials_count_and_the_way_to_begin_anew_is_said(monkeypatch):
    import kdrec.stages.tuner as module

    real = module.ensure_student

    def brittle(cfg: Any, *args: Any) -> Run:
        if cfg.lr == 0.01:
            raise KdrecError("The loss is not finite in epoch 3.")
        return real(cfg, *args)

    monkeypatch.setattr(module, "ensure_student", brittle)
    few = ["method=none", "tune.space.l2=null", "tune.space.lr=choice(0.01,0.02)", "lr=0.01"]
    shown = kd("tune", *TUNE, *few).stdout
    assert "1 failed: they count among tune.trials; force=true begins the search anew." in shown
    one = ["method=none", "tune.space.l2=null", "tune.space.lr=0.02"]
    assert "synthetic-bprmf-none: 1 trial of 1 point," in kd("tune", *TUNE, *one).stdout


def test_a_debiased_teacher_is_in_the_names_and_what_was_fixed_in_the_files():
    few = ["debias=pd", "tune.trials=1"]
    found = tune(*few, "method=cd")
    folder = Path(found["folder"])
    said = (folder / "tuned" / "synthetic-bprmf-cd-pd.yaml").read_text().splitlines()[1]
    assert "the best of 1 trial; protocol paper, fit paper (batch_size=256 epochs=5), " in said
    assert " teacher_fit paper (batch_size=256 epochs=5), " in said
    assert "teacher bprmf+pd (teacher.dim=8 teacher_debias.gamma=0.02" in said
    assert "teacher_fit.lr=0.02 teacher_fit.l2=0.001)" in said
    experiment = (folder / "experiment" / "synthetic-bprmf-cd-pd.yaml").read_text()
    assert experiment.splitlines()[1] == said
    assert "threads" not in experiment
    teacher = tune(*few, "role=teacher", "tune.space.teacher_lr=choice(0.02,0.05)")
    assert (Path(teacher["folder"]) / "tuned/teacher/synthetic-bprmf-pd.yaml").is_file()
    teachers = (Path(teacher["folder"]) / "tuned/teacher/synthetic-bprmf-pd.yaml").read_text()
    assert "protocol paper, teacher_fit paper (batch_size=256 epochs=5), teacher" in teachers
    alone = tune(*few, "method=none")
    assert Path(alone["experiment"]).name == "synthetic-bprmf-none.yaml"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["tune.space.lr=null"], "fit paper (batch_size=128 epochs=5 lr=0.05)"),
        (["tune.space.lr=choice(0.05,0.02)"], "fit paper (batch_size=128 epochs=5)"),
        (
            ["tune.space.lr=null", "tune.space.fit.batch_size=choice(128,64)"],
            "fit paper (epochs=5 lr=0.05)",
        ),
    ],
)
def test_what_is_fixed_of_a_schedule_is_told_and_what_is_searched_is_not(words, says):
    found = tune("method=none", "tune.trials=1", "lr=0.05", "fit.batch_size=128", *words)
    (settings,) = Path(found["folder"]).glob("tuned/*.yaml")
    assert f"protocol paper, {says}; searched" in settings.read_text()


def test_the_experiment_of_a_search_with_two_teachers_runs_as_it_is():
    found = tune("teacher=[itempop,ease]", "method=unkd", "tune.trials=1")
    assert found["best"]["folder"] in kd(*shlex.split(found["command"])[1:]).stdout
    assert len(runs()) == 1
