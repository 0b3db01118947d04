"""Figures as PNG and SVG, readable in grey: hatches, markers and line styles, not colours."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Rectangle

from kdrec.artifacts import atomic_path
from kdrec.report.drawings import Figure, Panel, Point, Series

_WIDTH, _HEIGHT, _DPI = 4.2, 3.1, 150
_STYLE: Any = {
    "font.size": 9.0,
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same bytes everywhere
    "axes.titlesize": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.prop_cycle": cycler(color=["black"]),
    "hatch.linewidth": 0.6,
    "svg.hashsalt": "kdrec",
    "svg.fonttype": "path",
}
_FILLS = (("0.92", "////"), ("0.6", ""), ("0.8", "...."), ("1.0", ""), ("0.45", "xxxx"))
_LINES = ("-", "--", "-.", ":")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_FACES = ("white", "0.6", "black", "0.8", "0.3")
_PAPER = "reported in the paper"
_GREYS = ("0.0", "0.35", "0.55")


def write(figure: Figure, folder: Path) -> list[Path]:
    """Draws a figure into `<folder>/<name>.png` and `.svg`; same numbers, same bytes.

    A panel without a value of ours is left out; the tables say what is missing.
    """
    shown = {place: panel for place, panel in enumerate(figure.panels) if _has_values(panel)}
    panels = list(shown.values()) or figure.panels[:1]
    columns = max(1, len({place % figure.n_columns for place in shown}))  # those with a panel
    rows = math.ceil(len(panels) / columns)
    written = []
    with mpl.rc_context():
        mpl.rcdefaults()  # not what a matplotlibrc of this machine says
        mpl.rcParams.update(_STYLE)
        layout = ConstrainedLayoutEngine(w_pad=0.09, h_pad=0.07)
        canvas = Canvas(figsize=(_WIDTH * columns, _HEIGHT * rows + 0.4), layout=layout)
        axes = list(canvas.subplots(rows, columns, squeeze=False).flat)
        for panel, ax in zip(panels, axes, strict=False):
            _KINDS[figure.kind](panel, ax)
            ax.set_title(panel.title)
            ax.set_xlabel(panel.x_label)
            ax.set_ylabel(panel.y_label)
        for ax in axes[len(panels) :]:
            ax.set_axis_off()
        _legend(canvas, axes)
        options: dict[str, dict[str, Any]] = {
            "png": {"dpi": _DPI, "metadata": {"Software": None}},
            "svg": {"metadata": {"Date": None, "Creator": None}},
        }
        for kind, option in options.items():
            path = folder / f"{figure.name}.{kind}"
            with atomic_path(path) as partial:
                canvas.savefig(partial, format=kind, **option)
            written.append(path)
    return written


def _has_values(panel: Panel) -> bool:
    return any(math.isfinite(point.y) for series in panel.series for point in series.points)


def _legend(canvas: Any, axes: Sequence[Axes]) -> None:
    """One legend for all panels, below them."""
    handles: dict[str, Any] = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    if _PAPER in handles:
        handles[_PAPER] = handles.pop(_PAPER)  # behind the bars that it is beside
    if handles:
        # A letter is some 0.075 inches wide at this size; a handle as wide as six.
        room = canvas.get_figwidth() / (0.075 * (max(map(len, handles)) + 6))
        canvas.legend(
            list(handles.values()), list(handles), loc="outside lower center",
            ncols=max(1, min(len(handles), int(room))), frameon=False,
        )  # fmt: skip


def _bars(panel: Panel, ax: Axes) -> None:
    """Bars side by side in groups; the paper's values are diamonds."""
    n = len(panel.series)
    width = 0.8 / n
    for number, series in enumerate(panel.series):
        grey, hatch = _FILLS[number % len(_FILLS)]
        shift = width * (number - (n - 1) / 2)
        known = [point for point in series.points if math.isfinite(point.y)]
        places = [point.x + shift for point in known]
        ax.bar(
            places, [point.y for point in known], width, color=grey, hatch=hatch,
            edgecolor="black", linewidth=0.7, label=series.name or None,
        )  # fmt: skip
        _whiskers(known, places, ax)
        said = [point for point in series.points if math.isfinite(point.paper)]
        if said:
            ax.plot(
                [point.x + shift for point in said], [point.paper for point in said], "D",
                color="black", markerfacecolor="white", markersize=4.5, label=_PAPER,
            )  # fmt: skip
    groups = panel.series[0].points
    labels = [
        point.label
        if any(math.isfinite(series.points[at].y) for series in panel.series)
        else f"{point.label}\n(no runs)"
        for at, point in enumerate(groups)
    ]
    long = _collide(labels)
    ax.set_xticks(
        [point.x for point in groups], labels, rotation=35 if long else 0,
        ha="right" if long else "center", rotation_mode="anchor" if long else "default",
    )  # fmt: skip
    ax.set_xlim(-0.6, len(groups) - 0.4)
    ax.yaxis.grid(visible=True, color="0.88", linewidth=0.6)
    for name, level in panel.lines:
        if math.isfinite(level):
            style = "--" if name else "-"
            ax.axhline(level, color="black", linewidth=1, linestyle=style, label=name or None)


