"""The report of a preset, against runs that the report's tests make."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from kdrec.artifacts import write_manifest
from kdrec.errors import KdrecError, UsageError
from kdrec.report import build_experiment
from kdrec.report.preset import Preset
from kdrec.report.verdict import CONFIRMED
from tests.test_report import Runs, cell, labels, manifest, shown

PAPER = {
    "title": "the paper",
    "source": "A. Uthor: A Paper. 2020.",
    "statistics": {"toy": {"users": 200, "items": 120, "interactions": 901}},
    "columns": ["recall@10", "recall@10 unpopular diluted"],
    "results": {
        "toy": {
            "bprmf": {
                "teacher": [0.5, None],
                "none": [0.2, 0.1],
                "rd": [0.3, 0.05],
                "unkd": [0.4, 0.15],
            }
        }
    },
}
SECTION = {
    "paper": "made-up",
    "datasets": ["toy"],
    "students": ["bprmf"],
    "metrics": ["recall@10", "recall@10 unpopular diluted", "ndcg@10 popular"],
    "seeds": [0, 1, 2],
    "methods": {
        "teacher": {"role": "teacher", "paper": "teacher"},
        "none": {},
        "rd": {},
        "cd": {},
        "UnKD": {"method": "unkd", "method.n_groups": 4, "paper": "unkd"},
    },
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    runs = Runs(tmp_path_factory.mktemp("outputs"))
    runs.add(noise=0.1, dim=100)
    for seed in range(3):
        runs.add("none", noise=1.5, seed=seed)
        if seed < 2:
            runs.add("rd", noise=2.5, seed=seed)
        for k, noise in ((2, 0.8), (4, 0.3)):
            runs.add("unkd", noise=noise, seed=seed, settings={"method.n_groups": k})
    runs.add("none", noise=1.5, seed=7)  # a seed that nobody asked for
    runs.add("none", noise=1.5, seed=0, protocol="official")
    return runs.root


def made(root, paper=PAPER, n_boot=500, **changes):
    return build_experiment(root, "table9", SECTION | changes, paper=paper, n_boot=n_boot)


@pytest.fixture(scope="module")
def report(finished):
    return made(finished)


@pytest.fixture
def runs(tmp_path):
    return Runs(tmp_path)


def table(report, title, section=0):
    return next(one for one in report.sections[section].tables if one.columns[0] == title)


def metric(root, method, seed, key, protocol="paper", **settings):
    """The value of one run's manifest."""
    for path in sorted(root.glob("**/manifest.json")):
        one = json.loads(path.read_text())
        found = one["labels"]
        if (found["method"], found["seed"], found["protocol"]) == (method, seed, protocol) and all(
            one["settings"].get(name.replace("__", ".")) == value
            for name, value in settings.items()
        ):
            for row in one["metrics"]:
                if (row["target"], row["scope"], row["group"], row["form"], row["metric"]) == key:
                    return row["value"]
    raise AssertionError


ALL = ("test", "all", "all", "", "recall@10")
TAIL = ("test", "items", "unpopular", "diluted", "recall@10")


def test_rows_are_the_presets_and_each_metric_has_its_table(report):
    *made, spent = report.sections[0].tables
    assert [one.columns[0] for one in made] == SECTION["metrics"]
    assert spent.name.endswith("_spent")
    first = table(report, "recall@10")
    assert labels(first) == ["teacher", "none", "rd", "cd", "UnKD"]
    assert first.columns == ["recall@10", "paper", "change", "paper's change", "verdict"]
    assert table(report, "ndcg@10 popular").columns == ["ndcg@10 popular", "change"]
    assert [row.n_runs for row in first.rows] == [1, 3, 2, 0, 3]


@pytest.mark.parametrize(("title", "key"), [("recall@10", ALL), (SECTION["metrics"][1], TAIL)])
def test_ours_is_a_mean_over_the_asked_seeds_with_a_t_interval(report, finished, title, key):
    values = [metric(finished, "unkd", seed, key, method__n_groups=4) for seed in range(3)]
    alone = [metric(finished, "none", seed, key) for seed in range(3)]
    got = cell(table(report, title), "UnKD", title)
    wanted = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert got.value == pytest.approx(np.mean(values))
    assert (got.low, got.high) == pytest.approx((wanted.low, wanted.high))
    assert got.text() == f"{got.value:.4f}±{(got.high - got.low) / 2:.4f}".replace("±0.", "±.")
    change = cell(table(report, title), "UnKD", "change")
    paired = stats.ttest_rel(values, alone).confidence_interval(0.95)
    base = np.mean(alone)
    assert change.value == pytest.approx(np.mean(values) / base - 1)
    assert (change.low, change.high) == pytest.approx((paired.low / base, paired.high / base))


