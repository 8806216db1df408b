"""Plans of the joints are followed without inverse kinematics, within every limit that plans of the tool are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import yaml

from vla_ros.actions.joint_plan import JointTarget
from vla_ros.actions.trajectory import ArmStart
from vla_ros.errors import ContractError, KinematicsError
from vla_ros.robot.contract import parse_contract
from vla_ros.robot.kinematics import Kinematics
from vla_ros.safety.motion.cartesian_filter import approach_speed
from vla_ros.safety.motion.joint_filter import JointFilter, approach_speeds
from vla_ros.safety.motion.joint_motion import JointMotion, planned_velocity
from vla_ros.safety.reasons import Reason
from vla_ros.types import Pose, SafetyState

PERIOD = 0.01

ROOM = 0.15
"""Way of each joint that stays inside the workspace of every robot here, rad."""

LIMITS = ("lower", "upper", "velocity", "acceleration", "jerk", "effort", "home")

CONVENTIONS = {
    "position": ("joint_position", {}),
    "position in degrees": ("joint_position", {"unit": "degrees"}),
    "position in percent": ("joint_position", {"unit": "percent", "gripper": "open_is_hundred"}),
    "position, normalized": ("joint_position", {"unit": "normalized"}),
    "relative delta": ("joint_delta", {"reference": "relative"}),
    "delta in degrees": ("joint_delta", {"reference": "delta", "unit": "degrees"}),
    "velocity": ("joint_velocity", {}),
}


@pytest.fixture
def panda(of_joints, armed):
    return armed(of_joints("panda"))


def beside_home(contract, way=ROOM):
    """Return a posture (n,) near home, towards the middle of every joint's range."""
    joints = contract.joints
    return joints.home + way * np.sign(0.5 * (joints.lower + joints.upper) - joints.home)


def run(rig, goal, ticks=150, seconds=None):
    """Ask for a posture ten times a second, at once or within `seconds` s; return the reasons."""
    reasons = set()
    for i in range(ticks):
        if i % 10 == 0:
            assert rig.ask_joints(goal, None if seconds is None else seconds - i * PERIOD) is Reason.OK
        reasons.add(rig.tick().reason)
    return reasons


@pytest.mark.parametrize("robot", ["panda", "so101", "ur5e"])
@pytest.mark.parametrize("convention", list(CONVENTIONS))
def test_every_convention_brings_the_joints_there(robot, convention, of_joints, armed):
    quantity, lines = CONVENTIONS[convention]
    rig = armed(of_joints(robot, quantity, **lines))
    goal = beside_home(rig.contract)
    assert run(rig, goal, seconds=1.0) == {"waiting", "ok"}  # nothing of it has to be corrected
    np.testing.assert_allclose(rig.q, goal, atol=1e-4)


@pytest.mark.parametrize("robot", ["panda", "so101", "ur5e"])
def test_a_leap_is_made_within_limits_without_overshoot(robot, of_joints, armed, referee_of):
    rig = armed(of_joints(robot))
    goal, box = beside_home(rig.contract), rig.contract.cartesian
    reasons = run(rig, goal)
    assert reasons & {"joint_velocity", "linear_velocity", "angular_velocity"}
    referee_of(rig.contract).accept(rig.commands)
    commands = np.array(rig.commands)
    assert (np.sign(goal - commands[0]) * (commands - goal)).max() < 1e-4
    np.testing.assert_allclose(rig.q, goal, atol=1e-4)
    twists = [
        rig.kinematics.jacobian(q) @ v for q, v in zip(commands, np.diff(commands, axis=0) / PERIOD, strict=False)
    ]
    assert max(np.linalg.norm(twist[:3]) for twist in twists) <= 1.02 * box.linear_velocity
    assert max(np.linalg.norm(twist[3:]) for twist in twists) <= 1.02 * box.angular_velocity


