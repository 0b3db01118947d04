"""What the figures show, as plain numbers: no drawing here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kdrec.report import shares
from kdrec.report.chosen import Cohort
from kdrec.report.claims import Compared, Comparison
from kdrec.report.compare import Column
from kdrec.report.paired import Mean
from kdrec.report.preset import Preset
from kdrec.report.teachers import taught


@dataclass(frozen=True, slots=True)
class Point:
    """One value with its interval.

    Args:
        x: Place on the axis; in bars the number of the bar's group.
        y: The value, NaN if there are no runs.
        low: Lower end of the interval, NaN if unknown.
        high: Upper end.
        paper: The paper's value, NaN if it has none.
        label: What it is: a group of bars, or the teacher in a scatter.
    """

    x: float
    y: float
    low: float = math.nan
    high: float = math.nan
    paper: float = math.nan
    label: str = ""


@dataclass(frozen=True, slots=True)
class Series:
    """Points that belong together, drawn alike."""

    name: str
    points: Sequence[Point]


@dataclass(frozen=True, slots=True)
class Panel:
    """One pair of axes.

    Args:
        title: What it is of, beside what the caption says.
        x_label: What the x axis is.
        y_label: What the y axis is.
        series: What is drawn.
        lines: Level lines, with their names.
        labels: What the points of the figure's panels may be, in one order for all.
    """

    title: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    lines: Sequence[tuple[str, float]] = ()
    labels: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of one kind.

    Args:
        name: Name of its files.
        kind: `bars`, `curve`, `share` or `scatter`.
        caption: What it shows.
        panels: Its panels, row by row.
        n_columns: Panels in a row.
    """

    name: str
    kind: str
    caption: str
    panels: Sequence[Panel] = field(repr=False)
    n_columns: int

    def write(self, folder: Path) -> list[Path]:
        """Draws it as PNG and SVG; needs the extra `figures`."""
        from kdrec.report.figures import write  # noqa: PLC0415  (matplotlib is an extra)

        return write(self, folder)


_AXES = {
    "K": "Number of groups K",
    "mu": "Scale of the ranking law μ",
    "weight": "Weight of the distillation loss λ",
}


def words(column: Column) -> str:
    """`Recall@10, unpopular items (diluted)`: a column in a figure."""
    _, scope, group, form, metric = column.key
    name, at, cutoff = metric.partition("@")
    text = (name.upper() if len(name) <= 4 else name.capitalize()) + at + cutoff
    if scope == "items":
        text += f", {group} items" + (f" ({form})" if form == "diluted" else "")
    return text


def _in_rows(cohorts: Iterable[Cohort]) -> list[int]:
    """Order in which data sets stand side by side, protocols and students below each other."""
    keys = [(cohort.protocol, cohort.student) for cohort in cohorts]
    rows = list(dict.fromkeys(keys))
    return sorted(range(len(keys)), key=lambda at: rows.index(keys[at]))


def _place(cohort: Cohort, preset: Preset) -> str:
    """Data set, and the protocol and student where there are several."""
    parts = [cohort.dataset]
    if len(preset.protocols) > 1:
        parts.append(f"protocol {cohort.protocol}")
    if len(preset.students) > 1:
        parts.append(cohort.student)
    return ", ".join(parts)


def bars(comparisons: Sequence[Comparison], preset: Preset) -> Figure:
    """Relative change of each row against the baseline, a bar a metric."""
    panels = []
    for one in (comparisons[at] for at in _in_rows(one.cohort for one in comparisons)):
        shown = [
            (row, line)
            for row, line in zip(one.cohort.rows, one.lines, strict=True)
            if row.spec.name != preset.baseline and not row.spec.is_teacher
        ]
        series = [
            Series(
                words(column),
                [_change(at, row.spec.name, line[number]) for at, (row, line) in enumerate(shown)],
            )
            for number, column in enumerate(preset.columns)
        ]
        label = f"Change against {preset.baseline} (%)"
        panels.append(Panel(_place(one.cohort, preset), "", label, series, [("", 0.0)]))
    return Figure(preset.name, "bars", preset.caption, panels, len(preset.datasets))


def _change(at: int, name: str, one: Compared) -> Point:
    ours = one.change
    y, low, high = (100 * ours.relative(value) for value in (ours.value, ours.low, ours.high))
    return Point(at, y, low, high, 100 * one.claimed, name)


def curve(comparisons: Sequence[Comparison], preset: Preset) -> Figure:
    """Each metric over what is varied; rows that are not varied are level lines."""
    panels = []
    for number, column in enumerate(preset.columns):
        for one in comparisons:
            lines: list[tuple[str, float]] = []
            varied: dict[str, list[Point]] = {}
            names: list[str] = []
            for row, line in zip(one.cohort.rows, one.lines, strict=True):
                ours = line[number].ours
                if row.spec.x is None:
                    lines.append((row.spec.name, ours.value))
                else:
                    names.append(row.spec.x_name)
                    point = Point(float(row.spec.x), ours.value, ours.low, ours.high)
                    varied.setdefault(row.spec.series, []).append(point)
            series = [Series(name, points) for name, points in varied.items()]
            x_label = " or ".join(_AXES.get(name, name) for name in dict.fromkeys(names))
            place = _place(one.cohort, preset)
            panels.append(Panel(place, x_label, words(column), series, lines))
    return Figure(preset.name, "curve", preset.caption, panels, len(comparisons))


def share(cohorts: Sequence[Cohort], preset: Preset) -> Figure:
    """The popular items' share of each row's lists, with the ideal as a line."""
    panels = []
    for cohort in (cohorts[at] for at in _in_rows(cohorts)):
        found = zip(cohort.rows, shares.shares(cohort, preset), strict=True)
        points = [
            Point(at, *_percent(value), label=row.spec.name)
            for at, (row, value) in enumerate(found)
        ]
        label = f"{shares.GROUP.capitalize()} items in the top {preset.cutoff} (%)"
        ideal = (shares.IDEAL, 100 * shares.ideal(cohort, preset))
        series = [Series("", points)]
        panels.append(Panel(_place(cohort, preset), "", label, series, [ideal]))
    return Figure(preset.name, "share", preset.caption, panels, len(preset.datasets))


def _percent(value: Mean) -> tuple[float, float, float]:
    return 100 * value.value, 100 * value.low, 100 * value.high


def scatter(cohorts: Sequence[Cohort], preset: Preset) -> Figure:
    """Each teacher's quality against its students' gain, a series a method, a label a teacher."""
    found = [taught(cohort, preset)[0] for cohort in cohorts]
    teachers = list(dict.fromkeys(one.teacher for lines in found for one in lines))
    panels = []
    for number, column in enumerate(preset.columns):
        for cohort, lines in zip(cohorts, found, strict=True):
            of_method: dict[str, list[Point]] = {}
            for one in lines:
                gain, base = one.gain[number], one.base[number]
                y, low, high = (
                    100 * end / base if base else math.nan
                    for end in (gain.value, gain.low, gain.high)
                )
                point = Point(one.quality[number], y, low, high, label=one.teacher)
                of_method.setdefault(one.method, []).append(point)
            panels.append(
                Panel(
                    _place(cohort, preset),
                    f"Teacher's {words(column)}",
                    f"Student's gain (%) in\n{words(column)}",
                    [Series(name, points) for name, points in of_method.items()],
                    [("", 0.0)],
                    teachers,
                )
            )
    return Figure(preset.name, "scatter", preset.caption, panels, len(cohorts))
