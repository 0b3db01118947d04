"""The golden numbers: few epochs on real data, remade by

    python -m tests.golden.numbers

A change to them is named in CHANGELOG.md, with **[numbers]**.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

from typer.testing import CliRunner

from kdrec.artifacts import finished_runs
from kdrec.cli.app import app

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


def main() -> None:
    """Measures all and writes the file; what no command makes any more stays."""
    shared = Path(os.environ["KDREC_SHARED"]).resolve() / "data"
    numbers = json.loads(FILE.read_text("utf-8"))
    for name in COMMANDS:
        with tempfile.TemporaryDirectory() as folder:
            numbers[name] = measure(name, shared, Path(folder))
    FILE.write_text(json.dumps(numbers, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
