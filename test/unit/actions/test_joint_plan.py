"""A plan of joints passes through its rows at their times, and a blend begins where the arm is."""

import numpy as np
import pytest

from vla_ros.actions.joint_plan import JointBlend, JointPlan, JointTarget

PERIOD = 0.1
START = np.array([0.1, -0.2, 0.3])
ROWS = np.array([[0.2, -0.2, 0.1], [0.4, 0.0, 0.1], [0.1, 0.1, 0.1]])
OPENINGS = np.array([0.01, 0.02, 0.03])


@pytest.fixture
def plan():
    return JointPlan(ROWS, OPENINGS, START, PERIOD)


def test_each_row_is_reached_at_its_time(plan):
    np.testing.assert_allclose(plan.target(0.0).positions, START)
    for row in range(3):
        np.testing.assert_allclose(plan.target((row + 1) * PERIOD).positions, ROWS[row], atol=1e-12)
    np.testing.assert_allclose(plan.target(0.05).positions, 0.5 * (START + ROWS[0]))  # halfway there
    assert plan.duration == pytest.approx(0.3)


@pytest.mark.parametrize(("elapsed", "expected"), [(-0.5, START), (0.3 + 1e-9, ROWS[2]), (9.0, ROWS[2])])
def test_both_ends_are_held_at_rest(plan, elapsed, expected):
    target = plan.target(elapsed)
    np.testing.assert_array_equal(target.positions, expected)
    assert not target.velocities.any()


@pytest.mark.parametrize("elapsed", [0.02, 0.13, 0.27])
def test_velocities_are_derivatives_of_positions(plan, elapsed):
    step = 1e-6
    before, now, after = (plan.target(elapsed + shift) for shift in (-step, 0.0, step))
    np.testing.assert_allclose((after.positions - before.positions) / (2 * step), now.velocities, atol=1e-6)


def test_the_opening_is_that_of_the_row_under_way(plan):
    for elapsed, row in ((-1.0, 0), (0.0, 0), (0.099, 0), (0.101, 1), (0.25, 2), (9.0, 2)):
        assert plan.opening(elapsed) == OPENINGS[row]
    assert JointPlan(ROWS, None, START, PERIOD).opening(0.1) is None


def test_a_blend_begins_at_the_arm_and_ends_on_the_plan(plan):
    here = START + np.array([0.05, -0.1, 0.0])
    blend = JointBlend(here, plan.target(0.0), 0.1)
    np.testing.assert_allclose(blend.apply(plan.target(0.0), 0.0).positions, here)
    late = blend.apply(plan.target(0.1), 0.1)
    np.testing.assert_allclose(late.positions, ROWS[0])
    np.testing.assert_allclose(late.velocities, plan.target(0.1).velocities)


@pytest.mark.parametrize("since", [0.01, 0.05, 0.09])
def test_a_blend_keeps_velocities_true(plan, since):
    def at(time):
        return blend.apply(plan.target(time), time)

    blend, step = JointBlend(START + 0.2, JointTarget(START, np.zeros(3)), 0.1), 1e-6
    slope = (at(since + step).positions - at(since - step).positions) / (2 * step)
    np.testing.assert_allclose(slope, at(since).velocities, atol=1e-6)
