"""How time and memory grow from 1 to 20 million interactions; prints a table.

    python tests/benchmarks/scale.py [--sizes 1 3 10 20] [--folder .scale] [--device cpu]

Each size has the catalogue of MovieLens-20M, 26,744 items, and its 144 interactions a user, so
that the work an interaction costs is the same at all sizes and whatever grows is ours. Each stage
runs in a process of its own, whose peak memory is shown; its time is that of the stage without
starting Python. `preprocess` is the command, from a csv file to the split on disk.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from pyarrow import csv
from rich.console import Console
from rich.table import Table

from kdrec.data import store
from kdrec.data.interactions import Split
from kdrec.evaluation import metrics
from kdrec.evaluation.grouped import evaluate
from kdrec.methods.base import Teacher
from kdrec.methods.unkd import UnKD
from kdrec.models.base import Scorer, frozen
from kdrec.models.bprmf import BPRMF
from kdrec.seeding import torch_stream
from kdrec.training.trainer import Trainer

ITEMS, A_USER = 26_744, 20_000_000 / 138_493
DIM, STUDENT, BATCH = 64, 10, 2048
STAGES = (
    "preprocess",
    "epoch, adam",
    "epoch, lazy_adam",
    "soft labels",
    "UnKD epoch",
    "evaluation",
)


def write_csv(millions: float, path: Path) -> None:
    """A table user,item,rating,timestamp with unequal users and items, pairs unique."""
    rng = np.random.default_rng(0)
    wanted = int(millions * 1e6)
    n_users = round(wanted / A_USER)
    activity = np.clip(rng.lognormal(0.0, 1.0, n_users), 0.15, 20)
    weights = (1.0 / np.arange(10, ITEMS + 10)) ** 0.9
    edges = np.cumsum(weights / weights.sum())
    keys = np.empty(0, np.int64)
    while len(keys) < wanted:
        users = np.repeat(np.arange(n_users), rng.poisson(activity / activity.mean() * A_USER))
        items = np.minimum(np.searchsorted(edges, rng.random(len(users))), ITEMS - 1)
        keys = np.unique(np.concatenate([keys, users * ITEMS + items]))
    keys = rng.permutation(keys)[:wanted]
    table = pa.table(
        {
            "user": keys // ITEMS,
            "item": keys % ITEMS,
            "rating": rng.integers(1, 6, wanted),
            "timestamp": rng.integers(1_000_000_000, 1_400_000_000, wanted),
        }
    )
    csv.write_csv(table, path)


def preprocess(file: Path, folder: Path) -> float:
    """Seconds of `kdrec preprocess` less those of the same command on a file of ten rows."""

    def command(source: Path, folder: Path) -> float:
        start = time.perf_counter()
        words = ["preprocess", "dataset=table", f"dataset.path={source}", "--quiet", "force=true",
                 "dataset.reader.timestamp=timestamp", "dataset.reader.rating=rating",
                 f"data_dir={folder}/data", f"output_dir={folder}/out"]  # fmt: skip
        subprocess.run(
            [sys.executable, "-m", "kdrec", *words], check=True, stdout=subprocess.DEVNULL
        )
        return time.perf_counter() - start

    tiny = folder / "tiny.csv"
    with file.open() as whole:
        tiny.write_text("".join(next(whole) for _ in range(11)))
    starting = command(tiny, folder / "tiny")
    return command(file, folder) - starting


def stage(name: str, split: Split, device: torch.device) -> Callable[[], object]:
    """What is timed; made ready, but for the stage itself."""

    def model(dim: int) -> BPRMF:
        return BPRMF(split.train, dim=dim, generator=torch_stream(0, "init")).to(device)

    def unkd(scorer: Scorer) -> UnKD:
        return UnKD(
            split.train, Teacher(scorer, None), n_groups=4, grouping="popularity", n_pairs=30,
            mu=20.0, pool=1000, norm="paper", visits="once", swap_defect=False, seed=0,
            batch_size=256,
            device=device,
        )  # fmt: skip

    def epoch(method: UnKD | None, dim: int, optimiser: str) -> Callable[[], object]:
        trainer = Trainer(
            model(dim), method, split, optimiser=optimiser, lr=1e-3, l2=1e-3, batch_size=BATCH,
            data_weight=1.0, weight=0.1, seed=0, device=device,
        )  # fmt: skip
        return lambda: trainer.epoch(1, with_ratio=False)

    if name.startswith("epoch"):
        return epoch(None, DIM, name.split()[1])
    scorer = frozen(model(DIM))
    if name == "soft labels":
        return lambda: unkd(scorer)
    if name == "UnKD epoch":
        return epoch(unkd(scorer), STUDENT, "lazy_adam")
    names = {"recall": metrics.recall, "ndcg": metrics.ndcg}
    return lambda: evaluate(
        scorer, split, metrics=names, cutoffs=[10, 20], item_groups=2, user_bins=5,
        popular_mass=0.5, seed=0, batch_size=256, device=str(device),
    )  # fmt: skip


def one_stage(name: str, file: Path, folder: Path, device: torch.device) -> dict[str, float]:
    """Seconds and peak bytes of one stage, in this process."""
    if name == "table":
        write_csv(float(folder.name), file)
        return {}
    if name == "preprocess":
        seconds = preprocess(file, folder)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    else:
        split = store.load(next((folder / "data" / "processed" / "table").iterdir())).split
        work = stage(name, split, device)
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # the parent is small
    return {"seconds": seconds, "peak": peak * (1 if sys.platform == "darwin" else 1024)}


def main() -> None:
    """Measures every stage at every size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="+", type=float, default=[1, 3, 10, 20])
    parser.add_argument("--stages", nargs="+", default=STAGES, choices=STAGES)
    parser.add_argument(
        "--folder", type=Path, help="keeps the files there, and takes them up again"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--one", nargs=2, metavar=("STAGE", "FILE"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        name, file = given.one[0], Path(given.one[1])
        sys.stdout.write(json.dumps(one_stage(name, file, file.parent, torch.device(given.device))))
        return
    table = Table(title=f"{given.device}, {torch.get_num_threads()} threads")
    for column in ("stage", "million", "seconds", "ns an interaction", "growth", "peak GiB"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    with tempfile.TemporaryDirectory() as temporary:
        base = given.folder or Path(temporary)

        def run(name: str, file: Path) -> dict[str, float]:
            words = [__file__, "--device", given.device, "--one", name, str(file)]
            done = subprocess.run(
                [sys.executable, *words], check=True, stdout=subprocess.PIPE, text=True
            )
            found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
            sys.stderr.write(f"{file.parent.name} million, {name}: {found}\n")
            return found

        rows: dict[str, list[dict[str, float]]] = {name: [] for name in given.stages}
        for size in given.sizes:
            file = base / f"{size:g}" / "table.csv"
            if not file.exists():
                file.parent.mkdir(parents=True, exist_ok=True)
                run("table", file)
            if "preprocess" not in given.stages and not (file.parent / "data").exists():
                run("preprocess", file)
            for name in given.stages:
                rows[name].append(run(name, file))
        for name, found in rows.items():
            each = [
                one["seconds"] / size * 1e3 for one, size in zip(found, given.sizes, strict=True)
            ]
            for one, size, cost in zip(found, given.sizes, each, strict=True):
                table.add_row(
                    name, f"{size:g}", f"{one['seconds']:.2f}", f"{cost:.0f}",
                    f"{cost / each[0] - 1:+.0%}", f"{one['peak'] / 2**30:.2f}",
                )  # fmt: skip
            table.add_section()
    Console(width=max(90, Console().width)).print(table)


if __name__ == "__main__":
    main()