def test_the_paper_stands_beside_and_its_claim_is_judged(report):
    first = table(report, "recall@10")
    assert cell(first, "UnKD", "paper").value == 0.4
    assert cell(first, "UnKD", "paper's change").value == pytest.approx(1.0)
    assert cell(first, "UnKD", "verdict").text() == CONFIRMED
    assert cell(first, "UnKD", "change").mark == "↑"
    assert cell(first, "UnKD", "change").p < 0.05
    assert cell(first, "rd", "verdict").text() in ("no difference", "opposite")  # it is worse here
    tail = table(report, "recall@10 unpopular diluted")
    assert cell(tail, "rd", "paper's change").value == pytest.approx(-0.5)
    for label in ("none", "teacher"):
        for column in ("change", "paper's change", "verdict"):
            assert cell(first, label, column).text() == "–"
    assert "verdicts: " in report.sections[0].facts
    assert PAPER["source"] in report.sections[0].legend


def test_what_the_runs_took_are_medians_and_the_most_memory(report, finished):
    spent = report.sections[0].tables[-1]
    assert labels(spent) == ["teacher", "none", "rd", "UnKD"]  # cd has no runs
    found = [json.loads(path.read_text()) for path in finished.glob("**/manifest.json")]
    alone = [
        one for one in found
        if one["labels"]["method"] == "none"
        and one["labels"]["seed"] in (0, 1, 2)
        and one["labels"]["protocol"] == "paper"
    ]  # fmt: skip
    assert len(alone) == 3
    seconds = [one["training"]["seconds"] for one in alone]
    assert cell(spent, "none", "seconds of training").value == np.median(seconds)
    assert cell(spent, "none", "best epoch").value == 10
    most = max(one["peak_memory_bytes"] for one in alone) / 2**20
    assert cell(spent, "none", "peak memory, MiB").value == most
    assert "cpu, threads=2" in " ".join(spent.notes)


def test_weights_are_told_that_change_something(runs):
    weights = {"fit.weight": 1.0, "fit.data_weight": 1.0, "method.de_weight": 0.01,
               "method.rrd_weight": 0.5, "method.rrd.ir_weight": 0.0}  # fmt: skip
    runs.add("none", noise=1.0)
    runs.add("rd", noise=0.5, settings=weights)
    told = cell(made(runs.root).sections[0].tables[-1], "rd", "settings").text()
    assert "weight=1.0 de_weight=0.01 rrd_weight=0.5" in told
    assert "data_weight" not in told
    assert "ir_weight" not in told


def test_a_run_that_was_evaluated_anew_says_nothing_of_memory(runs):
    folder = runs.add("none", noise=1.0)
    changed = manifest(folder)
    changed["training"]["from"] = "elsewhere"
    write_manifest(folder, changed)
    spent = made(runs.root).sections[0].tables[-1]
    assert cell(spent, "none", "seconds of training").text() == "1.5"
    assert cell(spent, "none", "peak memory, MiB").text() == "–"


@pytest.mark.parametrize(("weight", "words"), [(1.0, "lr=0.01"), (0.5, "lr=0.01 data_weight=0.5")])
def test_a_weight_of_the_data_loss_is_told_where_it_is_not_1(runs, weight, words):
    runs.add("none", noise=1.0, settings={"fit.lr": 0.01, "fit.data_weight": weight})
    spent = made(runs.root).sections[0].tables[-1]
    assert cell(spent, "none", "settings").words == words


def test_what_is_missing_is_said(report):
    first = table(report, "recall@10")
    assert cell(first, "cd", "recall@10").text() == "0 of 3 runs"
    assert cell(first, "cd", "verdict").text() == "–"
    assert cell(first, "rd", "recall@10").text().endswith("(2 of 3 runs)")
    notes = report.sections[0].tables[-2].notes
    assert "rd: 1 of 3 runs are missing (seed=2)." in notes
    assert "No runs of: cd." in notes
    for width in (60, 100):
        assert "0 of 3 runs" in shown(report, width=width)


