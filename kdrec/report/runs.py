"""The runs behind a report, a line each: what its means and intervals over seeds are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kdrec.artifacts import setting_text
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

    What goes without saying is left out, as in presets, which know items' groups alone.
    """
    *where, metric = key
    said = [part for part in where if part not in ("", *_PLAIN)]
    return " ".join([metric, *said])


def parts(run: Finished) -> tuple[Mapping[str, Any], ...]:
    """Labels, training and cost, settings, metrics, each by name.

    A run that was only evaluated anew says nothing of what its training took on which device.
    """
    cost = {} if "from" in run.training else run.cost
    return (
        identified(run),
        {name: run.training.get(name) for name in _TRAINING}
        | {key: cost.get(key) for key in run.cost},
        {name: setting_text(value) for name, value in run.settings.items()},
        {metric_name(key): value for key, value in run.metrics.items()},
    )


def lines(runs: Sequence[Finished]) -> tuple[list[str], list[list[object]]]:
    """Header and a line a run, part by part; what a run does not have is empty."""
    found = [parts(run) for run in runs]
    header = dict.fromkeys(
        name for every in zip(*found, strict=True) for part in every for name in part
    )
    whole = [{name: value for part in one for name, value in part.items()} for one in found]
    return list(header), [[_text(line.get(name)) for name in header] for line in whole]


def _text(value: object) -> str:
    return "" if value is None else str(value)
