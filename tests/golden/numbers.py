"""The golden numbers: few epochs on real data, and of each method on the built-in world; remade by

    python -m tests.golden.numbers

Those on real data are remade where `KDREC_SHARED` says where the data are, and stay otherwise.
A change to them is named in CHANGELOG.md, with **[numbers]**.
"""

from __future__ import annotations

import csv
import json
import os
import tempfile
from pathlib import Path

from typer.testing import CliRunner

from kdrec.artifacts import finished_runs
from kdrec.cli.app import app
from tests.contracts.test_methods import METHODS

FILE = Path(__file__).with_name("numbers.json")
LOCAL = {
    "citeulike": "citeulike-t/users.dat",
    "amazon-apps": "amazon-apps/Apps_for_Android.txt.gz",
    "ml-1m": "ml-1m/ratings_all.tsv.gz",
}
FEW = ["teacher_fit.epochs=10", "fit.epochs=10", "lr=0.01", "threads=1", "device=cpu"]
COMMANDS = {
    "citeulike itempop": ["train", "dataset=citeulike", "teacher=itempop", "threads=1"],
    "citeulike ease": ["train", "dataset=citeulike", "teacher=ease", "threads=1"],
    "amazon-apps itempop": ["train", "dataset=amazon-apps", "teacher=itempop", "threads=1"],
    "ml-1m itempop": ["train", "dataset=ml-1m", "teacher=itempop", "threads=1"],
    "citeulike unkd": ["distill", "dataset=citeulike", "method=unkd", "teacher_lr=0.01", *FEW],
    "citeulike none": ["distill", "dataset=citeulike", "method=none", *FEW],
    "amazon-apps lightgcn official": [
        "train", "dataset=amazon-apps", "teacher=lightgcn", "protocol=official", "teacher_dim=16",
        "lr=0.01", "teacher_fit.epochs=5", "threads=1", "device=cpu",
    ],
}  # fmt: skip
#: Key of the distillation losses of each method's second epoch.
LOSSES = "distillation loss of each method"
WORLD = [
    "dataset=synthetic", "dataset.reader.n_users=120", "dataset.reader.n_items=150",
    "dataset.reader.min_per_user=8", "teacher_dim=12", "student_dim=4", "teacher_lr=0.02",
    "lr=0.02", "teacher_fit.epochs=10", "fit.epochs=2", "teacher_fit.batch_size=256",
    "fit.batch_size=256", "threads=1", "device=cpu",
]  # fmt: skip
KEPT = {
    ("all", "", "recall@10"),
    ("all", "", "ndcg@20"),
    ("all", "", "map@10"),
    ("items", "eligible", "recall@10"),
    ("items", "diluted", "recall@10"),
    ("activeness", "", "ndcg@10"),
    ("consistency", "", "ndcg@10"),
}


def measure(name: str, shared: Path, folder: Path) -> dict[str, float]:
    """Runs one command in `folder` and returns its numbers."""
    words = COMMANDS[name]
    dataset = name.split(maxsplit=1)[0]
    before = Path.cwd()
    os.chdir(folder)
    try:
        path = shared / LOCAL[dataset]
        result = CliRunner().invoke(app, [*words, f"dataset.path={path}"], prog_name="kdrec")
        assert result.exit_code == 0, result.stderr
        role = "teacher" if words[0] == "train" else "student"
        (run,) = [
            run for run in finished_runs(Path("outputs")) if run.manifest["labels"]["role"] == role
        ]
    finally:
        os.chdir(before)
    return {
        f"{row['scope']} {row['group']} {row['form']} {row['metric']}": round(row["value"], 8)
        for row in run.manifest["metrics"]
        if row["target"] == "test" and (row["scope"], row["form"], row["metric"]) in KEPT
    }


def measure_losses(names: list[str], folder: Path) -> dict[str, float]:
    """Trains a student by each method in `folder` and returns the losses, to six digits."""
    found, before = {}, Path.cwd()
    os.chdir(folder)
    try:
        for name in names:
            result = CliRunner().invoke(
                app, ["distill", *WORLD, f"method={name}"], prog_name="kdrec"
            )
            assert result.exit_code == 0, result.stderr
            (run,) = [
                run
                for run in finished_runs(Path("outputs"))
                if run.manifest["labels"].get("method") == name
            ]
            with (run.folder / "history.csv").open() as history:
                *_, last = csv.DictReader(history)
            assert float(last["epoch"]) == 2
            found[name] = float(f"{float(last['distillation']):.6g}")
    finally:
        os.chdir(before)
    return found


def main() -> None:
    """Measures all and writes the file; what no command makes any more stays."""
    numbers = json.loads(FILE.read_text("utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        numbers[LOSSES] = measure_losses(METHODS, Path(folder))
    if "KDREC_SHARED" in os.environ:
        shared = Path(os.environ["KDREC_SHARED"]).resolve() / "data"
        for name in COMMANDS:
            with tempfile.TemporaryDirectory() as folder:
                numbers[name] = measure(name, shared, Path(folder))
    FILE.write_text(json.dumps(numbers, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