def test_a_difference_is_over_the_seeds_that_both_have(report, finished):
    values = [metric(finished, "rd", seed, ALL) for seed in range(2)]
    alone = [metric(finished, "none", seed, ALL) for seed in range(2)]
    change = cell(table(report, "recall@10"), "rd", "change")
    assert change.n_runs == 2
    assert change.value == pytest.approx(np.mean(values) / np.mean(alone) - 1)


def test_without_a_shared_seed_nothing_is_compared(runs):
    runs.add("none", noise=1.0, seed=0)
    runs.add("rd", noise=0.5, seed=1)
    first = table(made(runs.root), "recall@10")
    assert math.isfinite(cell(first, "rd", "recall@10").value)
    assert cell(first, "rd", "change").text() == "–"
    assert cell(first, "rd", "verdict").text() == "–"


def test_teachers_seeds_are_averaged_within_a_students_seed(runs):
    for seed in range(2):
        runs.add("none", noise=1.5, seed=seed)
        for teacher_seed, noise in ((0, 0.2), (1, 1.0)):
            folder = runs.add("rd", noise=noise, seed=seed)
            changed = manifest(folder)
            changed["labels"]["teacher_seed"] = teacher_seed
            changed["identity"] = f"{seed}{teacher_seed}"
            write_manifest(folder, changed)
    asked = made(runs.root, seeds=[0, 1], teacher_seeds=[0, 1, 2])
    got = cell(table(asked, "recall@10"), "rd", "recall@10")
    assert got.n_runs == 2  # seeds, not runs
    assert got.words == "4 of 6 runs"
    assert cell(table(asked, "recall@10"), "none", "recall@10").words == ""
    notes = asked.sections[0].tables[-2].notes
    assert "rd: 2 of 6 runs are missing (seed=0 teacher_seed=2, seed=1 teacher_seed=2)." in notes
    one = made(runs.root, seeds=[0, 1], teacher_seeds=[1])
    assert table(one, "recall@10").rows[2].n_runs == 2


def test_unlike_settings_are_never_averaged(runs):
    for seed in range(3):
        runs.add("none", noise=1.5, seed=seed, settings={"fit.lr": 0.01})
        runs.add("rd", noise=2.0, seed=seed, settings={"fit.lr": 0.01})
    runs.add("rd", noise=0.1, seed=0, settings={"fit.lr": 0.1})  # better, but one run
    asked = made(runs.root)
    assert table(asked, "recall@10").rows[2].n_runs == 3
    remark = "rd: runs with 2 unlike settings fit; shown is rd lr=0.01, which has the most runs"
    assert any(note.startswith(remark) for note in asked.sections[0].tables[-2].notes)
    narrowed = made(runs.root, where={"fit.lr": 0.1}, baseline="rd")
    assert table(narrowed, "recall@10").rows[2].n_runs == 1


def test_a_method_is_taught_by_the_students_own_model_unless_another_is_named(runs):
    runs.add("none", noise=1.5)
    runs.add("rd", noise=0.5, teacher="lightgcn")
    methods = {"none": {}, "rd": {}, "by another": {"method": "rd", "teacher": "lightgcn"},
               "by any": {"method": "rd", "teacher": "any"}}  # fmt: skip
    first = table(made(runs.root, methods=methods, seeds=[0]), "recall@10")
    assert [row.n_runs for row in first.rows] == [1, 0, 1, 1]


@pytest.mark.parametrize(
    "unlike", [{"dim": 20}, {"filters": {"min_user": 20}}], ids=lambda unlike: next(iter(unlike))
)
def test_unlike_things_are_never_in_one_section(runs, unlike):
    runs.add("none", noise=1.0)
    runs.add("rd", noise=0.5, **unlike)
    asked = made(runs.root)
    assert len(asked.sections) == 2
    counts = sorted(tuple(row.n_runs for row in one.tables[0].rows[1:3]) for one in asked.sections)
    assert counts == [(0, 1), (1, 0)]