def test_a_moving_plan_is_tracked_without_lag(panda):
    """A joint that turns at a constant speed is where the plan has it, `actuation_delay` early."""
    home, speed = panda.contract.joints.home, np.array([0.2, 0.0, 0.0, 0.1, 0.0, 0.0, -0.3])
    horizon, period = panda.contract.action.horizon, panda.contract.action.period
    delay = panda.parameters.timing.actuation_delay
    for i in range(100):
        if i % 10 == 0:
            rows = home + np.outer(PERIOD * i + period * np.arange(1, horizon + 1), speed)
            assert panda.send(panda.chunk(panda.joint_actions(rows))) is Reason.OK
        panda.tick()
    moved = panda.commands[-1] - panda.commands[-51]
    np.testing.assert_allclose(moved / (50 * PERIOD), speed, atol=2e-3)
    np.testing.assert_allclose(panda.q, home + speed * (100 * PERIOD + delay), atol=2e-3)


def test_proposed_is_what_the_policy_asks_for(panda):
    goal = beside_home(panda.contract)
    run(panda, goal, ticks=30)
    proposed = panda.decisions[-1].proposed
    np.testing.assert_allclose([proposed[name] for name in panda.contract.joints.names], goal, atol=1e-9)
    tool = Kinematics(panda.contract).forward(goal).position
    np.testing.assert_allclose([proposed[axis] for axis in "xyz"], tool, atol=1e-9)


@pytest.mark.parametrize("joint", [3, 5])
def test_a_row_beyond_a_joint_limit_is_corrected(panda, joint, referee_of):
    joints, goal = panda.contract.joints, panda.contract.joints.home.copy()
    goal[joint] = joints.upper[joint] + 0.2
    run(panda, goal, ticks=250)
    named = {decision.sentence for decision in panda.decisions if decision.reason == "joint_position"}
    assert any(joints.names[joint] in sentence for sentence in named)
    referee_of(panda.contract).accept(panda.commands, workspace=False)
    assert (np.array(panda.commands) <= joints.upper).all()


@pytest.mark.parametrize("beyond", [1.01, -1.01, 30.0])
def test_a_row_far_beyond_a_joint_limit_is_refused(panda, beyond):
    """Degrees in place of radians, another joint's column: no column of this arm's."""
    run(panda, panda.contract.joints.home, ticks=20)
    lower, upper = panda.contract.joints.lower, panda.contract.joints.upper
    goal = panda.contract.joints.home.copy()
    goal[0] = (upper if beyond > 0 else lower)[0] + beyond * (upper - lower)[0]
    assert panda.ask_joints(goal) is Reason.CHUNK_OUT_OF_RANGE
    assert panda.tick().state is SafetyState.HOLD


def test_sums_of_velocities_are_judged_by_where_they_lead(of_joints, armed):
    rig = armed(of_joints("panda", "joint_velocity"))
    columns = np.zeros((12, rig.contract.action.width))
    columns[:, 0] = 5.0  # 6 rad in all: beyond the limit, by less than its range
    assert rig.send(rig.chunk(columns)) is Reason.OK
    columns[:, 0] = 20.0
    assert rig.send(rig.chunk(columns)) is Reason.CHUNK_OUT_OF_RANGE


@pytest.mark.parametrize("gripper", [50.0, -50.0, 150.0])
def test_a_gripper_in_percent_is_understood(gripper, of_joints, armed):
    rig = armed(of_joints("so101", unit="percent", gripper="open_is_hundred"))
    columns = rig.joint_actions(rig.q, rig.contract.gripper.max_opening)
    columns[:, -1] = gripper
    assert rig.send(rig.chunk(columns)) is Reason.OK
    columns[:, -1] = 1e4
    assert rig.send(rig.chunk(columns)) is Reason.CHUNK_OUT_OF_RANGE


@pytest.mark.parametrize("joints", [np.full(7, np.nan), np.zeros(6), np.zeros((7, 1)), np.full(7, 9.0)])
def test_a_start_that_cannot_be_is_refused(panda, joints):
    chunk = panda.chunk(panda.joint_actions(panda.q))
    start = ArmStart(joints, panda.pose(), 0.08)
    assert panda.supervisor.receive_chunk(chunk, start, panda.now) is Reason.CHUNK_START


