from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_ros.robot.contract import load_contract
from vla_ros.safety.motion.joint_motion import HISTORY, JointMotion, JointStep, planned_limits, planned_velocity

PERIOD = 0.01
JOINTS = load_contract("panda").joints


@settings(max_examples=30)
@given(st.integers(0, 100_000))
def test_any_wish_stays_within_speed_acceleration_and_jerk_and_can_be_stopped(seed):
    rng = np.random.default_rng(seed)
    motion = JointMotion(JOINTS, PERIOD)
    positions = [motion.current.positions]
    wish = np.zeros(7)
    for _ in range(100):
        if rng.random() < 0.2:
            wish = rng.uniform(-1.0, 1.0, 7) * JOINTS.velocity * rng.choice([0.01, 1.0])
        step = motion.propose(wish)
        if step is None or rng.random() < 0.05:
            step = motion.brake()
        else:
            motion.accept(step)
        positions.append(step.positions)
    for _ in range(60):
        positions.append(motion.brake().positions)
    assert motion.resting
    q = np.array(positions)
    for order, limit in ((1, JOINTS.velocity), (2, JOINTS.acceleration), (3, JOINTS.jerk)):
        assert (np.abs(np.diff(q, n=order, axis=0)) / PERIOD**order <= limit * (1 + 1e-6)).all(), order


@pytest.mark.parametrize("wish", [np.full(7, np.nan), np.full(7, np.inf), 1.01 * JOINTS.velocity, np.zeros(3), []])
def test_a_wish_that_cannot_be_is_refused_before_the_library_sees_it(wish):
    motion = JointMotion(JOINTS, PERIOD)
    assert motion.propose(np.asarray(wish, float)) is None


def test_a_wish_within_reach_is_reached_in_one_tick_without_leftover_acceleration():
    motion = JointMotion(JOINTS, PERIOD)
    wish = 0.9 * motion.reachable
    step = motion.propose(wish)
    np.testing.assert_allclose(step.velocities, wish, atol=1e-12)
    np.testing.assert_allclose(step.accelerations, 0.0, atol=1e-9)


def test_proposing_changes_nothing():
    motion = JointMotion(JOINTS, PERIOD)
    before = motion.current
    motion.propose(JOINTS.velocity)
    assert motion.current is before


def test_the_stop_of_one_joint_covers_the_analytic_way():
    """From rest to v and back to rest: braking alone takes v^2 / 2a + v a / 2j."""
    motion = JointMotion(JOINTS, PERIOD)
    wish = np.zeros(7)
    wish[1] = 1.0
    for _ in range(40):
        motion.accept(motion.propose(wish))
    start = motion.current.positions[1]
    speed, a, j = 1.0, *(limit[1] for limit in planned_limits(JOINTS, PERIOD))
    assert motion.current.velocities[1] == pytest.approx(speed)
    assert motion.current.stop.positions[-1, 1] - start == pytest.approx(speed**2 / (2 * a) + speed * a / (2 * j))
    assert motion.current.stop.rows * PERIOD == pytest.approx(speed / a + a / j, abs=PERIOD)


def test_the_stop_is_followed_row_by_row_and_then_held():
    motion = JointMotion(JOINTS, PERIOD)
    for _ in range(10):
        motion.accept(motion.propose(0.3 * JOINTS.velocity))
    stop = motion.current.stop
    followed = np.array([motion.brake().positions for _ in range(stop.rows + 3)])
    np.testing.assert_array_equal(followed[: stop.rows], stop.positions)
    np.testing.assert_array_equal(followed[stop.rows :], np.tile(stop.positions[-1], (3, 1)))
    assert motion.resting


CONTRACTS = {robot: load_contract(robot) for robot in ("panda", "fr3", "ur5e", "so101", "template")}


