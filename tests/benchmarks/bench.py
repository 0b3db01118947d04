"""Times the hot routines beside their floors and their naive twins; prints a table.

    python -m tests.benchmarks.bench [--users 5219 --items 25181 --per-user 24] [--device cpu]

Everything runs in this one process on random data of CiteULike's shape. What a row compares is
timed in turns, `--rounds` times each, and the least time is taken: what a machine that does other
things beside adds to a time is never negative. Ratios are what matters: machines differ.
"""

from __future__ import annotations

import argparse
import functools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table
from torch.nn import functional

from kdrec.data.groups import popularity_groups
from kdrec.data.interactions import Interactions, Split
from kdrec.data.sampling import NegativeSampler
from kdrec.evaluation import metrics
from kdrec.evaluation.grouped import evaluate
from kdrec.kernels.topk import ALIGN
from kdrec.methods.base import Distiller, Teacher
from kdrec.methods.soft_labels import rank_within_groups
from kdrec.methods.unkd import UnKD
from kdrec.models.base import Backbone, Batch, EmbeddingScorer, frozen
from kdrec.models.bprmf import BPRMF
from kdrec.models.lightgcn import LightGCN
from kdrec.seeding import torch_stream
from kdrec.training.trainer import Trainer, batches
from tests.contracts.test_methods import METHODS, load

BATCH, LR, L2 = 2048, 1e-3, 1e-3
Work = Callable[[], object]


def world(users: int, items: int, per_user: int) -> Split:
    """Random pairs with power-law popularity; a tenth each for validation and test."""
    rng = np.random.default_rng(0)
    weights = 1.0 / np.arange(1, items + 1) ** 0.8
    drawn = rng.choice(items, size=users * per_user, p=weights / weights.sum())
    whole = Interactions.from_pairs(
        np.repeat(np.arange(users), per_user), drawn, n_users=users, n_items=items
    )
    part = rng.permutation(len(whole)) % 10

    def of(mask: np.ndarray) -> Interactions:
        return Interactions(whole.users[mask], whole.items[mask], users, items)

    return Split(of(part > 1), of(part == 1), of(part == 0))


class Bench:
    """The data, the machine, and the rows found so far."""

    def __init__(self, split: Split, device: torch.device, rounds: int) -> None:
        self.split, self.train, self.device, self.rounds = split, split.train, device, rounds
        self.draw = torch_stream(0, "bench", device=device.type)
        self.table = Table(
            title=f"{len(self.train):,} training pairs, {device}, {torch.get_num_threads()} threads"
        )
        for column in ("routine", "floor"):
            self.table.add_column(column)
        for column in ("floor ms", "ours ms", "ratio", "at most"):
            self.table.add_column(column, justify="right")
        for column in ("twin ms", "twin/ours", "at least"):
            self.table.add_column(column, justify="right")

    def least(self, **works: Work) -> dict[str, float]:
        """Least milliseconds of each of the works, in turns after one that does not count."""
        best = dict.fromkeys(works, float("inf"))
        for turn in range(self.rounds + 1):
            for name, work in works.items():
                start = time.perf_counter()
                work()
                if self.device.type == "cuda":
                    torch.cuda.synchronize()
                if turn:
                    best[name] = min(best[name], 1e3 * (time.perf_counter() - start))
        return best

    def row(
        self,
        name: str,
        floor_name: str,
        times: dict[str, float],
        at_most: float | None = None,
        at_least: float | None = None,
    ) -> None:
        """Adds a row, and says so at once; a ratio beyond its bound is red."""

        def shown(value: float, ok: bool) -> str:
            return f"{value:.2f}" if ok else f"[red]{value:.2f}[/red]"

        floor, ours, twin = times["floor"], times["ours"], times.get("twin")
        ratio = ours / floor
        cells = [f"{floor:.2f}", f"{ours:.2f}", shown(ratio, at_most is None or ratio <= at_most)]
        cells.append("" if at_most is None else f"{at_most:g}")
        if twin is None:
            cells += ["", "", ""]
        else:
            gain = twin / ours
            cells += [f"{twin:.2f}", shown(gain, at_least is None or gain >= at_least)]
            cells.append("" if at_least is None else f"{at_least:g}")
        self.table.add_row(name, floor_name, *cells)
        sys.stderr.write(f"{name}: {ratio:.2f} x {floor_name}\n")

    def epoch_batches(self) -> list[Batch]:
        """The batches of one epoch."""
        sampler = NegativeSampler(self.train, device=self.device)
        return list(batches(self.train, sampler, BATCH, self.draw, self.device)())

    def mf(self, dim: int) -> BPRMF:
        """A factorisation on the device."""
        return BPRMF(self.train, dim=dim, generator=torch_stream(0, "init")).to(self.device)

    def gcn(self, dim: int) -> LightGCN:
        """A LightGCN of two layers on the device."""
        start = torch_stream(0, "init")
        model = LightGCN(self.train, dim=dim, n_layers=2, init_std=0.1, generator=start)
        return model.to(self.device)

    def trainer(self, distiller: Distiller | None, dim: int = 10) -> Trainer:
        """A student's training."""
        return Trainer(
            self.mf(dim),
            distiller,
            self.split,
            optimiser="adam",
            lr=LR,
            l2=L2,
            batch_size=BATCH,
            data_weight=1.0,
            weight=0.1,
            seed=0,
            device=self.device,
        )


