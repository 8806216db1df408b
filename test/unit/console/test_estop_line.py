"""The button: what goes out, who may lift it, and whose silence presses it."""

import math

import pytest

from vla_ros.console.errors import ConsoleError
from vla_ros.console.estop_line import EstopLine

PAGE, OTHER = "key of a page", "key of another"


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


class Wire:
    """What was published; as long as `broken` holds a reason, nothing can be."""

    def __init__(self):
        self.sent, self.broken = [], ""

    def __call__(self, pressed):
        if self.broken:
            raise RuntimeError(self.broken)
        self.sent.append(pressed)


@pytest.fixture
def wire():
    return Wire()


def line_of(wire, timeout=0.0):
    clock = Clock()
    return EstopLine(wire, timeout, clock), clock


def test_it_speaks_when_it_is_not_pressed(wire):
    line, _ = line_of(wire)
    line.tick()
    line.tick()
    assert wire.sent == [False, False]


def test_a_press_goes_out_at_once_and_stays(wire):
    line, _ = line_of(wire)
    line.press("pressed on a page")
    assert wire.sent == [True]
    line.tick()
    assert wire.sent == [True, True]
    assert line.state()["why"] == "pressed on a page"


def test_a_release_of_what_was_seen(wire):
    line, _ = line_of(wire)
    line.press("a")
    line.press("b")
    assert not line.release(1)
    line.tick()
    assert wire.sent[-1] is True
    assert line.release(2)
    assert wire.sent[-1] is False
    assert line.state()["why"] == ""


def test_the_loss_of_a_page_stops_nothing_by_default(wire):
    line, clock = line_of(wire)
    line.watch(PAGE, "page 1")
    clock.now += 1000.0
    line.tick()
    line.lost(PAGE)
    assert wire.sent == [False]


def test_the_loss_of_the_page_in_command_presses(wire):
    line, _ = line_of(wire, 1.0)
    line.watch(PAGE, "page 1")
    line.lost(OTHER)
    assert wire.sent == []
    line.lost(PAGE)
    assert wire.sent == [True]
    assert "page 1 was in command, and its connection is lost" in line.state()["why"]


def test_its_silence_presses_and_its_word_does_not(wire):
    line, clock = line_of(wire, 1.0)
    line.watch(PAGE, "page 1")
    for _ in range(10):
        clock.now += 0.9
        line.beat(PAGE)
        line.tick()
    assert True not in wire.sent
    clock.now += 0.9
    line.beat(OTHER)
    clock.now += 0.2
    line.tick()
    assert wire.sent[-1] is True
    assert "nothing for 1.1 s" in line.state()["why"]


def test_a_clock_that_is_no_number_counts_as_silence(wire):
    line, clock = line_of(wire, 1.0)
    line.watch(PAGE, "page 1")
    clock.now = math.nan
    line.tick()
    assert wire.sent[-1] is True


def test_who_gives_the_command_back_is_not_missed(wire):
    line, clock = line_of(wire, 1.0)
    line.watch(PAGE, "page 1")
    line.unwatch(PAGE)
    line.lost(PAGE)
    clock.now += 5.0
    line.tick()
    assert True not in wire.sent


def test_a_loss_presses_once(wire):
    line, clock = line_of(wire, 1.0)
    line.watch(PAGE, "page 1")
    clock.now += 5.0
    line.tick()
    line.tick()
    assert line.state()["presses"] == 1


@pytest.mark.parametrize("timeout", [math.nan, math.inf, -1.0, 0.1, 61.0])
def test_a_page_timeout_that_makes_no_sense(wire, timeout):
    with pytest.raises(ConsoleError, match="page timeout"):
        line_of(wire, timeout)


def test_what_cannot_be_sent_is_said_and_sent_later(wire):
    line, _ = line_of(wire)
    wire.broken = "no context"
    line.press("a")
    assert "no context" in line.state()["failure"]
    assert line.state()["age"] is None
    wire.broken = ""
    line.tick()
    assert wire.sent == [True]
    assert line.state()["failure"] == ""
    assert line.state()["age"] == 0.0
