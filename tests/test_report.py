"""The report, against runs that these tests make: real evaluations of made-up scores."""

from __future__ import annotations

import csv
import io
import json
import math
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from kdrec.artifacts import write_manifest
from kdrec.data.interactions import Interactions, Split
from kdrec.digests import digest
from kdrec.errors import KdrecError
from kdrec.evaluation import metrics
from kdrec.evaluation.grouped import evaluate
from kdrec.models.base import EmbeddingScorer, Vectors
from kdrec.report import build
from kdrec.report import runs as behind
from kdrec.report.cells import Cell, Row, Table
from kdrec.report.collect import collect
from kdrec.report.compare import PerUser, values
from kdrec.report.entries import Entry
from kdrec.report.files import latex_escape
from kdrec.report.render import show_table, summary

N_USERS, N_ITEMS, DIM = 200, 120, 6


@dataclass
class World:
    """Users' tastes, and a split drawn from them."""

    users: np.ndarray
    items: np.ndarray
    split: Split

    @classmethod
    def drawn(cls, seed, *, unbiased):
        rng = np.random.default_rng(0)
        users, items = rng.normal(size=(N_USERS, DIM)), rng.normal(size=(N_ITEMS, DIM))
        rng = np.random.default_rng(100 + seed)
        liking = users @ items.T + rng.gumbel(size=(N_USERS, N_ITEMS))
        seen = liking - 0.03 * np.arange(N_ITEMS) > np.quantile(liking, 0.8)
        part = rng.random(seen.shape)
        fair = ~seen & (liking > np.quantile(liking, 0.8)) & (part < 0.3)
        parts = [seen & (part < 0.5), seen & (part > 0.5) & (part < 0.7), seen & (part > 0.7)]
        made = [
            Interactions.from_pairs(*np.nonzero(one), n_users=N_USERS, n_items=N_ITEMS)
            for one in [*parts, fair]
        ]
        return cls(users, items, Split(*made[:3], made[3] if unbiased else None))


class Runs:
    """Makes finished runs below a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.count = 0
        self.worlds: dict = {}

    def add(
        self,
        method="",
        *,
        noise,
        seed=0,
        split_seed=0,
        dataset="toy",
        protocol="paper",
        model="bprmf",
        dim=10,
        teacher="bprmf",
        settings=None,
        cutoffs=(5, 10),
        item_groups=2,
        unbiased=False,
        command=None,
        sweep=False,
        filters=None,
        finished=None,
    ):
        key = (split_seed, unbiased)
        world = self.worlds.setdefault(key, World.drawn(split_seed, unbiased=unbiased))
        rng = np.random.default_rng([7, seed, self.count])
        vectors = Vectors(
            torch.as_tensor(world.users + noise * rng.normal(size=world.users.shape)).float(),
            torch.as_tensor(world.items).float(),
        )
        result = evaluate(
            EmbeddingScorer(vectors),
            world.split,
            metrics={"recall": metrics.recall, "ndcg": metrics.ndcg},
            cutoffs=list(cutoffs),
            item_groups=item_groups,
            user_bins=3,
            popular_mass=0.5,
            seed=0,
            batch_size=64,
        )
        self.count += 1
        below = "sweeps/2026-01-02/10-00-00_distill" if sweep else "runs/2026-01-02"
        folder = self.root / below / f"{self.count:02d}_run"
        folder.mkdir(parents=True)
        result.per_user.to_parquet(folder / "per_user.parquet")
        role = "student" if method else "teacher"
        distils = method not in ("", "none")
        teacher_id = digest(["teacher", teacher, dataset, split_seed])
        labels = {
            "dataset": dataset,
            "protocol": protocol,
            "split": world.split.digest,
            "split_seed": split_seed,
            "name": f"{role} {model}",
            "role": role,
            "model": model,
            "dim": dim,
            "method": method,
            "teacher": teacher if distils or not method else "",
            "teacher_identity": teacher_id if distils or not method else "",
            "seed": seed,
            "teacher_seed": 0,
        }
        identity = digest([labels, settings]) if method else teacher_id
        write_manifest(
            folder,
            {
                "command": command or ("distill" if method else "train"),
                "identity": identity,
                "evaluation": digest([list(cutoffs), item_groups]),
                "labels": labels,
                "settings": {f"{role}.dim": dim, **(settings or {})},
                "training": {"epochs": 100, "best_epoch": 10 * seed, "seconds": 1.5 * self.count},
                "device": "cpu",
                "threads": 2,
                "peak_memory_bytes": self.count << 20,
                "stats": {"users": N_USERS, "items": N_ITEMS, "interactions": 900},
                "metrics": result.summary.to_dict("records"),
                "config": {
                    "dataset": {"name": dataset, "files": [{}], "path": None, "filters": filters},
                    "protocol": {"name": protocol},
                },
                "finished": finished or f"2026-01-02T10:{self.count:02d}:00+00:00",
            },
        )
        return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A teacher, `none`, and UnKD with two K, three seeds each."""
    runs = Runs(tmp_path_factory.mktemp("outputs"))
    runs.add(noise=0.1, dim=100)
    for seed in range(3):
        runs.add("none", noise=1.5, seed=seed, settings={"fit.lr": 0.01})
        for k, noise in ((4, 0.4), (2, 0.7)):
            runs.add(
                "unkd", noise=noise, seed=seed, sweep=True,
                settings={"fit.lr": 0.01, "method.n_groups": k, "weight": 1.0},
            )  # fmt: skip
    return runs.root