def steps(bench: Bench, model: Backbone, n_steps: int, least: Work | None) -> dict[str, Work]:
    """An epoch's steps as kdrec takes them, and what they cannot do without."""
    trainer = Trainer(
        model, None, bench.split, optimiser="adam", lr=LR, l2=L2, batch_size=BATCH,
        data_weight=1.0, weight=0.0, seed=0, device=bench.device,
    )  # fmt: skip
    epoch = bench.epoch_batches()[:n_steps]
    trainer.batches = lambda: iter(epoch)

    def floor() -> None:
        for _ in epoch:
            if least is not None:
                least()
            trainer.optimiser.step()

    return {"ours": functools.partial(trainer.epoch, 1, with_ratio=False), "floor": floor}


def plain_steps(model: BPRMF, epoch: list[Batch]) -> Work:
    """BPR-MF by plain autograd through `functional.embedding`."""
    optimiser = torch.optim.Adam(model.parameters(), lr=LR, fused=True)

    def twin() -> None:
        for batch in epoch:
            optimiser.zero_grad(set_to_none=True)
            u = functional.embedding(batch.users, model.user_table)
            i = functional.embedding(batch.positives, model.item_table)
            j = functional.embedding(batch.negatives, model.item_table)
            norms = u.square().sum() + i.square().sum() + j.square().sum()
            loss = functional.softplus((u * (j - i)).sum(1)).mean() + L2 * norms / (2 * len(u))
            loss.backward()
            optimiser.step()

    return twin


def per_step(times: dict[str, float], n_steps: int) -> dict[str, float]:
    """An epoch's times as those of one step."""
    return {name: value / n_steps for name, value in times.items()}


def training(bench: Bench) -> None:
    """Steps of the backbones."""
    epoch = bench.epoch_batches()
    for dim, at_most, at_least in ((100, 2.5, 2.0), (10, None, 1.5)):
        works = steps(bench, bench.mf(dim), len(epoch), None)
        works["twin"] = plain_steps(bench.mf(dim), epoch)
        times = per_step(bench.least(**works), len(epoch))
        bench.row(f"BPR-MF step, dim {dim}", "fused Adam", times, at_most, at_least)
    for dim in (100, 10):
        model = bench.gcn(dim)
        times = per_step(bench.least(**steps(bench, model, 8, products(model))), 8)
        bench.row(f"LightGCN step, dim {dim}, 2 layers", "4 products + fused Adam", times, 1.5)


def products(model: LightGCN) -> Work:
    """The sparse products of a step, between as many tables as the step has."""
    x, *others = (torch.zeros_like(model.table, requires_grad=False) for _ in range(5))
    adjacency = model.adjacency

    def chain() -> None:
        source = x
        for target in others:
            torch.addmm(target, adjacency, source, beta=0, out=target)
            source = target

    return chain


def distillation(bench: Bench, teacher: Teacher) -> None:
    """An epoch of UnKD beside one without a method, and its random draws."""

    def unkd(norm: str) -> UnKD:
        return UnKD(
            bench.train, teacher, n_groups=4, grouping="popularity", n_pairs=30, mu=20.0,
            pool=1000, norm=norm, visits="once", swap_defect=False, seed=0, batch_size=256,
            device=bench.device,
        )  # type: ignore[arg-type]  # fmt: skip

    def epoch(trainer: Trainer) -> Work:
        return functools.partial(trainer.epoch, 1, with_ratio=False)

    method, student = unkd("paper"), bench.mf(10)
    sampler = NegativeSampler(bench.train, device=bench.device)
    order = torch.randperm(len(bench.train), generator=bench.draw, device=bench.device)
    times = bench.least(
        none=epoch(bench.trainer(None)),
        unkd=epoch(bench.trainer(method)),
        official=epoch(bench.trainer(unkd("official"))),
        negatives=lambda: sampler.of_pairs(order, bench.draw),
        pairs=lambda: method.begin_epoch(1, bench.draw, student),
    )
    draws = times["negatives"] + times["pairs"]
    share = {"floor": times["unkd"], "ours": draws}
    bench.row("negatives and UnKD's pairs", "an epoch of UnKD", share, 0.2)
    for name, key, at_most in (("UnKD", "unkd", 2.5), ("UnKD, norm=official", "official", None)):
        found = {"floor": times["none"], "ours": times[key]}
        bench.row(f"epoch of {name}", "an epoch of none", found, at_most)


