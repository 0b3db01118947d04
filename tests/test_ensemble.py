"""Several teachers at once: what they say together, and how a command line names them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from kdrec.cli import completion
from kdrec.cli.ensembles import named, rewritten
from kdrec.data.interactions import Interactions
from kdrec.errors import UsageError
from kdrec.models.base import Scorer
from kdrec.models.ensemble import Ensemble
from tests.program import kd
from tests.test_pipeline import DATA, DISTILL, SHORT, STUDENT, TRAIN, runs
from tests.worlds import random_interactions

pytestmark = pytest.mark.usefixtures("here")

BOTH = "teacher=[lightgcn,bprmf]"


class Table:
    """Scores that are given."""

    def __init__(self, table: torch.Tensor) -> None:
        self.table = table

    def scores(self, users: torch.Tensor) -> torch.Tensor:
        return self.table[users]


def tables(train: Interactions, *, ties: bool = False) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    found = [
        scale * torch.randn(train.n_users, train.n_items, generator=draw) + shift
        for scale, shift in ((1, 0), (50, 1e3), (0.01, -3))
    ]
    return [(table * 2).round() if ties else table for table in found]


def ensemble(train: Interactions, members: list[torch.Tensor], how: str) -> Ensemble:
    named: dict[str, Scorer] = {str(n): Table(table) for n, table in enumerate(members)}
    return Ensemble(train, members=named, ensemble=how)  # type: ignore[arg-type]


def test_scores_are_standardised_over_unseen_items_and_averaged() -> None:
    train = random_interactions(users=9, items=20, density=0.2)
    members = tables(train)
    found = ensemble(train, members, "score").scores(torch.tensor([7, 2, 2]))
    for row, user in enumerate((7, 2, 2)):
        unseen = np.setdiff1d(np.arange(20), train.items[train.users == user])
        expected = np.zeros(20)
        for member in members:
            scores = member[user].double().numpy()
            expected += (scores - scores[unseen].mean()) / scores[unseen].std() / len(members)
        assert found[row].numpy() == pytest.approx(expected, abs=1e-3)


def test_ranks_are_those_among_unseen_items_and_ties_share_theirs() -> None:
    train = random_interactions(users=9, items=20, density=0.2)
    members = tables(train, ties=True)
    found = ensemble(train, members, "rank").scores(torch.arange(9))
    for user in range(9):
        unseen = np.setdiff1d(np.arange(20), train.items[train.users == user])
        for item in unseen:
            expected = 0.0
            for member in members:
                mine, others = member[user, item], member[user, unseen]
                ranks = range(int((others > mine).sum()), int((others >= mine).sum()))
                expected += 1 / (60 + 1 + np.mean(ranks)) / len(members)
            assert float(found[user, item]) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("how", ["score", "rank"])
def test_a_member_that_scores_all_alike_has_no_say(how: str) -> None:
    train = random_interactions(users=9, items=20, density=0.2)
    member = tables(train)[0]
    both = ensemble(train, [member, torch.full_like(member, 0.1)], how).scores(torch.arange(9))
    alone = ensemble(train, [member, member], how).scores(torch.arange(9))
    apart = 2 * both - alone
    assert torch.allclose(apart, apart[:, :1].expand_as(apart), atol=1e-6)


def test_huge_scores_of_training_items_silence_no_member() -> None:
    train = random_interactions(users=9, items=20, density=0.2)
    a, b, _ = tables(train)
    high = b.clone()
    high[train.users, train.items] = 1e8
    users, unseen = torch.arange(9), torch.ones(9, 20, dtype=torch.bool)
    unseen[train.users, train.items] = False
    plain, same = (ensemble(train, [a, one], "score").scores(users)[unseen] for one in (b, high))
    assert torch.allclose(plain, same)


def test_what_the_scale_of_a_member_is_does_not_matter() -> None:
    train = random_interactions(users=9, items=20)
    a, b, _ = tables(train)
    first, second = (
        ensemble(train, [a, scaled], "score").scores(torch.arange(9)) for scaled in (b, 1e4 * b + 7)
    )
    assert torch.allclose(first, second, atol=1e-2)


def test_one_member_or_an_unknown_way_is_refused() -> None:
    train = random_interactions()
    with pytest.raises(UsageError, match="two members"):
        ensemble(train, tables(train)[:1], "score")
    with pytest.raises(UsageError, match="ensemble=median"):
        ensemble(train, tables(train), "median")


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("teacher=[a,b]", "teacher=a+b"),
        ("teacher=[ a , 'b']", "teacher=a+b"),
        ("teacher='[a,b]'", "teacher='a+b'"),
        ("teacher=[a]", "teacher=a"),
        ("teacher=a+b", "teacher=a+b"),
        ("teacher=a,[a,b],[b,c]", "teacher=a,a+b,b+c"),
        ("teacher=a", "teacher=a"),
        ("metric=[recall,ndcg]", "metric=[recall,ndcg]"),
        ("teacher_fit.x=[1,2]", "teacher_fit.x=[1,2]"),
    ],
)
def test_a_list_of_teachers_becomes_one_name(word: str, expected: str) -> None:
    assert rewritten(word) == expected


def test_the_ensembles_of_a_sweep_are_all_named() -> None:
    assert named(["teacher=a,a+b,b+c", "lr=1+2", "teacher=a+b"]) == ["a+b", "b+c"]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("teacher=[]", "lacks a name"),
        ("teacher=[bprmf,]", "lacks a name"),
        ("teacher=[bprmf,bprmf]", "bprmf twice"),
        ("teacher=bprmf+bprmf", "bprmf twice"),
        ("teacher=[bprmf,lightgcm]", "Did you mean lightgcn?"),
        ("student=[bprmf,lightgcn]", "a student is one model"),
        ("ensemble=rank", "has no key 'ensemble'"),
    ],
)
def test_a_wrong_list_is_refused(word: str, message: str) -> None:
    result = kd("distill", *DISTILL, word, "--dry-run", status=2)
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_options_of_members_are_checked_like_any_others() -> None:
    shown = kd("distill", BOTH, "teacher.members.lightgcn.n_layers=3", "ensemble=rank",
               "teacher_dim=7", "--dry-run", "--json")  # fmt: skip
    teacher = json.loads(shown.stdout)["teacher"]
    assert teacher["ensemble"] == "rank"
    assert teacher["members"]["lightgcn"]["n_layers"] == 3
    assert [one["dim"] for one in teacher["members"].values()] == [7, 7]
    wrong = kd("distill", BOTH, "ensemble=median", "--dry-run", status=2)
    assert "one of score, rank" in wrong.stderr
    wrong = kd("distill", BOTH, "teacher.members.bprmf.n_layers=3", "--dry-run", status=2)
    assert "n_layers" in wrong.stderr


def test_completion_goes_on_behind_a_list(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", sys.argv)
    monkeypatch.setenv("COMP_LINE", f"kdrec distill {BOTH} ensem")
    completion.run(["-sc", "query=bash"])
    assert "ensemble=" in capsys.readouterr().out


def test_members_are_ordinary_teachers_that_other_runs_find() -> None:
    kd("train", *TRAIN, "teacher=bprmf")
    kd("distill", *DISTILL, BOTH, "method=unkd")
    models = sorted(run.manifest["labels"]["model"] for run in runs(role="teacher"))
    assert models == ["bprmf", "bprmf+lightgcn", "lightgcn"]
    (student,) = runs(role="student")
    (whole,) = runs(model="bprmf+lightgcn")
    assert student.manifest["labels"]["teacher"] == "bprmf+lightgcn"
    assert student.manifest["parents"]["teacher"]["identity"] == whole.identity
    assert "model.safetensors" not in whole.manifest["artifacts"]
    for name in ("lightgcn", "bprmf"):
        (member,) = runs(model=name, role="teacher")
        assert whole.manifest["parents"][f"teacher {name}"]["identity"] == member.identity
    before = len(runs())
    kd("distill", *DISTILL, "teacher=lightgcn", "method=unkd")
    kd("train", *TRAIN, BOTH)
    assert len(runs()) == before + 1
    kd("distill", *DISTILL, BOTH, "method=unkd", "ensemble=rank")
    assert len(runs()) == before + 3
    assert "bprmf+lightgcn" in kd("report", "--n-boot", "20").stdout


def test_the_tables_of_an_ensemble_need_no_gradient_and_are_evaluated_again() -> None:
    kd("train", *DATA, "teacher=[itempop,ease]")
    (whole,) = runs(model="ease+itempop")
    assert "teacher_fit.lr" not in whole.manifest["settings"]
    kd("evaluate", f"run={whole.folder}", "evaluation.cutoffs=[5]")
    assert len(runs(model="ease+itempop")) == 2
    assert len(runs()) == 4
    (ease,) = runs(model="ease")
    kd("evaluate", f"run={ease.folder}", "evaluation.cutoffs=[5]")
    kd("train", *DATA, "teacher=[itempop,ease]", "force=true")
    assert len(runs(model="ease+itempop")) == 3
    assert len(runs(model="itempop")) == 1


def test_an_ensemble_is_better_than_its_weaker_member() -> None:
    kd("train", *DATA, "teacher=[itempop,ease]", "ensemble=rank")
    recalls = {
        run.manifest["labels"]["model"]: next(
            row["value"]
            for row in run.manifest["metrics"]
            if (row["target"], row["scope"], row["metric"]) == ("test", "all", "recall@10")
        )
        for run in runs()
    }
    assert recalls["itempop"] < recalls["ease+itempop"]


def test_require_says_which_command_makes_the_ensemble() -> None:
    kd("preprocess", *DATA)
    result = kd("distill", *DISTILL, BOTH, "ensemble=rank", "upstream=require", status=1)
    assert "The teacher bprmf is missing" in result.stderr
    command = next(line for line in result.stderr.splitlines() if "kdrec train" in line)
    assert "ensemble=rank" in command
    kd("train", *command.split("kdrec train ")[1].split())
    kd("distill", *DISTILL, BOTH, "ensemble=rank", "upstream=require")
    assert len(runs(role="teacher")) == 3


def test_a_sweep_takes_ensembles_beside_single_teachers() -> None:
    kd("distill", "-m", *DATA, *SHORT, *STUDENT, "teacher=itempop,[itempop,ease]", "fit.epochs=5")
    assert {run.manifest["labels"]["teacher"] for run in runs(role="student")} == {
        "itempop",
        "ease+itempop",
    }
    assert len(runs(role="teacher", model="itempop")) == 1


def test_run_shows_the_ensemble_as_the_teacher() -> None:
    shown = kd("run", *DATA, *SHORT, *STUDENT, "teacher=[itempop,ease]")
    assert "ease+itempop" in shown.stdout


def test_a_method_that_needs_vectors_refuses_an_ensemble(tmp_path: Path) -> None:
    folder = tmp_path / "mine" / "method"
    folder.mkdir(parents=True)
    (folder / "wants.yaml").write_text(
        "# @package _global_\nweight: 0.1\nmethod:\n  name: wants\n  needs: vectors\n"
        "  distiller:\n    _target_: tests.clitoys.Popular\n    _partial_: true\n"
    )
    mine = ["-cd", str(tmp_path / "mine"), "allow_code=true"]
    result = kd("distill", *mine, *DISTILL, BOTH, "method=wants", status=2)
    assert "needs a teacher with vectors, and teacher=bprmf+lightgcn is none" in result.stderr
    assert runs() == []


def test_the_order_of_the_members_makes_no_other_teacher() -> None:
    kd("train", *DATA, "teacher=[itempop,ease]")
    kd("train", *DATA, "teacher=[ease,itempop]")
    kd("train", *DATA, "teacher=itempop+ease")
    assert sorted(run.manifest["labels"]["model"] for run in runs()) == [
        "ease",
        "ease+itempop",
        "itempop",
    ]


def test_an_experiment_may_name_an_ensemble(tmp_path: Path) -> None:
    folder = tmp_path / "mine" / "experiment"
    folder.mkdir(parents=True)
    (folder / "both.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /teacher: bprmf+lightgcn\n"
    )
    (folder / "more.yaml").write_text("# @package _global_\ndefaults:\n  - both\n")
    for name in ("both", "more"):
        shown = kd("distill", "-cd", str(tmp_path / "mine"), f"experiment={name}", "--dry-run",
                   "--json")  # fmt: skip
        assert list(json.loads(shown.stdout)["teacher"]["members"]) == ["bprmf", "lightgcn"]