@pytest.fixture(scope="module")
def report(finished):
    return build(finished, cutoff=10, n_boot=300, seed=0)


@pytest.fixture
def runs(tmp_path):
    return Runs(tmp_path)


def table(report, name, section=0):
    return next(one for one in report.sections[section].tables if one.name == name)


def labels(table):
    return [row.label for row in table.rows]


def cell(table, row, column):
    return next(one for one in table.rows if one.label == row).cells[table.columns.index(column)]


def shown(report, width=80, **options):
    out = io.StringIO()
    console = Console(file=out, width=width, **options)
    report.show(console)
    return out.getvalue()


def manifest(folder):
    return json.loads((folder / "manifest.json").read_text())


def test_rows_are_methods_told_apart_by_what_differs(report):
    overall = table(report, "overall")
    assert labels(overall) == ["teacher bprmf", "none", "unkd K=2", "unkd K=4"]
    assert [row.n_runs for row in overall.rows] == [1, 3, 3, 3]
    assert overall.columns == ["recall@10", "ndcg@10", "valid ndcg@10"]
    assert len(report.sections) == 1
    assert report.sections[0].title == "toy · protocol paper · student bprmf, dim 10"
    assert report.problems == []


def test_values_are_means_and_deviations_over_the_runs(report, finished):
    found = []
    for path in finished.glob("**/manifest.json"):
        one = json.loads(path.read_text())
        if one["settings"].get("method.n_groups") == 4:
            found += [
                row["value"]
                for row in one["metrics"]
                if (row["target"], row["scope"], row["metric"]) == ("test", "all", "recall@10")
            ]
    assert len(found) == 3
    got = cell(table(report, "overall"), "unkd K=4", "recall@10")
    assert got.value == pytest.approx(np.mean(found))
    assert got.spread == pytest.approx(np.std(found, ddof=1))
    assert np.isnan(cell(table(report, "overall"), "teacher bprmf", "recall@10").spread)


def test_the_best_student_is_marked_and_never_the_teacher(report):
    overall = table(report, "overall")
    best = {row.label: row.cells[0].best for row in overall.rows}
    assert best == {"teacher bprmf": False, "none": False, "unkd K=2": False, "unkd K=4": True}
    assert overall.rows[0].cells[0].value > overall.rows[3].cells[0].value


def test_a_clear_difference_is_significant_and_none_is_not_compared_with_itself(report):
    overall = table(report, "overall")
    assert cell(overall, "unkd K=4", "recall@10").mark == "↑"
    assert cell(overall, "unkd K=4", "recall@10").p < 0.05
    for label in ("none", "teacher bprmf"):
        assert cell(overall, label, "recall@10").mark == ""
        assert np.isnan(cell(overall, label, "recall@10").p)


