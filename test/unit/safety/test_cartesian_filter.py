import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation

from vla_ros.actions.blending import PoseTarget
from vla_ros.robot.contract import load_contract
from vla_ros.safety.motion.cartesian_filter import CartesianFilter, approach_speed

PERIOD = 0.01
LIMITS = load_contract("panda").cartesian
ANYWHERE = arrays(np.float64, 3, elements=st.floats(-2.0, 2.0))


def the_filter():
    return CartesianFilter(LIMITS, PERIOD, 12.0, 0.6)


def still(position, rotation=None):
    return PoseTarget(
        np.asarray(position, float), np.eye(3) if rotation is None else rotation, np.zeros(3), np.zeros(3)
    )


class FreeTool:
    """A tool that does exactly what the filter says."""

    def __init__(self, position):
        self.filter = the_filter()
        self.position, self.rotation = np.array(position, float), np.eye(3)
        self.twist, self.acceleration = np.zeros(6), np.zeros(6)
        self.twists = [np.zeros(6)] * 3

    def step(self, ahead, later=None, scale=1.0):
        twist = self.filter.step(
            self.position, self.rotation, self.twist, self.acceleration, ahead, later or ahead, scale
        )
        self.acceleration, self.twist = (twist - self.twist) / PERIOD, twist
        self.position = self.position + PERIOD * twist[:3]
        self.rotation = Rotation.from_rotvec(PERIOD * twist[3:]).as_matrix() @ self.rotation
        self.twists.append(twist)

    def usage(self):
        """Largest share of each limit that was used, by finite differences: velocity, acceleration, jerk."""
        shares = []
        for axes, kind in ((slice(0, 3), "linear"), (slice(3, 6), "angular")):
            values = np.array(self.twists)[:, axes]
            for order, name in ((0, "velocity"), (1, "acceleration"), (2, "jerk")):
                size = np.linalg.norm(np.diff(values, n=order, axis=0), axis=1) / PERIOD**order
                shares.append(size.max() / getattr(LIMITS, f"{kind}_{name}"))
        return shares


@given(ANYWHERE)
def test_a_target_is_moved_to_the_nearest_point_of_the_workspace(position):
    projected, distance = the_filter().project(still(position))
    nearest = np.clip(position, LIMITS.workspace_lower, LIMITS.workspace_upper)
    np.testing.assert_allclose(projected.position, nearest)
    assert distance == pytest.approx(np.linalg.norm(nearest - position))


def test_velocity_along_a_face_stays_and_through_it_goes():
    outside = PoseTarget(np.array([0.5, 0.5, 0.3]), np.eye(3), np.array([0.1, 0.2, -0.1]), np.zeros(3))
    projected, distance = the_filter().project(outside)
    np.testing.assert_allclose(projected.linear, [0.1, 0.0, -0.1])
    assert distance == pytest.approx(0.1)


@pytest.mark.parametrize("seed", range(8))
def test_a_place_is_reached_without_overshoot_and_within_all_limits(seed):
    place = np.random.default_rng(seed).uniform(-1.0, 1.0, 3) * (0.01 if seed % 2 else 1.0)
    rotation = Rotation.random(random_state=seed)
    tool = FreeTool([0.0, 0.0, 0.0])
    target = still(place, rotation.as_matrix())
    direction, distance = place / max(np.linalg.norm(place), 1e-9), np.linalg.norm(place)
    angles = []
    for _ in range(900):
        tool.step(target)
        assert tool.position @ direction <= distance + 5e-4
        angles.append((rotation * Rotation.from_matrix(tool.rotation).inv()).magnitude())
    np.testing.assert_allclose(tool.position, place, atol=1e-4)
    assert angles[-1] < 1e-3
    assert max(tool.usage()) <= 1.0 + 1e-9


@pytest.mark.parametrize("seed", range(8))
def test_whatever_the_targets_do_the_limits_hold(seed):
    rng = np.random.default_rng(seed)
    tool = FreeTool([0.5, 0.0, 0.3])
    for i in range(200):
        if i % 7 == 0:
            target = PoseTarget(
                rng.uniform(-1, 1, 3),
                Rotation.random(random_state=seed + i).as_matrix(),
                rng.normal(0.0, 3.0, 3),
                rng.normal(0.0, 3.0, 3),
            )
        tool.step(target)
    velocity, acceleration, jerk, *angular = tool.usage()
    assert max(velocity, acceleration, angular[0], angular[1]) <= 1.0 + 1e-9
    assert max(jerk, angular[2]) <= 2.5  # where speed is at its limit, speed has the last word over jerk


def test_a_steady_motion_is_followed_without_lag():
    tool, velocity = FreeTool([0.0, 0.0, 0.0]), np.array([0.25, 0.0, 0.0])

    def plan(time):
        return PoseTarget(velocity * time, np.eye(3), velocity, np.zeros(3))

    for i in range(200):
        tool.step(plan(i * PERIOD + tool.filter.preview), plan(i * PERIOD + tool.filter.brake_preview))
    lag = (velocity * 200 * PERIOD - tool.position)[0] / 0.25
    assert abs(lag) < 0.012


def test_a_smaller_scale_is_braked_to_and_not_jumped_to():
    tool = FreeTool([0.0, 0.0, 0.0])
    for _ in range(50):
        tool.step(still([5.0, 0.0, 0.0]))
    assert tool.twist[0] == pytest.approx(LIMITS.linear_velocity)
    for _ in range(50):
        tool.step(still([5.0, 0.0, 0.0]), scale=0.2)
    assert tool.twist[0] == pytest.approx(0.2 * LIMITS.linear_velocity)
    assert tool.usage()[1] <= 1.0


def test_excess_speed_is_the_difference_to_the_limit():
    fast = PoseTarget(np.zeros(3), np.eye(3), np.array([0.0, 0.7, 0.0]), np.array([0.0, 0.0, 1.0]))
    assert the_filter().excess_speed(fast) == pytest.approx((0.2, 0.0))


@given(st.floats(0.0, 2.0), st.floats(1.0, 50.0), st.floats(0.1, 20.0))
def test_from_the_approach_speed_one_can_stop_in_time(distance, gain, brake):
    speed = approach_speed(distance, gain, brake)
    assert speed**2 / (2.0 * brake) <= distance + 1e-12
    assert speed <= gain * distance + 1e-12
    nearly = approach_speed(distance + 1e-9, gain, brake)
    assert nearly - speed <= 1e-9 * gain + 1e-12  # continuous, and never steeper than the gain
