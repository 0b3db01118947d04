"""Sizes of the data sets beside the paper's: its Table 2."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from kdrec.report.cells import Cell, Row, Table
from kdrec.report.collect import Finished
from kdrec.report.preset import Preset
from kdrec.report.published import Published

_COLUMNS = ("users", "items", "interactions", "density")


def table(runs: Sequence[Finished], preset: Preset, published: Published) -> Table:
    """Ours as the finished runs have them, the paper's, and whether they are the same."""
    rows, notes = [], []
    for dataset in preset.datasets:
        found = _statistics(runs, dataset)
        said = published.statistics.get(dataset, {})
        if len(found) > 1:
            notes.append(
                f"{dataset}: runs on {len(found)} unlike versions of it; the newest is shown."
            )
        ours = found[-1] if found else {}
        rows.append(_row(dataset, ours, "" if ours else "no runs"))
        if said:
            rows.append(_row(f"{dataset}, {published.title}", said, ""))
            same = all(ours.get(name) == value for name, value in said.items())
            if ours:
                notes.append(f"{dataset}: {'the same' if same else 'not the same'} as the paper's.")
        elif published.title:
            notes.append(f"{dataset}: what the paper says of it is not at hand.")
    title = preset.caption or "The data sets"
    keys = [("data", "all", "all", "", name) for name in _COLUMNS]
    return Table(preset.name, title, list(_COLUMNS), keys, rows, notes)


def _statistics(runs: Sequence[Finished], dataset: str) -> list[Mapping[str, Any]]:
    """The unlike statistics of a data set's runs, oldest first."""
    found: list[Mapping[str, Any]] = []
    for run in runs:
        if run.labels["dataset"] == dataset:
            sizes = {name: run.stats[name] for name in _COLUMNS if name in run.stats}
            found = [one for one in found if one != sizes] + [sizes]
    return found


def _row(label: str, sizes: Mapping[str, Any], words: str) -> Row:
    if {"users", "items", "interactions"} <= set(sizes):
        density = sizes["interactions"] / (sizes["users"] * sizes["items"])
        sizes = {"density": density, **sizes}
    cells = [
        Cell(
            float(sizes.get(name, math.nan)),
            "fine_share" if name == "density" else "count",
            words="" if name in sizes else words,
        )
        for name in _COLUMNS
    ]
    return Row(label, "data", 0, cells)