def test_a_worse_method_is_marked_so_and_an_equal_one_not_at_all(runs):
    first = runs.add("none", noise=0.3)
    runs.add("unkd", noise=3.0)
    twin = runs.add("rd", noise=0.3)
    changed = manifest(twin) | {"metrics": manifest(first)["metrics"]}
    shutil.copy(first / "per_user.parquet", twin / "per_user.parquet")
    write_manifest(twin, changed)
    made = build(runs.root, n_boot=200)
    assert cell(table(made, "overall"), "unkd", "recall@10").mark == "↓"
    assert cell(table(made, "overall"), "rd", "recall@10").mark == ""
    assert cell(table(made, "change_none"), "rd", "recall@10").value == 0
    assert cell(table(made, "change_none"), "rd", "recall@10").p == 1
    tied = [cell(table(made, "overall"), label, "recall@10").best for label in ("none", "rd")]
    assert tied == [True, True]
    folders = [first, twin]  # all students alike: none of them is the best
    alike = table(build(runs.root, runs=folders, n_boot=20), "overall")
    assert not any(one.best for row in alike.rows for one in row.cells)


def test_per_user_values_have_the_means_that_the_manifest_says(report, finished):
    run = report.runs[0]
    frame = PerUser([]).frame(Entry("x", "student", [run]))
    compared = {key: values(frame, key) for key in run.metrics}
    means = {key: one.mean() for key, one in compared.items() if one is not None}
    assert means == pytest.approx({key: run.metrics[key] for key in means})
    assert {key[1] for key in means} == {"all", "items", "activeness", "consistency", "beyond"}
    assert {key[3] for key in means} == {"", "eligible", "diluted"}


def test_several_comparisons_are_adjusted_for(report, finished):
    none_and_one = [
        run.folder
        for run in report.runs
        if run.labels["method"] and run.settings.get("method.n_groups") != 2
    ]
    alone = build(finished, runs=none_and_one, n_boot=300)
    for name in ("overall", "change_none"):
        p = cell(table(alone, name), "unkd", "recall@10").p
        assert p == pytest.approx(2 / 301)
        both = cell(table(report, name), "unkd K=4", "recall@10").p
        assert both == pytest.approx(2 * p)


def test_only_what_should_be_high_has_a_best(report):
    assert not any(row.cells[2].best for row in table(report, "overall").rows)
    exposure = table(report, "exposure")
    assert not any(one.best or one.mark for row in exposure.rows for one in row.cells)


def test_change_equals_the_difference_of_the_means(report):
    for against, other in (("none", "none"), ("teacher", "teacher bprmf")):
        change = table(report, f"change_{against}")
        items = table(report, "item_groups")
        for column in ("recall@10 popular", "recall@10 unpopular"):
            got = cell(change, "unkd K=4", column)
            expected = cell(items, "unkd K=4", column).value - cell(items, other, column).value
            assert got.value == pytest.approx(expected)
            assert got.low < got.value < got.high
    assert labels(table(report, "change_none")) == ["unkd K=2", "unkd K=4"]
    assert "none" in labels(table(report, "change_teacher"))


def test_improvement_is_relative_to_the_student_alone(report):
    overall = table(report, "overall")
    expected = cell(overall, "unkd K=4", "recall@10").value
    expected = expected / cell(overall, "none", "recall@10").value - 1
    got = cell(table(report, "improvement"), "unkd K=4", "recall@10")
    assert got.value == pytest.approx(expected)
    assert got.text() == f"{100 * expected:+.1f}%↑"


def test_grouped_tables_have_their_groups(report):
    assert table(report, "item_groups").columns == [
        f"{metric}@10 {group}"
        for metric in ("recall", "ndcg")
        for group in ("popular", "unpopular", "cold")
    ]
    assert "cold 2" in table(report, "item_groups").notes[1]
    for scope in ("activeness", "consistency"):
        assert table(report, f"user_{scope}").columns == [
            "recall@10 head",
            "recall@10 2",
            "recall@10 tail",
        ]
        assert cell(table(report, f"user_{scope}"), "unkd K=4", "recall@10 tail").p <= 1
    diluted = table(report, "item_groups_diluted")
    eligible = table(report, "item_groups")
    at = ("unkd K=4", "recall@10 unpopular")
    assert cell(diluted, *at).value < cell(eligible, *at).value
    assert "UnKD paper" in diluted.title


