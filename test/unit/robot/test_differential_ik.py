from dataclasses import replace

import numpy as np
import pinocchio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from vla_ros.errors import KinematicsError
from vla_ros.robot.contract import load_contract
from vla_ros.robot.differential_ik import LEVER, DifferentialIK
from vla_ros.robot.kinematics import Kinematics

CONTRACT = load_contract("panda")
KINEMATICS = Kinematics(CONTRACT)
HOME = CONTRACT.joints.home
WIDE = np.full(7, 10.0)
WEIGHTS = np.array([1.0, 1.0, 1.0, LEVER, LEVER, LEVER])


def solver(**changes):
    values = {
        "damping": 0.01,
        "singular_damping": 0.08,
        "singular_value": 0.05,
        "posture_gain": 0.8,
        "iterations": 60,
    } | changes
    return DifferentialIK(HOME, **values)


def near_home(seed):
    rng = np.random.default_rng(seed)
    return HOME + rng.uniform(-0.4, 0.4, 7), rng.uniform(-0.3, 0.3, 6), rng


@given(st.integers(0, 1000))
def test_away_from_limits_the_tool_moves_as_asked(seed):
    q, twist, _ = near_home(seed)
    jacobian = KINEMATICS.jacobian(q)
    solution = solver(damping=1e-4).solve(q, jacobian, twist, -WIDE, WIDE)
    if solution.smallest_singular_value > 0.05:
        np.testing.assert_allclose(jacobian @ solution.velocities, twist, atol=1e-4)
        assert not solution.damped


@given(st.integers(0, 1000))
def test_bounds_hold_exactly_whatever_is_asked(seed):
    q, twist, rng = near_home(seed)
    lower = -rng.uniform(0.0, 0.3, 7)
    upper = rng.uniform(0.0, 0.3, 7)
    velocities = solver().solve(q, KINEMATICS.jacobian(q), 20.0 * twist, lower, upper).velocities
    assert (lower <= velocities).all()
    assert (velocities <= upper).all()


@settings(max_examples=20)
@given(st.integers(0, 1000))
def test_it_is_the_optimum_that_a_general_optimiser_finds(seed):
    q, twist, rng = near_home(seed)
    jacobian = KINEMATICS.jacobian(q)
    lower, upper = -rng.uniform(0.05, 0.5, 7), rng.uniform(0.05, 0.5, 7)
    plain = solver(singular_damping=1e-9)  # so that the cost is what is written down here
    posture = np.clip(0.8 * (HOME - q), -0.3, 0.3)

    def cost(v):
        return float(np.sum((WEIGHTS * (jacobian @ v - twist)) ** 2) + 0.01**2 * np.sum((v - posture) ** 2))

    mine = plain.solve(q, jacobian, twist, lower, upper).velocities
    theirs = minimize(
        cost,
        np.zeros(7),
        bounds=list(zip(lower, upper, strict=True)),
        method="L-BFGS-B",
        options={"ftol": 1e-15, "gtol": 1e-12, "maxiter": 2000},
    )
    assert cost(mine) <= theirs.fun + 1e-9


def test_free_motion_goes_home_and_leaves_the_tool_where_it_is():
    q = HOME + np.array([0.0, 0.1, 0.2, 0.0, 0.0, 0.1, 0.0])
    jacobian = KINEMATICS.jacobian(q)
    velocities = solver(damping=1e-3).solve(q, jacobian, np.zeros(6), -WIDE, WIDE).velocities
    np.testing.assert_allclose(jacobian @ velocities, 0.0, atol=1e-4)
    assert velocities @ (HOME - q) > 1e-3


def test_inequalities_hold_where_the_bounds_leave_room_and_give_way_where_they_do_not():
    jacobian = KINEMATICS.jacobian(HOME)
    twist = np.array([0.0, 0.0, -0.2, 0.0, 0.0, 0.0])
    row = jacobian[2:3]  # the tool's height
    slow = solver().solve(HOME, jacobian, twist, -WIDE, WIDE, row, np.array([-0.05])).velocities
    assert float(row[0] @ slow) == pytest.approx(-0.05, abs=1e-3)
    stuck = solver().solve(HOME, jacobian, twist, -0.01 * WIDE, 0.01 * WIDE, row, np.array([5.0])).velocities
    assert np.isfinite(stuck).all()
    assert (np.abs(stuck) <= 0.1).all()