def test_each_protocol_and_student_is_a_section_also_without_runs(finished):
    asked = made(finished, protocols=["paper", "official"], students=["bprmf", "lightgcn"])
    titles = [one.title for one in asked.sections]
    assert [title.partition(" · ")[2] for title in titles] == [
        "protocol paper · student bprmf, dim 10",
        "protocol paper · student lightgcn",
        "protocol official · student bprmf, dim 10",
        "protocol official · student lightgcn",
    ]
    empty = asked.sections[1]
    assert (empty.facts, empty.tables) == ("none of its runs is finished", [])
    assert cell(table(asked, "recall@10", 2), "none", "recall@10").n_runs == 1


def test_a_run_that_was_not_evaluated_for_it_is_named(runs):
    runs.add("none", noise=1.0)
    runs.add("rd", noise=1.0, cutoffs=(5,))
    asked = made(runs.root)
    assert len(asked.problems) == 1
    assert "recall@10, recall@10 unpopular, ndcg@10 popular" in asked.problems[0]
    assert "kdrec evaluate run=" in asked.problems[0]


def test_nothing_of_it_is_finished(runs):
    runs.add("none", noise=1.0, dataset="other")
    with pytest.raises(KdrecError, match=r"No finished run .* belongs to experiment=table9"):
        made(runs.root)


def test_too_few_bootstrap_samples_are_told(finished):
    assert (
        "nothing can be significant: use --n-boot 120"
        in made(finished, n_boot=50).sections[0].facts
    )
    assert "nothing" not in made(finished, n_boot=120).sections[0].facts


def test_varied_settings_are_rows_and_a_curve(finished, tmp_path):
    pytest.importorskip("matplotlib")
    methods = {"none": {}, "UnKD": {"method": "unkd", "vary": {"method.n_groups": [2, 3, 4]}}}
    asked = made(finished, paper=None, methods=methods, figure="curve")
    first = table(asked, "recall@10")
    assert labels(first) == ["none", "UnKD K=2", "UnKD K=3", "UnKD K=4"]
    assert [row.n_runs for row in first.rows] == [3, 3, 0, 3]
    assert first.columns == ["recall@10", "change"]
    assert "Verdict" not in asked.sections[0].legend
    panel = asked.figures[0].panels[0]
    assert [point.x for point in panel.series[0].points] == [2, 3, 4]
    assert (panel.x_label, panel.y_label) == ("Number of groups K", "Recall@10")
    assert panel.lines[0][0] == "none"
    assert asked.figures[0].panels[1].y_label == "Recall@10, unpopular items (diluted)"


def test_shares_against_the_ideal(finished):
    asked = made(finished, table="share", figure=True)
    rows = asked.sections[0].tables[0]
    assert labels(rows)[:3] == ["(best possible lists)", "(test data)", "(training data)"]
    column = "popular items in the top 10"
    key = ("test", "beyond", "popular", "", "exposure@10")
    values = [metric(finished, "unkd", seed, key, method__n_groups=4) for seed in range(3)]
    ideal = metric(finished, "none", 0, ("test", "beyond", "popular", "", "ideal_exposure@10"))
    assert cell(rows, "UnKD", column).value == pytest.approx(np.mean(values))
    assert cell(rows, "(best possible lists)", column).value == pytest.approx(ideal)
    assert cell(rows, "UnKD", "less the ideal").value == pytest.approx(np.mean(values) - ideal)
    assert cell(rows, "cd", column).text() == "0 of 3 runs"
    panel = asked.figures[0].panels[0]
    assert panel.lines == [("best possible lists", pytest.approx(100 * ideal))]
    assert panel.series[0].points[-1].y == pytest.approx(100 * np.mean(values))


def test_sizes_beside_the_papers(finished):
    asked = made(finished, table="statistics", datasets=["toy", "other"])
    rows = asked.sections[0].tables[0]
    assert labels(rows) == ["toy", "toy, the paper", "other"]
    assert cell(rows, "toy", "interactions").text() == "900"
    assert cell(rows, "other", "users").text() == "no runs"
    assert "toy: not the same as the paper's." in rows.notes
    assert "other: what the paper says of it is not at hand." in rows.notes