def ranking(bench: Bench, teacher: EmbeddingScorer) -> None:
    """Soft labels and evaluation beside the score product and `topk`."""
    users, items = teacher.vectors
    padded = torch.zeros(-(-len(items) // ALIGN) * ALIGN, items.shape[1], device=bench.device)
    padded[: len(items)] = items
    table = torch.empty(128, len(padded), device=bench.device)

    def scores_and_top(k: int) -> None:
        """In batches that a cache holds, rows aligned: the best that the two calls can do."""
        for part in users.split(len(table)):
            torch.matmul(part, padded.T, out=table[: len(part)]).topk(k)

    groups = popularity_groups(bench.train.item_counts(), 4)
    times = bench.least(
        floor=lambda: scores_and_top(1000),
        ours=lambda: rank_within_groups(
            teacher, bench.train, groups, pool=1000, batch_size=256,
            generator=torch_stream(0, "ties"), device=bench.device,
        ),
    )  # fmt: skip
    bench.row("soft labels, 4 pools of 1000", "scores + topk 1000", times, 2.0)
    names = {
        "recall": metrics.recall, "ndcg": metrics.ndcg, "precision": metrics.precision,
        "hit_rate": metrics.hit_rate, "mrr": metrics.mrr, "map": metrics.average_precision,
    }  # fmt: skip
    times = bench.least(
        floor=lambda: (scores_and_top(20), scores_and_top(20)),
        ours=lambda: evaluate(
            teacher, bench.split, metrics=names, cutoffs=[10, 20], item_groups=2, user_bins=5,
            popular_mass=0.5, seed=0, batch_size=256, device=str(bench.device),
        ),
    )  # fmt: skip
    bench.row("evaluation of test and validation", "2 x (scores + topk 20)", times, 1.5)


def methods(bench: Bench, teacher: Teacher) -> None:
    """An epoch of every method: the first, the second, and one when temperatures have fallen.

    The first ranks the catalogue by the student where a method does so, and what is soft is
    softest; the second ranks only where `rank_every` is 1.
    """
    none = bench.trainer(None)
    for name in METHODS:
        cfg = OmegaConf.merge({"student": {"dim": 10}, "fit": {"epochs": 1000}}, load(name))
        method: Distiller = instantiate(cfg, _convert_="all")["method"]["distiller"](
            bench.train, teacher, seed=0, batch_size=256, device=bench.device
        )
        trainer = bench.trainer(method)
        works: dict[str, Work] = {
            f"{at}": functools.partial(trainer.epoch, at, with_ratio=False) for at in (1, 2, 999)
        }
        times = bench.least(none=functools.partial(none.epoch, 1, with_ratio=False), **works)
        for at in works:
            found = {"floor": times["none"], "ours": times[at]}
            bench.row(f"{name}, epoch {at}", "an epoch of none", found)


def commands(bench: Bench) -> None:
    """The program as a user starts it: seconds of whole processes."""
    program = [sys.executable, "-m", "kdrec"]

    def start(words: list[str], **env: str) -> None:
        subprocess.run([*program, *words], check=True, capture_output=True, env=os.environ | env)

    with tempfile.TemporaryDirectory() as folder:
        small = ["distill", "experiment=demo", "fit.epochs=1", "teacher_fit.epochs=1",
                 f"data_dir={folder}/data", f"output_dir={folder}/out", "--quiet"]  # fmt: skip
        start(small)
        times = bench.least(
            bare=lambda: subprocess.run([sys.executable, "-c", "pass"], check=True),
            help=lambda: start(["--help"]),
            completion=lambda: start(["-sc", "query=bash"], COMP_LINE="kdrec distill method="),
            finished=lambda: start(small),
        )
    second = 1000.0
    for name, words, bound in (
        ("help", "kdrec --help", 0.5), ("completion", "completion of method=", 0.5),
        ("finished", "kdrec distill, finished already", 3.0),
    ):  # fmt: skip
        bench.row(words, "one second", {"floor": second, "ours": times[name]}, bound)


PARTS = ("training", "distillation", "ranking", "commands", "methods")


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=5219)
    parser.add_argument("--items", type=int, default=25181)
    parser.add_argument("--per-user", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS[:-1])
    given = parser.parse_args()
    split = world(given.users, given.items, given.per_user)
    bench = Bench(split, torch.device(given.device), given.rounds)
    scorer = frozen(bench.mf(100))
    assert isinstance(scorer, EmbeddingScorer)
    if "training" in given.only:
        training(bench)
    if "distillation" in given.only:
        distillation(bench, Teacher(scorer, scorer))
    if "ranking" in given.only:
        ranking(bench, scorer)
    if "commands" in given.only:
        commands(bench)
    if "methods" in given.only:
        kind = functools.partial(BPRMF, bench.train, dim=100)
        methods(bench, Teacher(scorer, scorer, (scorer, scorer), fresh=lambda g: kind(generator=g)))
    Console(width=max(140, Console().width)).print(bench.table)


if __name__ == "__main__":
    main()
