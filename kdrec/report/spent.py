"""What a preset's runs took, and with which settings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from kdrec.artifacts import setting_text
from kdrec.report.cells import Cell, Row, Table
from kdrec.report.chosen import Cohort
from kdrec.report.collect import Finished
from kdrec.report.entries import short_name
from kdrec.report.preset import Preset

_MIB = 1 << 20
_TOLD = (
    "fit.lr", "fit.l2", "fit.data_weight", "fit.weight", "teacher_fit.lr", "teacher_fit.l2",
)  # fmt: skip
_COLUMNS = ("epochs", "best epoch", "seconds of training", "peak memory, MiB", "settings")


def table(cohort: Cohort, preset: Preset) -> Table:
    """For each row medians over its runs, the most memory of any, and rate, L2 and weights.

    Seconds are wall time, of training and its validation alone; memory is the process's, with all
    that the run did before. A run that was only evaluated anew, its model being there, says
    nothing of memory. The weight of the data loss is told where it is not 1, those within a method
    where they are not 0.
    """
    rows = [
        Row(
            row.spec.name,
            "teacher" if row.spec.is_teacher else "student",
            len(row.entry.runs),
            _cells(row.entry.runs),
        )
        for row in cohort.rows
        if row.entry is not None
    ]
    places = {
        f"{run.cost['device']}, threads={setting_text(run.cost['threads'])}"
        for row in cohort.rows
        if row.entry is not None
        for run in row.entry.runs
        if run.cost.get("device")
    }
    notes = ["Medians over runs; seconds are wall time, other work beside it included."]
    notes += [f"Run on: {'; '.join(sorted(places))}."] if places else []
    keys = [("", "", "", "", column) for column in _COLUMNS]
    return Table(f"{preset.name}_spent", "What the runs took", _COLUMNS, keys, rows, notes)


def _cells(runs: Sequence[Finished]) -> list[Cell]:
    trained = [run for run in runs if "from" not in run.training]
    memory = [float(run.cost.get("peak_memory_bytes") or math.nan) / _MIB for run in trained]
    return [
        Cell(_median(runs, "epochs"), "count"),
        Cell(_median(runs, "best_epoch"), "count"),
        Cell(_median(runs, "seconds"), "number"),
        Cell(max(memory, default=math.nan), "count"),
        Cell(math.nan, words=_settings(runs[0].settings)),
    ]


def _settings(settings: Mapping[str, Any]) -> str:
    """Rates, L2 and the weights that change something."""
    without_effect = {"fit.data_weight": 1}
    within = [key for key in settings if key.startswith("method.") and key.endswith("_weight")]
    without_effect |= dict.fromkeys(within, 0)
    return " ".join(
        f"{short_name(key)}={setting_text(settings[key])}"
        for key in (*_TOLD, *within)
        if key in settings and settings[key] != without_effect.get(key)
    )


def _median(runs: Sequence[Finished], key: str) -> float:
    values = [float(run.training[key]) for run in runs if run.training.get(key) is not None]
    return median(values) if values else math.nan