@pytest.mark.parametrize("start", [None, ArmStart(np.full(7, "x"), None, 0.08), ArmStart(None, None, 0.08)])
def test_a_start_of_another_kind_is_refused(panda, start):
    chunk = panda.chunk(panda.joint_actions(panda.q))
    assert panda.supervisor.receive_chunk(chunk, start, panda.now) is Reason.CHUNK_START


def test_a_tool_pose_alone_is_no_start_of_joints(panda):
    chunk, pose = panda.chunk(panda.joint_actions(panda.q)), Pose(np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0]))
    assert panda.supervisor.receive_chunk(chunk, pose, panda.now) is Reason.CHUNK_START


def test_the_tool_stays_inside_the_workspace(panda, referee_of):
    """The first joint would bring the tool a quarter of a turn to the left."""
    goal = panda.contract.joints.home.copy()
    goal[0] = 1.5
    assert "workspace" in run(panda, goal, ticks=300)
    referee_of(panda.contract).accept(panda.commands)
    face = panda.contract.cartesian.workspace_upper[1]
    assert panda.pose().position[1] == pytest.approx(face, abs=0.003)  # it went as far as it may
    assert panda.supervisor.state in (SafetyState.RUN, SafetyState.SLOW)


@pytest.mark.parametrize("robot", ["panda", "ur5e", "so101"])
def test_a_face_is_met_without_overshoot(robot, of_joints, armed):
    """The first joint sweeps the tool against both sides of its workspace, again and again."""
    rig = armed(of_joints(robot))
    box, goal = rig.contract.cartesian, rig.contract.joints.home.copy()
    for i in range(4):
        goal[0] = rig.contract.joints.home[0] + 1.3 * (-1.0) ** i
        run(rig, goal, ticks=250)
    tools = np.array([rig.kinematics.placement(q).translation for q in rig.commands])
    beyond = np.maximum(box.workspace_lower - tools, tools - box.workspace_upper).max()
    assert -0.001 < beyond < 0.0005
    assert not any(decision.reason == "result_invalid" for decision in rig.decisions)


def test_the_table_is_not_touched(of_joints, armed, referee_of):
    """The shoulder would bring the hand through the table; nothing but the obstacle is in the way."""
    values = yaml.safe_load(of_joints("panda").text)
    values["cartesian"]["workspace"] = {"lower": [-2.0, -2.0, -2.0], "upper": [2.0, 2.0, 2.0]}
    rig = armed(parse_contract(yaml.safe_dump(values)))
    goal = rig.contract.joints.home.copy()
    goal[1] += 0.9
    assert "obstacle" in run(rig, goal, ticks=300)
    referee_of(rig.contract).accept(rig.commands, workspace=False)
    assert min(rig.kinematics.forward(q).position[2] for q in rig.commands) > 0.0


def test_little_confidence_slows_joints_and_tool(panda):
    goal = panda.contract.joints.home.copy()
    goal[6] += 1.5  # the flange turns: the tool's angular velocity is the tightest limit
    scale = 0.1 / panda.parameters.trust.slow
    for i in range(100):
        if i % 10 == 0:
            horizon = panda.contract.action.horizon
            chunk = panda.chunk(panda.joint_actions(np.tile(goal, (horizon, 1))), trust=0.1)
            assert panda.send(chunk) is Reason.OK
        decision = panda.tick()
    assert decision.state is SafetyState.SLOW
    assert decision.speed_scale == pytest.approx(scale)
    fastest = np.abs(np.diff(panda.commands, axis=0)).max() / PERIOD
    assert 0.9 * scale * 1.5 < fastest <= 1.001 * scale * panda.contract.cartesian.angular_velocity


