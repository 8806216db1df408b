"""Ticks of 10 ms against the clock: three that are missed slow the arm, ten hold it; the arithmetic is beside them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vla_ros.safety.reasons import Reason
from vla_ros.safety.watch.tick import MEMORY, TickWatch


@pytest.fixture
def watch(parameters):
    timing = replace(parameters.timing, rate_hz=100.0, missed_ticks_slow=3, missed_ticks_hold=10)
    watch = TickWatch(timing)
    assert watch.count(5.0, 0) == 0  # nothing was before the first one
    return watch


@pytest.mark.parametrize(
    ("gap", "missed", "late", "fault"),
    [
        (0.010, 0, Reason.OK, Reason.OK),
        (0.014, 0, Reason.OK, Reason.OK),  # nearer to the tick that is due than to the next one
        (0.030, 2, Reason.OK, Reason.OK),
        (0.040, 3, Reason.TICKS_MISSED, Reason.OK),
        (0.100, 9, Reason.TICKS_MISSED, Reason.OK),
        (0.110, 10, Reason.TICKS_MISSED, Reason.TICKS_MISSED),
        (-1.0, 0, Reason.OK, Reason.OK),
    ],
)
def test_a_gap_swallows_ticks(watch, gap, missed, late, fault):
    assert watch.count(5.0 + gap, 0) == missed
    assert watch.late(5.0 + gap) is late
    assert watch.fault()[0] is fault


@pytest.mark.parametrize(
    ("overruns", "late", "fault"),
    [(2, Reason.OK, Reason.OK), (3, Reason.TICK_OVERRUN, Reason.OK), (10, Reason.TICK_OVERRUN, Reason.TICK_OVERRUN)],
)
def test_ticks_in_whose_place_the_stop_was_followed_count_as_missed_ones_do(watch, overruns, late, fault):
    assert watch.count(5.01, overruns) == 0
    assert watch.late(5.01) is late
    assert watch.fault()[0] is fault


def test_the_arm_stays_slow_for_a_while_after_the_fault_is_over(watch):
    watch.count(5.11, 0)
    assert watch.fault() == (Reason.TICKS_MISSED, "(10 in a row)")
    watch.count(5.12, 0)
    assert watch.fault() == (Reason.OK, "")
    assert watch.late(5.11 + MEMORY - 0.01) is Reason.TICKS_MISSED
    assert watch.late(5.11 + MEMORY + 0.01) is Reason.OK
