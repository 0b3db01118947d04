"""The real program on small data: what it makes, finds again, refuses and survives."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import ir_measures
import numpy as np
import pandas as pd
import pytest

from kdrec.artifacts import Run, finished_runs
from kdrec.stages.context import repeated
from tests.conftest import ROOT
from tests.program import kd

pytestmark = pytest.mark.usefixtures("here")

DATA = [
    "dataset=synthetic",
    "dataset.reader.n_users=120",
    "dataset.reader.n_items=150",
    "dataset.reader.min_per_user=8",
]
SHORT = ["teacher_fit.epochs=10", "teacher_fit.batch_size=256", "teacher_dim=12", "threads=1"]
STUDENT = ["fit.epochs=10", "fit.batch_size=256", "student_dim=4", "teacher_lr=0.02", "lr=0.02"]
TRAIN = [*DATA, *SHORT, "lr=0.02"]
DISTILL = [*DATA, *SHORT, *STUDENT]


def runs(**labels: object) -> list[Run]:
    return [
        run
        for run in finished_runs(Path("outputs"))
        if all(run.manifest["labels"][key] == value for key, value in labels.items())
    ]


def test_distill_makes_what_is_missing_and_keeps_everything_with_the_run() -> None:
    shown = kd("distill", *DISTILL, "method=unkd", "K=4")
    (teacher,), (student,) = runs(role="teacher"), runs(role="student")
    assert "popular" in shown.stdout
    assert str(student.folder) in shown.stdout
    manifest = student.manifest
    assert {"model.safetensors", "history.csv", "topk.parquet", "per_user.parquet"} <= set(
        manifest["artifacts"]
    )
    assert manifest["parents"]["teacher"]["identity"] == teacher.identity
    assert manifest["settings"]["method.n_groups"] == 4
    assert manifest["config"]["K"] == 4
    assert manifest["overrides"][-1] == "K=4"
    assert (student.folder / ".hydra" / "config.yaml").is_file()
    assert manifest["labels"]["dim"] == 4
    assert teacher.manifest["labels"]["dim"] == 12
    assert manifest["peak_memory_bytes"] > 2**20
    history = pd.read_csv(student.file("history.csv"))
    assert (history["gradient_ratio"] > 0).all()
    assert history["ndcg@20"].max() == pytest.approx(manifest["training"]["best_value"])


def test_what_is_finished_is_not_made_again_unless_forced() -> None:
    kd("train", *TRAIN)
    kd("distill", *DISTILL, "method=none")
    kd("distill", *DISTILL, "method=unkd")
    assert len(runs()) == 3
    before = {run.folder for run in runs()}
    kd("distill", *DISTILL, "method=unkd")
    kd("train", *TRAIN)
    assert {run.folder for run in runs()} == before
    folders = set(Path("outputs/runs").glob("*/*"))
    assert folders == before, "an unused run folder was left behind"
    kd("distill", *DISTILL, "method=unkd", "force=true")
    assert len(runs(role="student", method="unkd")) == 2
    assert len(runs(role="teacher")) == 1


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    kd("distill", *DISTILL, "method=unkd")
    kd("distill", *DISTILL, "method=unkd", "force=true")
    kd("distill", *DISTILL, "method=unkd", "seed=1")
    hashes = {
        (run.manifest["labels"]["seed"], run.manifest["artifacts"][name])
        for run in runs(method="unkd")
        for name in ("model.safetensors",)
    }
    assert len(hashes) == 2
    lists = {run.manifest["artifacts"]["topk.parquet"] for run in runs(method="unkd", seed=0)}
    assert len(lists) == 1


def test_a_sweep_trains_one_teacher_and_report_counts_the_seeds() -> None:
    kd("distill", "-m", *DISTILL, "method=unkd", "K=2,3", "seed=0,1")
    kd("distill", *DISTILL, "method=none")
    assert len(runs(role="teacher")) == 1
    found = {
        (run.manifest["settings"]["method.n_groups"], run.manifest["labels"]["seed"])
        for run in runs(method="unkd")
    }
    assert found == {(2, 0), (2, 1), (3, 0), (3, 1)}
    shown = kd("report", "--n-boot", "50")
    for word in ("K=2", "K=3", "popular", "unpopular", "head", "tail"):
        assert word in shown.stdout
    kinds = {path.suffix for path in Path("outputs/reports").rglob("*.*")}
    assert {".md", ".csv", ".tex"} <= kinds


def test_run_goes_from_nothing_to_the_comparison() -> None:
    shown = kd("run", *DISTILL, "method=unkd")
    assert {run.manifest["labels"]["method"] for run in runs()} == {"", "none", "unkd"}
    assert "unbiased" in shown.stdout.lower()
    parsed = json.loads(kd("run", "--json", *DISTILL, "method=unkd").stdout)
    assert parsed


def unread(*words: str) -> subprocess.CompletedProcess[str]:
    """The program with a standard output that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as out:
        return subprocess.run(
            [sys.executable, "-m", "kdrec", *words], stdout=out, stderr=subprocess.PIPE, text=True,
            check=False,
        )  # fmt: skip


