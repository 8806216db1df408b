"""What the machine lost comes later, and is made up for; times by hand."""

from __future__ import annotations

import pytest

from vla_ros.envs.mujoco.clock_slip import CATCH_UP, LONGEST, ClockSlip
from vla_ros.safety.watch.punctuality import LATE, WINDOW

PERIOD = 0.01


def test_what_was_lost_is_made_up_for_little_by_little() -> None:
    slip = ClockSlip(-100.0)
    found = []
    for _ in range(60):
        slip.follow(-100.01, PERIOD)  # 10 ms were lost
        found.append(slip.ahead)
    assert found[0] == pytest.approx(-100.0 - CATCH_UP * PERIOD)
    assert found[18] == pytest.approx(-100.0 - 19 * CATCH_UP * PERIOD)
    assert found[-1] == pytest.approx(-100.01)


def test_a_simulation_that_stood_still_is_where_it_is() -> None:
    slip = ClockSlip(-100.0)
    slip.follow(-100.0 - LONGEST - 1e-3, PERIOD)
    assert slip.ahead == pytest.approx(-100.0 - LONGEST - 1e-3)


def test_all_that_is_followed_is_made_up_for_before_a_lag_counts_as_a_contact_again() -> None:
    slip = ClockSlip(0.0)
    for _ in range(round(WINDOW / PERIOD)):
        slip.follow(-LONGEST, PERIOD)
    assert slip.ahead + LONGEST < 0.5 * LATE


@pytest.mark.parametrize("speed", [0.5, 0.7, 0.9])
def test_a_machine_that_is_too_slow_is_followed_without_a_jump(speed: float) -> None:
    slip, before, ahead = ClockSlip(0.0), 0.0, 0.0
    for _ in range(300):
        ahead -= PERIOD * (1.0 / speed - 1.0)
        slip.follow(ahead, PERIOD)
        assert before - slip.ahead <= 1.3 * PERIOD * (1.0 / speed - 1.0) + CATCH_UP * PERIOD
        before = slip.ahead
    assert slip.ahead - ahead < LONGEST
