"""The model of joint_trajectory_controller against splines and effects that were computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from vla_ros.safety_bench.referee.trajectory_controller import (
    Release,
    Replacement,
    TimedTrajectory,
    TrajectoryControllerModel,
)


def one(arrival, position, velocity=None, acceleration=None, horizon=0.1, stamp=0.0):
    """A trajectory of one point for one joint."""
    rows = [None if value is None else np.array([[value]]) for value in (position, velocity, acceleration)]
    return TimedTrajectory(arrival, stamp, np.array([horizon]), *rows)


def several(arrival, stamp, times, positions, velocities=None, accelerations=None):
    rows = [None if values is None else np.array(values)[:, None] for values in (positions, velocities, accelerations)]
    return TimedTrajectory(arrival, stamp, np.array(times), *rows)


def at(reference, time):
    """Position, velocity, acceleration and jerk of the sample at `time`."""
    index = int(np.argmin(np.abs(reference.times - time)))
    assert reference.times[index] == pytest.approx(time, abs=1e-9)
    return tuple(
        float(rows[index, 0])
        for rows in (reference.positions, reference.velocities, reference.accelerations, reference.jerks)
    )


EXACT = TrajectoryControllerModel(1000.0, Release.EXACT)
REST = np.zeros(1)


def test_cubic_from_rest_to_rest():
    """q = 3 s^2 - 2 s^3 over 0.1 s: at half time 1/2, 1.5 / 0.1, 0 and -12 / 0.1^3."""
    reference = EXACT.follow([one(1.0, 1.0, 0.0)], REST, 1.2)
    assert at(reference, 1.05) == pytest.approx((0.5, 15.0, 0.0, -12e3), abs=1e-6)
    assert at(reference, 1.2) == (1.0, 0.0, 0.0, 0.0)


def test_quintic_from_rest_to_rest():
    """q = 10 s^3 - 15 s^4 + 6 s^5 over 0.1 s: at half time 1/2 and 1.875 / 0.1; the acceleration begins at zero."""
    reference = EXACT.follow([one(1.0, 1.0, 0.0, 0.0)], REST, 1.2)
    assert at(reference, 1.05)[:3] == pytest.approx((0.5, 18.75, 0.0), abs=1e-6)
    assert at(reference, 1.0)[2] == pytest.approx(0.0, abs=1e-9)


def test_positions_alone_are_joined_by_lines():
    reference = EXACT.follow([one(1.0, 1.0)], REST, 1.2)
    assert at(reference, 1.025) == pytest.approx((0.25, 10.0, 0.0, 0.0), abs=1e-9)


def test_end_at_speed_is_held_there():
    reference = EXACT.follow([one(1.0, 1.0, 10.0)], REST, 1.2)
    assert at(reference, 1.15)[:2] == (1.0, 0.0)


def test_stamp_fixes_the_time_whatever_the_arrival():
    """A point is due at 1.1 s by its stamp; it arrives 0.02 s late, and the segment is so much shorter."""
    reference = EXACT.follow([one(1.02, 1.0, 0.0, horizon=0.1, stamp=1.0)], REST, 1.2)
    assert at(reference, 1.06)[0] == pytest.approx(0.5, abs=1e-9)
    assert at(reference, 1.1)[0] == 1.0


@pytest.mark.parametrize("release", list(Release))
def test_trajectory_that_has_begun_is_followed_as_it_stands(release):
    """Its first point is due at 0.98 s, and it arrives at 1.013 s: no release takes its own last command."""
    times = [-0.02, 0.18]
    trajectory = several(1.013, 1.0, times, [0.0, 2.0], [10.0, 10.0], [0.0, 0.0])
    model = TrajectoryControllerModel(1000.0, release)
    reference = model.follow([trajectory], REST, 1.1)
    np.testing.assert_allclose(reference.velocities, 10.0, rtol=1e-9)
    np.testing.assert_allclose(reference.positions[:, 0], 10.0 * (reference.times - 0.98), rtol=1e-9)


def steady(release, rate=1000.0):
    """The positions sent to the drive for one command every 10 ms, each 20 ms ahead on a line of 1 rad/s."""
    model = TrajectoryControllerModel(rate, release)
    commands = [one(1.0 + 0.01 * k, 0.01 * k + 0.02, 1.0, 0.0, 0.02) for k in range(50)]
    reference = model.follow(commands, REST, 1.5)
    return np.diff(reference.positions[:, 0])[300:400] * rate


def test_exact_release_goes_on_at_the_commanded_speed():
    np.testing.assert_allclose(steady(Release.EXACT), 1.0, rtol=1e-6)


def test_humble_repeats_a_command_at_each_trajectory():
    """Once in ten cycles the last command again, and faster in between to make up for it."""
    speeds = steady(Release.HUMBLE)
    assert (np.abs(speeds) < 1e-9).sum() == 10
    assert speeds.max() > 1.1


def test_jazzy_runs_one_cycle_ahead_at_each_trajectory():
    """The state of the cycle's end counts as that of its beginning: two cycles of motion in one."""
    speeds = steady(Release.JAZZY)
    assert (speeds > 1.5).sum() == 10
    assert speeds.mean() == pytest.approx(1.0, rel=1e-2)


def points(k, stamp):
    """From slot k - 3 on at 1 rad/s, 10 ms apart: history and future around `stamp`; every other one arrives late."""
    slots = np.arange(k - 3, k + 5)
    return several(
        1.0 + 0.01 * k + 0.004 * (k % 2), stamp, 0.01 * slots + 1.0 - stamp, 0.01 * slots, [1.0] * 8, [0.0] * 8
    )