@pytest.mark.parametrize("json_too", [[], ["--json"]], ids=["tables", "json"])
@pytest.mark.parametrize("launcher", [[], ["hydra/launcher=joblib"]], ids=["here", "workers"])
def test_the_work_goes_on_though_nobody_reads_its_tables(
    launcher: list[str], json_too: list[str]
) -> None:
    words = [*DATA, "teacher=itempop", "split_seed=0,1", *launcher, *json_too]
    swept = unread("train", "-m", *words)
    assert swept.returncode == 0, swept.stderr
    assert len(runs(role="teacher")) == 2
    (told,) = Path("outputs/sweeps").rglob("sweep.csv")
    assert list(pd.read_csv(told)["state"]) == ["done", "done"]
    assert not [path for path in told.parent.rglob("*.log") if "failed" in path.read_text()]
    reported = unread("report", "--n-boot", "50", "--out", "here", *json_too)
    assert reported.returncode == 0, reported.stderr
    assert "wrote here/report.md" in reported.stderr
    names = {path.name for path in Path("here").iterdir()}
    assert names == {"report.md", "report.tex", "tables.csv", "runs.csv"}


def test_what_only_shows_something_stops_when_nobody_reads_it() -> None:
    shown = unread("list", "methods")
    assert (shown.returncode, shown.stderr) == (141, "")


def test_evaluate_asks_a_finished_model_other_questions_without_training() -> None:
    kd("train", *TRAIN)
    (teacher,) = runs()
    kd("evaluate", f"run={teacher.identity[:10]}", "evaluation.cutoffs=[5]", "metric=[recall]")
    again = next(run for run in runs() if run.folder != teacher.folder)
    assert again.identity == teacher.identity
    assert "model.safetensors" not in again.manifest["artifacts"]
    metrics = {row["metric"] for row in again.manifest["metrics"] if row["scope"] == "all"}
    assert "recall@5" in metrics
    assert "ndcg@10" not in metrics


def test_upstream_require_says_which_command_to_run() -> None:
    kd("preprocess", *DATA)
    result = kd("distill", *DISTILL, "upstream=require", status=1)
    assert "kdrec train" in result.stderr
    assert "lr=0.02" in result.stderr
    command = next(line for line in result.stderr.splitlines() if "kdrec train" in line)
    kd("train", *command.split("kdrec train ")[1].split())
    kd("distill", *DISTILL, "upstream=require")


@pytest.mark.parametrize("teacher", ["ease", "itempop"])
def test_a_teacher_known_by_scores_alone_teaches(teacher: str) -> None:
    kd("distill", *DATA, *STUDENT, f"teacher={teacher}", "method=unkd")
    assert len(runs(role="teacher", model=teacher)) == 1
    assert len(runs(method="unkd", teacher=teacher)) == 1


def test_a_closed_form_is_refused_as_a_student() -> None:
    result = kd("distill", *DATA, "student=ease", "method=none", status=2)
    assert "student=ease" in result.stderr


