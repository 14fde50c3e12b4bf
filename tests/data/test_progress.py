"""Progress: a bar on a terminal, a few lines in a log, nothing for short work."""

import io
import sys

import pytest

from data import progress as module
from data.progress import Pace, duration, progress


class Clock:
    """Seconds that pass only when items are taken."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now

    def items(self, count, seconds):
        for number in range(count):
            self.now += seconds
            yield number


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def test_a_log_gets_a_line_every_half_minute_and_one_at_the_end(clock, capsys):
    assert list(progress(clock.items(10, 20.0), 10, "scoring")) == list(range(10))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "scoring: 2 of 10 images, 0.05 images/s, 3 min left"
    assert len(lines) == 5
    assert lines[-1] == "scoring: 10 images in 3 min, 0.05 images/s"


def test_short_work_leaves_no_line(clock, capsys):
    assert len(list(progress(clock.items(4, 1.0), 4, "scoring"))) == 4
    assert capsys.readouterr().err == ""


def test_items_may_hold_several_units_and_the_last_fewer(clock, capsys):
    list(progress(clock.items(3, 40.0), 20, "masks", unit="mask", each=8))
    assert capsys.readouterr().err.splitlines() == [
        "masks: 8 of 20 masks, 0.2 masks/s, 60 s left",
        "masks: 16 of 20 masks, 0.2 masks/s, 20 s left",
        "masks: 20 masks in 2 min, 0.167 masks/s",
    ]


def test_a_terminal_gets_a_bar(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert list(progress(iter("abc"), 20, "masks", unit="mask", each=8)) == ["a", "b", "c"]
    assert "masks: 100%" in terminal.getvalue() and "20/20" in terminal.getvalue()


def test_durations_and_an_unknown_rate():
    assert [duration(s) for s in (3, 600, 9000)] == ["3 s", "10 min", "2.5 h"]
    assert "inf" in Pace(5).text(unit="images")
