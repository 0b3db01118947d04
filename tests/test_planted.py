"""What UnKD is for, in worlds whose bias is known."""

from __future__ import annotations

from functools import partial

import pandas as pd
import pytest
import torch

from kdrec.data import synthetic
from kdrec.data.interactions import Split
from kdrec.data.preprocess import prepare
from kdrec.data.splits import ratio
from kdrec.evaluation.grouped import evaluate
from kdrec.evaluation.metrics import recall
from kdrec.evaluation.significance import Intervals, paired_bootstrap
from kdrec.methods.base import Distiller, Teacher
from kdrec.methods.unkd import UnKD
from kdrec.models.base import Scorer, frozen
from kdrec.models.bprmf import BPRMF
from kdrec.seeding import stream, torch_stream
from kdrec.training.loop import fit

CPU = torch.device("cpu")
COLUMNS = ["recall@10", "recall@10|unpopular"]


def world(bias: float) -> Split:
    raw = synthetic.read(
        [], n_users=300, n_items=400, dim=8, affinity=3.0, alpha=1.1, bias=bias, min_per_user=15,
        tail=1.5, max_share=0.2, unbiased_per_user=10, seed=0,
    )  # fmt: skip
    return prepare(
        raw, min_rating=None, min_user=0, min_item=0, core=False,
        protocol=partial(ratio, test=0.1, valid=0.1), seed=0,
    ).split  # fmt: skip


def trained(split: Split, dim: int, seed: int, distiller: Distiller | None) -> Scorer:
    model = BPRMF(split.train, dim=dim, generator=torch_stream(seed, "init"))
    fit(
        model, distiller, split, name="planted", optimiser="adam", lr=0.01, lr_factor=1.0,
        average=0.0, l2=1e-3, batch_size=1024, epochs=150, eval_every=5, patience=40, cutoff=20,
        checkpoints=0, data_weight=1.0, weight=0.1, seed=seed, eval_batch_size=300, device=CPU,
    )  # fmt: skip
    return frozen(model)


def popularity_groups_against_random(split: Split) -> Intervals:
    """Difference on the unbiased test set, over users, of the means of two seeds."""
    teacher = Teacher(trained(split, 32, 0, None), None)
    means = []
    for grouping in ("popularity", "random"):
        tables = []
        for seed in (0, 1):
            method = UnKD(
                split.train, teacher, n_groups=4, grouping=grouping, n_pairs=30, mu=20.0,
                pool=1000, norm="paper", visits="once", swap_defect=False, seed=seed,
                batch_size=300, device=CPU,
            )  # fmt: skip
            result = evaluate(
                trained(split, 10, seed, method), split, metrics={"recall": recall}, cutoffs=[10],
                item_groups=2, user_bins=2, popular_mass=0.5, seed=0, batch_size=300,
            )  # fmt: skip
            values: pd.DataFrame = result.per_user.query("target == 'unbiased'")
            tables.append(values[COLUMNS].to_numpy())
        means.append(sum(tables) / len(tables))
    return paired_bootstrap(means[0] - means[1], n_boot=500, level=0.95, rng=stream(0, "boot"))


@pytest.mark.slow
def test_without_popularity_bias_unkd_and_random_groups_agree() -> None:
    """To a few per cent of the recall of 0.3: without bias what is popular is what is liked, and
    groups by popularity hide that little of the truth from the student.
    """
    overall = 0
    found = popularity_groups_against_random(world(bias=0.0))
    assert abs(found.mean[overall]) < 0.02
    assert found.high[overall] > -0.01


@pytest.mark.slow
def test_with_popularity_bias_groups_by_popularity_serve_unpopular_items() -> None:
    unpopular = 1
    found = popularity_groups_against_random(world(bias=1.0))
    assert found.low[unpopular] > 0
