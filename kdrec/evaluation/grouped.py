"""One model's whole evaluation: overall, by item group, by user group, and beside accuracy."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from kdrec.data.groups import activeness, consistency, equal_user_bins
from kdrec.data.interactions import Interactions, Split
from kdrec.errors import KdrecError, UsageError
from kdrec.evaluation.metrics import Metric
from kdrec.evaluation.part import Catalogue, Part, Row, bin_names
from kdrec.evaluation.topk import TopK, hits, top_k
from kdrec.models.base import Scorer
from kdrec.progress import task
from kdrec.ranges import Count, Natural, Share

SUMMARY_COLUMNS = ["target", "scope", "group", "form", "metric", "value", "n_users"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """What is known of a model after it has been evaluated.

    Args:
        topk: The lists of the users that have test items.
        per_user: One row a target and user: `target`, `user`, `n_relevant`, one column a metric
            (`recall@10`), one a metric and item group (`recall@10|popular`), `n_relevant|popular`,
            the lists' make-up (`avg_popularity@10`, `long_tail@10`), and the user's bins,
            `activeness` and `consistency` ("" for a user without training pairs). NaN where a
            user has no relevant item of the group.
        summary: Tidy: `target`, `scope`, `group`, `form`, `metric`, `value`, `n_users`. Of the
            target `valid` it has the overall metrics alone.
    """

    topk: TopK
    per_user: pd.DataFrame
    summary: pd.DataFrame


def quick(
    scorer: Scorer,
    target: Interactions,
    *,
    mask: Sequence[Interactions],
    metrics: Mapping[str, Metric],
    cutoffs: Sequence[int],
    seed: int,
    batch_size: int,
    device: str = "cpu",
) -> dict[str, float]:
    """Mean metrics over the users with pairs in `target`, such as `{"ndcg@20": 0.05}`.

    This is what early stopping looks at. The arguments are those of `evaluate`.
    """
    _check(target, "target", metrics, cutoffs)
    relevant = target.user_counts()
    users = np.flatnonzero(relevant)
    lists = top_k(
        scorer, users, max(cutoffs), mask=mask, seed=seed, batch_size=batch_size, device=device
    )
    found = hits(lists, target)
    return {
        f"{name}@{k}": float(metric(found[:, :k], relevant[users]).mean())
        for name, metric in metrics.items()
        for k in cutoffs
    }


def evaluate(
    scorer: Scorer,
    split: Split,
    *,
    metrics: Mapping[str, Metric],
    cutoffs: Sequence[Count],
    item_groups: Count,
    user_bins: Count,
    popular_mass: Share,
    seed: Natural,
    batch_size: Count,
    device: str = "cpu",
) -> Evaluation:
    """Full ranking of the test set, and of the unbiased one where the data have it.

    Training and validation pairs are masked; for the unbiased target test pairs too, and those it
    shares with them are left out of it. Popularity, activeness and consistency are counted on the
    training pairs. Users without a test item are skipped and counted (`users_skipped`). Items
    that training never shows are a group of their own, `cold`.

    Args:
        scorer: The model.
        split: The data.
        metrics: Name to per-user function.
        cutoffs: Lengths of the list.
        item_groups: Item groups of equal popularity mass.
        user_bins: Bins with equal numbers of users.
        popular_mass: Share of the training interactions that the popular items cover, for
            consistency and the long-tail share.
        seed: Seed of the order among ties.
        batch_size: Users scored at once.
        device: Where the scorer is.

    Raises:
        KdrecError: If there is nothing to evaluate, or scores are not finite.
    """
    catalogue = Catalogue.of(split.train, item_groups, popular_mass)
    bins = {
        "activeness": activeness(split.train),
        "consistency": consistency(split.train, popular_mass),
    }
    if max(cutoffs, default=0) > split.n_items:
        log.warning(
            "Lists of %d are longer than the catalogue, which has %d items: they end with it.",
            max(cutoffs), split.n_items,
        )  # fmt: skip
    tables: list[pd.DataFrame] = []
    rows: list[Row] = []
    lists: dict[str, TopK] = {}
    for name, target, mask in _targets(split):
        _check(target, name, metrics, cutoffs)
        users = np.flatnonzero(target.user_counts())
        with task(f"evaluation on {name}", total=len(users), unit="user") as progress:
            lists[name] = top_k(
                scorer, users, max(cutoffs), mask=mask, seed=seed, batch_size=batch_size,
                device=device, on_batch=progress.advance,
            )  # fmt: skip
        part = Part(name, target, lists[name], catalogue, metrics, tuple(cutoffs))
        columns = part.columns()
        rows += [*part.overall(columns), *part.by_item_group(columns), *part.beyond(columns)]
        frame = pd.DataFrame({"target": name, "user": users} | columns)
        for scope, values in bins.items():
            of_user = equal_user_bins(values, user_bins, users)[users]
            rows += part.by_user_group(columns, scope, of_user, user_bins)
            frame[scope] = np.array([*bin_names(user_bins), ""], dtype=object)[of_user]
        tables.append(frame)
    if len(split.valid):
        seen = quick(
            scorer,
            split.valid,
            mask=[split.train],
            metrics=metrics,
            cutoffs=cutoffs,
            seed=seed,
            batch_size=batch_size,
            device=device,
        )
        n_users = int(np.count_nonzero(split.valid.user_counts()))
        rows += [("valid", "all", "all", "", name, value, n_users) for name, value in seen.items()]
    return Evaluation(
        lists["test"],
        pd.concat(tables, ignore_index=True),
        pd.DataFrame(rows, columns=SUMMARY_COLUMNS),
    )


def _targets(split: Split) -> list[tuple[str, Interactions, list[Interactions]]]:
    targets = [("test", split.test, [split.train, split.valid])]
    if split.unbiased is not None:
        keys = np.setdiff1d(split.unbiased.keys(), split.test.keys(), assume_unique=True)
        n_users, n_items = split.n_users, split.n_items
        rest = Interactions(keys // n_items, keys % n_items, n_users, n_items)
        targets.append(("unbiased", rest, [split.train, split.valid, split.test]))
    return targets


def _check(
    target: Interactions, name: str, metrics: Mapping[str, Metric], cutoffs: Sequence[int]
) -> None:
    if not metrics:
        raise UsageError("There is no metric to evaluate.", "Use for example metric=[recall,ndcg].")
    if not cutoffs or min(cutoffs) < 1:
        raise UsageError(
            f"Cut-offs must be 1 or more, got {list(cutoffs)}.",
            "Use for example evaluation.cutoffs=[10,20].",
        )
    if not len(target):
        raise KdrecError(
            f"The {name} part of the split has no interactions to evaluate on.",
            "Choose another protocol, or one that holds out more.",
        )