def test_better_teachers_and_their_students_gain(runs):
    for seed in range(2):
        runs.add("none", noise=1.5, seed=seed)
    for model, noise in (("bprmf", 0.1), ("ease", 1.0)):
        runs.add(noise=noise, dim=100, model=model, teacher=model)
        for seed in range(2):
            runs.add("rd", noise=0.5 + noise, seed=seed, teacher=model)
    methods = {"none": {}, "rd": {"method": "rd", "teacher": "any"}}
    asked = made(runs.root, table="teachers", methods=methods, figure=True, metrics=["recall@10"])
    rows = asked.sections[0].tables[0]
    assert labels(rows) == ["ease: rd", "bprmf: rd"]
    qualities = [row.cells[0].value for row in rows.rows]
    assert qualities == sorted(qualities)
    gain = np.mean([metric(runs.root, "rd", s, ALL) for s in range(2)])  # of the first teacher
    alone = np.mean([metric(runs.root, "none", s, ALL) for s in range(2)])
    assert cell(rows, "bprmf: rd", "gain in recall@10").value == pytest.approx(gain / alone - 1)
    points = asked.figures[0].panels[0].series[0].points
    assert [point.x for point in points] == pytest.approx(qualities)
    assert points[1].y == pytest.approx(100 * (gain / alone - 1))
    assert [point.label for point in points] == ["ease", "bprmf"]
    assert all(list(panel.labels) == ["ease", "bprmf"] for panel in asked.figures[0].panels)


def test_files_hold_ours_the_papers_and_the_verdicts(report, tmp_path):
    paths = report.write(tmp_path)
    assert [path.name for path in paths] == ["report.md", "report.tex", "tables.csv", "runs.csv"]
    rows = list(csv.DictReader((tmp_path / "tables.csv").read_text("utf-8").splitlines()))
    told = {(row["table"], row["row"], row["column"]): row for row in rows}
    assert told["table9_recall_10", "UnKD", "verdict"]["words"] == CONFIRMED
    assert told["table9_recall_10", "UnKD", "paper"]["value"] == "0.4"
    assert told["table9_recall_10", "cd", "recall@10"]["words"] == "0 of 3 runs"
    listed = (tmp_path / "runs.csv").read_text("utf-8").splitlines()
    assert len(listed) == 1 + 1 + 3 + 2 + 3  # only the runs that are shown
    text = json.dumps(report.as_json(), allow_nan=False)
    assert CONFIRMED in text


def test_without_matplotlib_the_tables_come_and_one_sentence_says_so(finished, monkeypatch):
    monkeypatch.setattr("kdrec.report.experiment.find_spec", lambda name: None)
    asked = made(finished, figure="bars")
    assert asked.figures == []
    assert [
        one for one in asked.problems if "pip install 'kdrec[figures]'" in one
    ] == asked.problems
    assert "kdrec[figures]" in shown(asked)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"tabel": 1}, "unknown key 'tabel'"),
        ({"table": "pie"}, "table='pie'"),
        ({"figure": "scatter"}, "figure='scatter' is none of table=comparison"),
        ({"figure": True}, "figure=True is none of"),
        ({"datasets": []}, "datasets is missing"),
        ({"baseline": "alone"}, "baseline='alone'"),
        ({"metrics": ["recall"]}, "'recall' names no metric"),
        ({"metrics": ["recall@10 very unpopular"]}, "names no metric"),
    ],
)
def test_a_wrong_section_says_what_is_wrong(changes, says):
    with pytest.raises(UsageError, match="experiment=table9") as caught:
        Preset.of("table9", SECTION | changes)
    assert says in str(caught.value)


def test_a_paper_with_a_short_line_is_refused(finished):
    wrong = PAPER | {"results": {"toy": {"bprmf": {"none": [0.2]}}}}
    with pytest.raises(UsageError, match="has 1 numbers, not 2"):
        made(finished, paper=wrong)


def test_default_folder_and_same_report_again(finished, report):
    assert report.folder.parent.parent == Path(finished) / "reports"
    assert made(finished).as_json() == report.as_json()


CHOSEN = {"fit.weight": 0.1, "method.mu": 20.0, "method.n_groups": 4, "method.swap_defect": False}


@pytest.fixture
def studied(runs):
    """What the presets `mu`, `lambda`, `defect` and `figure5` leave in one folder."""
    sweeps = {
        "method.mu": (2.0, 5.0, 20.0, 50.0), "fit.weight": (0.01, 0.1, 1.0),
        "method.n_groups": (2, 3, 4), "method.swap_defect": (True,),
    }  # fmt: skip
    settings = [CHOSEN | {key: value} for key, values in sweeps.items() for value in values]
    unlike = [one for at, one in enumerate(settings) if one not in settings[:at]]
    for seed in range(3):
        runs.add("none", noise=1.5, seed=seed)
        for one in unlike:  # what was not chosen is best on validation
            runs.add("unkd", noise=0.4 if one == CHOSEN else 0.1, seed=seed, settings=one)
    return runs.root


