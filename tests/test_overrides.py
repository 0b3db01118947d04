"""Wrong keys and values are refused before anything runs, in one short message."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from omegaconf import OmegaConf
from typer.testing import CliRunner

from kdrec.cli.app import app
from kdrec.cli.confdir import conf_dir
from kdrec.cli.overrides import check_config
from kdrec.cli.several import variations
from kdrec.cli.signatures import HYDRA_KEYS, check_node, locate, options, target_nodes
from kdrec.cli.unknown import closest
from kdrec.cli.values import matches, wanted
from kdrec.errors import KdrecError, UsageError
from tests import clitoys


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[clitoys.World]:
    made = clitoys.make(tmp_path, monkeypatch)
    for _ in clitoys.keep_root_logger():
        yield made


def distill(line: str) -> Any:
    return CliRunner().invoke(app, ["distill", *line.split(" ")], prog_name="kdrec")


WRONG = {
    "lr=abc": "lr=abc is not a number.",
    "lr=true": "lr=true is not a number.",
    "fit.epochs=ten": "fit.epochs=ten is not a whole number.",
    "fit.epochs=1.5": "fit.epochs=1.5 is not a whole number.",
    "fit.epochs=null": "fit.epochs=null is not a whole number.",
    "fit.early=1": "fit.early=1 is not true or false.",
    "fit.cutoffs=[a]": "fit.cutoffs=[a] is not a list of whole numbers.",
    "fit.cutoffs=10": "fit.cutoffs=10 is not a list of whole numbers.\n  Write fit.cutoffs=[10].",
    "fit={epoch:3}": "There is no fit.epoch.\n  Did you mean epochs?",
    "fit={epochs:x}": "fit.epochs=x is not a whole number.",
    "fit=3": "fit=3 is not a set of key: value.",
    "upstream=3": "upstream=3 is not text.\n  For text, quote it twice: upstream=\"'3'\"",
    "weight=abc": "weight=abc is not a number.",
    "K=x": "K=x is not a whole number.",
    "method.distiller.norm=oficial": (
        "method.distiller.norm=oficial is not one of paper, official.\n  Did you mean official?"
    ),
    "method.distiller.limit=no": "method.distiller.limit=no is not a whole number or null.",
    "method.distiller.shares=[0.5,x]": "method.distiller.shares=[0.5,x] is not a list of numbers.",
    "teacher.dim=wide": "teacher.dim=wide is not a whole number.",
    "+teacher.dims=3": (
        "teacher.dims: tests.clitoys.Model has no option 'dims'.\n  Did you mean dim?"
    ),
    "method=unkdd": "There is no method 'unkdd'.\n  Did you mean unkd?",
    "teacher=gnc": (
        "There is no teacher 'gnc'.\n  Did you mean gcn? teacher is one of: gcn, mf, pop"
    ),
    "method=null": "kdrec distill cannot do without method.\n  method is one of: ",
    "~method": "kdrec distill cannot do without method.\n  method is one of: ",
    "metric=[recall,ndgc]": "There is no metric 'ndgc'.\n  Did you mean ndcg?",
    "method=rd K=4": "K does not go with method=rd.\n  It goes with method=random or method=unkd.",
    "teacher.n_layers=3": (
        "teacher.n_layers does not go with teacher=mf.\n  It goes with teacher=gcn."
    ),
    "teachr=gcn": "kdrec distill has no key 'teachr'.\n  Did you mean teacher",
    "epochs=3": "kdrec distill has no key 'epochs'.\n  Did you mean fit.epochs?",
    "fit.epoch=3": "kdrec distill has no key 'fit.epoch'.\n  Did you mean fit.epochs?",
    "zzz=3": "kdrec distill has no key 'zzz'.\n  All keys are shown by: kdrec distill --cfg job",
    "model=gcn": "kdrec distill has no model=.\n  Did you mean",
    "gcn": "'gcn' is not an override.\n  Did you mean",
    "K={": "'K={' is not an override that can be read.\n  An override is key=value",
    "K=2,3": "K=2,3 is several values, but this is a single run.\n  Add -m to run each of them",
    "-m K=2,x,4": "K=x is not a whole number.",
    "-m seed=range(3) lr=1,2,x": "lr=x is not a number.",
    "-m method=unkd,rdd": "There is no method 'rdd'.",
    "-m method=unkd,rd K=2,3": "K does not go with method=rd.",
    "-m teacher=mf,gcn teacher.n_layers=1": "teacher.n_layers does not go with teacher=mf.",
    "hydra.foo=3": "Could not override 'hydra.foo'.",
    "hydra/launcher=jobli": "There is no hydra/launcher 'jobli'.",
    "-cn needy": "run needs a value.\n  Add run=VALUE.",
    "-cn distil": "Cannot find primary config 'distil'.",
    "--frobnicate": "There is no option --frobnicate.",
    "--multirn": "There is no option --multirn.\n  Did you mean --multirun?",
    "--cfg": "--cfg needs a value.",
    "-cd /nowhere/at/all": "--config-dir /nowhere/at/all is no folder.",
    "lr=abc --cfg job": "lr=abc is not a number.",
}


@pytest.mark.parametrize("line", WRONG)
def test_what_is_wrong_is_refused_with_the_nearest_right_one(world, line):
    result = distill(line)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {WRONG[line]}")
    assert len(result.stderr.splitlines()) <= 3
    assert result.stdout == ""
    assert world.seen == []
    assert not world.out.exists()


@pytest.mark.parametrize(
    "line",
    [
        "lr=1",
        "weight=0.5",
        "lr=1e-3",
        "fit={epochs:3}",
        "fit.cutoffs=[1,2]",
        "path=x",
        "path=[a,b]",
        "upstream='3'",
        "method.distiller.limit=3",
        "method.distiller.shares=[1,0.5]",
        "method.distiller.n_groups=${seed}",
        "+extra=1",
        "metric=[recall,ndcg]",
        "teacher=pop",
        "teacher=gcn teacher.n_layers=3",
        "fit.cutoffs.0=5",
        "-m method=unkd,random K=2,3",
        "-m teacher=glob(*)",
        "-m lr=range(1,3)",
        "-cn needy run=x --dry-run",
    ],
)
def test_what_is_right_passes(world, line):
    result = distill(line)
    assert result.exit_code == 0, result.output


def test_an_interpolated_value_is_checked_when_it_is_resolved(world):
    result = distill("method.distiller.n_groups=${upstream}")
    assert result.stderr.startswith("error: method.distiller.n_groups=make is not a whole number.")
    assert world.seen == []


def test_every_job_of_a_sweep_is_checked_again_before_its_stage_runs(world):
    result = distill("-m method.distiller.n_groups=${K},${upstream}")
    assert "failed: method.distiller.n_groups=make is not a whole number.\n" in result.stderr
    assert result.exit_code == 1
    assert len(world.seen) == 1


def test_a_sweep_in_the_config_itself_is_checked_too(world):
    folder = world.conf / "experiment"
    folder.mkdir()
    (folder / "bad.yaml").write_text(
        "# @package _global_\nhydra: {mode: MULTIRUN, sweeper: {params: {K: '2,x'}}}\n"
    )
    (folder / "good.yaml").write_text(
        "# @package _global_\nhydra: {mode: MULTIRUN, sweeper: {params: {K: '2,3'}}}\n"
    )
    assert distill("+experiment=bad").stderr.startswith("error: K=x is not a whole number.")
    assert distill("+experiment=good").exit_code == 0
    assert [config.K for config in world.seen] == [2, 3]


@pytest.fixture
def preset(world):
    """Writes a preset of a name: `preset(name, hydra, *bases)`."""
    folder = world.conf / "experiment"
    folder.mkdir()

    def write(name: str, hydra: str, *bases: str) -> None:
        text = f"# @package _global_\ndefaults: [{', '.join(bases)}]\nhydra: {hydra}\n"
        (folder / f"{name}.yaml").write_text(text)

    return write


def test_a_part_of_a_preset_that_sweeps_may_be_several_values(world, preset):
    preset("shared", "{mode: MULTIRUN}")
    preset("whole", "{sweeper: {params: {K: '2,3,4', method: unkd}}}", "shared")
    assert distill("+experiment=whole K=2,4").exit_code == 0
    assert [config.K for config in world.seen] == [2, 4]
    assert distill("+experiment=whole method=unkd,random K=3").exit_code == 0
    assert len(world.seen) == 4
    assert "this is a single run" in distill("K=2,4").stderr
    preset("one", "{mode: RUN}", "whole")
    for words in ("+experiment=one", "+experiment=whole hydra.mode=RUN", "+experiment=whole --run"):
        assert "this is a single run" in distill(f"{words} K=2,4").stderr
        before = len(world.seen)
        assert distill(f"{words} K=2").exit_code == 0
        assert len(world.seen) == before + 1


def test_several_presets_are_refused_where_one_is_a_sweep(world, preset):
    preset("first", "{mode: MULTIRUN, sweeper: {params: {K: '2,3'}}}")
    preset("second", "{mode: MULTIRUN, sweeper: {params: {K: '4'}}}")
    preset("plain", "{}")
    preset("other", "{}")
    assert "this is a single run" in distill("+experiment=first,second").stderr
    for words in ("first,second", "plain,first"):
        assert "one of them is a sweep by itself" in distill(f"-m +experiment={words}").stderr
    assert world.seen == []
    assert distill("-m +experiment=plain,other").exit_code == 0
    assert len(world.seen) == 2


def test_what_is_shown_is_one_config(world, preset):
    preset("whole", "{mode: MULTIRUN, sweeper: {params: {K: '2,3'}}}")
    assert distill("+experiment=whole --cfg job").exit_code == 0
    assert "one config is shown" in distill("+experiment=whole K=2,3 --cfg job").stderr
    assert "-m is to run" in distill("-m K=2,3 --cfg job").stderr
    assert world.seen == []


def test_variations_change_one_thing_at_a_time():
    assert list(variations([["a"], ["b", "c"], ["d", "e"]])) == [
        ["a", "b", "d"], ["a", "c", "d"], ["a", "b", "e"],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("annotation", "right", "wrong", "words"),
    [
        (int, [1, -2], [1.0, True, "1", None], "a whole number"),
        (float, [1, 1.5], [True, "x", None], "a number"),
        (bool, [True], [1, 0, "true"], "true or false"),
        (str, ["", "a"], [1, None, True], "text"),
        (Path, ["a"], [1], "a path"),
        (int | None, [1, None], ["a"], "a whole number or null"),
        (None, [None], [0, ""], "null"),
        (Literal["a", 1], ["a", 1], ["b", True], "one of a, 1"),
        (list[int], [[], [1]], [1, [1.5]], "a list of whole numbers"),
        (list[int] | int, [[1], 1], ["x"], "a list of whole numbers or a whole number"),
        (tuple[float, ...], [[1, 2.5]], [["x"]], "a list of numbers"),
        (dict[str, int], [{"a": 1}], [{"a": "b"}, 1], "a set of key: value"),
        (Annotated[int, "x"], [1], ["a"], "a whole number"),
        (Any, [1, None, "x"], [], "Any"),
    ],
)
def test_a_value_is_held_against_an_annotation(annotation, right, wrong, words):
    assert all(matches(value, annotation) for value in right)
    assert not any(matches(value, annotation) for value in wrong)
    assert wanted(annotation) == words


def test_check_config_reaches_nodes_in_lists_and_targets_in_targets():
    node = {"_target_": "tests.clitoys.Graph", "dim": 3, "n_layers": "two"}
    with pytest.raises(UsageError, match=r"a\.0\.b\.n_layers=two is not a whole number"):
        check_config(OmegaConf.create({"a": [{"b": node}]}))
    check_config(OmegaConf.create({"a": [{"b": node | {"n_layers": 2}}]}))


def test_a_target_that_is_not_there_is_named():
    for path in ("tests.clitoys.Nope", "nowhere_at_all.x", "tests.clitoys.FILES"):
        with pytest.raises(UsageError, match=path):
            locate(path)


def test_a_missing_package_is_named_with_the_way_to_get_it(tmp_path, monkeypatch):
    (tmp_path / "wants_more.py").write_text("import not_installed_at_all\ndef f(): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(KdrecError, match="pip install not_installed_at_all"):
        locate("wants_more.f")


def test_an_annotation_for_type_checkers_only_does_not_hide_the_others():
    known, open_ended = options(clitoys.unkd)
    assert known["n_groups"] is int
    assert known["teacher"] is Any
    assert not open_ended


def test_closest_knows_whole_keys_their_ends_and_near_ends():
    keys = ["fit.epochs", "teacher_fit.epochs", "lr", "evaluation.item_groups"]
    assert closest("epochs", keys) == ["fit.epochs", "teacher_fit.epochs"]
    assert closest("fit.epoch", keys)[0] == "fit.epochs"
    assert closest("item_group", keys)[0] == "evaluation.item_groups"
    assert closest("qqqq", keys) == []


def _files_with_targets() -> list[str]:
    return sorted(
        str(path.relative_to(conf_dir()))
        for path in conf_dir().rglob("*.yaml")
        if "hydra" not in path.parts and "_target_" in path.read_text()
    )


@pytest.mark.parametrize("name", _files_with_targets())
def test_every_option_in_conf_is_one_of_its_target(name):
    content = OmegaConf.to_container(OmegaConf.load(conf_dir() / name), resolve=False)
    nodes = list(target_nodes(content))
    assert nodes
    for path, node in nodes:
        fixed = {
            key: value
            for key, value in node.items()
            if key in HYDRA_KEYS or not (isinstance(value, str) and "${" in value)
        }
        check_node(path, fixed)
        known, _ = options(locate(str(node["_target_"])))
        assert set(node) - HYDRA_KEYS <= set(known), f"{name}: {path}"


@pytest.mark.parametrize("name", _files_with_targets())
def test_no_hyper_parameter_has_its_default_in_code(name):
    content = OmegaConf.to_container(OmegaConf.load(conf_dir() / name), resolve=False)
    for path, node in target_nodes(content):
        signature = inspect.signature(locate(str(node["_target_"])))
        given = {name: signature.parameters[name] for name in node if name in signature.parameters}
        twice = [name for name, p in given.items() if p.default is not inspect.Parameter.empty]
        assert twice == [], f"{path}: written in conf/ and in code"