def singular():
    """Shoulder, elbow and wrist in one line: the tool cannot go further away from the shoulder."""
    q = np.array([0.0, 0.8, 0.0, -0.464, 0.0, 1.375, 0.7854])
    jacobian = KINEMATICS.jacobian(q)
    left, values, _ = np.linalg.svd(WEIGHTS[:, None] * jacobian)
    assert values[-1] < 1e-3
    return q, jacobian, left


def test_near_a_singularity_velocities_stay_bounded():
    """Without damping they would be 0.5 / s for a smallest singular value of s: over 100 rad/s here."""
    q, _, _ = singular()
    for bend in np.linspace(0.0, 0.3, 31):
        jacobian = KINEMATICS.jacobian(q - bend * np.eye(7)[3])
        left, values, _ = np.linalg.svd(WEIGHTS[:, None] * jacobian)
        solution = solver().solve(q, jacobian, 0.5 * left[:, -1] / WEIGHTS, -1e3 * WIDE, 1e3 * WIDE)
        assert np.linalg.norm(solution.velocities) < 0.5 / 0.04
        assert solution.damped or values[-1] > 0.03


def test_at_a_singularity_the_other_directions_stay_open():
    q, jacobian, left = singular()
    twist = 0.2 * left[:, 0] / WEIGHTS
    solution = solver().solve(q, jacobian, twist, -WIDE, WIDE)
    along = left[:, 0] @ (WEIGHTS * (jacobian @ solution.velocities))
    assert along == pytest.approx(0.2, rel=0.02)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_before_the_solver_sees_it(value):
    jacobian, twist = KINEMATICS.jacobian(HOME), np.zeros(6)
    broken = jacobian.copy()
    broken[2, 3] = value
    for q, matrix, ask in ((HOME, jacobian, twist + value), (HOME, broken, twist), (HOME + value, jacobian, twist)):
        with pytest.raises(KinematicsError, match="finite"), np.errstate(invalid="ignore"):
            solver().solve(q, matrix, ask, -WIDE, WIDE)


def test_a_solver_that_is_not_done_within_its_budget_is_an_error():
    q, twist, _ = near_home(3)
    with pytest.raises(KinematicsError, match="flag"):
        solver(iterations=1).solve(q, KINEMATICS.jacobian(q), 10.0 * twist, -0.01 * WIDE, 0.01 * WIDE)


def test_contradicting_bounds_are_an_error():
    with pytest.raises(KinematicsError):
        solver().solve(HOME, KINEMATICS.jacobian(HOME), np.zeros(6), WIDE, -WIDE)


def test_an_arm_of_six_joints_is_solved_too():
    six = replace(CONTRACT.joints, home=HOME[:6])
    ik = DifferentialIK(
        six.home, damping=1e-3, singular_damping=0.08, singular_value=0.02, posture_gain=0.0, iterations=60
    )
    jacobian = np.diag([1.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    twist = np.array([0.1, 0.2, 0.3, 0.1, 0.2, 0.3])
    np.testing.assert_allclose(ik.solve(six.home, jacobian, twist, -WIDE[:6], WIDE[:6]).velocities, twist, atol=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_pink_moves_the_tool_alike(seed):
    """A second library with the same task, away from limits and singularities."""
    pink = pytest.importorskip("pink")
    q, twist, _ = near_home(seed)
    q = HOME + 0.3 * (q - HOME)
    period, jacobian = 0.001, KINEMATICS.jacobian(q)
    frame = pink.tasks.FrameTask(CONTRACT.end_effector_frame, position_cost=1.0, orientation_cost=LEVER)
    posture = pink.tasks.PostureTask(cost=0.01, gain=0.8 * period)
    placement = KINEMATICS.placement(q)
    target = placement.copy()
    target.translation = placement.translation + period * twist[:3]
    target.rotation = pinocchio.exp3(period * twist[3:]) @ placement.rotation
    frame.set_target(target)
    posture.set_target(HOME)
    configuration = pink.Configuration(KINEMATICS.model, KINEMATICS.model.createData(), q)
    theirs = pink.solve_ik(configuration, [frame, posture], period, solver="daqp")
    mine = solver().solve(q, jacobian, twist, -WIDE, WIDE).velocities
    np.testing.assert_allclose(jacobian @ mine, jacobian @ theirs, atol=2e-3)