def test_exposure_stands_below_the_shares_of_the_data(report):
    exposure = table(report, "exposure")
    assert labels(exposure)[:3] == ["(test data)", "(best possible lists)", "(training data)"]
    for row in exposure.rows:
        groups = [one.value for one in row.cells[: exposure.columns.index("popularity")]]
        assert sum(groups) == pytest.approx(1, abs=0.02)
    assert np.isnan(cell(exposure, "(test data)", "coverage").value)
    assert 0 < cell(exposure, "none", "coverage").value <= 1


def test_the_unbiased_test_stands_beside_the_observed_one(runs, report):
    assert "unbiased" not in [one.name for one in report.sections[0].tables]
    runs.add("none", noise=1.0, unbiased=True)
    runs.add("unkd", noise=0.2, unbiased=True)
    made = table(build(runs.root, n_boot=50), "unbiased")
    assert made.columns[:2] == ["recall@10 observed", "recall@10 unbiased"]
    assert cell(made, "unkd", "recall@10 observed") != cell(made, "unkd", "recall@10 unbiased")
    assert cell(made, "unkd", "recall@10 unbiased").p < 0.1


@pytest.mark.parametrize(
    "unlike",
    [
        {"dataset": "other"},
        {"protocol": "official"},
        {"model": "lightgcn"},
        {"dim": 20},
        {"item_groups": 3},
        {"cutoffs": (10, 20)},
        {"filters": {"min_user": 20}},
    ],
    ids=lambda unlike: next(iter(unlike)),
)
def test_unlike_things_are_never_in_one_table(runs, unlike):
    runs.add("none", noise=1.0)
    runs.add("unkd", noise=0.5, **unlike)
    made = build(runs.root, n_boot=20)
    assert len(made.sections) == 2
    assert len({one.title for one in made.sections}) == 2
    found = [labels(table(made, "overall", number)) for number in range(2)]
    assert sorted(found) == [["none"], ["unkd"]]


def test_the_same_split_seed_with_two_splits_is_two_sections(runs):
    runs.add("none", noise=1.0)
    other = runs.add("unkd", noise=0.5)
    changed = manifest(other)
    changed["labels"]["split"] = "f" * 64
    write_manifest(other, changed)
    assert len(build(runs.root, n_boot=20).sections) == 2


def test_split_seeds_are_averaged_and_compared_within_each_split(runs):
    for split_seed in range(2):
        runs.add("none", noise=1.5, split_seed=split_seed)
        runs.add("unkd", noise=0.3, split_seed=split_seed)
    made = build(runs.root, n_boot=100)
    assert len(made.sections) == 1
    assert [row.n_runs for row in table(made, "overall").rows] == [2, 2]
    assert cell(table(made, "change_none"), "unkd", "recall@10").p < 0.05
    runs.add("rd", noise=0.3, split_seed=1)  # shares one split with none
    made = build(runs.root, n_boot=100)
    change = cell(table(made, "change_none"), "rd", "recall@10")
    folder = runs.root / "runs" / "2026-01-02"
    import pandas as pd

    ours, theirs = (
        pd.read_parquet(folder / name / "per_user.parquet").set_index("user")["recall@10"]
        for name in ("05_run", "03_run")
    )
    assert change.value == pytest.approx((ours - theirs).mean())


