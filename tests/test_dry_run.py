"""`--dry-run` refuses what the run refuses, and both do so before anything is made."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from kdrec.cli.app import app

pytestmark = pytest.mark.usefixtures("here")

SMALL = [
    "dataset=synthetic", "dataset.reader.n_users=80", "dataset.reader.n_items=100", "threads=1",
]  # fmt: skip


def kd(*words: str) -> Result:
    return CliRunner().invoke(app, words, prog_name="kdrec")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("train debias=pd teacher=ease", "computed in closed form"),
        ("run debias=pd teacher=ease method=none", "computed in closed form"),
        ("distill debias=pd teacher=ease method=unkd", "computed in closed form"),
        ("distill method=de teacher=ease", "teacher=bprmf and teacher=lightgcn have vectors"),
        ("run method=de teacher=ease", "needs a teacher with vectors"),
        ("distill method=bd teacher=ease", "learnt by gradient descent"),
        ("distill method=hetcomp teacher=[ease,bprmf]", "Leave out what is computed"),
        ("distill method=dcd method.distiller.item_weight=0.5 teacher=ease", "item_weight=0.5"),
        ("distill method=rrd method.distiller.ir_weight=0.5 teacher=ease", "ir_weight=0.5 needs"),
        ("distill student=ease", "cannot learn from soft labels"),
        ("tune method=none tune.space.seed=choice(0,1)", "seed is not to be searched"),
        ("tune method=none tune.space.lr=interval(1,0.1)", "is empty"),
        ("tune role=teacher teacher=ease", "the space is empty"),
        ("tune method=de teacher=ease", "needs a teacher with vectors"),
        ("tune role=teacher debias=pd teacher=ease", "computed in closed form"),
        ("tune tune.space={lr:0.1}", "tune.space.KEY=VALUES"),
        ("tune method=none tune.trials=0", "at least 1"),
    ],
)  # fmt: skip
def test_what_the_run_refuses_is_refused(words: str, says: str) -> None:
    command, *rest = words.split()
    for more in (["--dry-run"], []):
        result = kd(command, *SMALL, *rest, *more)
        assert result.exit_code == 2, result.output
        assert says in result.stderr
        assert not Path("data").exists(), "nothing was made"


@pytest.mark.parametrize(
    "words",
    [
        "distill method=dcd teacher=ease",
        "distill method=dcd method.distiller.item_weight=0.5",
        "tune role=teacher teacher=ease tune.space.teacher.reg=choice(1.0,2.0)",
        "tune method=unkd",
    ],
)
def test_what_can_be_made_is_not_refused(words: str) -> None:
    command, *rest = words.split()
    assert kd(command, *SMALL, *rest, "--dry-run").exit_code == 0


def test_of_a_sweep_every_job_is_asked() -> None:
    sweep = ["-m", "method=unkd,de", "teacher=bprmf,ease", "seed=0,1"]
    result = kd("distill", *SMALL, *sweep, "--dry-run")
    assert result.exit_code == 2
    assert "method=de teacher=ease: method=de needs a teacher with vectors" in result.stderr