@settings(max_examples=40)
@given(
    st.sampled_from(sorted(CONTRACTS)), st.sampled_from([100.0, 125.0, 250.0, 500.0, 1000.0]), st.integers(0, 100_000)
)
def test_at_every_rate_every_stop_ends_at_rest_within_the_limits(robot, rate_hz, seed):
    """From any speed, full speed included, and any acceleration that can still be taken back below it."""
    joints, period, rng = CONTRACTS[robot].joints, 1.0 / rate_hz, np.random.default_rng(seed)
    motion, n = JointMotion(joints, period), joints.count
    speed = 0.999 * joints.velocity * rng.choice([-1.0, 0.0, 0.5, 1.0], n)
    most, jerk = planned_limits(joints, period)
    up = np.minimum(most, np.sqrt(2.0 * jerk * (joints.velocity - speed)))
    down = np.minimum(most, np.sqrt(2.0 * jerk * (joints.velocity + speed)))
    acceleration = 0.999 * rng.choice([-1.0, 0.0, 1.0], n)
    acceleration *= np.where(acceleration > 0.0, up, down)
    motion.accept(JointStep(joints.home, speed, acceleration, motion.current.stop))
    step = motion.propose(joints.velocity * rng.choice([-1.0, 0.0, 1.0], n))
    assert step is not None
    motion.accept(step)
    stop = step.stop
    assert not stop.velocities[-1].any() and not stop.accelerations[-1].any()
    positions = np.vstack([step.positions, stop.positions])
    velocities = np.vstack([step.velocities, stop.velocities])
    accelerations = np.vstack([step.accelerations, stop.accelerations])
    slack = 1.0 + 1e-6
    assert (np.abs(np.diff(positions, axis=0)) / period <= joints.velocity * slack).all()
    assert (np.abs(np.diff(velocities, axis=0)) / period <= most * slack).all()
    assert (np.abs(np.diff(accelerations, axis=0)) / period <= jerk * slack).all()
    for _ in range(stop.rows):
        motion.brake()
    assert motion.resting


def test_the_longest_stop_of_a_fast_clock_ends_at_rest():
    """FR3, second joint, 1 kHz: from its full speed it brakes at 2 / 1.27 rad/s^2 for 1.66 s, which is 1664 ticks."""
    joints, period = CONTRACTS["fr3"].joints, 1e-3
    motion, wish = JointMotion(joints, period), np.zeros(7)
    wish[1] = joints.velocity[1]
    motion.accept(JointStep(joints.home, wish, np.zeros(7), motion.current.stop))
    step = motion.propose(wish)
    assert step is not None
    assert step.stop.rows == pytest.approx((2.62 / (2.0 / 1.27) + (2.0 / 1.27) / (5000.0 / 1.35)) / period, abs=2)
    assert not step.stop.velocities[-1].any()
    assert np.abs(np.diff(step.stop.velocities[:, 1])).max() / period <= 2.0 / 1.27 * (1 + 1e-6)
    motion.accept(step)
    for _ in range(step.stop.rows):
        motion.brake()
    assert motion.resting


def test_a_stop_that_does_not_fit_its_table_is_none(monkeypatch):
    motion = JointMotion(JOINTS, PERIOD)
    for _ in range(20):
        motion.accept(motion.propose(JOINTS.velocity))
    monkeypatch.setattr(motion, "_most_rows", motion.current.stop.rows - 3)
    assert motion.propose(JOINTS.velocity) is None
    while not motion.resting:
        motion.brake()


def test_braking_asks_no_library(monkeypatch):
    motion = JointMotion(JOINTS, PERIOD)
    for _ in range(10):
        motion.accept(motion.propose(0.3 * JOINTS.velocity))
    monkeypatch.setattr(motion, "_generator", None)
    monkeypatch.setattr(motion, "_trajectory", None)
    while not motion.resting:
        motion.brake()


def test_a_step_knows_what_was_commanded_before_it_and_when_it_is_due():
    motion = JointMotion(JOINTS, PERIOD)
    motion.schedule(5.0)
    rows = [motion.current] * HISTORY
    for number in range(12):
        step = motion.accept(motion.propose(0.3 * JOINTS.velocity)) if number < 7 else motion.brake()
        assert step.due == pytest.approx(5.0 + (number + 1) * PERIOD)
        np.testing.assert_array_equal(step.before.positions, [row.positions for row in rows[-HISTORY:]])
        np.testing.assert_array_equal(step.before.velocities, [row.velocities for row in rows[-HISTORY:]])
        np.testing.assert_array_equal(step.before.accelerations, [row.accelerations for row in rows[-HISTORY:]])
        rows.append(step)
    assert not motion.current.settled
    while not motion.resting:
        motion.brake()
    assert not motion.current.settled  # it rests, and its past moves
    for _ in range(HISTORY):
        motion.brake()
    assert motion.current.settled


