import numpy as np
import pytest

from vla_ros.errors import ObservationError
from vla_ros.safety.measurement.state_monitor import StateMonitor
from vla_ros.safety.reasons import Reason
from vla_ros.types import Pose, RobotState

TIMEOUT = 0.15


def state(stamp):
    return RobotState(np.zeros(7), np.zeros(7), 0.08, Pose(np.zeros(3), [0.0, 0.0, 0.0, 1.0]), stamp)


def fed(stamps, times=None):
    monitor = StateMonitor(7, TIMEOUT)
    for stamp, now in zip(stamps, times or stamps, strict=True):
        monitor.receive(state(stamp), now)
    return monitor


def test_before_the_first_state_there_is_a_fault_and_no_time():
    monitor = StateMonitor(7, TIMEOUT)
    assert monitor.fault(0.0) is Reason.STATE_MISSING
    assert monitor.sensor_time(5.0) == -np.inf


def test_age_counts_on_the_steady_clock_whatever_the_stamps_say():
    monitor = fed([1000.0, 1000.01], [0.0, 0.01])
    assert monitor.fault(0.01 + TIMEOUT) is Reason.OK
    assert monitor.fault(0.011 + TIMEOUT) is Reason.STATE_STALE
    assert monitor.fault(-0.01) is Reason.STATE_STALE  # the caller's clock went back
    assert monitor.fault(np.nan) is Reason.STATE_STALE


@pytest.mark.parametrize(("silence", "carried"), [(0.0, 0.0), (0.01, 0.01), (0.02, 0.02), (1.0, 0.02), (-1.0, 0.0)])
def test_between_states_time_goes_on_for_one_interval_and_no_longer(silence, carried):
    monitor = fed([7.0, 7.02], [100.0, 100.05])
    assert monitor.sensor_time(100.05 + silence) == pytest.approx(7.02 + carried)


def test_sound_states_in_a_row_are_counted_and_a_bad_one_or_a_gap_starts_again():
    monitor = fed([0.0, 0.01, 0.02])
    assert monitor.sound_in_row == 3
    with pytest.raises(ObservationError):
        monitor.receive(state(np.nan), 0.03)
    assert (monitor.sound_in_row, monitor.fault(0.03)) == (0, Reason.STATE_NOT_FINITE)
    monitor.receive(state(0.04), 0.04)
    assert (monitor.sound_in_row, monitor.fault(0.04)) == (1, Reason.OK)
    monitor.receive(state(1.0), 1.0)
    assert monitor.sound_in_row == 1


@pytest.mark.parametrize(
    ("stamps", "jumped"), [([1.0, 1.25], False), ([1.0, 1.5], True), ([1.0, 3.0], True), ([1.0, 1e9], True)]
)
def test_a_stamp_that_runs_ahead_of_the_steady_clock_is_a_jump_told_once(stamps, jumped):
    monitor = fed(stamps, [10.0, 10.01])
    assert monitor.take_jump() is jumped
    assert monitor.take_jump() is False


def test_a_pause_that_is_as_long_on_both_clocks_is_no_jump():
    assert not fed([1.0, 61.0], [10.0, 70.0]).take_jump()


def test_a_clock_that_was_set_back_is_believed_after_five_states_in_order():
    monitor = fed([100.0, 100.01])
    for i in range(4):
        with pytest.raises(ObservationError, match="older"):
            monitor.receive(state(1.0 + 0.01 * i), 100.02 + 0.01 * i)
    monitor.receive(state(1.04), 100.06)
    assert monitor.take_jump()
    assert monitor.sound_in_row == 1
    assert monitor.sensor_time(100.06) == pytest.approx(1.04)


def test_late_states_that_are_not_in_order_never_set_the_clock_back():
    monitor = fed([100.0, 100.01])
    for stamp in (99.9, 99.8) * 10:
        with pytest.raises(ObservationError, match="older"):
            monitor.receive(state(stamp), 100.02)
    assert not monitor.take_jump()


def test_something_unreadable_is_a_fault_until_a_sound_state_comes():
    monitor = fed([0.0, 0.01])
    monitor.refuse()
    assert (monitor.fault(0.01), monitor.sound_in_row) == (Reason.STATE_WIDTH, 0)
    monitor.receive(state(0.02), 0.02)
    assert monitor.fault(0.02) is Reason.OK
