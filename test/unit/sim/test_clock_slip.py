"""Times by hand: what the machine lost comes later, and is made up for by 0.5 ms in each period."""

from __future__ import annotations

import pytest

from vla_ros.safety.punctuality import WINDOW
from vla_ros.sim.clock_slip import CATCH_UP, LONGEST, ClockSlip
from vla_ros.sim.simulator import CONTROL_PERIOD


def test_what_was_lost_is_made_up_for_little_by_little() -> None:
    slip = ClockSlip(-100.0)
    found = []
    for _ in range(60):
        slip.follow(-100.01)  # 10 ms were lost
        found.append(slip.ahead)
    assert found[0] == pytest.approx(-100.0 - CATCH_UP)
    assert found[18] == pytest.approx(-100.0 - 19 * CATCH_UP)
    assert found[-1] == pytest.approx(-100.01)


def test_a_simulation_that_stood_still_is_where_it_is() -> None:
    slip = ClockSlip(-100.0)
    slip.follow(-100.0 - LONGEST - 1e-3)
    assert slip.ahead == pytest.approx(-100.0 - LONGEST - 1e-3)


def test_all_that_is_followed_is_made_up_for_before_a_lag_counts_as_a_contact_again() -> None:
    assert LONGEST / CATCH_UP * CONTROL_PERIOD <= WINDOW