@pytest.mark.parametrize(
    ("override", "nearest"),
    [
        ("lr=abc", "lr"),
        ("method=unkdd", "unkd"),
        ("sede=1", "seed"),
        ("fit.epoch=3", "epochs"),
        ("K=0", "K"),
        ("method.distiller.norm=papr", "paper"),
        ("upstream=maek", "make"),
        ("device=gpu", "auto, "),
        ("evaluation.cutoffs=[0]", "at least 1"),
        ("evaluation.popular_mass=2", "at most 1"),
        ("seed=-1", "at least 0"),
        ("weight=-1", "at least 0"),
    ],
)
def test_a_wrong_word_is_refused_before_anything_runs(override: str, nearest: str) -> None:
    result = kd("distill", *DISTILL, override, status=2)
    assert nearest in result.stderr
    assert "Traceback" not in result.stderr
    assert list(finished_runs(Path("outputs"))) == []
    assert not Path("data").exists()


def test_metrics_of_a_real_run_are_those_of_an_independent_library() -> None:
    kd("train", *TRAIN)
    (run,) = runs()
    lists = pd.read_parquet(run.file("topk.parquet"))
    split = Path(run.manifest["parents"]["split"]["folder"])
    test = pd.read_parquet(split / "test.parquet")
    qrels = [ir_measures.Qrel(str(u), str(i), 1) for u, i in test.itertuples(index=False)]
    ranked = [
        ir_measures.ScoredDoc(str(row.user), str(row.item), -float(row.rank))
        for row in lists.itertuples()
    ]
    ours = {
        row["metric"]: row["value"]
        for row in run.manifest["metrics"]
        if (row["target"], row["scope"]) == ("test", "all")
    }
    theirs = {
        "recall@10": ir_measures.R @ 10, "ndcg@10": ir_measures.nDCG @ 10,
        "precision@10": ir_measures.P @ 10, "hit_rate@10": ir_measures.Success @ 10,
        "mrr@10": ir_measures.RR @ 10, "map@10": ir_measures.AP @ 10,
        "recall@20": ir_measures.R @ 20, "ndcg@20": ir_measures.nDCG @ 20,
    }  # fmt: skip
    expected = ir_measures.calc_aggregate(list(theirs.values()), qrels, ranked)
    for name, measure in theirs.items():
        assert ours[name] == pytest.approx(expected[measure], abs=1e-6), name


def test_nothing_masked_is_ever_recommended() -> None:
    kd("train", *TRAIN)
    (run,) = runs()
    lists = pd.read_parquet(run.file("topk.parquet"))
    split = Path(run.manifest["parents"]["split"]["folder"])
    for part in ("train", "valid"):
        seen = pd.read_parquet(split / f"{part}.parquet")
        assert len(lists.merge(seen, on=["user", "item"])) == 0
    assert (lists.groupby("user")["item"].nunique() == lists.groupby("user").size()).all()


def test_a_killed_training_leaves_nothing_that_distill_takes_for_a_teacher() -> None:
    words = [word for word in TRAIN if not word.startswith("teacher_fit.epochs")]
    words += ["teacher_fit.epochs=100000", "teacher_fit.patience=100000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "kdrec", "train", *words],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not list(Path("outputs").glob(".locks/*")) and time.monotonic() < deadline:
        assert process.poll() is None, process.stderr
        time.sleep(0.1)
    time.sleep(1.5)
    assert process.poll() is None
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert list(Path("outputs/runs").glob("*/*_train_*"))
    assert runs() == []
    result = kd("distill", *DISTILL, "upstream=require", "teacher_fit.epochs=100000",
                "teacher_fit.patience=100000", status=1)  # fmt: skip
    assert "teacher bprmf is missing" in result.stderr
    kd("distill", *DISTILL)
    assert len(runs(role="teacher")) == 1


def test_a_damaged_teacher_is_named_and_not_used() -> None:
    kd("train", *TRAIN)
    (run,) = runs()
    weights = run.folder / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-5] ^= 1
    weights.write_bytes(data)
    result = kd("distill", *DISTILL, status=1)
    assert "model.safetensors is damaged" in result.stderr


def test_lists_carry_the_original_ids() -> None:
    rng = np.random.default_rng(0)
    pairs = {(f"u{u:03d}", f"i{i}") for u in range(60) for i in rng.integers(0, 80, 20)}
    pd.DataFrame(sorted(pairs), columns=["who", "what"]).to_csv("mine.csv", index=False)
    kd("train", "dataset=table", "dataset.path=mine.csv", "dataset.reader.user=who",
       "dataset.reader.item=what", "teacher=itempop")  # fmt: skip
    (run,) = runs()
    lists = pd.read_parquet(run.file("topk.parquet"))
    assert set(lists["user_id"]) <= {user for user, _ in pairs}
    best = pd.Series([item for _, item in pairs]).value_counts()
    assert set(lists["item_id"]) <= set(best.index)
    assert not set(zip(lists["user_id"], lists["item_id"], strict=True)) >= pairs