def _collide(labels: Sequence[str]) -> bool:
    """Whether two neighbours below a panel's axis, some 46 letters wide, would touch."""
    widths = [max(map(len, label.split("\n"))) + 2 for label in labels]
    room = 2 * 46 / max(1, len(labels))
    return any(one + other > room for one, other in itertools.pairwise(widths))


def _aside(series: Sequence[Series], *, log: bool = False) -> list[list[float]]:
    """Where points stand: a step beside those of other series, so that intervals do not overlap.

    A step is less than a marker is wide. Points without a value have no place.
    """
    across = [point.x for one in series for point in one.points] or [0.0]
    low, high = min(across), max(across)
    places = []
    for number, one in enumerate(series):
        share = 0.01 * (number - (len(series) - 1) / 2)
        known = [point.x for point in one.points if math.isfinite(point.y)]
        places.append(
            [x * (high / low) ** share if log else x + share * (high - low) for x in known]
        )
    return places


def _curve(panel: Panel, ax: Axes) -> None:
    """Lines with markers and intervals; level lines for what is not varied."""
    ticks = sorted({point.x for series in panel.series for point in series.points})
    log = len(ticks) > 1 and ticks[0] > 0 and ticks[-1] / ticks[0] >= 50
    for number, places in enumerate(_aside(panel.series, log=log)):
        series = panel.series[number]
        known = [point for point in series.points if math.isfinite(point.y)]
        ax.plot(
            places, [point.y for point in known], linestyle=_LINES[number % len(_LINES)],
            marker=_MARKERS[number % len(_MARKERS)], color=_GREYS[number % len(_GREYS)],
            markersize=5, linewidth=1.4, label=series.name,
        )  # fmt: skip
        _whiskers(known, places, ax)
    for number, (name, level) in enumerate(panel.lines):
        if math.isfinite(level):
            style = (0, (1 + 3 * number, 2))
            ax.axhline(level, color="0.35", linewidth=1.1, linestyle=style, label=name)
    if log:
        ax.set_xscale("log")
    if len(ticks) <= 12:
        ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        ax.minorticks_off()
    ax.yaxis.grid(visible=True, color="0.88", linewidth=0.6)


def _scatter(panel: Panel, ax: Axes) -> None:
    """A filling a method, a shape a teacher."""
    for number, places in enumerate(_aside(panel.series)):
        series, face = panel.series[number], _FACES[number % len(_FACES)]
        known = [point for point in series.points if math.isfinite(point.y)]
        for place, point in zip(places, known, strict=True):
            _mark(ax, [place], [point.y], panel.labels.index(point.label), face)
        _whiskers(known, places, ax)
        key = Rectangle((0, 0), 0, 0, facecolor=face, edgecolor="black", label=series.name)
        ax.add_patch(key)  # without a size: in the legend alone
    for number, label in enumerate(panel.labels):
        _mark(ax, [], [], number, "none", label)
    for _, level in panel.lines:
        ax.axhline(level, color="black", linewidth=0.8)
    ax.locator_params(axis="x", nbins=5)
    ax.grid(visible=True, color="0.88", linewidth=0.6)


def _mark(
    ax: Axes, x: Sequence[float], y: Sequence[float], shape: int, face: str, name: str | None = None
) -> None:
    ax.plot(
        x, y, linestyle="none", marker=_MARKERS[shape % len(_MARKERS)], color="black", markersize=6,
        markerfacecolor=face, label=name,
    )  # fmt: skip


def _whiskers(points: Sequence[Point], places: Sequence[float], ax: Axes) -> None:
    """Intervals of the points that have one."""
    known = [
        (place, point)
        for place, point in zip(places, points, strict=True)
        if math.isfinite(point.low)
    ]
    if known:
        ax.errorbar(
            [place for place, _ in known],
            [point.y for _, point in known],
            [
                [point.y - point.low for _, point in known],
                [point.high - point.y for _, point in known],
            ],
            fmt="none", ecolor="black", elinewidth=0.9, capsize=2.5, zorder=1.5,
        )  # fmt: skip


_KINDS: dict[str, Callable[[Panel, Axes], None]] = {
    "bars": _bars,
    "share": _bars,
    "curve": _curve,
    "scatter": _scatter,
}
