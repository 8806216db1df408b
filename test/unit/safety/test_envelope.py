"""The last word: a command is let through only if the stop behind it stays within all limits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vla_ros.robot.kinematics import Kinematics
from vla_ros.safety.motion.collision import CollisionModel
from vla_ros.safety.motion.envelope import Envelope
from vla_ros.safety.motion.joint_motion import JointMotion, JointStep, Stop
from vla_ros.safety.motion.obstacles import Obstacle, Shape
from vla_ros.safety.reasons import Reason
from vla_ros.types import SafetyState


@pytest.fixture(scope="module")
def kinematics(contract):
    return Kinematics(contract)


@pytest.fixture
def envelope(contract, kinematics):
    return Envelope(contract, kinematics, 0.001, None)


def standing(q):
    """A step that goes to `q` and stands there."""
    zeros = np.zeros_like(q)
    return JointStep(q, zeros, zeros, Stop(q[None], zeros[None], zeros[None]))


def stopping_at(q, stop):
    zeros = np.zeros_like(q)
    return JointStep(q, zeros, zeros, Stop(np.array([q, stop]), np.array([zeros, zeros]), np.array([zeros, zeros])))


def with_joint(contract, joint, value):
    q = np.array(contract.joints.home)
    q[joint] = value
    return q


@pytest.mark.parametrize("joint", range(7))
@pytest.mark.parametrize("side", ["lower", "upper"])
def test_a_joint_limit_is_exact_for_the_step_and_for_its_stop(contract, kinematics, joint, side):
    envelope = Envelope(contract, kinematics, 10.0, None)  # 10 m: only the joints count here
    limit = getattr(contract.joints, side)[joint]
    beyond = np.nextafter(limit, np.inf if side == "upper" else -np.inf)
    home = np.array(contract.joints.home)
    assert envelope.judge(standing(with_joint(contract, joint, limit)))[0] is Reason.OK
    for bad in (with_joint(contract, joint, beyond), with_joint(contract, joint, np.nan)):
        assert envelope.judge(standing(bad))[0] is Reason.JOINT_POSITION
        assert envelope.judge(stopping_at(home, bad)) == (Reason.JOINT_POSITION, f"({contract.joints.names[joint]})")


def at_height(contract, kinematics, height):
    """Joints with the tool at `height` m under home, found along the second joint."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = 0.5 * (low + high)
        q = with_joint(contract, 1, contract.joints.home[1] + middle)
        low, high = (middle, high) if kinematics.forward(q).position[2] > height else (low, middle)
    return q


@pytest.mark.parametrize(("beyond", "reason"), [(0.0009, Reason.OK), (0.0011, Reason.WORKSPACE)])
def test_the_tool_may_be_a_millimetre_beyond_a_face(contract, kinematics, envelope, beyond, reason):
    q = at_height(contract, kinematics, contract.cartesian.workspace_lower[2] - beyond)
    assert kinematics.forward(q).position[2] == pytest.approx(contract.cartesian.workspace_lower[2] - beyond, abs=1e-9)
    assert envelope.judge(standing(q))[0] is reason
    assert envelope.judge(stopping_at(np.array(contract.joints.home), q))[0] is reason


def test_the_way_back_is_open_and_what_is_regained_is_kept(contract, kinematics, envelope):
    floor = contract.cartesian.workspace_lower[2]
    deep, less, out = (at_height(contract, kinematics, floor - d) for d in (0.05, 0.03, -0.01))
    envelope.seed(deep)
    assert envelope.judge(standing(less))[0] is Reason.OK
    assert envelope.judge(standing(at_height(contract, kinematics, floor - 0.052)))[0] is Reason.WORKSPACE
    envelope.advance(less)
    assert envelope.judge(standing(deep))[0] is Reason.WORKSPACE
    envelope.advance(out)
    assert envelope.judge(standing(less))[0] is Reason.WORKSPACE


def test_a_joint_outside_of_its_limit_may_come_back_and_not_go_further(contract, kinematics):
    envelope = Envelope(contract, kinematics, 10.0, None)
    upper = contract.joints.upper[3]
    envelope.seed(with_joint(contract, 3, upper + 0.05))
    assert envelope.judge(standing(with_joint(contract, 3, upper + 0.04)))[0] is Reason.OK
    assert envelope.judge(standing(with_joint(contract, 3, upper + 0.06)))[0] is Reason.JOINT_POSITION
    envelope.advance(with_joint(contract, 3, upper - 0.01))
    assert envelope.judge(standing(with_joint(contract, 3, upper + 0.001)))[0] is Reason.JOINT_POSITION


def test_a_joint_that_could_not_be_stopped_in_time_is_not_let_through(contract, kinematics):
    """Pushed towards its limit by brute force, the joint is let go on exactly until its stop would end beyond it."""
    envelope, motion = Envelope(contract, kinematics, 10.0, None), JointMotion(contract.joints, 0.01)
    start = with_joint(contract, 6, contract.joints.upper[6] - 0.5)
    motion.seed(start)
    envelope.seed(start)
    wish = np.zeros(7)
    wish[6] = contract.joints.velocity[6]
    refused = 0
    for _ in range(200):
        step = motion.propose(wish)
        if envelope.judge(step)[0] is Reason.OK:
            motion.accept(step)
        else:
            refused += 1
            step = motion.brake()
        assert step.positions[6] <= contract.joints.upper[6]
        envelope.advance(step.positions)
    assert refused > 0
    assert step.positions[6] > contract.joints.upper[6] - 0.05  # not much is given away