def chosen_settings(*_):
    return CHOSEN


def settings_of(report):
    """The settings of the method's runs that a report shows."""
    return [
        {key: value for key, value in run.settings.items() if key in CHOSEN}
        for run in report.runs
        if run.labels["method"] == "unkd" and run.labels["seed"] == 0
    ]


def test_a_presets_rows_have_the_settings_of_its_own_command(studied):
    asked = build_experiment(
        studied, "table9", SECTION, paper=PAPER, n_boot=50, foreseen=chosen_settings
    )
    assert settings_of(asked) == [CHOSEN]
    (remark,) = [note for note in asked.sections[0].tables[-2].notes if note.startswith("UnKD:")]
    assert "shown is UnKD weight=0.1 mu=20.0 swap_defect=false, whose settings" in remark
    assert remark.endswith("Left out: 6 others (18 runs).")
    assert "validation" not in remark


@pytest.mark.parametrize(
    ("key", "values"), [("fit.weight", [0.01, 0.1, 1.0]), ("method.mu", [2.0, 5.0, 20.0, 50.0])]
)
def test_a_curve_has_no_point_of_another_presets_sweep(studied, key, values):
    pytest.importorskip("matplotlib")
    methods = {"none": {}, "UnKD": {"method": "unkd", "vary": {key: values}}}
    asked = build_experiment(
        studied, "table9", SECTION | {"methods": methods, "figure": "curve"}, paper=None,
        n_boot=50, foreseen=chosen_settings,
    )  # fmt: skip
    assert settings_of(asked) == [CHOSEN | {key: value} for value in values]


def test_the_settings_behind_a_curve_are_chosen_once(runs):
    for seed in range(3):
        runs.add("none", noise=1.5, seed=seed)
        for weight in (0.1, 1.0):
            runs.add("unkd", noise=0.5, seed=seed, settings={"fit.weight": weight, "fit.lr": 0.01})
        runs.add("unkd", noise=0.1, seed=seed, settings={"fit.weight": 3.0, "fit.lr": 0.1})
    methods = {"none": {}, "UnKD": {"method": "unkd", "vary": {"fit.weight": [0.1, 1.0, 3.0]}}}
    asked = made(runs.root, paper=None, methods=methods)
    assert [row.n_runs for row in table(asked, "recall@10").rows] == [3, 3, 3, 0]
    (remark,) = [one for one in asked.sections[0].tables[-2].notes if one.startswith("UnKD: runs")]
    assert "shown is UnKD lr=0.01, which has the most runs" in remark
    assert "Left out: UnKD lr=0.1 (3 runs)." in remark


def test_of_as_many_runs_the_best_is_not_taken(runs):
    for seed in range(3):
        runs.add("none", noise=1.5, seed=seed)
        for lr, noise in ((0.01, 2.0), (0.1, 0.1)):
            runs.add("rd", noise=noise, seed=seed, settings={"fit.lr": lr})
    asked = made(runs.root)
    assert {run.settings["fit.lr"] for run in asked.runs if run.labels["method"] == "rd"} == {0.01}
    notes = " ".join(asked.sections[0].tables[-2].notes)
    assert "the first of those with the most runs" in notes


def test_all_rows_are_taught_by_one_kind_of_teacher(runs):
    """`cd` has more runs with another teacher, and is compared within that of most rows."""
    for seed in range(3):
        runs.add("none", noise=1.5, seed=seed)
        runs.add("cd", noise=0.5, seed=seed, settings={"teacher_fit.lr": 0.01, "fit.lr": 0.1})
        for method in ("rd", "unkd", "cd"):
            if method != "cd" or seed < 2:
                settings = {"teacher_fit.lr": 0.001, "method.n_groups": 4}
                if method == "unkd":
                    settings["teacher_fit.checkpoints"] = 4
                runs.add(method, noise=0.5, seed=seed, settings=settings)
    asked = made(runs.root)
    assert [row.n_runs for row in table(asked, "recall@10").rows] == [0, 3, 3, 2, 3]
    lrs = {run.settings.get("teacher_fit.lr") for run in asked.runs if run.labels["teacher"]}
    assert lrs == {0.001}
    notes = asked.sections[0].tables[-2].notes
    assert (
        "Students of teachers with 2 unlike settings fit; all shown are those of teacher bprmf "
        "teacher_lr=0.001 (3 rows). Left out: teacher bprmf teacher_lr=0.01 (1 row)."
    ) in notes


