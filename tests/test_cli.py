"""The program as its user meets it, over a small world of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import typing
from pathlib import Path

import pytest
from hydra._internal.utils import get_args_parser
from typer.testing import CliRunner, Result

import kdrec
from kdrec.cli import line, listing, manual
from kdrec.cli.app import app
from tests import clitoys
from tests.conftest import ROOT


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root_logger: None) -> clitoys.World:
    return clitoys.make(tmp_path, monkeypatch)


@pytest.fixture
def root_logger() -> typing.Iterator[None]:
    yield from clitoys.keep_root_logger()


def kd(*words: str) -> Result:
    return CliRunner().invoke(app, words, prog_name="kdrec")


def program(*words: str, **kwargs: typing.Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kdrec", *words],
        cwd=ROOT, capture_output=True, text=True, check=False, **kwargs,
    )  # fmt: skip


def test_a_run_gets_its_overrides_and_prints_results_to_stdout_alone(world):
    result = kd("distill", "method=unkd", "K=3", "teacher=gcn")
    assert (result.exit_code, result.stdout) == (0, "result\n")
    (config,) = world.seen
    assert config.method.distiller.n_groups == 3
    assert (config.teacher.dim, config.student.dim) == (100, 10)
    assert config.teacher.n_layers == 2


def test_flags_may_stand_anywhere_and_a_sweep_runs_every_combination(world):
    result = kd("distill", "K=2,3", "-m", "seed=0,1")
    assert result.exit_code == 0, result.stderr
    assert [(c.K, c.seed) for c in world.seen] == [(2, 0), (2, 1), (3, 0), (3, 1)]
    assert result.stdout == "result\n" * 4
    assert "#3 : K=3 seed=1" in result.stderr
    folders = sorted(
        path.name for path in (world.out / "sweep").iterdir() if path.name[0].isdigit()
    )
    assert [name[0] for name in folders] == list("0123")
    assert len({name[2:] for name in folders}) == 4


def test_the_effective_config_and_the_log_are_kept_with_the_run(world):
    assert kd("distill", "K=3").exit_code == 0
    (folder,) = (world.out / "runs").iterdir()
    assert "K: 3" in (folder / ".hydra" / "config.yaml").read_text()
    assert (folder / "distill.log").exists()


@pytest.mark.parametrize(
    ("fail", "status", "says"),
    [
        ("data", 3, "error: no data here\n  fetch them\n"),
        ("usage", 2, "error: wrong\n"),
        (
            "bug",
            1,
            "error: ValueError: surprise\n  This was not foreseen: run it again with --debug",
        ),
        ("interrupt", 130, "\ninterrupted\n"),
    ],
)
def test_a_failure_is_one_message_and_a_status(world, fail, status, says):
    result = kd("distill", f"fail={fail}")
    assert result.exit_code == status
    assert result.stderr.startswith(says)
    assert "Traceback" not in result.output
    assert len(world.seen) == 1


def test_a_surprise_leaves_its_traceback_in_the_log_and_with_debug_on_stderr(world):
    kd("distill", "fail=bug")
    (log,) = world.out.glob("runs/*/distill.log")
    assert "Traceback" in log.read_text()
    assert "Traceback" in kd("distill", "fail=bug", "--debug").stderr


def test_a_sweep_runs_its_other_jobs_and_fails_with_every_reason(world):
    result = kd("distill", "-m", "fail=data,'',bug", "-q")
    assert len(world.seen) == 3
    assert result.exit_code == 1
    assert "error: 2 of 3 jobs did not finish.\n" in result.stderr
    assert "job 0 (fail=data), failed: no data here\n" in result.stderr
    assert "job 2 (fail=bug), failed: ValueError: surprise\n" in result.stderr
    assert "Traceback" not in result.output


def test_quiet_says_nothing_and_verbose_reaches_hydra(world):
    assert kd("distill", "-m", "seed=0,1", "-q").stderr == ""
    kd("distill", "-v", "seed=5")
    saved = "\n".join(path.read_text() for path in world.out.glob("runs/*/.hydra/hydra.yaml"))
    assert "verbose: kdrec" in saved


def test_json_reaches_the_stage_through_the_environment(world):
    kd("distill", "--json")
    assert os.environ["KDREC_JSON"] == "1"
    kd("distill")
    assert os.environ["KDREC_JSON"] == "0"


def test_dry_run_shows_the_resolved_config_and_the_jobs_and_runs_nothing(world):
    result = kd("distill", "-m", "K=2,3", "seed=0,1", "--dry-run", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["method"]["distiller"]["n_groups"] == 2
    assert "4 jobs" in result.stderr
    assert "3: K=3 seed=1" in result.stderr
    assert world.seen == []
    assert not world.out.exists()
    assert "n_groups: 4" in kd("distill", "--dry-run").stdout


def test_hydras_own_flags_work(world, tmp_path):
    assert "n_groups: ${K}" in kd("distill", "--cfg", "job", "K=2").stdout
    assert "n_groups: 2" in kd("distill", "K=2", "-c", "job", "--resolve").stdout
    assert kd("distill", "--cfg", "job", "-p", "method").stdout.startswith("# @package method\n")
    assert "file://" in kd("distill", "--info", "searchpath").stdout
    assert "Hydra" in kd("distill", "--hydra-help").stdout
    assert world.seen == []
    assert kd("distill", "-cn", "train").exit_code == 0
    assert "method" not in world.seen[0]


def test_a_model_of_the_users_own_folder_is_a_teacher_too(world, tmp_path):
    mine = tmp_path / "mine" / "model"
    mine.mkdir(parents=True)
    (mine / "own.yaml").write_text("_target_: tests.clitoys.Model\n_partial_: true\ndim: 3\n")
    result = kd("train", "--config-dir", str(mine.parent), "teacher=own")
    assert result.exit_code == 0, result.stderr
    assert world.seen[0].teacher.dim == 100
    assert kd("train", "teacher=own").exit_code == 2
    listed = kd("list", "models", "-cd", str(mine.parent)).stdout
    assert [row.split()[0] for row in listed.splitlines()] == ["gcn", "mf", "own", "pop"]


def test_report_hands_its_options_on(monkeypatch, tmp_path):
    calls = []

    class Report:
        def show(self, console):
            console.print("tables")

        def as_json(self):
            return {"rows": []}

        def write(self):
            return [tmp_path / "report.md"]

    def build(output_dir, **options):
        calls.append((output_dir, options))
        return Report()

    monkeypatch.setattr("kdrec.report.build", build, raising=False)
    monkeypatch.setenv("KDREC_OUTPUT_DIR", str(tmp_path))
    result = kd("report", "--dataset", "x", "--cutoff", "20", "--seed", "3", "--n-boot", "7")
    assert result.stdout == "tables\n"
    assert result.stderr == f"wrote {tmp_path / 'report.md'}\n"
    options = {"dataset": "x", "cutoff": 20, "out": None, "seed": 3, "n_boot": 7}
    assert calls == [(tmp_path, {**options, "runs": None})]
    assert json.loads(kd("report", "--json").stdout) == {"rows": []}
    assert calls[1][1]["cutoff"] == 10
    kd("report", "some/run", "other/run")
    assert calls[2][1]["runs"] == [Path("some/run"), Path("other/run")]


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """What `build_experiment` was called with; beside it a folder of the user's own presets."""
    calls = []

    class Report:
        def show(self, console):
            console.print("tables")

        def write(self):
            return []

    def build_experiment(output_dir, name, section, **options):
        calls.append((name, section, options))
        return Report()

    monkeypatch.setattr("kdrec.report.build_experiment", build_experiment)
    (tmp_path / "experiment").mkdir()
    (tmp_path / "paper").mkdir()
    (tmp_path / "paper" / "other.yaml").write_text("title: the other\n")
    for name, text in {
        "mine": "report: {paper: other, datasets: [a, b], cutoff: 5}\n",
        "child": "defaults: [mine, _self_]\nreport: {figure: bars, cutoff: 20}\n",
        "bare": "K: 4\n",
        "broken": "report: [\n",
    }.items():
        (tmp_path / "experiment" / f"{name}.yaml").write_text(text)
    return calls


