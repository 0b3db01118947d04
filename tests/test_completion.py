"""What the shell is offered."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kdrec.cli import completion
from tests import clitoys
from tests.conftest import ROOT


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[clitoys.World]:
    made = clitoys.make(tmp_path, monkeypatch)
    monkeypatch.setattr(sys, "argv", sys.argv)
    for _ in clitoys.keep_root_logger():
        yield made


def offered(
    line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> list[str]:
    monkeypatch.setenv("COMP_LINE", line)
    completion.run(["-sc", "query=bash"])
    out, err = capsys.readouterr()
    assert err == ""
    return out.split()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("kdrec di", ["distill"]),
        ("kdrec re", ["report"]),
        ("kdrec --v", ["--version"]),
        ("kdrec list m", ["models", "methods", "metrics"]),
        ("kdrec list --j", ["--json"]),
        ("kdrec report --cut", ["--cutoff"]),
        ("kdrec distill --mu", ["--multirun"]),
        ("kdrec distill --dr", ["--dry-run"]),
        ("kdrec distill --cfg j", ["job"]),
        ("kdrec distill teacher=", ["teacher=gcn", "teacher=mf", "teacher=pop"]),
        ("kdrec distill -m K=2 method=u", ["method=unkd"]),
        ("kdrec distill teacher=gcn teacher.n", ["teacher.n_layers="]),
        ("kdrec distill teacher=mf teacher.n", []),
        ("kdrec distill --cfg job fit.e", ["fit.early=", "fit.epochs="]),
        ("kdrec distill --quiet --dry-run fit.e", ["fit.early=", "fit.epochs="]),
        ("kdrec distill K", ["K="]),
        ("kdrec distill method=rd K", []),
        ("kdrec distill method=nonsense K", []),
        (
            "kdrec distill -m hydra/launcher=submitit_slurm hydra.launcher.max",
            ["hydra.launcher.max_num_timeout=", "hydra.launcher.max_retries="],
        ),
    ],
)
def test_what_may_follow(world, line, expected, monkeypatch, capsys):
    assert offered(line, monkeypatch, capsys) == expected


def test_all_commands_are_offered(monkeypatch, capsys):
    assert set(completion.COMMANDS) < set(offered("kdrec ", monkeypatch, capsys))


def test_models_of_the_users_own_folder_are_offered(world, tmp_path, monkeypatch, capsys):
    mine = tmp_path / "mine" / "model"
    mine.mkdir(parents=True)
    (mine / "own.yaml").write_text("_target_: x\n")
    line = f"kdrec distill --config-dir {mine.parent} student=o"
    assert offered(line, monkeypatch, capsys) == ["student=own"]


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash on this machine")
def test_bash_takes_the_script_and_completes_with_it(tmp_path):
    program = tmp_path / "kdrec"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m kdrec "$@"\n')
    program.chmod(0o755)
    script = (
        'eval "$(kdrec -sc install=bash)"\n'
        'COMP_LINE="kdrec dist" COMP_POINT=10 COMP_WORDS=(kdrec dist) COMP_CWORD=1\n'
        'hydra_bash_completion; echo "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, check=False,
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert (done.stdout.strip(), done.returncode) == ("distill", 0), done.stderr


def test_command_names_are_completed_without_hydra_or_typer():
    code = (
        "import os, sys; sys.argv = ['kdrec', '-sc', 'query=bash']\n"
        "os.environ['COMP_LINE'] = 'kdrec tr'\n"
        "from kdrec.__main__ import main; main()\n"
        "sys.exit(','.join({'hydra', 'typer', 'torch', 'numpy'} & set(sys.modules)) or None)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("train\n", "")