def test_what_would_touch_an_obstacle_is_not_let_through_and_a_start_that_touches_it_may_only_leave(
    contract, parameters, kinematics
):
    def at_gap(gap):
        """Joints with the fingers `gap` m over the table, found along the second joint."""
        low, high = 0.0, 1.0
        table = [i for i, pair in enumerate(collision.pairs) if "table" in pair.name]
        for _ in range(60):
            middle = 0.5 * (low + high)
            q = with_joint(contract, 1, contract.joints.home[1] + middle)
            low, high = (middle, high) if collision.distances(q)[table].min() > gap else (low, middle)
        return q

    collision = CollisionModel(contract, parameters.collision, parameters.obstacles)
    envelope = Envelope(contract, kinematics, 10.0, collision)
    home = np.array(contract.joints.home)
    kept = parameters.collision.obstacle_distance
    touching, nearly, deep = (at_gap(kept + d) for d in (-0.0005, 0.0005, -0.01))
    assert envelope.judge(standing(nearly))[0] is Reason.OK
    for step in (standing(touching), stopping_at(home, touching)):
        reason, where = envelope.judge(step)
        assert reason is Reason.OBSTACLE
        assert "table" in where
    envelope.seed(deep)
    assert envelope.judge(standing(touching))[0] is Reason.OK
    assert envelope.judge(standing(at_gap(kept - 0.011)))[0] is Reason.OBSTACLE
    envelope.advance(touching)
    assert envelope.judge(standing(deep))[0] is Reason.OBSTACLE


@pytest.mark.parametrize("turn", [-1.0, 1.0])
def test_turning_the_tool_on_and_on_ends_at_a_joint_limit_without_braking(rig, referee, turn):
    rig.start()
    reasons = []
    for i in range(500):
        if i % 10 == 0:
            rows = np.zeros((12, 7))
            rows[:, 5], rows[:, 6] = turn * 0.1 * np.arange(1, 13), 1.0
            rig.send(rig.chunk(rows))
        decision = rig.tick()
        reasons.append(decision.reason)
    assert decision.state is SafetyState.RUN
    assert "joint_position" in reasons
    referee.accept(rig.commands)


def test_a_sheet_in_the_middle_of_one_long_step_is_seen(contract, parameters, kinematics):
    """One step swings the hand by 0.4 m: before it and behind it there is room, and a sheet in between."""
    middle = kinematics.forward(with_joint(contract, 0, contract.joints.home[0] + 0.4)).position
    sheet = Obstacle("sheet", Shape.BOX, np.array([0.02, 0.004, 0.02]), middle + 0.01, np.zeros(3))
    collision = CollisionModel(contract, parameters.collision, (sheet,))
    envelope = Envelope(contract, kinematics, 10.0, collision, 0.1)
    far = standing(with_joint(contract, 0, contract.joints.home[0] + 0.8))
    assert collision.distances(far.positions).min() > parameters.collision.obstacle_distance
    assert envelope.judge(far)[0] is Reason.OBSTACLE


def test_a_joint_limit_between_two_rows_is_seen(contract, kinematics):
    """The joint is within its limit at both rows, and beyond it in between: it arrives with a speed back in."""
    upper = contract.joints.upper[6]
    envelope = Envelope(contract, kinematics, 10.0, None, 0.1)
    envelope.seed(with_joint(contract, 6, upper - 0.001))
    back = np.zeros(7)
    back[6] = -2.0
    row = with_joint(contract, 6, upper - 0.002)
    rest = with_joint(contract, 6, upper - 0.1)
    step = JointStep(row, back, 0.0 * back, Stop(rest[None], 0.0 * back[None], 0.0 * back[None]))
    assert envelope.judge(step) == (Reason.JOINT_POSITION, f"({contract.joints.names[6]})")


@pytest.mark.parametrize("period", [0.01, 0.02])
def test_without_distances_a_step_begins_where_the_arm_is(contract, kinematics, period):
    """From the left to the right with the arm drawn in; straight from where it began, the tool would be too far out."""
    left, right = with_joint(contract, 0, 0.7), with_joint(contract, 0, -0.7)
    reach = kinematics.forward(left).position[0] + 0.01
    box = replace(contract.cartesian, workspace_upper=np.array([reach, 1.0, 1.0]), workspace_lower=-np.ones(3))
    envelope = Envelope(replace(contract, cartesian=box), kinematics, 0.0, None, period)
    envelope.seed(left)
    for q in (with_joint(contract, 0, 0.6), right):
        envelope.advance(q)
    assert envelope.judge(standing(right))[0] is Reason.OK
    assert envelope.judge(standing(with_joint(contract, 0, 0.0)))[0] is Reason.WORKSPACE


def test_the_tool_is_looked_at_along_the_whole_way(contract, kinematics):
    """A swing of the first joint bulges out of a face whose both ends are inside."""
    box = contract.cartesian
    q = np.array(contract.joints.home)
    tool = kinematics.forward(q).position
    reach = float(np.hypot(tool[0], tool[1]))
    narrow = replace(contract, cartesian=replace(box, workspace_upper=np.array([reach - 0.005, 2.0, 2.0])))
    start = with_joint(contract, 0, q[0] - 0.3)
    step = standing(with_joint(contract, 0, q[0] + 0.3))
    envelope = Envelope(narrow, kinematics, 0.001, None, 0.1)
    envelope.seed(start)
    assert envelope.judge(step)[0] is Reason.WORKSPACE
