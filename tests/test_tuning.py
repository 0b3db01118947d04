"""The search for settings, without a model: a space, what to try next, and a search on disk."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from optuna.trial import FrozenTrial, TrialState, create_trial

from kdrec.cli.search import line_of
from kdrec.errors import KdrecError, UsageError
from kdrec.stages.space import configured, dimension, search_space, with_settings
from kdrec.tuning.journal import JOURNAL
from kdrec.tuning.search import Search, best_of
from kdrec.tuning.space import (
    Choice,
    Interval,
    Space,
    Value,
    at_ends,
    inside,
    merged,
    points,
    size,
)
from kdrec.tuning.suggest import distributions, suggest
from tests.conftest import ROOT

SPACE: Space = {
    "lr": Choice((0.01, 0.001)),
    "weight": Interval(0.001, 1.0, log=True, whole=False),
    "K": Interval(2, 5, log=False, whole=True),
}
SMALL: Space = {"lr": Choice((0.01, 0.001)), "K": Interval(2, 4, log=False, whole=True)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("choice(0.1,1)", Choice((0.1, 1))),
        ("0.1,1", Choice((0.1, 1))),
        ("0.1", Choice((0.1,))),
        ("true", Choice((True,))),
        ("choice(paper,'official')", Choice(("paper", "official"))),
        ("range(1,5)", Choice((1, 2, 3, 4))),
        ("interval(0.1,1)", Interval(0.1, 1.0, log=False, whole=False)),
        ("tag(log,interval(1e-3,1))", Interval(1e-3, 1.0, log=True, whole=False)),
        ("int(interval(1,9))", Interval(1, 9, log=False, whole=True)),
        ("tag(log,int(interval(1,9)))", Interval(1, 9, log=True, whole=True)),
    ],
)
def test_hydras_sweeps_are_read(text, expected):
    assert dimension("x", text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "choice()", "choice(1,1)", "[1,2]", "choice([1],[2])", "glob(*)", "null", "interval(1,0)",
        "interval(1,1)", "tag(log,interval(0,1))", "tag(lin,interval(0,1))", "interval(0,inf)",
        "tag(log,choice(1,2))", "shuffle(1,2)",
    ],
)  # fmt: skip
def test_what_is_no_space_is_refused_by_its_name(text):
    with pytest.raises(UsageError, match=r"tune\.space\.x"):
        dimension("x", text)


def test_the_users_space_counts_before_the_methods_and_that_before_the_roles():
    config = {
        "role": {"name": "student", "space": {"lr": "a", "l2": "b", "fit": {"x": "c"}}},
        "method": {"space": {"weight": "d", "l2": "e", "method.distiller.mu": "f"}},
        "tune": {"space": {"method": {"distiller": {"mu": 2.5}}, "lr": None, "weight": "null"}},
    }
    assert merged(config) == {"l2": "e", "fit.x": "c", "method.distiller.mu": "2.5"}
    config["role"]["name"] = "teacher"  # type: ignore[index]
    assert "l2" in merged(config)
    assert merged(config)["l2"] == "b"


def test_a_setting_goes_into_the_config_and_what_refers_to_it_follows():
    cfg = OmegaConf.create(
        {
            "lr": 0.1,
            "fit": {"lr": "${lr}"},
            "K": 4,
            "m": {"n": "${K}", "path": None},
            "tune": {},
            "seed": 0,
        }
    )
    OmegaConf.set_struct(cfg, True)
    trial = with_settings(cfg, {"lr": 0.5, "K": 2})
    assert (trial.fit.lr, trial.m.n) == (0.5, 2)
    assert (cfg.fit.lr, "tune" in cfg, "tune" in trial) == (0.1, True, False)
    assert configured(cfg, ["fit.lr", "m.path"]) == {"fit.lr": 0.1, "m.path": None}
    for key in ("m", "nope", "m.nope", "seed"):
        with pytest.raises(UsageError, match=key):
            configured(cfg, [key])


def test_keys_that_change_nothing_are_left_out_or_refused():
    cfg = OmegaConf.create(
        {
            "role": {"name": "student", "space": {"lr": "choice(1.0,2)", "l2": "choice(1,2)"}},
            "tune": {"space": {}},
            "lr": 0.1,
            "l2": 0.1,
            "none": 3,
        }
    )
    space = search_space(cfg, lambda one: str(one.lr))
    assert space == {"lr": Choice((1.0, 2.0))}
    assert [type(value) for value in space["lr"].values] == [float, float]  # type: ignore[union-attr]
    cfg.tune.space = {"none": "choice(1,2)"}
    with pytest.raises(UsageError, match="none changes nothing"):
        search_space(cfg, lambda one: str(one.lr))
    cfg.tune.space = {"lr": None}
    with pytest.raises(UsageError, match="nothing to search"):
        search_space(cfg, lambda one: str(one.lr))


def test_a_space_that_can_be_counted_is_counted():
    assert size(SPACE) is None
    assert size(SMALL) == 6 == len(list(points(SMALL)))
    assert inside(SPACE, {"lr": 0.5, "weight": 1, "K": 2.0}) == {"weight": 1}


def done(space: Space, settings: dict, value: float | None) -> FrozenTrial:
    state = TrialState.FAIL if value is None else TrialState.COMPLETE
    return create_trial(
        state=state, value=value, params=settings, distributions=distributions(space)
    )


def explore(space: Space, n: int, seed: int = 0, history: list[FrozenTrial] | None = None):
    history = list(history or [])
    while len(history) < n:
        settings = suggest(space, history, first={"lr": 0.001, "K": 99}, seed=seed)
        if settings is None:
            break
        value = 1 - abs(math.log10(float(settings.get("weight", 0.1))) + 1) / 4
        history.append(done(space, settings, value))
    return [trial.params for trial in history], history


def test_what_lies_at_an_end_is_found():
    space: Space = {
        "l2": Choice((0.1, 0.01, 0.001)),
        "two": Choice((30, 40)),
        "norm": Choice(("a", "b", "c")),
        "flag": Choice((True, False)),
        "weight": Interval(0.001, 1.0, log=True, whole=False),
        "K": Interval(2, 10, log=False, whole=True),
    }
    inner: dict[str, Value] = {
        "l2": 0.01, "two": 30, "norm": "a", "flag": True, "weight": 0.0015, "K": 3
    }  # fmt: skip
    assert at_ends(space, inner) == {}
    outer: dict[str, Value] = {**inner, "l2": 0.1, "weight": 0.0014, "K": 10}
    assert at_ends(space, outer) == {"l2": 0.1, "weight": 0.0014, "K": 10}
    assert at_ends(space, {"l2": 0.001, "weight": 0.75}) == {"l2": 0.001, "weight": 0.75}


def test_a_dimension_is_written_as_it_is_read():
    for text in ("choice(0.1,true,a)", "interval(0.1,1.0)", "tag(log,int(interval(1,9)))"):
        assert str(dimension("key", text)) == text


def test_the_search_is_a_function_of_its_seed_and_goes_on_as_if_not_interrupted():
    whole, history = explore(SPACE, 25)
    again, _ = explore(SPACE, 25, history=history[:13])
    assert whole == again
    assert whole != explore(SPACE, 25, seed=1)[0]
    assert whole[0]["lr"] == 0.001, "the configured value comes first, where the space has it"
    assert 2 <= whole[0]["K"] <= 5
    assert all(len(f"{one['weight']:g}") < 10 for one in whole), "few digits"
    near = [abs(math.log10(one["weight"]) + 1) for one in whole]
    assert sum(near[15:]) / 10 < 0.8 * sum(near[:10]) / 10, "it learns from what was tried"


def test_no_point_comes_twice_and_the_space_ends():
    tried, _ = explore(SMALL, 50)
    assert len(tried) == 6
    assert sorted(map(str, tried)) == sorted(map(str, points(SMALL)))


def test_a_failed_point_counts_as_the_worst():
    wide: Space = {"weight": Interval(0.0, 1.0, log=False, whole=False)}
    history = [done(wide, {"weight": x / 10}, 0.5 if x < 5 else None) for x in range(11)]
    drawn = [suggest(wide, history, first={}, seed=seed) for seed in range(30)]
    below = sum(one is not None and float(one["weight"]) < 0.5 for one in drawn)
    assert below >= 24


def open_search(folder: Path, *, anew: bool = False) -> Search:
    return Search(folder, SMALL, first={"lr": 0.01, "K": 2}, seed=0, anew=anew)


def test_a_search_is_kept_continued_and_begun_anew(tmp_path):
    search = open_search(tmp_path)
    assert best_of(search.trials()) is None
    for value in (0.1, None, 0.3):
        with search.begin(3) as trial:
            assert trial is not None
            if value is None:
                search.fail(trial, "the loss is not finite")
            else:
                search.finish(trial, value, epochs=5)
    with search.begin(3) as trial:
        assert trial is None
    again = open_search(tmp_path)
    assert [one.state for one in again.trials()] == ["finished", "failed", "finished"]
    assert again.trials()[1].notes == {"reason": "the loss is not finite"}
    assert again.trials()[0].settings == {"lr": 0.01, "K": 2}
    best = best_of(again.trials())
    assert best is not None
    assert (best.number, best.value, best.notes["epochs"]) == (2, 0.3, 5)
    with again.begin(4) as trial:
        assert trial is not None
        assert trial.number == 3
        with pytest.raises(ValueError, match="nan"):
            again.finish(trial, math.nan)
        again.finish(trial, 0.2)
    assert open_search(tmp_path, anew=True).trials() == []


def test_a_trial_whose_process_died_is_begun_again_by_one_alone(tmp_path):
    first, second = open_search(tmp_path), open_search(tmp_path)
    with first.begin(2) as one, second.begin(2) as two:
        assert one is not None
        assert two is not None
        assert (one.number, two.number) == (0, 1)
        assert one.settings != two.settings
    with second.begin(2) as left:
        assert left is not None
        assert (left.number, left.settings) == (0, one.settings)
        with first.begin(2) as other:
            assert other is not None
            assert other.number == 1
            first.finish(other, 0.1)
        second.finish(left, 0.2)
    with first.begin(2) as none:
        assert none is None


def test_what_a_killed_writer_left_is_mended(tmp_path):
    search = open_search(tmp_path)
    with search.begin(1) as trial:
        assert trial is not None
        search.finish(trial, 0.5)
    journal = tmp_path / JOURNAL
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code":4,"half')
    (tmp_path / f"{JOURNAL}.lock").write_text("")
    again = open_search(tmp_path)
    assert journal.read_bytes().startswith(whole)
    assert b"half" not in journal.read_bytes()
    assert [one.value for one in again.trials()] == [0.5]


def test_a_damaged_journal_is_named(tmp_path):
    (tmp_path / JOURNAL).write_text("nonsense\n{}\n")
    with pytest.raises(KdrecError, match=JOURNAL):
        open_search(tmp_path)
    assert open_search(tmp_path, anew=True).trials() == []


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("tune.space.K=choice(2,3)", "++tune.space.K='choice(2,3)'"),
        ("++tune.space.K='choice(2,3)'", "++tune.space.K='choice(2,3)'"),
        ("tune.space.n='a','b'", r"++tune.space.n='\'a\',\'b\''"),
        ("tune.space.lr=null", "++tune.space.lr='null'"),
        ("tune.trials=3", "tune.trials=3"),
        ("lr=1", "lr=1"),
    ],
)
def test_a_search_string_reaches_hydra_as_a_text(word, expected):
    assert line_of("tune", [word]).overrides == [expected]
    assert line_of("distill", [word]).overrides == [word]
    (override,) = OverridesParser.create().parse_overrides([expected])
    assert not override.is_sweep_override()


WORK = """
import sys
from pathlib import Path
from kdrec.tuning.search import Search
from kdrec.tuning.space import Choice, Interval
space = {"lr": Choice((0.01, 0.001)), "K": Interval(2, 4, log=False, whole=True)}
search = Search(Path(sys.argv[1]), space, first={"lr": 0.01, "K": 2}, seed=0, anew=False)
trial = search
while trial is not None:
    with search.begin(6) as trial:
        if trial is not None:
            search.finish(trial, trial.number / 10)
"""


def test_processes_share_a_search_and_optunas_own_tools_read_it(tmp_path):
    processes = [
        subprocess.Popen([sys.executable, "-W", "error", "-c", WORK, str(tmp_path)], cwd=ROOT,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(2)
    ]  # fmt: skip
    for process in processes:
        said, _ = process.communicate(timeout=120)
        assert (process.returncode, said) == (0, ""), "Optuna keeps quiet"
    trials = open_search(tmp_path).trials()
    assert sorted(str(dict(one.settings)) for one in trials) == sorted(map(str, points(SMALL)))
    assert [one.value for one in trials] == [number / 10 for number in range(6)]
    backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / JOURNAL))
    study = optuna.load_study(study_name=None, storage=optuna.storages.JournalStorage(backend))
    assert study.best_value == 0.5