def test_a_run_is_evaluated_as_often_as_one_likes_and_nothing_is_trained() -> None:
    kd("run", *DISTILL, "method=unkd")
    trained = {run.identity for run in runs()}
    for method in ("unkd", "none"):
        (run,) = runs(method=method, role="student")
        for cutoff in (5, 7):
            kd("evaluate", f"run={run.folder}", f"evaluation.cutoffs=[{cutoff}]")
    assert {run.identity for run in runs()} == trained
    assert len(runs()) == 3 + 4
    for run in runs(role="student", method="none"):
        assert run.manifest["config"]["method"]["name"] == "none"
    shown = kd("report", "--cutoff", "5", "--n-boot", "20").stdout
    assert shown.count("All users, all items") == 1


def test_a_student_alone_is_the_same_run_whoever_asks_for_it() -> None:
    kd("run", *DISTILL, "method=unkd", "weight=0.3", "evaluation.cutoffs=[5,20]")
    kd("distill", *DISTILL, "method=none", "evaluation.cutoffs=[5,20]")
    kd("run", *DISTILL, "method=unkd", "weight=0.6", "evaluation.cutoffs=[5,20]")
    assert len(runs(role="student", method="none")) == 1
    assert len(runs(role="student", method="unkd")) == 2
    assert len(runs(role="teacher")) == 1


def test_evaluate_never_trains_what_is_gone() -> None:
    kd("train", *TRAIN)
    (run,) = runs()
    words = ("evaluate", f"run={run.folder}", "evaluation.cutoffs=[5]")
    (run.folder / "model.safetensors").unlink()
    assert "model.safetensors is missing" in kd(*words, status=1).stderr
    nonsense = kd("evaluate", "run=3e12", status=2)
    assert "run=3e12 is no finished run" in nonsense.stderr


def test_commands_leave_no_unfinished_folder_behind() -> None:
    kd("download", *DATA)
    kd("preprocess", *DATA)
    kd("run", *DISTILL, "method=none")
    folders = {path.parent for path in Path("outputs/runs").glob("*/*/manifest.json")}
    assert set(Path("outputs/runs").glob("*/*")) == folders


def test_run_makes_everything_again_if_forced() -> None:
    kd("run", *DISTILL, "method=unkd")
    kd("run", *DISTILL, "method=unkd", "force=true")
    counts = pd.Series([run.identity for run in runs()]).value_counts()
    assert sorted(counts) == [2, 2, 2]


@pytest.mark.parametrize("protocol", ["official", "leave-one-out", "temporal"])
def test_every_protocol_ends_in_an_evaluation(protocol: str) -> None:
    kd("train", *DATA, "teacher=itempop", f"protocol={protocol}", "evaluation.cutoffs=[10]")
    (run,) = runs(protocol=protocol)
    split = Path(run.manifest["parents"]["split"]["folder"])
    test, valid = (pd.read_parquet(split / f"{part}.parquet") for part in ("test", "valid"))
    if protocol == "official":
        assert not set(test["user"]) & set(valid["user"])
    if protocol == "leave-one-out":
        assert (test.groupby("user").size() == 1).all()
    evaluated = {row["n_users"] for row in run.manifest["metrics"] if row["metric"] == "recall@10"
                 and (row["target"], row["scope"]) == ("test", "all")}  # fmt: skip
    assert evaluated == {test["user"].nunique()}


@pytest.mark.parametrize("word", ["tuned=x", "tuned/teacher=y", "+tuned/teacher=y"])
def test_no_command_is_named_that_would_make_another_teacher(word):
    assert repeated(["dataset=synthetic", word, "teacher=bprmf"], ("dataset", "teacher")) is None
    assert repeated(["dataset=synthetic", "lr=1"], ("dataset",)) == ["dataset=synthetic"]