def test_teachers_without_students_and_unlike_teachers(runs):
    runs.add(noise=0.1, model="lightgcn", teacher="lightgcn", dim=100)
    made = build(runs.root, n_boot=20)
    assert made.sections[0].title == "toy · protocol paper · teachers"
    runs.add(noise=0.1, dim=100)
    for teacher in ("bprmf", "lightgcn"):
        runs.add("unkd", noise=0.5, teacher=teacher)
    runs.add("none", noise=1.0)
    made = build(runs.root, n_boot=20)
    assert labels(table(made, "overall")) == [
        "teacher bprmf",
        "teacher lightgcn",
        "none",
        "unkd teacher=bprmf",
        "unkd teacher=lightgcn",
    ]
    assert len(made.sections) == 1
    both = labels(table(made, "change_teacher"))
    assert both == ["unkd teacher=bprmf", "unkd teacher=lightgcn"]  # none has no one teacher


def test_of_several_students_alone_the_best_on_validation_is_the_measure(runs):
    runs.add("none", noise=2.5, settings={"fit.lr": 0.1})
    runs.add("none", noise=0.6, settings={"fit.lr": 0.01})
    runs.add("unkd", noise=0.3, settings={"fit.lr": 0.01})
    made = build(runs.root, n_boot=20)
    assert labels(table(made, "overall")) == ["none lr=0.01", "none lr=0.1", "unkd"]
    assert labels(table(made, "improvement")) == ["none lr=0.1", "unkd"]
    assert "none lr=0.01" in table(made, "improvement").title
    assert "none lr=0.01" in made.sections[0].legend


def test_the_newest_of_equal_runs_wins(runs):
    runs.add("none", noise=1.0, finished="2026-01-02T12:00:00+00:00")
    runs.add("none", noise=0.1, finished="2026-01-02T11:00:00+00:00")
    found = collect(runs.root)
    assert [run.folder.name for run in found.runs] == ["01_run"]
    runs.add("none", noise=0.1, finished="2026-01-02T13:00:00+00:00")
    assert [run.folder.name for run in collect(runs.root).runs] == ["03_run"]


def test_what_cannot_be_read_is_named_and_the_rest_reported(runs):
    runs.add("none", noise=1.0)
    for name, content in (
        ("a", "{"),
        ("b", '{"schema": 99}'),
        ("c", "[]"),
        ("d", '{"schema": 1, "metrics": [{}], "labels": {}}'),
        ("e", '{"schema": 1, "command": "preprocess"}'),  # finished, with nothing to report
    ):
        folder = runs.root / "runs" / "2026-01-03" / name
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text(content)
    made = build(runs.root, n_boot=20)
    assert [Path(one.split(" ")[0]).parent.name for one in made.problems] == ["a", "b", "c", "d"]
    assert "its schema is 99" in made.problems[1]
    assert "schemais99" in "".join(shown(made).split())  # wrapped at the width, also in a path
    assert "schema is 99" in made.write()[0].read_text()


def test_lost_values_cost_the_interval_and_are_named(runs):
    runs.add("none", noise=1.0)
    (runs.add("unkd", noise=0.1) / "per_user.parquet").unlink()
    made = build(runs.root, n_boot=20)
    assert len(made.problems) == 1
    assert "per_user.parquet" in made.problems[0]
    got = cell(table(made, "overall"), "unkd", "recall@10")
    assert np.isfinite(got.value)
    assert np.isnan(got.p)
    assert "change_none" not in [one.name for one in made.sections[0].tables]


def test_no_runs_says_what_to_run(runs):
    with pytest.raises(KdrecError, match="no finished runs") as caught:
        build(runs.root)
    assert "kdrec run" in caught.value.hint


def test_an_unknown_data_set_or_cutoff_says_what_there_is(finished):
    with pytest.raises(KdrecError, match="data set 'ml-1m'") as caught:
        build(finished, dataset="ml-1m")
    assert "toy" in caught.value.hint
    with pytest.raises(KdrecError, match="cut-off 7") as caught:
        build(finished, cutoff=7)
    assert "5, 10" in caught.value.hint


def test_only_the_runs_that_are_named(finished):
    folders = sorted((finished / "runs").glob("*/*"))[:2]
    made = build(finished, runs=folders, n_boot=20)
    assert labels(table(made, "overall")) == ["teacher bprmf", "none"]


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_it_fits_the_width_and_has_no_codes_when_piped(report, width):
    text = shown(report, width=width)
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width
    assert "\x1b" not in text
    assert "…" not in text
    for row in table(report, "item_groups").rows:
        for one in row.cells:
            assert one.text() in text  # nothing is broken over two lines or cut