def test_what_is_missing_and_left_out_of_a_table_of_teachers_is_said(runs):
    for seed in range(3):
        runs.add("none", noise=1.5, seed=seed)
    runs.add(noise=0.1, dim=100)
    for seed in range(2):
        runs.add("rd", noise=0.5, seed=seed, settings={"fit.lr": 0.01})
    runs.add("rd", noise=0.5, seed=0, settings={"fit.lr": 0.1})
    methods = {"none": {}, "rd": {"method": "rd", "teacher": "any"}}
    asked = made(runs.root, table="teachers", methods=methods, metrics=["recall@10"],
                 teacher_seeds=[0, 1])  # fmt: skip
    notes = asked.sections[0].tables[0].notes
    assert "bprmf: rd: 1 of 3 runs are missing (seed=2 teacher_seed=0)." in notes
    assert any(note.startswith("bprmf: rd: runs with 2 unlike settings fit;") for note in notes)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"seeds": 3}, "seeds=3 is no list of seeds"),
        ({"teacher_seeds": ["a"]}, "teacher_seeds=['a'] is no list of seeds"),
        ({"methods": {"none": {}, "rd": 3}}, "methods.rd=3"),
        ({"methods": 3}, "methods=3"),
        ({"where": 3}, "where=3"),
        ({"methods": {"none": {}, "rd": {"vary": {"method.mu": 3}}}}, "vary.method.mu=3"),
        (
            {"figure": "curve", "methods": {"none": {}, "rd": {"vary": {"a": ["x"]}}}},
            "over methods",
        ),
        ({"figure": "curve"}, "figure=curve"),
        ({"cutoff": "a"}, "cutoff='a'"),
        ({"metrics": [""]}, "names no metric"),
        ({"metrics": "recall"}, "names no metric"),
        ({"metrics": 3}, "metrics=3"),
        ({"metrics": ["recall@10 tail"]}, "names no metric"),
        ({"metrics": ["recall@10 diluted"]}, "names no metric"),
        ({"metrics": ["recall@x"]}, "names no metric"),
        ({"baseline": "teacher"}, "baseline='teacher' is none of its methods, but a teacher"),
    ],
    ids=str,
)
def test_a_wrong_section_is_refused_in_one_sentence(changes, says):
    with pytest.raises(UsageError) as caught:
        Preset.of("table9", SECTION | changes)
    assert says in caught.value.what
    assert "The report section of experiment=table9" in caught.value.what
    assert caught.value.hint


def test_a_single_metric_may_stand_without_brackets():
    assert [one.title for one in Preset.of("x", SECTION | {"metrics": "ndcg@10"}).columns] == [
        "ndcg@10"
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"title": None}, {"columns": None}, {"columns": "recall@10"}, {"results": 3},
        {"results": {"toy": {"bprmf": 3}}}, {"results": {"toy": {"bprmf": {"rd": 3}}}},
        {"results": {"toy": {"bprmf": {"rd": ["a", 1]}}}}, {"statistics": {"toy": 3}},
    ],
    ids=str,
)  # fmt: skip
def test_a_wrong_file_of_a_paper_is_refused(finished, changes):
    with pytest.raises(UsageError, match=r"conf/paper/made-up\.yaml"):
        made(finished, paper={k: v for k, v in (PAPER | changes).items() if v is not None})


def test_runs_that_were_not_evaluated_for_it_are_one_line_with_a_command_that_helps(runs):
    runs.add("none", noise=1.0)
    for seed in range(3):
        runs.add("rd", noise=1.0, seed=seed, cutoffs=(5, 20))
    (problem,) = made(runs.root).problems
    assert problem.startswith("3 runs, such as ")
    assert "kdrec evaluate -m run=" in problem
    assert "'evaluation.cutoffs=[5,10,20]'" in problem
