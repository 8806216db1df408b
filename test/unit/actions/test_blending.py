import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from vla_ros.actions.blending import Blend, PosePlan, PoseTarget
from vla_ros.actions.decoding import PoseTrajectory
from vla_ros.types import Pose

PERIOD = 0.1


def random_plan(seed, rows=5):
    rng = np.random.default_rng(seed)
    start = Pose(rng.uniform(-1.0, 1.0, 3), Rotation.random(random_state=seed).as_quat())
    turns = Rotation.from_rotvec(rng.uniform(-0.5, 0.5, (rows, 3)))
    quaternions, current = [], Rotation.from_quat(start.quaternion)
    for turn in turns:
        current = turn * current
        quaternions.append(current.as_quat())
    trajectory = PoseTrajectory(rng.uniform(-1.0, 1.0, (rows, 3)), np.array(quaternions), rng.uniform(0.0, 0.08, rows))
    return PosePlan(trajectory, start, PERIOD), trajectory, start


def angle(first, second):
    return Rotation.from_matrix(first @ second.T).magnitude()


@given(st.integers(0, 1000))
def test_row_i_is_reached_at_its_time_and_the_last_one_is_held(seed):
    plan, trajectory, start = random_plan(seed)
    np.testing.assert_allclose(plan.target(0.0).position, start.position)
    for row in range(5):
        target = plan.target((row + 1) * PERIOD)
        np.testing.assert_allclose(target.position, trajectory.positions[row], atol=1e-12)
        assert angle(target.rotation, Rotation.from_quat(trajectory.quaternions[row]).as_matrix()) < 1e-7
    late = plan.target(5.0)
    np.testing.assert_allclose(late.position, trajectory.positions[-1])
    assert not late.linear.any()
    assert not late.angular.any()


@given(st.integers(0, 1000), st.floats(0.001, 0.498))
def test_velocities_are_the_derivatives_of_the_poses(seed, elapsed):
    plan, _, _ = random_plan(seed)
    if abs(elapsed / PERIOD - round(elapsed / PERIOD)) < 1e-3:
        return  # at a row the speed changes at once
    step = 1e-6
    before, now, after = (plan.target(elapsed + shift) for shift in (-step, 0.0, step))
    np.testing.assert_allclose((after.position - before.position) / (2 * step), now.linear, atol=1e-6)
    turned = Rotation.from_matrix(after.rotation @ before.rotation.T).as_rotvec() / (2 * step)
    np.testing.assert_allclose(turned, now.angular, atol=1e-6)


def test_the_opening_is_that_of_the_row_under_way():
    plan, trajectory, _ = random_plan(0)
    for elapsed, row in ((-1.0, 0), (0.0, 0), (0.099, 0), (0.101, 1), (0.45, 4), (9.0, 4)):
        assert plan.opening(elapsed) == trajectory.openings[row]


def target(seed, linear=(0.0, 0.0, 0.0)):
    rng = np.random.default_rng(seed)
    rotation = Rotation.random(random_state=seed).as_matrix()
    return PoseTarget(rng.uniform(-1.0, 1.0, 3), rotation, np.array(linear), np.zeros(3))


def test_a_blend_begins_where_the_motion_is_and_ends_on_the_plan():
    old, new = target(1), target(2, (0.3, 0.0, 0.0))
    blend = Blend(old.position, old.rotation, new, 0.1)
    first = blend.apply(new, 0.0)
    np.testing.assert_allclose(first.position, old.position, atol=1e-12)
    assert angle(first.rotation, old.rotation) < 1e-7
    np.testing.assert_allclose(first.linear, new.linear)  # the fade begins without a jump of speed
    assert blend.apply(new, 0.1) is new
    np.testing.assert_allclose(blend.apply(new, 0.1 - 1e-9).position, new.position, atol=1e-12)


@pytest.mark.parametrize("since", [0.02, 0.05, 0.08])
def test_the_speed_of_a_blend_is_the_derivative_of_its_way(since):
    old, new = target(1), target(2)
    blend, step = Blend(old.position, old.rotation, new, 0.1), 1e-6
    before, after = blend.apply(new, since - step), blend.apply(new, since + step)
    derivative = (after.position - before.position) / (2 * step)
    np.testing.assert_allclose(derivative, blend.apply(new, since).linear, atol=1e-5)
    turned = Rotation.from_matrix(after.rotation @ before.rotation.T).as_rotvec() / (2 * step)
    np.testing.assert_allclose(turned, blend.apply(new, since).angular, atol=1e-5)


def test_half_way_the_blend_is_half_way():
    old, new = target(1), target(2)
    middle = Blend(old.position, old.rotation, new, 0.1).apply(new, 0.05)
    np.testing.assert_allclose(middle.position, 0.5 * (old.position + new.position))
