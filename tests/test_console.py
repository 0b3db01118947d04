"""Bars on a terminal, lines elsewhere, and log lines that do not break a bar."""

from __future__ import annotations

import io
import logging
import sys

import pytest
from rich.console import Console

from kdrec import progress
from kdrec.cli import console


@pytest.fixture(autouse=True)
def display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_display", progress.Lines())


def terminal(**options: object) -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=140, **options)  # type: ignore[arg-type]


def drawn(made: Console) -> str:
    file = made.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def test_a_bar_shows_name_count_fields_and_time_left():
    made = terminal()
    bars = console.Bars(made)
    with bars.task("student", 10, "epoch") as task:
        task.advance(4, loss=0.25, **{"ndcg@20": 0.125})
        bars.progress.refresh()
        text = drawn(made)
    assert "student" in text
    assert "4/10" in text
    assert "epochs" in text
    assert "loss 0.2500 ndcg@20 0.1250" in text
    assert "left at most" in text


def test_a_bar_that_skips_what_was_done_earlier_is_still_drawn():
    made = terminal()
    bars = console.Bars(made)
    with bars.task("student", 10, "epoch") as task:
        task.skip(4)
        task.advance(1, loss=0.25)
        bars.progress.refresh()
        text = drawn(made)
    assert "5/10" in text
    assert "epochs" in text
    assert "loss 0.2500" in text


def test_bars_are_drawn_only_while_there_is_a_task():
    bars = console.Bars(terminal())
    with bars.task("outer", None, "file") as outer:
        with bars.task("inner", 2, "row") as inner:
            inner.advance(1)
            assert bars.progress.live.is_started
        outer.advance(1)
        assert bars.progress.live.is_started
        assert len(bars.progress.task_ids) == 1
    assert not bars.progress.live.is_started


def test_a_bar_is_taken_away_when_the_work_fails():
    bars = console.Bars(terminal())
    with pytest.raises(ValueError, match="no"), bars.task("x", 3, "step"):
        raise ValueError("no")
    assert not bars.progress.live.is_started


def test_a_long_task_leaves_a_log_line(monkeypatch, caplog):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    caplog.set_level(logging.INFO, "kdrec")
    with console.Bars(terminal()).task("teacher", 5, "epoch") as task:
        task.advance(5, loss=0.5)
        now[0] = 3.0
    assert [record.getMessage() for record in caplog.records] == [
        "teacher: 5 epochs in 3.0 s loss 0.5000"
    ]


@pytest.mark.parametrize(
    ("env", "tty", "kind"),
    [
        ({}, True, console.Bars),
        ({"TERM": "dumb"}, True, progress.Lines),
        ({}, False, progress.Lines),
    ],
)
def test_the_display_suits_the_terminal(env, tty, kind, monkeypatch):
    stream = io.StringIO()
    stream.isatty = lambda: tty  # type: ignore[method-assign]
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", env.get("TERM", "xterm"))
    monkeypatch.setattr(sys, "stderr", stream)
    console.install()
    assert isinstance(progress._display, kind)


def test_quiet_shows_nothing_even_on_a_terminal(monkeypatch, caplog):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    caplog.set_level(logging.INFO, "kdrec")
    console.install(quiet=True)
    with progress.task("x", 10) as task:
        now[0] = 1000.0
        task.advance(1)
    lines = [record.getMessage() for record in caplog.records]
    assert [line for line in lines if " 1/10" in line] == []


def test_no_color_means_no_colour(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    made = terminal()
    bars = console.Bars(made)
    with bars.task("x", 10, "step") as task:
        task.advance(5)
        bars.progress.refresh()
    assert "\x1b[3" not in drawn(made).replace("\x1b[3A", "")
    assert "\x1b[38" not in drawn(made)


def test_a_log_line_goes_to_the_stderr_of_the_moment(monkeypatch):
    handler = console.StderrHandler()
    record = logging.LogRecord("x", logging.INFO, "", 0, "hello", None, None)
    for _ in range(2):
        stream = io.StringIO()
        monkeypatch.setattr(sys, "stderr", stream)
        handler.handle(record)
        assert stream.getvalue() == "hello\n"
