"""Times the hot routines beside their floor and their naive twin; prints a table.

    python tests/benchmarks/bench.py [--users 5219 --items 25181 --per-user 19]

Everything runs in this one process on random data of CiteULike's shape, each routine `--repeat`
times, and the median is shown. Ratios are what matters: machines differ.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch.nn import functional

from kdrec.data.groups import popularity_groups
from kdrec.data.interactions import Interactions, Split
from kdrec.data.sampling import NegativeSampler
from kdrec.evaluation import metrics
from kdrec.evaluation.grouped import evaluate
from kdrec.methods.base import Teacher
from kdrec.methods.soft_labels import rank_within_groups
from kdrec.methods.unkd import UnKD
from kdrec.models.base import Batch, frozen
from kdrec.models.bprmf import BPRMF
from kdrec.models.lightgcn import LightGCN
from kdrec.seeding import torch_stream

CPU = torch.device("cpu")
BATCH = 2048


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


def median(work: Callable[[], object], repeat: int) -> float:
    """Median milliseconds of `repeat` calls after one that is not counted."""
    work()
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e3


def train_steps(model: torch.nn.Module, batch: Batch) -> dict[str, Callable[[], object]]:
    """A step as kdrec takes it, the optimiser alone, and the step through plain autograd."""
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)

    def ours() -> None:
        optimiser.zero_grad(set_to_none=True)
        model.loss(batch, model.embed(), 1e-3).backward()
        optimiser.step()

    def twin() -> None:
        optimiser.zero_grad(set_to_none=True)
        users, items = model.embed()
        u, i, j = (
            functional.embedding(index, table)
            for index, table in (
                (batch.users, users), (batch.positives, items), (batch.negatives, items),
            )
        )  # fmt: skip
        norms = u.square().sum() + i.square().sum() + j.square().sum()
        loss = functional.softplus((u * (j - i)).sum(1)).mean() + 1e-3 * 0.5 * norms / BATCH
        loss.backward()
        optimiser.step()

    ours()
    return {"ours": ours, "twin": twin, "floor": optimiser.step}


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=5219)
    parser.add_argument("--items", type=int, default=25181)
    parser.add_argument("--per-user", type=int, default=24)
    parser.add_argument("--repeat", type=int, default=20)
    given = parser.parse_args()
    split = world(given.users, given.items, given.per_user)
    train = split.train
    table = Table(title=f"{len(train):,} training pairs, {torch.get_num_threads()} threads (ms)")
    for column in ("routine", "floor", "floor ms", "ours ms", "ours/floor", "twin ms", "twin/ours"):
        table.add_column(column, justify="left" if column in ("routine", "floor") else "right")

    def row(
        name: str, floor_name: str, floor: float, ours: float, twin: float | None = None
    ) -> None:
        table.add_row(
            name, floor_name, f"{floor:.2f}", f"{ours:.2f}", f"{ours / floor:.2f}",
            *(("", "") if twin is None else (f"{twin:.2f}", f"{twin / ours:.2f}")),
        )  # fmt: skip

    sampler = NegativeSampler(train, device=CPU)
    draw = torch_stream(0, "bench")
    users = torch.from_numpy(train.users)[torch.randperm(len(train), generator=draw)[:BATCH]]
    positives = torch.randint(train.n_items, (BATCH,), generator=draw)
    batch = Batch(users, positives, sampler.sample(users, draw), 0, 1)
    steps: dict[int, float] = {}
    for dim in (100, 10):
        model = BPRMF(train, dim=dim, generator=draw)
        times = {name: median(work, 50) for name, work in train_steps(model, batch).items()}
        steps[dim] = times["ours"]
        row(f"BPR-MF step, dim {dim}", "fused Adam", times["floor"], times["ours"], times["twin"])
        graph = LightGCN(train, dim=dim, n_layers=2, init_std=0.1, generator=draw)
        dense = graph.table.detach()
        products = 4 * median(lambda: graph.adjacency @ dense, given.repeat)  # noqa: B023
        times = {name: median(work, 20) for name, work in train_steps(graph, batch).items()}
        row(
            f"LightGCN step, dim {dim}, 2 layers", "4 products + Adam",
            products + times["floor"], times["ours"],
        )  # fmt: skip

    teacher = frozen(BPRMF(train, dim=100, generator=draw))
    method = UnKD(
        train, Teacher(teacher, None), n_groups=4, grouping="popularity", n_pairs=30, mu=20.0,
        pool=1000, norm="paper", swap_defect=False, seed=0, batch_size=256, device=CPU,
    )  # fmt: skip
    n_steps = -(-len(train) // BATCH)
    epoch = n_steps * steps[10]
    every = torch.from_numpy(train.users)
    sampling = median(lambda: sampler.sample(every, draw), given.repeat)
    row("negatives of an epoch", "steps of an epoch, dim 10", epoch, sampling)
    pairs = median(lambda: method.begin_epoch(1, draw), given.repeat)
    row("UnKD's pairs of an epoch", "steps of an epoch, dim 10", epoch, pairs)

    everyone = torch.arange(train.n_users)

    def scores_and_top(k: int) -> None:
        for part in everyone.split(256):
            teacher.scores(part).topk(k)

    groups = popularity_groups(train.item_counts(), 4)
    soft = median(
        lambda: rank_within_groups(
            teacher, train, groups, pool=1000, batch_size=256, generator=draw, device=CPU
        ),
        3,
    )
    row(
        "soft labels, 4 pools of 1000",
        "scores + top 1000",
        median(lambda: scores_and_top(1000), 3),
        soft,
    )
    names = {
        "recall": metrics.recall, "ndcg": metrics.ndcg, "precision": metrics.precision,
        "hit_rate": metrics.hit_rate, "mrr": metrics.mrr, "map": metrics.average_precision,
    }  # fmt: skip
    whole = median(
        lambda: evaluate(
            teacher, split, metrics=names, cutoffs=[10, 20], item_groups=2, user_bins=5,
            popular_mass=0.5, seed=0, batch_size=256,
        ),
        3,
    )  # fmt: skip
    row(
        "evaluation of test and validation",
        "2 x (scores + top 20)",
        2 * median(lambda: scores_and_top(20), 3),
        whole,
    )
    Console().print(table)


if __name__ == "__main__":
    main()