@pytest.mark.parametrize("words", [["experiment=mine"], ["--experiment", "mine"]])
def test_report_of_a_preset_hands_its_section_and_paper_on(asked, tmp_path, words):
    result = kd("report", *words, "a/run", "-cd", str(tmp_path), "--n-boot", "7")
    assert (result.exit_code, result.stdout) == (0, "tables\n")
    name, section, options = asked[0]
    assert (name, section) == ("mine", {"paper": "other", "datasets": ["a", "b"], "cutoff": 5})
    assert options["paper"] == {"title": "the other"}
    assert (options["runs"], options["n_boot"]) == ([Path("a/run")], 7)


def test_a_preset_inherits_the_section_of_its_defaults_and_can_be_narrowed(asked, tmp_path):
    kd("report", "experiment=child", "-cd", str(tmp_path), "--dataset", "b")
    wanted = {"paper": "other", "datasets": ["b"], "cutoff": 20, "figure": "bars"}
    assert asked[0][1] == wanted


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["experiment=mnie"], "Did you mean mine?"),
        (["experiment=bare"], "no section `report:`"),
        (["experiment=broken"], "broken.yaml cannot be read"),
        (["experiment=mine", "--experiment", "child"], "not of mine and child"),
        (["experiment=mine", "--cutoff", "20"], "says itself which cut-offs"),
        (["experiment=mine", "--dataset", "c"], "c is no data set of experiment=mine"),
    ],
)
def test_a_wrong_preset_says_what_is_wrong(asked, tmp_path, words, says):
    result = kd("report", *words, "-cd", str(tmp_path))
    assert result.exit_code == 2
    assert says in result.stderr
    assert asked == []