def test_bold_on_a_terminal_and_a_star_elsewhere(report):
    terminal = shown(report, force_terminal=True, color_system="standard")
    best = cell(table(report, "overall"), "unkd K=4", "recall@10").text()
    assert f"\x1b[1m{best}" in terminal
    assert "Bold: best student" in terminal
    assert f"{best}*" in shown(report)
    assert "*: best student" in shown(report)


def test_an_ascii_terminal_gets_ascii(report):
    raw = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    report.show(Console(file=raw, width=80))
    raw.flush()
    assert b"unkd K=4" in raw.buffer.getvalue()


def test_markdown_and_latex_are_whole(report, tmp_path):
    paths = report.write(tmp_path / "here")
    assert [path.name for path in paths] == ["report.md", "report.tex", "tables.csv", "runs.csv"]
    markdown = paths[0].read_text("utf-8")
    for block in markdown.split("### ")[1:]:
        lines = [line for line in block.splitlines() if line.startswith("|")]
        assert len({line.count(" | ") for line in lines}) == 1
    best = cell(table(report, "overall"), "unkd K=4", "recall@10").text()
    assert f"**{best}**" in markdown
    assert markdown.count("mean±standard deviation") == len(report.sections) == 1
    tex = paths[1].read_text("utf-8")
    assert (
        tex.count(r"\begin{table}") == tex.count(r"\end{table}") == len(report.sections[0].tables)
    )
    assert r"\textbf{" in tex
    assert "↑" not in tex
    for line in tex.splitlines():
        if line.endswith(r"\\"):
            assert "%" not in line.replace(r"\%", "")
    for environment in tex.split(r"\begin{tabular}")[1:]:
        body = environment.split(r"\end{tabular}")[0]
        wanted = body.splitlines()[0].count("r")
        rows = [line for line in body.splitlines() if line.endswith(r"\\")]
        assert {line.count(" & ") for line in rows} == {wanted}


def test_csv_is_tidy_and_exact(report, tmp_path):
    path = report.write(tmp_path)[2]
    rows = list(csv.DictReader(path.read_text("utf-8").splitlines()))
    got = [
        row
        for row in rows
        if (row["table"], row["row"], row["column"]) == ("overall", "unkd K=4", "recall@10")
    ]
    assert len(got) == 1
    exact = cell(table(report, "overall"), "unkd K=4", "recall@10")
    assert float(got[0]["value"]) == exact.value
    assert float(got[0]["p_adjusted"]) == exact.p
    assert (got[0]["best"], got[0]["significant"], got[0]["n_runs"]) == ("1", "better", "3")
    assert all(len(row) == 25 for row in rows)
    listed = list(csv.DictReader((tmp_path / "runs.csv").read_text("utf-8").splitlines()))
    assert len(listed) == len(report.runs) == 10
    for line, run in zip(listed, report.runs, strict=True):
        assert line["identity"] == run.identity
        assert float(line["recall@10"]) == run.metrics["test", "all", "all", "", "recall@10"]
        for form, name in (("eligible", ""), ("diluted", " diluted")):
            key = ("test", "items", "unpopular", form, "recall@10")
            assert float(line[f"recall@10 unpopular{name}"]) == run.metrics[key]
        k = run.settings.get("method.n_groups")
        assert line["method.n_groups"] == ("" if k is None else str(k))


def test_every_number_of_a_run_has_a_column_of_its_own(report):
    header, lines = behind.lines(report.runs)
    for run, line in zip(report.runs, lines, strict=True):
        names = [name for part in behind.parts(run) for name in part]
        assert len(set(names)) == len(names)
        assert len({behind.metric_name(key) for key in run.metrics}) == len(run.metrics)
        assert set(names) <= set(header)
        assert len(line) == len(header)
    settings = [header.index(name) for run in report.runs for name in run.settings]
    metrics = [header.index(behind.metric_name(key)) for run in report.runs for key in run.metrics]
    assert max(settings) < min(metrics)


