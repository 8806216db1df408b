from __future__ import annotations

import numpy as np
import pytest

from vla_ros.safety.measurement.following import FollowMonitor
from vla_ros.safety.reasons import Reason

PERIOD, SPEED = 0.01, 2.0  # s, rad/s


@pytest.fixture
def monitor(parameters):
    """One joint that has been commanded at `SPEED` for a second; the command stands at 2 rad at 1 s."""
    monitor = FollowMonitor(("joint",), parameters.motion)
    monitor.restart(np.zeros(1), 0.0)
    move(monitor, 0, 100)
    return monitor


def move(monitor, first, last):
    for i in range(first + 1, last + 1):
        monitor.record(np.full(1, SPEED * PERIOD * i), PERIOD * i)


def test_a_measurement_that_grows_too_old_for_the_motion_is_a_silence(monitor):
    assert monitor.judge(np.full(1, 1.95), 1.0, 0.0)[0] is Reason.OK
    move(monitor, 100, 130)
    reason, detail = monitor.judge(np.full(1, 1.95), 1.0, 0.0)
    assert (reason, detail) == (Reason.STATE_STALE, "(for 0.30 s)")
    assert not monitor.lost


def test_one_that_did_not_follow_when_it_came_is_none(monitor):
    for age in range(3):
        move(monitor, 100, 100 + age)
        assert monitor.judge(np.full(1, 1.0), 1.0, 0.0)[0] is Reason.TRACKING


def test_a_new_one_that_does_not_follow_is_none(monitor):
    assert monitor.judge(np.full(1, 1.95), 1.0, 0.0)[0] is Reason.OK
    move(monitor, 100, 130)
    for number in range(3):
        assert monitor.judge(np.full(1, 1.95), 1.3 + 0.01 * number, 0.0)[0] is Reason.TRACKING
    assert monitor.lost
