"""Ticks of 10 ms on a grid, late by 5 ms at most; a step is due 10 + 5 + 3 ms after its tick."""

from __future__ import annotations

import numpy as np
import pytest

from vla_ros.safety.watch.tick_schedule import TickSchedule

DUE = 7.018
"""Of the step that was made in the tick at 7.000 s: the next tick is due at 7.010 s."""


@pytest.fixture
def schedule():
    return TickSchedule(0.01, 0.005)


def test_the_next_tick_is_a_period_after_that_of_the_last_step(schedule):
    assert schedule.next_tick(DUE) == pytest.approx(7.010)


@pytest.mark.parametrize(
    ("now", "missed", "taken", "late", "gap"),
    [
        (7.010, 0, False, False, False),
        (7.0080, 0, False, False, False),  # early by a fifth of a period
        (7.0070, 0, True, False, False),  # so early that it can only be the one before, which has had its step
        (7.0149, 0, False, False, False),
        (7.0152, 0, False, True, False),  # the controller has begun the stop
        (7.0180, 1, False, False, False),  # nearer to the next one
        (7.0201, 1, False, False, False),
        (7.0301, 2, False, False, True),  # 30 ms without a command
        (7.0360, 2, False, True, True),
        (8.0101, 100, False, False, True),
        (6.0, 0, False, True, False),  # the clock went back
        (np.nan, 0, False, True, False),
    ],
)
def test_ticks_find_their_place(schedule, now, missed, taken, late, gap):
    place = schedule.place(now, DUE)
    assert (place.missed, place.taken, place.late, place.gap) == (missed, taken, late, gap)
    assert place.due == pytest.approx(DUE + missed * 0.01)


@pytest.mark.parametrize(
    ("now", "moved"), [(7.010, 0.0), (7.0124, 0.0), (7.0126, 0.0026), (7.0095, -0.0005), (9.0, 1.99)]
)
def test_at_rest_the_grid_follows_what_is_early_or_late_for_longer(schedule, now, moved):
    assert schedule.anchor(now, DUE) == pytest.approx(DUE + moved)
    assert not schedule.place(now, schedule.anchor(now, DUE)).late


def test_a_step_that_was_never_made_puts_the_grid_at_the_first_tick(schedule):
    due = schedule.anchor(123.456, 0.0)
    assert schedule.next_tick(due) == pytest.approx(123.456)