def test_what_is_ahead_is_what_braking_passes():
    motion = JointMotion(JOINTS, PERIOD)
    for _ in range(10):
        motion.accept(motion.propose(0.3 * JOINTS.velocity))
    while not motion.resting:
        ahead = motion.current.ahead.positions
        np.testing.assert_array_equal(motion.remaining_stop(), ahead)
        np.testing.assert_array_equal(motion.brake().positions, ahead[0])
    assert motion.current.ahead.rows == 1


def spline_peaks(before: JointStep, after: JointStep, period: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest velocity and acceleration (n,) of the quintic spline by which a controller joins two steps."""
    p, v, a = before.positions, before.velocities, before.accelerations
    q, w, b = after.positions, after.velocities, after.accelerations
    h = period
    rest = np.array([q - p - v * h - 0.5 * a * h**2, w - v - a * h, b - a])
    matrix = np.array([[h**3, h**4, h**5], [3 * h**2, 4 * h**3, 5 * h**4], [6 * h, 12 * h**2, 20 * h**3]])
    c = np.linalg.solve(matrix, rest)
    t = np.linspace(0.0, h, 21)[:, None]
    velocities = v + a * t + 3 * c[0] * t**2 + 4 * c[1] * t**3 + 5 * c[2] * t**4
    accelerations = a + 6 * c[0] * t + 12 * c[1] * t**2 + 20 * c[2] * t**3
    return np.abs(velocities).max(axis=0), np.abs(accelerations).max(axis=0)


@pytest.mark.parametrize("robot", sorted(CONTRACTS))
@pytest.mark.parametrize("jerk", [1.0, 50.0])
@pytest.mark.parametrize("rate_hz", [10.0, 100.0])
def test_splines_between_rows_stay_within_the_acceleration_limit(robot, jerk, rate_hz):
    """Also where the jerk limit is so high that an acceleration comes and goes within a period."""
    joints, period, rng = CONTRACTS[robot].joints, 1.0 / rate_hz, np.random.default_rng(0)
    joints = replace(joints, jerk=jerk * joints.jerk)
    motion = JointMotion(joints, period)
    for tick in range(400):
        if tick % 3 == 0:
            wish = rng.uniform(-0.2, 0.2, joints.count) * joints.velocity
        before, step = motion.current, motion.propose(wish)
        after = motion.brake() if step is None else motion.accept(step)
        assert (spline_peaks(before, after, period)[1] <= 1.001 * joints.acceleration).all()


@pytest.mark.parametrize("robot", sorted(CONTRACTS))
@pytest.mark.parametrize("jerk", [1.0, 50.0])
@pytest.mark.parametrize("rate_hz", [10.0, 20.0, 100.0])
def test_splines_between_rows_stay_within_the_velocity_limit(robot, jerk, rate_hz):
    """At full speed, which the acceleration reaches in a few periods at a low rate."""
    joints, period, rng = CONTRACTS[robot].joints, 1.0 / rate_hz, np.random.default_rng(0)
    free = np.full(joints.count, 1e3)
    joints = replace(joints, jerk=jerk * joints.jerk, lower=-free, upper=free)
    motion = JointMotion(replace(joints, velocity=planned_velocity(joints, period)), period)
    motion.seed(0.0 * free)
    for tick in range(1000):
        if tick % 10 == 0:
            wish = rng.choice([-1.0, 0.3, 1.0], joints.count) * planned_velocity(joints, period)
        before, step = motion.current, motion.propose(wish)
        after = motion.brake() if step is None else motion.accept(step)
        assert (spline_peaks(before, after, period)[0] <= 1.0005 * joints.velocity).all()