def test_a_run_that_was_evaluated_anew_does_not_tell_its_cost_as_the_trainings(report):
    anew = replace(report.runs[0], training={**report.runs[0].training, "from": "elsewhere"})
    (header, lines) = behind.lines([report.runs[0], anew])
    for name in ("device", "threads", "peak_memory_bytes"):
        first, second = (line[header.index(name)] for line in lines)
        assert first
        assert not second


def test_a_long_text_goes_on_below_and_leaves_the_labels_whole():
    words = " ".join(f"setting_{at}=0.001" for at in range(8))
    cells = [Cell(math.nan, words=words)]
    rows = [Row(label, "student", 3, cells) for label in ("none", "unkd_official")]
    key = ("", "", "", "", "settings")
    out = io.StringIO()
    show_table(Table("x", "Long", ["settings"], [key], rows, []), Console(file=out, width=60))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 60
    assert any(line.startswith("unkd_official  setting_0=0.001 setting_1=0.001") for line in lines)
    assert sum(line.count("setting_") for line in lines) == 16


def test_json_has_the_runs_and_no_nan(report):
    text = json.dumps(report.as_json(), allow_nan=False)
    read = json.loads(text)
    assert len(read["runs"]) == 10
    assert {"folder", "identity", "settings", "seed"} <= set(read["runs"][0])
    first = read["sections"][0]["tables"][0]["rows"][0]["cells"][0]
    assert first["spread"] is None
    assert first["value"] == table(report, "overall").rows[0].cells[0].value


def test_the_default_folder_is_below_reports(report, finished, tmp_path):
    assert report.folder.parent.parent == finished / "reports"
    assert build(finished, out=tmp_path / "x", n_boot=20).folder == tmp_path / "x"


def test_the_same_runs_give_the_same_report(finished, report):
    again = build(finished, cutoff=10, n_boot=300, seed=0)
    assert again.as_json() == report.as_json()


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (Cell(0.08634, spread=0.00123), "0.0863±.0012"),
        (Cell(0.08634), "0.0863"),
        (Cell(float("nan")), "–"),
        (Cell(0.5, "share", spread=0.1), "50.0%"),
        (Cell(123.456, "number", spread=0.25), "123.5±.2"),
        (Cell(-0.123, "percent", mark="↓"), "-12.3%↓"),
        (Cell(0.01, "change", low=-0.002, high=0.02), "+0.0100 [-0.0020, +0.0200]"),
        (Cell(1.0, spread=1.5), "1.0000±1.5000"),
    ],
)
def test_numbers_as_they_are_written(made, text):
    assert made.text() == text


def test_latex_text_is_escaped():
    assert latex_escape("a_b 5% & ±↑ {x}\\") == (
        r"a\_b 5\% \& $\pm$$^{\uparrow}$ \{x\}\textbackslash{}"
    )


@pytest.mark.parametrize("width", [60, 80])
def test_one_run_in_short(runs, width):
    folder = runs.add("none", noise=0.5, unbiased=True)
    out = io.StringIO()
    summary(manifest(folder)["metrics"], "none on toy", Console(file=out, width=width))
    text = out.getvalue()
    for word in ("recall@5", "ndcg@5", "popular", "tail", "unbiased", "users evaluated"):
        assert word in text
    assert "recall@10" not in text
    assert max(map(len, text.splitlines())) <= width


def test_a_run_without_a_test_set_in_short():
    out = io.StringIO()
    summary([], "none on toy", Console(file=out))
    assert "not evaluated" in out.getvalue()


def test_a_table_with_markup_in_its_labels_is_printed_as_it_is(report):
    overall = table(report, "overall")
    odd = type(overall)(
        "odd", "[bold]x", ["[a]"], [overall.keys[0]],
        [type(overall.rows[0])("[/red]", "student", 1, [Cell(1.0)])],
    )  # fmt: skip
    out = io.StringIO()
    show_table(odd, Console(file=out))
    assert "[bold]x" in out.getvalue()
    assert "[/red]" in out.getvalue()
    assert "[a]" in out.getvalue()
