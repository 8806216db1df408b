"""The trajectory controller against closed forms, hand-computed values and every kind of bad trajectory."""

from __future__ import annotations

import numpy as np
import pytest

from vla_ros.envs.mujoco.controller import MAX_LEAD, TrajectoryController, TrajectoryError, TrajectoryPoint

NAMES = ("a", "b")
START = np.array([0.5, -1.0])
TIMEOUT = 0.2


def controller(timeout: float = TIMEOUT) -> TrajectoryController:
    return TrajectoryController(NAMES, START, timeout)


def test_it_holds_until_the_first_command() -> None:
    c = controller()
    for now in (0.0, 1.0, 1e6):
        np.testing.assert_array_equal(c.sample(now), START)
        assert not c.timed_out(now)


def test_a_point_without_velocities_is_reached_along_a_line() -> None:
    c = controller()
    goal = np.array([1.5, 1.0])
    c.accept(NAMES, [TrajectoryPoint(goal, 0.1)], now=2.0)
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        np.testing.assert_allclose(c.sample(2.0 + 0.1 * share), START + share * (goal - START), atol=1e-12)


def test_joints_are_mapped_by_name() -> None:
    c = controller()
    c.accept(("b", "a"), [TrajectoryPoint([10.0, 20.0], 0.1)], now=0.0)
    np.testing.assert_allclose(c.sample(0.1), [20.0, 10.0])


def test_velocities_make_a_cubic_with_the_given_slopes() -> None:
    c = controller(timeout=10.0)
    # From rest at START through a moving point to rest: a Hermite cubic has these values and slopes at its ends.
    middle, end = np.array([0.8, -0.5]), np.array([1.0, 0.0])
    slope = np.array([0.3, 0.7])
    c.accept(NAMES, [TrajectoryPoint(middle, 1.0, slope), TrajectoryPoint(end, 2.0, np.zeros(2))], now=0.0)
    h = 1e-6
    for time, position, velocity in ((0.0, START, np.zeros(2)), (1.0, middle, slope), (2.0, end, np.zeros(2))):
        np.testing.assert_allclose(c.sample(time), position, atol=1e-9)
        if 0.0 < time < 2.0:
            np.testing.assert_allclose((c.sample(time + h) - c.sample(time - h)) / (2 * h), velocity, atol=1e-5)
    # Midway, by hand: p = (p0 + p1) / 2 + T (v0 - v1) / 8.
    np.testing.assert_allclose(c.sample(0.5), (START + middle) / 2 - slope / 8, atol=1e-12)
    np.testing.assert_allclose(c.sample(1.5), (middle + end) / 2 + slope / 8, atol=1e-12)


def test_the_end_is_held() -> None:
    c = controller()
    c.accept(NAMES, [TrajectoryPoint([1.0, 1.0], 0.05, [3.0, 3.0])], now=0.0)
    for now in (0.05, 0.06, 5.0):
        np.testing.assert_allclose(c.sample(now), [1.0, 1.0])


def test_a_new_command_starts_from_the_reference_not_from_the_old_goal() -> None:
    c = controller()
    c.accept(NAMES, [TrajectoryPoint(START + 1.0, 0.1)], now=0.0)
    before = c.sample(0.05)
    c.accept(NAMES, [TrajectoryPoint(START, 0.1)], now=0.05)
    np.testing.assert_allclose(c.sample(0.05), before)
    np.testing.assert_allclose(c.sample(0.10), START + 0.25)
    np.testing.assert_allclose(c.sample(0.15), START)


def test_a_stream_of_commands_makes_a_continuous_reference() -> None:
    c, period, rate = controller(), 0.01, 0.7
    references, times = [], np.arange(0.0, 1.0, 0.002)
    for now in times:
        if round(now / 0.002) % 5 == 0:
            ahead = START + rate * (now + period)
            c.accept(NAMES, [TrajectoryPoint(ahead, period, np.full(2, rate))], now=now)
        references.append(c.sample(now))
    steps = np.diff(np.array(references), axis=0) / 0.002
    assert steps[10:].min() == pytest.approx(rate, rel=0.02)
    assert steps[10:].max() == pytest.approx(rate, rel=0.02)


