"""Arms without a gripper, mirrored and mimic fingers, joints that turn on and on: contract, kinematics, simulation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pinocchio
import pytest

from vla_ros.bringup.launch_files import controller_parameters
from vla_ros.bringup.security_policy import rights_of_the_graph
from vla_ros.envs.registry import make_env
from vla_ros.errors import ContractError
from vla_ros.robot.contract import load_contract, parse_contract
from vla_ros.robot.joint_states.report import JointReport, JointReportError, read_joint_report
from vla_ros.robot.kinematics import Kinematics
from vla_ros.robot.posture import locked_posture
from vla_ros.ros.messages.interfaces import robot_actions, robot_topics

PANDA = load_contract("panda")
NAMES = ("bare", "mirrored", "mimic", "continuous")
SMALL = {camera.name: (24, 32) for camera in PANDA.cameras}


def parsed(contract, old, new):
    assert old in contract.text
    return parse_contract(contract.text.replace(old, new), folder=contract.urdf.parent)


def test_an_arm_without_a_gripper_reads_its_joints_alone(arm_variants):
    bare = arm_variants["bare"]
    report = JointReport(bare.joints.names, bare.joints.home, np.zeros(7), 1.0)
    reading = read_joint_report(report, bare)
    assert reading.opening == 0.0
    np.testing.assert_array_equal(reading.positions, bare.joints.home)
    with pytest.raises(JointReportError, match="panda_finger_joint1"):
        read_joint_report(report, PANDA)


def test_an_arm_without_a_gripper_names_no_topic_of_one(arm_variants):
    bare = arm_variants["bare"]
    assert "" not in robot_topics(bare) and not robot_actions(bare)
    assert all("" not in rights.publish for rights in rights_of_the_graph(bare).values())
    assert "arm_controller" in controller_parameters(bare, use_sim_time=False)
    assert "gripper_controller" not in controller_parameters(bare, use_sim_time=False)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("gripper: none\ncameras", "cameras", "'gripper' is missing"),
        ("  gripper: none\n  rate", "  gripper: opening\n  rate", "got 'opening', expected none: there is no gripper"),
        ("  arm_topic:", "  gripper_topic: /g\n  arm_topic:", "unknown lines .*gripper_topic"),
    ],
)
def test_what_does_not_go_with_no_gripper_is_refused(arm_variants, old, new, message):
    text = "\n".join(line.split(" #")[0].rstrip() for line in arm_variants["bare"].text.splitlines() if line.strip())
    text = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    assert old in text, text
    with pytest.raises(ContractError, match=message):
        parse_contract(text.replace(old, new, 1), folder=arm_variants["bare"].urdf.parent)


def test_a_gripper_that_nothing_commands_is_refused():
    with pytest.raises(ContractError, match="'none', but the contract has a gripper"):
        parsed(PANDA, "gripper_interface: joint_trajectory", "gripper_interface: none")


def test_mirrored_fingers_go_opposite_ways(arm_variants):
    mirrored = arm_variants["mirrored"]
    assert mirrored.gripper.joint_positions(0.05) == pytest.approx([0.025, -0.025])
    assert mirrored.gripper.opening([0.025, -0.025]) == pytest.approx(0.05)
    model = pinocchio.buildModelFromUrdf(str(mirrored.urdf))
    data = model.createData()
    posture = locked_posture(model, mirrored, mirrored.gripper.open)
    pinocchio.framesForwardKinematics(model, data, posture)
    hand = data.oMf[model.getFrameId("panda_hand")]
    left, right = (
        hand.actInv(data.oMf[model.getFrameId(name)]).translation for name in ("panda_leftfinger", "panda_rightfinger")
    )
    assert left[1] == pytest.approx(0.04) and right[1] == pytest.approx(-0.04)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("open: [0.04]", "gripper.open: expected 2 numbers"),
        ("open: [0.04, 0.0]", "closed and open of panda_finger_joint2 are both 0.0"),
        ("open: [0.04, .nan]", "expected finite"),
        ("open: [0.04, 0.05]", "gripper.open of panda_finger_joint2: got 0.05"),
    ],
)
def test_finger_positions_that_cannot_be_are_refused(line, message):
    with pytest.raises(ContractError, match=message):
        Kinematics(parsed(PANDA, "open: 0.04", line))


def test_a_joint_that_turns_on_and_on_is_one_between_the_contract_s_limits(arm_variants):
    endless = arm_variants["continuous"]
    ours, theirs = Kinematics(endless), Kinematics(PANDA)
    rng = np.random.default_rng(1)
    for q in rng.uniform(PANDA.joints.lower, PANDA.joints.upper, (10, 7)):
        np.testing.assert_allclose(ours.placement(q), theirs.placement(q), atol=1e-12)
        np.testing.assert_allclose(ours.jacobian(q), theirs.jacobian(q), atol=1e-12)
    q = np.array(PANDA.joints.home)
    q[0] = 5.0
    np.testing.assert_allclose(
        ours.placement(q), ours.placement(q - 2.0 * np.pi * np.eye(7)[0]), atol=1e-9
    )  # beyond what the description of the other one allows
    assert ours.model.upperPositionLimit[0] == endless.joints.upper[0] == 6.2
    assert ours.model.upperVelocityLimit[0] == theirs.model.upperVelocityLimit[0]


def test_more_than_a_turn_of_an_endless_joint_is_refused(arm_variants):
    joints = arm_variants["continuous"].joints
    wide = replace(joints, upper=joints.upper + 0.1 * np.eye(7)[0])
    with pytest.raises(ContractError, match=r"panda_joint1, which turns on and on.*6\.3.*at most 6\.2832"):
        Kinematics(replace(arm_variants["continuous"], joints=wide))


@pytest.mark.parametrize("name", NAMES)
def test_the_simulated_arm_does_as_it_is_told(arm_variants, name):
    contract = arm_variants[name]
    cell = make_env("pick", contract, camera_sizes=SMALL)
    goal = contract.joints.home + np.array([0.3, 0.0, 0.0, 0.0, 0.0, 0.0, -0.3])
    cell.command(goal, 0.2 * contract.gripper.max_opening)
    cell.step(2.0)
    state = cell.state()
    np.testing.assert_allclose(state.joint_positions, goal, atol=0.02)
    assert state.gripper_opening == pytest.approx(0.2 * contract.gripper.max_opening, abs=2e-3)
    if name == "bare":
        assert cell.model.nu == contract.joints.count
        return
    fingers = [float(cell.data.joint(joint).qpos[0]) for joint in PANDA.gripper.names]
    signs = [1.0, -1.0] if name == "mirrored" else [1.0, 1.0]
    np.testing.assert_allclose(fingers, 0.008 * np.array(signs), atol=2e-3)
