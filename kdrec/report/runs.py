"""The runs behind a report, a line each: what a reader needs to compute its tables again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kdrec.report.collect import Finished
from kdrec.report.entries import Key

LABELS = (
    "dataset", "protocol", "split", "role", "model", "dim", "method", "teacher", "teacher_identity",
    "seed", "teacher_seed", "split_seed",
)  # fmt: skip
_TRAINING = ("epochs", "best_epoch", "seconds")
_PLAIN = ("test", "items", "all", "eligible")


def identified(run: Finished) -> dict[str, Any]:
    """Which run it is."""
    return {
        "folder": str(run.folder),
        "identity": run.identity,
        "evaluation": run.evaluation,
        "finished": run.finished,
        **{name: run.labels.get(name) for name in LABELS},
    }


def metric_name(key: Key) -> str:
    """`recall@10 unpopular diluted`, `recall@10 activeness head`, `ndcg@20 valid`.

    As presets write it; what goes without saying is left out.
    """
    *where, metric = key
    said = [part for part in where if part not in ("", *_PLAIN)]
    return " ".join([metric, *said])


def lines(runs: Sequence[Finished]) -> tuple[list[str], list[list[object]]]:
    """Header and a line a run: labels, training, cost, settings and every metric.

    A number is written in full; what a run does not have is empty.
    """
    found = [_line(run) for run in runs]
    header = list(dict.fromkeys(name for line in found for name in line))
    return header, [[_text(line.get(name)) for name in header] for line in found]


def _line(run: Finished) -> Mapping[str, Any]:
    return {
        **identified(run),
        **{name: run.training.get(name) for name in _TRAINING},
        **run.cost,
        **run.settings,
        **{metric_name(key): value for key, value in run.metrics.items()},
    }


def _text(value: object) -> str:
    return "" if value is None else str(value)
