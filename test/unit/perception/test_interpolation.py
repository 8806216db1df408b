"""A state between two others lies on the way, and its tool pose belongs to its joints."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_ros.perception.interpolation import interpolate_state
from vla_ros.types import FloatArray, Pose, RobotState


def forward(joints: FloatArray) -> Pose:
    """Turn about z by the first joint, at a radius of 1 m."""
    angle = float(joints[0])
    return Pose([np.cos(angle), np.sin(angle), 0.0], [0.0, 0.0, np.sin(angle / 2), np.cos(angle / 2)])


def state(angle: float, stamp: float) -> RobotState:
    joints = np.array([angle, -angle])
    return RobotState(joints, 2.0 * joints, 0.04 * angle, forward(joints), stamp)


def test_the_middle_by_hand() -> None:
    middle = interpolate_state(state(0.0, 1.0), state(1.0, 1.1), 0.5, forward)
    np.testing.assert_allclose(middle.joint_positions, [0.5, -0.5])
    np.testing.assert_allclose(middle.joint_velocities, [1.0, -1.0])
    assert middle.gripper_opening == pytest.approx(0.02)
    assert middle.stamp == pytest.approx(1.05)
    # on the circle, where the mean of the two positions is not
    np.testing.assert_allclose(middle.end_effector.position, [np.cos(0.5), np.sin(0.5), 0.0])


def test_the_ends_are_the_measurements_themselves() -> None:
    before, after = state(0.0, 1.0), state(1.0, 1.1)
    assert interpolate_state(before, after, 0.0, forward) is before
    assert interpolate_state(before, after, 1.0, forward) is after
    assert interpolate_state(before, before, 0.3, forward) is before


@given(st.floats(-3, 3), st.floats(-3, 3), st.floats(0, 1))
def test_it_lies_between(first: float, second: float, share: float) -> None:
    between = interpolate_state(state(first, 0.0), state(second, 0.1), share, forward)
    low, high = sorted((first, second))
    assert low - 1e-9 <= between.joint_positions[0] <= high + 1e-9
    assert np.linalg.norm(between.end_effector.quaternion) == pytest.approx(1.0)


def test_openings_of_several_arms_go_straight_and_no_tool_is_asked_for():
    before = RobotState.of_arms(np.zeros(4), np.zeros(4), (0.0, 0.08), 1.0)
    after = RobotState.of_arms(np.ones(4), 2.0 * np.ones(4), (0.04, 0.0), 2.0)
    state = interpolate_state(before, after, 0.25, forward=None)
    assert state.gripper_openings == pytest.approx((0.01, 0.06)) and state.stamp == 1.25
    assert state.joint_positions == pytest.approx(np.full(4, 0.25))
    assert state.joint_velocities == pytest.approx(np.full(4, 0.5))
