"""Figures: whole, the same bytes for the same numbers, and nothing told by colour."""

from __future__ import annotations

import math
import re
import struct

import pytest

from kdrec.report.drawings import Figure, Panel, Point, Series

pytest.importorskip("matplotlib")


def points(*values, paper=math.nan):
    return [
        Point(at + 1, y, y - 1, y + 1, paper, label=f"method {at}") for at, y in enumerate(values)
    ]


BARS = [
    Series("popular", points(3, math.nan, 5, paper=2.0)),
    Series("unpopular", points(1, math.nan, -4)),
]
FIGURES = {
    "bars": [Panel("toy", "", "Change (%)", BARS, [("", 0.0)])] * 3,
    "share": [Panel("toy", "", "Share (%)", [Series("", points(30, 40))], [("ideal", 45.0)])],
    "curve": [
        Panel("a", "K", "Recall@10", [Series("UnKD", points(3, 4)), Series("other", points(1, 2))],
              [("none", 0.5), ("gone", math.nan)]),
        Panel("b", "λ", "Recall@10", [Series("UnKD", [Point(0.01, 1), Point(1, 2)])]),
    ],
    "scatter": [
        Panel("toy", "Teacher's", "Gain", [Series("rd", points(1, 2)), Series("cd", [])],
              labels=["method 1", "method 0"]),
    ],
}  # fmt: skip


@pytest.mark.parametrize("kind", FIGURES)
def test_png_and_svg_of_each_kind_twice_the_same(tmp_path, kind):
    import matplotlib as mpl

    figure = Figure("figure9", kind, "what it shows", FIGURES[kind], 2)
    first = figure.write(tmp_path / "one")
    with mpl.rc_context({"font.size": 30, "savefig.dpi": 20}):  # what a user's file may say
        second = figure.write(tmp_path / "two")
    assert [path.name for path in first] == ["figure9.png", "figure9.svg"]
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
    png = first[0].read_bytes()
    width, height = struct.unpack(">II", png[16:24])
    n_columns = min(2, len(FIGURES[kind]))
    assert (width, height) == (
        pytest.approx(4.2 * 150 * n_columns, abs=1),
        pytest.approx(150 * (3.1 * math.ceil(len(FIGURES[kind]) / n_columns) + 0.4), abs=1),
    )
    assert b"matplotlib" not in png.lower()


@pytest.mark.parametrize("kind", FIGURES)
def test_nothing_but_grey_and_no_date(tmp_path, kind):
    svg = Figure("figure9", kind, "", FIGURES[kind], 2).write(tmp_path)[1].read_text("utf-8")
    colours = set(re.findall(r"(?:fill|stroke): (#[0-9a-f]{6})\b", svg))
    assert colours
    assert all(colour[1:3] == colour[3:5] == colour[5:7] for colour in colours)
    assert "dc:date" not in svg


def test_series_differ_without_their_greys(tmp_path):
    svg = Figure("figure9", "bars", "", FIGURES["bars"], 3).write(tmp_path)[1].read_text("utf-8")
    assert "<pattern" in svg  # hatches
    from kdrec.report import figures

    assert len({hatch for _, hatch in figures._FILLS[:3]}) == 3
    assert len(set(figures._MARKERS)) == len(figures._MARKERS)


def test_a_panel_without_a_value_is_left_out(tmp_path):
    empty = Panel("empty", "", "Change (%)", [Series("popular", points(math.nan, math.nan))], [])
    figure = Figure("figure9", "bars", "", [empty, *FIGURES["bars"][:1]], 3)
    svg = figure.write(tmp_path)[1].read_text("utf-8")
    alone = Figure("figure9", "bars", "", FIGURES["bars"][:1], 3).write(tmp_path / "alone")
    assert svg == alone[1].read_text("utf-8")


def test_a_column_without_a_panel_leaves_no_gap(tmp_path):
    there = Panel("there", "K", "Recall@10", [Series("UnKD", points(3, 4))])
    gone = Panel("gone", "K", "Recall@10", [Series("UnKD", points(math.nan))])
    figure = Figure("figure9", "curve", "what it shows", [gone, there, there] * 2, 3)
    png = figure.write(tmp_path)[0].read_bytes()
    assert struct.unpack(">II", png[16:24]) == (
        pytest.approx(4.2 * 150 * 2, abs=1),
        pytest.approx(150 * (3.1 * 2 + 0.4), abs=1),
    )


def test_names_below_an_axis_do_not_run_into_each_other():
    """Few names, two of them neighbours and long."""
    from kdrec.report import figures

    names = ["rd", "cd", "derrd", "htd", "unkd", "unkd_official"]
    assert figures._collide(names)
    assert not figures._collide([*names[:5], "unkd2"])
    assert not figures._collide(["a name as long as this", "short"])
    assert not figures._collide([])


@pytest.mark.parametrize("log", [False, True])
def test_intervals_of_two_series_stand_beside_each_other(log):
    from kdrec.report import figures

    xs = (0.01, 0.1, 1.0)
    series = [Series(name, [Point(x, 1) for x in xs] + [Point(2, math.nan)]) for name in "ab"]
    left, right = figures._aside(series, log=log)
    assert len(left) == len(right) == 3  # none without a value
    for x, one, other in zip(xs, left, right, strict=True):
        assert one < x < other
    steps = [math.log(b / a) if log else b - a for a, b in zip(left, right, strict=True)]
    assert steps == pytest.approx([steps[0]] * 3)
    assert figures._aside(series[:1]) == [pytest.approx(list(xs))]


@pytest.mark.parametrize("n", [2, 5])
def test_a_scatter_tells_teachers_by_shape_and_methods_by_filling(n):
    """The same in panels that do not have the same teachers."""
    from matplotlib.figure import Figure as Canvas

    from kdrec.report import figures

    def panel(*labels):
        series = [
            Series(name, [Point(at, 1, label=label) for at, label in enumerate(labels)])
            for name in "abcde"[:n]
        ]
        return Panel("toy", "", "", series, labels=["ease", "bprmf"])

    def drawn(*labels):
        ax = Canvas().subplots()
        figures._scatter(panel(*labels), ax)
        lines = [line for line in ax.lines if len(line.get_xdata())]
        return [(line.get_marker(), line.get_markerfacecolor()) for line in lines]

    both, one = drawn("ease", "bprmf"), drawn("bprmf")
    assert len(set(both)) == 2 * n
    assert one == both[1::2]
    assert both[0][0] == both[2][0]  # ease with either method
