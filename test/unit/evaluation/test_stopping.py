"""The analytic stop against a stop integrated step by step, and against Ruckig, which the layer itself uses."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import ruckig

from vla_ros.robot.contract import load_contract
from vla_ros.safety.motion.joint_motion import ACCELERATION_RESERVE, JERK_RESERVE, JointMotion
from vla_ros.safety_bench.referee.stopping import compare_stop, shortest_stop

JOINTS = load_contract("panda").joints


def test_a_stop_without_the_limit_of_acceleration_by_hand():
    """From 1 rad/s at j = 100: p = sqrt(100) = 10 < 20, two phases of 0.1 s; symmetric: half the speed on average."""
    assert shortest_stop(1.0, 0.0, 20.0, 100.0) == pytest.approx((0.2, 0.1))


def test_a_stop_with_the_limit_of_acceleration_by_hand():
    """p = 5: 0.05 s down, 0.05 s up take 0.25 rad/s, the remaining 0.75 rad/s 0.15 s: 0.25 s, on average 0.5 rad/s."""
    assert shortest_stop(1.0, 0.0, 5.0, 100.0) == pytest.approx((0.25, 0.125))


def test_rest_needs_no_stop():
    assert shortest_stop(0.0, 0.0, 5.0, 100.0) == (0.0, 0.0)


@pytest.mark.parametrize("seed", range(30))
def test_ruckig_agrees(seed):
    rng = np.random.default_rng(seed)
    most, jerk = rng.uniform(2.0, 20.0), rng.uniform(50.0, 9000.0)
    velocity, acceleration = rng.uniform(-2.6, 2.6), rng.uniform(-1.0, 1.0) * most
    motion = ruckig.InputParameter(1)
    motion.control_interface = ruckig.ControlInterface.Velocity
    motion.current_position, motion.current_velocity, motion.current_acceleration = [0.0], [velocity], [acceleration]
    motion.target_velocity, motion.max_velocity = [0.0], [50.0]
    motion.max_acceleration, motion.max_jerk = [most], [jerk]
    trajectory = ruckig.Trajectory(1)
    assert ruckig.Ruckig(1).calculate(motion, trajectory) >= 0
    duration, travel = shortest_stop(velocity, acceleration, most, jerk)
    assert duration == pytest.approx(trajectory.duration, rel=1e-6, abs=1e-9)
    assert travel == pytest.approx(trajectory.at_time(trajectory.duration)[0][0], rel=1e-6, abs=1e-9)


def test_the_stop_of_the_layer_is_the_analytic_one_but_for_its_reserve():
    motion, period = JointMotion(JOINTS, 0.01), 0.01
    rows = [motion.current.positions]
    for _ in range(40):
        motion.accept(motion.propose(0.4 * JOINTS.velocity))
        rows.append(motion.current.positions)
    first = len(rows)
    while not motion.resting:
        rows.append(motion.brake().positions)
    rows += [motion.brake().positions for _ in range(3)]
    found = compare_stop(np.array(rows), first, JOINTS, period)
    assert found is not None
    assert found.analytic_seconds <= found.seconds <= JERK_RESERVE * found.analytic_seconds + 1.01 * period
    assert found.analytic_travel <= found.travel <= ACCELERATION_RESERVE * found.analytic_travel + 2e-3
    assert all(later >= earlier for earlier, later in pairwise(np.array(rows)[:, 0]))


def test_a_recording_that_is_cut_off_says_nothing():
    rows = 0.01 * np.arange(20.0)[:, None] * np.ones(JOINTS.count)
    assert compare_stop(rows, 2, JOINTS, 0.01) is None
    assert compare_stop(rows, 10, JOINTS, 0.01) is None