def test_merging_follows_a_stamp_that_is_to_come_and_no_other():
    """With a stamp between arrival and the next point both modes give the line; a past stamp is played from now on."""
    model = TrajectoryControllerModel(1000.0, replacement=Replacement.MERGED)
    coming = model.follow([points(k, 1.0 + 0.01 * k + 0.007) for k in range(20)], REST - 0.03, 1.2)
    np.testing.assert_allclose(np.diff(coming.positions[5:, 0]), 1e-3, rtol=1e-6)
    past = model.follow([points(k, 1.0 + 0.01 * k - 0.003) for k in range(20)], REST - 0.03, 1.2)
    assert np.abs(np.diff(past.positions[5:, 0])).max() > 3e-3
    legacy = TrajectoryControllerModel(1000.0)
    still = legacy.follow([points(k, 1.0 + 0.01 * k - 0.003) for k in range(20)], REST - 0.03, 1.2)
    np.testing.assert_allclose(np.diff(still.positions[5:, 0]), 1e-3, rtol=1e-6)


def test_merging_keeps_old_points_before_the_stamp():
    """A new trajectory that begins 0.1 s later: until then the old one is followed, one cycle late."""
    old = several(1.0, 0.0, [0.1, 0.2, 0.3], [0.1, 0.2, 0.3], [1.0, 1.0, 0.0], [0.0] * 3)
    new = several(1.05, 1.155, [0.1], [0.0], [0.0], [0.0])
    reference = TrajectoryControllerModel(1000.0, replacement=Replacement.MERGED).follow([old, new], REST, 1.4)
    index = int(np.argmin(np.abs(reference.times - 1.12)))
    assert reference.positions[index, 0] == pytest.approx(0.12, abs=3e-3)
    assert reference.positions[-1, 0] == 0.0


def test_merged_points_out_of_order_are_searched_from_the_first_on():
    """The old point due at 1.1 s stays, one cycle late, before points from 1.05 s on: they count from 1.101 s on."""
    old = several(1.0, 0.0, [0.0, 0.1, 0.3], [0.0, 0.1, 0.3], [1.0] * 3, [0.0] * 3)
    new = several(1.02, 1.155, [-0.105, 0.145], [5.05, 5.3], [1.0] * 2, [0.0] * 2)
    reference = TrajectoryControllerModel(1000.0, replacement=Replacement.MERGED).follow([old, new], REST, 1.2)
    assert at(reference, 1.1)[0] == pytest.approx(0.1, abs=2e-3)
    assert at(reference, 1.102)[0] == pytest.approx(5.102, abs=1e-9)


def test_deferral_follows_the_old_trajectory_until_the_stamp():
    """The old line of 1 rad/s until the first update after 1.0553 s, 1.056 s; from there on the new one, as it is."""
    old = several(1.0, 1.0, [0.0, 0.2], [0.0, 0.2], [1.0, 1.0], [0.0] * 2)
    new = several(1.02, 1.0553, [-0.0553, 0.1447], [0.3, 0.5], [1.0, 1.0], [0.0] * 2)
    reference = TrajectoryControllerModel(1000.0, replacement=Replacement.DEFERRED).follow([old, new], REST, 1.15)
    assert at(reference, 1.056)[0] == pytest.approx(0.056, abs=1e-9)
    assert at(reference, 1.057)[0] == pytest.approx(0.357, abs=1e-9)


def test_deferral_starts_a_stamp_of_the_past_at_once():
    old = several(1.0, 1.0, [0.0, 0.2], [0.0, 0.2], [1.0, 1.0], [0.0] * 2)
    new = several(1.02, 1.01, [-0.01, 0.19], [0.3, 0.5], [1.0, 1.0], [0.0] * 2)
    reference = TrajectoryControllerModel(1000.0, replacement=Replacement.DEFERRED).follow([old, new], REST, 1.1)
    assert at(reference, 1.02)[0] == pytest.approx(0.02, abs=1e-9)
    assert at(reference, 1.021)[0] == pytest.approx(0.321, abs=1e-9)


def test_deferral_forgets_a_waiting_trajectory_when_the_next_one_comes():
    """Stamps 13 ms ahead, one trajectory every 10 ms: each takes the place of the one before, and none begins."""
    model = TrajectoryControllerModel(1000.0, replacement=Replacement.DEFERRED)
    first = several(1.0, 0.0, [0.0, 0.2], [0.0, 0.2], [1.0, 1.0], [0.0] * 2)
    later = [
        several(1.01 + 0.01 * k, 1.023 + 0.01 * k, [0.0, 0.2], [5.0, 5.0], [0.0] * 2, [0.0] * 2) for k in range(10)
    ]
    reference = model.follow([first, *later], REST, 1.2)
    assert at(reference, 1.11)[0] == pytest.approx(0.11, abs=1e-9)
    assert at(reference, 1.12)[0] == 5.0


def test_phase_moves_the_updates_within_a_cycle():
    reference = TrajectoryControllerModel(1000.0, Release.EXACT, phase=0.25).follow([one(1.0, 1.0, 0.0)], REST, 1.2)
    assert at(reference, 1.05025)[0] == pytest.approx(0.5, abs=1e-9)


def test_trajectory_overtaken_within_a_cycle_is_never_seen():
    reference = EXACT.follow([one(1.0001, 9.0, 0.0), one(1.0002, 1.0, 0.0)], REST, 1.2)
    assert reference.positions.max() == 1.0


def test_arrivals_that_go_back_are_refused():
    with pytest.raises(ValueError, match="order of arrival"):
        EXACT.follow([one(1.0, 0.0), one(0.9, 0.0)], REST, 1.2)
