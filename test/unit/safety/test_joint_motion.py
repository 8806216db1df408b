import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_ros.robot.contract import load_contract
from vla_ros.safety.joint_motion import JointMotion

PERIOD = 0.01
JOINTS = load_contract("panda").joints


@settings(deadline=None, max_examples=30)
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
    speed, a, j = 1.0, JOINTS.acceleration[1], JOINTS.jerk[1]
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


def test_braking_asks_no_library(monkeypatch):
    motion = JointMotion(JOINTS, PERIOD)
    for _ in range(10):
        motion.accept(motion.propose(0.3 * JOINTS.velocity))
    monkeypatch.setattr(motion, "_generator", None)
    monkeypatch.setattr(motion, "_trajectory", None)
    while not motion.resting:
        motion.brake()
