"""Where conf/ is, the roles of a model, and the name of a run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from kdrec.cli import composed, confdir, forward, listing, manual
from kdrec.cli.composed import look_up, plain
from kdrec.cli.forward import checking
from kdrec.cli.line import Line
from kdrec.cli.search import line_of
from kdrec.errors import UsageError

CONF = confdir.conf_dir()


@pytest.fixture(autouse=True)
def roles() -> Iterator[None]:
    yield
    confdir.register()


def test_conf_is_beside_the_package_in_a_checkout_and_inside_it_in_a_wheel(tmp_path, monkeypatch):
    assert CONF.name == "conf"
    assert (CONF / "distill.yaml").exists()
    package = tmp_path / "site" / "kdrec"
    (package / "conf").mkdir(parents=True)
    monkeypatch.setattr(confdir, "__file__", str(package / "cli" / "confdir.py"))
    assert confdir.conf_dir() == package / "conf"


def test_a_role_is_made_of_every_model_file_and_dim_comes_from_the_role(tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    (model / "wide.yaml").write_text("_target_: x\ndim: 8\n")
    (model / "plain.yaml").write_text("_target_: x\nembedding:\n  dim: 8\n")
    confdir.register_roles([tmp_path])
    store = ConfigStore.instance()
    assert store.list("teacher") == ["plain.yaml", "wide.yaml"] == store.list("student")
    assert store.load("student/wide.yaml").node == {
        "defaults": ["/model/wide@_here_", "_self_"], "dim": "${student_dim}",
    }  # fmt: skip
    assert "dim" not in store.load("teacher/plain.yaml").node


def test_a_file_of_its_own_for_a_role_wins_and_former_roles_are_forgotten(tmp_path):
    for name in ("model/a.yaml", "model/b.yaml", "teacher/a.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x: 1\n")
    confdir.register_roles([CONF])
    confdir.register_roles([tmp_path])
    assert ConfigStore.instance().list("teacher") == ["b.yaml"]
    assert ConfigStore.instance().list("student") == ["a.yaml", "b.yaml"]


def _id(**more: object) -> str:
    confdir.register_resolvers()
    config = {"lr": 0.1, "output_dir": "out", "hydra": {"x": 1}, "name": "${kdrec_id:}"} | more
    return str(OmegaConf.create(config).name)


def test_the_id_of_a_run_changes_with_what_determines_it_alone():
    base = _id()
    assert re.fullmatch("[0-9a-f]{8}", base)
    assert base == _id(output_dir="b", device="cuda", threads=3, force=True, hydra=None, data_dir=1)
    assert base == _id(upstream="require")
    assert base != _id(lr=0.2)
    assert base != _id(seed=1)


def test_the_id_of_a_run_never_raises():
    assert re.fullmatch("[0-9a-f]{8}", _id(broken="${nowhere}", missing="???"))
    assert re.fullmatch("[0-9a-f]{8}", confdir.run_id(_root_=object()))


def test_a_package_header_is_the_first_line_or_hydra_does_not_see_it():
    late = [
        str(path.relative_to(CONF))
        for path in CONF.rglob("*.yaml")
        if re.search(r"^# @package", path.read_text(), re.MULTILINE)
        and not path.read_text().startswith("# @package")
    ]
    assert late == []


@pytest.mark.parametrize("kind", listing.KINDS)
def test_everything_to_choose_from_says_in_a_line_what_it_is(kind):
    silent = [row["name"] for row in listing.entries(kind, [CONF]) if not row["summary"]]
    assert silent == []
    assert listing.entries(kind, [CONF]) or kind == "experiments"


def test_methods_say_what_they_need_of_a_teacher():
    needs = {row["name"]: row["needs"] for row in listing.entries("methods", [CONF])}
    assert (needs["none"], needs["unkd"], needs["unkd_random"]) == ("", "scores", "scores")
    assert all(needs[name] for name in needs if name != "none")
    lines = listing.text("methods", listing.entries("methods", [CONF])).splitlines()
    assert len({line.index("  scores  ") for line in lines if "  scores  " in line}) == 1


def _examples() -> list[str]:
    return [
        line
        for page in manual.PAGES.values()
        for line in page.examples
        if line.startswith("kdrec ")
    ]


@pytest.mark.parametrize("example", _examples())
def test_every_example_in_the_help_is_accepted(example):
    _, command, *words = shlex.split(example)
    line = line_of(command, [word for word in words if word not in {"--dry-run", "--json"}])
    with checking(command, line) as checker:
        assert checker.check(line.overrides).jobs


@pytest.mark.parametrize("command", manual.PAGES)
def test_every_key_in_the_help_exists(command):
    with checking(command, Line.of([])) as checker:
        config = checker.loader.load_configuration(command, [], "RUN")
        choices, content = composed.choices(config), plain(config)
        keys = re.findall(r"([\w.@]+)=", " ".join(
            text for key, meaning in manual.PAGES[command].keys.items() for text in (key, meaning)
        ))  # fmt: skip
        for key in keys:
            assert key in choices or look_up(content, key)[0], f"kdrec {command}: {key}"


def test_the_commands_of_the_readme_are_accepted():
    for command, words, jobs in (
        ("train", "teacher=lightgcn", 1),
        ("train", "teacher_fit=fast", 1),
        ("run", "fit=fast teacher_fit=fast", 1),
        ("distill", "method=unkd K=4", 1),
        ("distill", "-m method=unkd K=2,3,4 seed=0,1", 6),
    ):
        line = Line.of(words.split())
        with checking(command, line) as checker:
            checked = checker.check(line.overrides)
            assert len(checked.jobs) == jobs
            for job in checked.jobs:
                assert OverridesParser.create().parse_overrides(job)


def test_k_is_refused_where_the_method_has_none():
    with checking("distill", Line.of([])) as checker, pytest.raises(Exception, match="method=unkd"):
        checker.check(["method=none", "K=4"])


def test_a_path_on_the_command_line_is_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert confdir.user_folders(None, "mine") == [CONF, tmp_path / "mine"]
    assert confdir.user_folders("/other", None) == [Path("/other")]


def test_an_experiment_wins_over_the_command_and_the_line_over_the_experiment():
    words = ["experiment=unkd-citeulike", "lr=0.5"]
    with forward.checking("run", Line.of(words)) as checker:
        config = checker.check(words).config
    assert (config.alone.lr, config.teacher_l2, config.lr) == (0.001, 0.01, 0.5)
    assert config.method.distiller.norm == "official"


@pytest.mark.parametrize(
    ("words", "file"),
    [
        (["tuned=citeulike-bprmf-cd", "method=cd"], "tuned/citeulike-bprmf-cd"),
        (["experiment=table1", "hydra.mode=RUN", "method=cd"], "tuned/citeulike-bprmf-cd"),
        (["-m", "method=rd,cd"], "method/cd"),
        (["teacher=lightgcn"], "model/lightgcn"),
        ([], "fit/paper"),
    ],
)
def test_a_file_of_the_users_that_ours_hides_is_refused(tmp_path, words, file):
    """Hydra takes ours and says nothing: the user's settings would not be those that run."""
    ours = CONF / f"{file}.yaml"
    mine = tmp_path / f"{file}.yaml"
    mine.parent.mkdir()
    for text in (ours.read_text() + "# mine\n", ours.read_text()):
        mine.write_text(text)
        line = Line.of([*words, "--config-dir", str(tmp_path)])
        differs = text != ours.read_text()
        with (
            forward.checking("distill", line) as checker,
            pytest.raises(UsageError, match="stands in two files") if differs else nullcontext(),
        ):
            checker.check(line.overrides)


def test_what_is_not_chosen_anyway_can_be_left_out():
    for words in (["~tuned"], ["experiment=table1", "hydra.mode=RUN", "method=cd", "~tuned"]):
        with forward.checking("distill", Line.of(words)) as checker:
            assert "tuned" not in composed.choices(checker.check(words).config)
    for line in (["tuned=null"], ["experiment=null"]):
        with (
            forward.checking("distill", Line.of(line)) as checker,
            pytest.raises(UsageError, match="chooses none"),
        ):
            checker.check(line)
