"""Somebody else's config runs nothing but kdrec's own building blocks, unless it is allowed."""

from __future__ import annotations

import ast
import json
import pickle
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

import kdrec
from kdrec import trust
from kdrec.artifacts import finished_runs, write_manifest
from kdrec.cli import confdir
from kdrec.cli.forward import Job
from kdrec.cli.line import Line
from kdrec.errors import UsageError
from tests.program import kd

SMALL = ["dataset.reader.n_users=60", "dataset.reader.n_items=80", "dataset.reader.min_per_user=8",
         "teacher_fit.epochs=2", "fit.epochs=2", "teacher_dim=4", "student_dim=2"]  # fmt: skip
EVIL = """from pathlib import Path
from kdrec.methods.unkd import UnKD
import logging
(Path(__file__).parent / "imported").touch()
class Own(UnKD): ...
class Handler(logging.StreamHandler): ...
def f(*a, **k): (Path(__file__).parent / "called").touch()
"""


@pytest.fixture
def theirs(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A config folder and an importable module `evil` that leaves traces."""
    (here / "evil.py").write_text(EVIL, "utf-8")
    (here / "evilpack").mkdir()
    (here / "evilpack" / "__init__.py").write_text("import evil", "utf-8")
    monkeypatch.syspath_prepend(str(here))
    for name in ("evil", "evilpack"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return here


def traces(folder: Path) -> list[str]:
    return [name for name in ("imported", "called") if (folder / name).exists()]


TARGETS = [
    "os.system",
    "evil.f",
    "evil.Own",
    "builtins.eval",
    "hydra.utils.get_method",
    "hydra.utils.call",
    "hydra.utils.instantiate",
    "kdrec.stages.context.subprocess.run",
    "kdrec.artifacts.os.system",
    "kdrec.artifacts.shutil.rmtree",
    "kdrec.artifacts.write_json",
    "kdrec.cli.signatures.locate",
    "kdrec.cli.signatures.importlib.import_module",
    "kdrec.stages.instances.instantiate",
    "kdrec.data.archives.unpack",
    "kdrec.data.store.save",
    "kdrec.data.table.parquet.write_table",
    "kdrec.data.table.RawData",
    "kdrec.models.bprmf.torch.load",
    "kdrec.models.bprmf.BPRMF.__init__",
    "kdrec.models.bprmf.torch",
    "kdrec.methods.unkd.Interactions",
    "kdrec.models.score_table._Scores",
    "kdrec.models..bprmf.BPRMF",
    "kdrec.models.bprmf.BPRMF ",
    "kdrec.models.nowhere.X",
    "kdrec.models.../../evil.f",
    "kdrec",
    "",
]


@pytest.mark.parametrize("target", [*TARGETS, None, 3, ["os.system"], {"x": 1}])
def test_what_is_not_defined_in_a_building_block_is_not_trusted(target: object) -> None:
    assert not trust.is_trusted(target)
    with pytest.raises(UsageError, match=r"a\.b\._target_=(?s:.)*allow_code=true"):
        trust.check({"b": {"_target_": target}}, "a")


def test_every_target_of_conf_is_trusted() -> None:
    found = [
        target
        for path in confdir.conf_dir().rglob("*.yaml")
        for _, target in trust.targets(OmegaConf.to_container(OmegaConf.load(path)))
        if "hydra" not in path.relative_to(confdir.conf_dir()).parts
    ]
    assert len(found) > 60
    assert [target for target in found if not trust.is_trusted(target)] == []


def test_nothing_is_allowed_beyond_the_block() -> None:
    with trust.allowing(True):
        trust.check({"_target_": "os.system"})
    with pytest.raises(UsageError):
        trust.check({"_target_": "os.system"})


UNDER_HYDRA = [
    "hydra.launcher._target_=evil.f",
    "+hydra.launcher.more={_target_: evil.f}",
    "hydra.sweeper._target_=evil.f",
    "+hydra.callbacks.mine={_target_: evil.f}",
    "+hydra.callbacks.mine={_target_: hydra.experimental.callbacks.PickleJobInfoCallback}",
    "hydra.job_logging.handlers.console.class=evil.Handler",
    "+hydra.job_logging.handlers.console.stream=ext://evil.f",
    "+hydra.job_logging.handlers.mine={class: logging.StreamHandler,queue: evil.f}",
    "+hydra.hydra_logging.formatters.short.class=evil.f",
    "hydra.hydra_logging.handlers.console.class=cfg://evil",
    "hydra.job_logging.handlers=${kdrec_id:}",
    "hydra.job_logging.handlers.file.filename=${dataset.name}",
    "+hydra.job.env_set={PATH: /evil}",
    "+hydra.launcher.setup=[evil]",
    "hydra.searchpath=[pkg://evilpack]",
    r"hydra.searchpath=[pkg\://evilpack]",
]
IN_JOB = [
    "method.distiller._target_=os.system",
    "method.distiller._target_=evil.Own",
    "+method.distiller.strength={_target_: evil.f}",
    "+more=[1,{_target_: evil.f}]",
    "method.distiller._target_=${dataset.name}",
    "++allow_code=false",
]


@pytest.mark.parametrize(
    ("how", "word"),
    [("--dry-run", word) for word in [*UNDER_HYDRA, *IN_JOB[:3]]]
    + [(how, word) for how in ("", "--cfg=job", "--info=config") for word in UNDER_HYDRA[::5]],
)
def test_a_word_that_names_code_is_refused_before_it_is_imported(
    theirs: Path, how: str, word: str
) -> None:
    result = kd("distill", *([how] if how else []), word, status=2)
    assert "allow_code=true" in result.stderr
    assert traces(theirs) == []
    assert not list(theirs.glob("outputs/runs/*/*")), "nothing ran"


@pytest.mark.parametrize("word", IN_JOB[3:-1])
def test_a_target_by_a_detour_is_refused(theirs: Path, word: str) -> None:
    assert "allow_code=true" in kd("distill", "--dry-run", word, status=2).stderr
    assert traces(theirs) == []


FILES = {
    "experiment/theirs.yaml": "# @package _global_\nallow_code: true\n"
    "method: {distiller: {_target_: evil.Own}}\n",
    "method/theirs.yaml": "# @package _global_\ndefaults: [unkd, _self_]\n"
    "method: {distiller: {_target_: evil.Own}}\n",
    "hydra/job_logging/theirs.yaml": "version: 1\nroot: {handlers: [x]}\n"
    "handlers: {x: {class: evil.Handler}}\n",
    "hydra/hydra_logging/theirs.yaml": "version: 1\nroot: {handlers: [x]}\n"
    "filters: {x: {(): evil.f}}\nhandlers: {x: {class: logging.NullHandler, filters: [x]}}\n",
    "experiment/made.yaml": "# @package _global_\n"
    "method: {distiller: \"${oc.create:'{_target_: evil.f}'}\"}\n",
    "experiment/hydra.yaml": "# @package _global_\n"
    "hydra: {job_logging: {formatters: {short: {(): evil.f}}}}\n",
    "theirs.yaml": "hydra: {searchpath: ['pkg://evilpack']}\n",
    "model/theirs.yaml": "_target_: !!python/object/apply:evil.f []\n",
}


@pytest.mark.parametrize(
    ("file", "words", "says"),
    [
        ("experiment/theirs.yaml", ["experiment=theirs"], "allow_code=true"),
        ("method/theirs.yaml", ["method=theirs"], "method.distiller._target_=evil.Own"),
        ("method/theirs.yaml", ["-m", "method=unkd,theirs"], "method.distiller._target_=evil.Own"),
        ("hydra/job_logging/theirs.yaml", ["hydra/job_logging=theirs"], "evil.Handler"),
        ("hydra/hydra_logging/theirs.yaml", ["hydra/hydra_logging=theirs"], "evil.f"),
        ("experiment/hydra.yaml", ["experiment=hydra"], "evil.f"),
        ("experiment/made.yaml", ["experiment=made"], "oc.create"),
        ("theirs.yaml", ["--config-name=theirs"], "pkg://evilpack"),
        ("model/theirs.yaml", ["student=theirs"], "python/object/apply"),
    ],
)
def test_a_folder_of_configs_cannot_run_code(
    theirs: Path, file: str, words: list[str], says: str
) -> None:
    path = theirs / "conf" / file
    path.parent.mkdir(parents=True)
    path.write_text(FILES[file], "utf-8")
    for how in (["--dry-run"], []):
        result = kd("distill", *how, "--config-dir", str(theirs / "conf"), *words, status=2)
        assert says in result.stderr
    assert traces(theirs) == []


def test_what_is_allowed_on_the_line_runs(theirs: Path) -> None:
    word = "method.distiller._target_=evil.Own"
    kd("distill", *SMALL, word, "allow_code=true")
    assert traces(theirs) == ["imported"]
    (student,) = (run for run in finished_runs(Path("outputs"))
                  if run.manifest["labels"]["role"] == "student")  # fmt: skip
    assert "allow_code" not in json.dumps(student.manifest["settings"])


def test_allow_code_is_no_part_of_what_determines_a_result(theirs: Path) -> None:
    kd("train", *SMALL[:3], "teacher_fit.epochs=1", "teacher_dim=2")
    kd("train", *SMALL[:3], "teacher_fit.epochs=1", "teacher_dim=2", "allow_code=true")
    assert len(list(finished_runs(Path("outputs")))) == 1


@pytest.mark.parametrize(
    ("words", "allows"),
    [
        (["allow_code=true"], True),
        (["+allow_code=True"], True),
        ([], False),
        (["allow_code=false"], False),
        (["allow_code=true", "allow_code=false"], False),
        (["allow_code=true,false"], False),
        (["not_allow_code=true"], False),
    ],
)
def test_only_the_line_allows(words: list[str], allows: bool) -> None:
    assert Line.of(words).allows_code is allows


def test_a_worker_checks_its_own_config_and_does_not_believe_it(theirs: Path) -> None:
    config = OmegaConf.create({"allow_code": True, "x": {"_target_": "evil.f"}})
    kd("distill", "--dry-run")  # sets what Hydra's own config is asked for
    job = pickle.loads(pickle.dumps(Job("distill")))  # as a launcher sends it
    assert job(config) is None
    assert isinstance(job.error, UsageError)
    assert "x._target_=evil.f" in job.error.what
    assert pickle.loads(pickle.dumps(Job("distill", allow_code=True))).allow_code
    assert traces(theirs) == []


def test_a_manifest_of_somebody_else_cannot_run_code(theirs: Path) -> None:
    kd("train", *SMALL[:3], "teacher_fit.epochs=1", "teacher_dim=2")
    (run,) = finished_runs(Path("outputs"))
    config = dict(run.manifest["config"])
    config["teacher"] = {**config["teacher"], "_target_": "evil.f"}
    write_manifest(run.folder, {**run.manifest, "config": config})
    result = kd("evaluate", f"run={run.identity[:6]}", "evaluation.item_groups=3", status=2)
    assert "config.teacher._target_=evil.f" in result.stderr
    assert traces(theirs) == []


@pytest.mark.parametrize(
    "words", [["--config-path=pkg://evilpack"], ["--experimental-rerun", "x.pickle"]]
)
def test_flags_that_would_import_or_unpickle_are_refused(theirs: Path, words: list[str]) -> None:
    kd("distill", *words, "--info=searchpath", status=2)
    assert traces(theirs) == []


def test_objects_are_made_in_one_place() -> None:
    package = Path(kdrec.__file__).parent
    makers = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if (isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hydra.utils"))
        or (isinstance(node, ast.ImportFrom) and node.module == "hydra"
            and any(alias.name == "utils" for alias in node.names))
        or (isinstance(node, ast.Import) and any(a.name.startswith("hydra.utils")
                                                 for a in node.names))
    }  # fmt: skip
    assert makers == {"stages/instances.py"}