def test_silence_stops_the_reference_where_it_is() -> None:
    c = controller()
    c.accept(NAMES, [TrajectoryPoint(START + 1.0, 1.0)], now=3.0)
    assert not c.timed_out(3.2)
    assert c.timed_out(3.21)
    for now in (3.2, 3.3, 10.0):
        np.testing.assert_allclose(c.sample(now), START + 0.2)
    c.accept(NAMES, [TrajectoryPoint(START, 0.1)], now=10.0)
    assert not c.timed_out(10.0)
    np.testing.assert_allclose(c.sample(10.05), START + 0.1)


def test_a_trajectory_that_has_begun_is_followed_as_it_stands() -> None:
    c = controller()
    points = [TrajectoryPoint(START + 1e-3, 0.02), TrajectoryPoint(START + 0.1, 0.12)]
    c.accept(NAMES, points, now=1.02, start=1.0)
    np.testing.assert_allclose(c.sample(1.02), START + 1e-3)
    np.testing.assert_allclose(c.sample(1.07), START + 0.0505)
    np.testing.assert_allclose(c.sample(1.12), START + 0.1)


def test_a_reference_that_is_elsewhere_meets_the_trajectory_a_little_later_without_a_step() -> None:
    """At rest at START; the trajectory has been moving at 1 rad/s for 0.3 s, as after a machine that stood still."""
    c, still = controller(), np.zeros(2)
    points = [TrajectoryPoint(START + 0.1 * i, 0.1 * i, np.ones(2), still) for i in range(10)]
    c.accept(NAMES, points, now=1.32, start=1.0)
    times = np.arange(1.32, 1.6, 0.002)
    way = np.array([c.sample(time)[0] for time in times]) - START[0]
    assert way[0] == 0.0
    assert way[np.searchsorted(times, 1.5)] == pytest.approx(0.5, abs=3e-3)
    assert np.abs(np.diff(way)).max() < 0.02  # of 0.32 at once


def test_points_before_the_start_have_passed() -> None:
    c = controller()
    points = [TrajectoryPoint(START - 0.1, -0.1), TrajectoryPoint(START + 0.1, 0.1)]
    c.accept(NAMES, points, now=5.0, start=5.0)
    np.testing.assert_allclose(c.sample(5.0), START)
    np.testing.assert_allclose(c.sample(5.05), START + 0.05)


def test_a_trajectory_that_is_over_is_a_place_to_hold() -> None:
    c = controller()
    c.accept(NAMES, [TrajectoryPoint(START, -0.2), TrajectoryPoint(START + 0.1, -0.1)], now=5.0, start=5.0)
    np.testing.assert_allclose(c.sample(5.0), START + 0.1)


def test_accelerations_make_a_quintic() -> None:
    """Any polynomial of fifth degree is met exactly by its values and derivatives at two points."""
    c = controller(timeout=10.0)
    a, b = np.poly1d([1.0, -2.0, 0.5, 1.0, -0.3, 0.5]), np.poly1d([-1.0, 0.0, 2.0, -1.0, 0.2, -1.0])

    def point(time: float) -> TrajectoryPoint:
        rows = [np.array([a.deriv(order)(time), b.deriv(order)(time)]) for order in range(3)]
        return TrajectoryPoint(rows[0], time, rows[1], rows[2])

    c.accept(NAMES, [point(-0.1), point(0.3), point(1.2)], now=0.0, start=0.0)
    for time in np.linspace(0.0, 1.2, 25):
        np.testing.assert_allclose(c.sample(time), [a(time), b(time)], atol=1e-12)


def test_a_known_stop_is_followed_to_its_end_by_a_sender_that_died() -> None:
    c = controller()
    still, speed = np.zeros(2), np.ones(2)
    points = [TrajectoryPoint(START, 0.0, speed), TrajectoryPoint(START + 0.25, 0.5, still)]
    c.accept(NAMES, points, now=3.0, start=3.0)  # it begins where the joints are
    assert not c.timed_out(3.5)
    assert c.timed_out(3.51)
    for now in (3.5, 3.6, 10.0):
        np.testing.assert_allclose(c.sample(now), START + 0.25)