def test_list_names_what_there_is_with_a_line_each(world):
    assert kd("list", "methods").stdout == "random  A control\nrd\nunkd    UnKD in short\n"
    rows = json.loads(kd("list", "--json").stdout)
    assert {"name": "gcn", "summary": "Graph"} in rows["models"]
    assert list(rows) == [
        "datasets", "models", "debias", "methods", "metrics", "protocols", "experiments"
    ]  # fmt: skip
    wrong = kd("list", "model")
    assert wrong.exit_code == 2
    assert "Did you mean models?" in wrong.stderr


def test_a_list_is_wrapped_beside_its_names_on_a_terminal_alone():
    rows = [
        {"name": "unkd", "needs": "scores", "summary": "pairs drawn within groups of one mass"},
        {"name": "htd", "needs": "vectors", "summary": "cosines"},
    ]
    wide = listing.text("methods", rows).splitlines()
    assert wide[0] == "unkd  scores   pairs drawn within groups of one mass"
    narrow = listing.text("methods", rows, width=45).splitlines()
    assert narrow == [
        "unkd  scores   pairs drawn within groups of",
        "               one mass",
        "htd   vectors  cosines",
    ]
    assert listing.text("methods", rows, width=20).splitlines() == wide


@pytest.mark.parametrize("command", [*manual.PAGES, "report", "list"])
def test_help_says_what_and_how_with_examples(command):
    result = kd(command, "--help")
    assert result.exit_code == 0
    assert "Examples:" in result.stdout
    assert "Results:" in result.stdout or command == "list"
    assert f"kdrec {command}" in result.stdout


def test_the_program_answers_version_help_and_a_wrong_command():
    assert program("--version").stdout == f"kdrec {kdrec.__version__}\n"
    assert "sc install=bash" in program("--help").stdout
    wrong = program("trian")
    assert wrong.returncode == 2
    assert "Did you mean 'train'" in wrong.stderr


@pytest.mark.parametrize("words", [["--help"], ["distill", "--help"], ["list"]])
def test_help_imports_nothing_heavy(words):
    code = (
        "import sys; sys.argv = ['kdrec', *sys.argv[1:]]\n"
        "from kdrec.__main__ import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'pandas', 'hydra', 'omegaconf', 'numpy', 'rich'} & set(sys.modules)\n"
        "sys.exit(','.join(sorted(heavy)) or None)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("words", [["list"], ["distill", "--help"], ["-sc", "query=bash"]])
def test_a_closed_pipe_is_no_traceback(words):
    nobody, writer = os.pipe()
    os.close(nobody)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "kdrec", *words],
            cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, text=True, check=False,
            env={**os.environ, "PYTHONUNBUFFERED": ""},
        )  # fmt: skip
    finally:
        os.close(writer)
    assert done.stderr == ""
    assert done.returncode != 0


def test_the_flags_are_those_of_the_installed_hydra():
    switches, valued = set(), set()
    for action in get_args_parser()._actions:
        if action.option_strings and action.nargs is None:
            valued |= set(action.option_strings)
        elif action.option_strings and action.nargs == 0:
            switches |= set(action.option_strings)
    assert {*line.VALUED, line.RERUN} == valued
    own = {"--help", "-h", "--shell-completion", "-sc"}
    assert switches - own == line.SWITCHES
