"""The program from a built wheel, far from the checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("build")
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    done = subprocess.run(
        [
            sys.executable, "-m", "build", "--wheel", "--no-isolation",
            "--outdir", str(folder), str(ROOT),
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    subprocess.run(
        [
            sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index",
            "--target", str(folder), str(wheel),
        ],
        check=True,
    )  # fmt: skip
    return folder


def program(site: Path, cwd: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "kdrec", *words], cwd=cwd, capture_output=True, text=True,
        check=False, env={**os.environ, "PYTHONPATH": str(site)},
    )  # fmt: skip


def test_the_wheel_carries_the_code_the_configs_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert "kdrec/conf/distill.yaml" in names
    assert "kdrec/conf/hydra/job_logging/kdrec.yaml" in names
    assert "kdrec/py.typed" in names
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"kdrec"}
    assert not [name for name in names if "__pycache__" in name]
    assert len(names) == len(set(names))


def test_the_program_from_the_wheel_finds_its_configs(site, tmp_path):
    listed = program(site, tmp_path, "list", "models", "--json")
    assert {"bprmf", "lightgcn"} <= {row["name"] for row in json.loads(listed.stdout)}
    shown = program(site, tmp_path, "distill", "method=unkd", "K=3", "--cfg", "job", "--resolve")
    assert shown.returncode == 0, shown.stderr
    assert "n_groups: 3" in shown.stdout
    where = program(site, tmp_path, "distill", "--info", "searchpath").stdout
    assert str(site / "kdrec" / "conf") in where
    wrong = program(site, tmp_path, "train", "teacher=lightgnc")
    assert wrong.returncode == 2
    assert "Did you mean lightgcn?" in wrong.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_program_from_the_wheel_runs(site, tmp_path):
    done = program(site, tmp_path, "preprocess", "dataset=synthetic")
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.glob("data/processed/synthetic/*/manifest.json"))