def test_a_trajectory_that_says_that_the_joints_are_elsewhere_is_refused() -> None:
    limits = np.array([2.0, 3.0])
    c = TrajectoryController(NAMES, START, TIMEOUT, velocity_limits=limits)
    points = [TrajectoryPoint(START + 0.5, -0.1), TrajectoryPoint(START + 0.5, 0.1)]
    with pytest.raises(TrajectoryError, match="jump"):
        c.accept(NAMES, points, now=1.0, start=1.0)
    np.testing.assert_array_equal(c.sample(1.0), START)


def test_reset_forgets_the_trajectory() -> None:
    c = controller()
    c.accept(NAMES, [TrajectoryPoint(START + 1.0, 1.0)], now=0.0)
    c.reset(np.zeros(2))
    np.testing.assert_array_equal(c.sample(0.1), np.zeros(2))


GOOD = TrajectoryPoint([0.0, 0.0], 0.1)
REFUSED = {
    "unknown joint": (("a", "c"), [GOOD], None),
    "partial": (("a",), [TrajectoryPoint([0.0], 0.1)], None),
    "a joint twice": (("a", "a"), [GOOD], None),
    "one joint too many": (("a", "b", "c"), [TrajectoryPoint(np.zeros(3), 0.1)], None),
    "no points": (NAMES, [], None),
    "nan position": (NAMES, [TrajectoryPoint([0.0, np.nan], 0.1)], None),
    "infinite velocity": (NAMES, [TrajectoryPoint([0.0, 0.0], 0.1, [0.0, np.inf])], None),
    "short positions": (NAMES, [TrajectoryPoint([0.0], 0.1)], None),
    "short velocities": (NAMES, [TrajectoryPoint([0.0, 0.0], 0.1, [0.0])], None),
    "equal times": (NAMES, [GOOD, GOOD], None),
    "falling times": (NAMES, [GOOD, TrajectoryPoint([0.0, 0.0], 0.05)], None),
    "nan acceleration": (NAMES, [TrajectoryPoint([0.0, 0.0], 0.1, [0.0, 0.0], [0.0, np.nan])], None),
    "nan time": (NAMES, [TrajectoryPoint([0.0, 0.0], np.nan)], None),
    "infinite time": (NAMES, [TrajectoryPoint([0.0, 0.0], np.inf)], None),
    "nan start": (NAMES, [GOOD], np.nan),
    "start from another clock": (NAMES, [GOOD], 10.0 + 2 * MAX_LEAD),
    "ended long ago": (NAMES, [GOOD], 9.5),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_trajectories_are_refused_and_change_nothing(case: str) -> None:
    names, points, start = REFUSED[case]
    c = controller()
    c.accept(NAMES, [TrajectoryPoint(START + 1.0, 1.0)], now=9.95)
    before = c.sample(10.0)
    with pytest.raises(TrajectoryError):
        c.accept(names, points, now=10.0, start=start)
    np.testing.assert_array_equal(c.sample(10.0), before)
    np.testing.assert_allclose(c.sample(10.05), START + 0.1)


def test_a_jump_that_the_joint_could_not_follow_is_refused() -> None:
    limits = np.array([2.0, 3.0])
    c = TrajectoryController(NAMES, START, TIMEOUT, velocity_limits=limits)
    reach = limits * (0.1 + TIMEOUT)  # by hand: 0.6 and 0.9
    c.accept(NAMES, [TrajectoryPoint(START + 0.99 * reach, 0.1)], now=1.0)
    c.reset(START)
    for joint in (0, 1):
        jump = np.zeros(2)
        jump[joint] = -1.01 * reach[joint]
        with pytest.raises(TrajectoryError, match=f"{NAMES[joint]} is asked to jump by {1.01 * reach[joint]:.3f}"):
            c.accept(NAMES, [TrajectoryPoint(START + jump, 0.1)], now=2.0)
    np.testing.assert_array_equal(c.sample(2.1), START)


def test_a_controller_without_a_time_out_cannot_be_made() -> None:
    with pytest.raises(TrajectoryError, match="time-out"):
        controller(timeout=0.0)
    with pytest.raises(TrajectoryError, match="finite"):
        TrajectoryController(NAMES, np.array([0.0, np.nan]), 0.2)