def test_a_solver_that_fails_brakes(panda, monkeypatch):
    run(panda, beside_home(panda.contract), ticks=25)

    def fails(*_):
        raise KinematicsError("the quadratic program ended with flag -1, expected 1")

    monkeypatch.setattr(panda.supervisor._motion._ik, "_program", fails)
    assert panda.tick().reason == "solver"
    panda.ticks(40)
    assert (panda.commands[-1] == panda.commands[-2]).all()


def test_a_group_needs_a_column_for_each_joint(of_joints):
    with pytest.raises(ContractError, match="has joints 6, expected 7"):
        of_joints("panda", joints=6)


class TestJointFilter:
    """The filter alone."""

    @pytest.fixture
    def made(self, contract):
        joints, tool = contract.joints, contract.cartesian
        return JointFilter(joints, JointMotion(joints, PERIOD), [tool], PERIOD, 12.0, 0.6, 0.01)

    @pytest.fixture
    def jacobian(self, contract):
        return Kinematics(contract).jacobian(contract.joints.home)

    def test_slowing_down_keeps_the_direction(self, made, jacobian, contract):
        wanted = np.array([3.0, -1.0, 0.5, 2.0, 0.1, 0.0, 1.0])
        capped = made.capped(wanted, jacobian, 0.5)
        np.testing.assert_allclose(capped / capped[0], wanted / wanted[0])
        twist = jacobian @ capped
        shares = (
            (np.abs(capped) / contract.joints.velocity).max(),
            np.linalg.norm(twist[:3]) / contract.cartesian.linear_velocity,
            np.linalg.norm(twist[3:]) / contract.cartesian.angular_velocity,
        )
        assert max(shares) == pytest.approx(0.5)

    def test_all_joints_approach_by_one_factor(self, made, jacobian, contract):
        home, offset = contract.joints.home, np.array([0.02, -0.01, 0.0, 0.3, 0.0, 0.01, 0.0])
        target, rest = JointTarget(home + offset, np.zeros(7)), np.zeros(7)
        velocities = made.step(home, rest, jacobian, target, target, 1e3)
        np.testing.assert_allclose(velocities / velocities[3], offset / offset[3], atol=1e-12)
        assert velocities[3] == pytest.approx(approach_speed(0.3, 12.0, 0.6 * contract.joints.acceleration[3]))

    def test_targets_beyond_a_limit_end_there(self, made, contract):
        upper = contract.joints.upper
        target, moved = made.project(JointTarget(upper + 0.5, np.ones(7)))
        np.testing.assert_allclose(target.positions, upper - 0.01)
        np.testing.assert_allclose(moved, 0.51)
        assert not target.velocities.any()


def test_approach_speeds_are_those_of_the_tool():
    distances = np.array([0.0, 0.001, 0.02, 0.5, 3.0])
    expected = [approach_speed(float(distance), 12.0, 2.0) for distance in distances]
    np.testing.assert_allclose(approach_speeds(distances, 12.0, 2.0), expected)
    assert approach_speeds(np.array([-1.0]), 12.0, 2.0) == [0.0]


@pytest.mark.parametrize("robot", ["panda", "so101", "ur5e"])
def test_settling_velocities_bound_what_a_tick_does(robot, of_joints):
    """With the largest velocity as its target a joint gains all it can in the tick, and ends there at the soonest."""
    joints = of_joints(robot).joints
    arrays = {name: getattr(joints, name)[:1] for name in LIMITS}
    motion = JointMotion(replace(joints, names=joints.names[:1], **arrays), PERIOD)
    for _ in range(4):
        least, most = motion.settling_velocities()
        step = motion.propose(most)
        assert step.velocities == pytest.approx(motion.propose(planned_velocity(joints, PERIOD)[:1]).velocities)
        assert motion.propose(0.9 * most + 0.1 * least).velocities < step.velocities
        assert motion.propose(least).velocities == pytest.approx(motion.propose(-joints.velocity[:1] / 1.1).velocities)
        motion.accept(step)
