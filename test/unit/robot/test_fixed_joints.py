"""Joints of the description that the arm does not move: fixed by the contract, or refused by name."""

import re
from dataclasses import replace

import mujoco
import numpy as np
import pinocchio
import pytest

from vla_ros.envs.mujoco.model import build_model
from vla_ros.errors import ContractError
from vla_ros.robot.contract import load_contract, parse_contract
from vla_ros.robot.description.urdf import with_fixed_joints
from vla_ros.robot.kinematics import Kinematics
from vla_ros.robot.posture import described_mimics, locked_posture
from vla_ros.safety.motion.collision import CollisionModel
from vla_ros.safety.motion.obstacles import Obstacle, Shape
from vla_ros.safety.parameters import load_parameters

PANDA = load_contract("panda")
LIFT = """
<link name="column"/>
<joint name="torso_lift_joint" type="{kind}">
  <parent link="column"/><child link="panda_link0"/><origin xyz="0.1 0 0.2" rpy="0 0 0"/>
  <axis xyz="{axis}"/>{limit}{mimic}
</joint>
"""
LIMIT = '<limit lower="0" upper="0.5" velocity="0.1" effort="100"/>'


@pytest.fixture
def lifted(tmp_path):
    """A maker of contracts: a Panda on a column that lifts it, with or without a line about that."""

    def make(fixed=None, kind="prismatic", axis="0 0 1", limit=LIMIT, mimic="", more=""):
        text = PANDA.urdf.read_text(encoding="utf-8")
        column = LIFT.format(kind=kind, axis=axis, limit=limit, mimic=mimic)
        file = tmp_path / "lifted.urdf"
        file.write_text(text.replace("</robot>", column + more + "</robot>"), encoding="utf-8")
        joints = replace(PANDA.joints, fixed=fixed or {})
        return replace(PANDA, urdf=file, base_frame="column", joints=joints)

    return make


def test_a_joint_that_nothing_accounts_for_is_refused_by_name(lifted):
    with pytest.raises(ContractError, match=r"'torso_lift_joint' of lifted.urdf.*joints.fixed: \{torso_lift_joint: "):
        Kinematics(lifted())
    with pytest.raises(ContractError, match="torso_lift_joint"):
        CollisionModel(lifted(), load_parameters().collision, ())


@pytest.mark.parametrize("height", [0.0, 0.3, 0.5])
def test_the_arm_stands_where_the_fixed_joint_brings_it(lifted, height):
    tool = Kinematics(lifted({"torso_lift_joint": height})).placement(PANDA.joints.home).translation
    expected = Kinematics(PANDA).placement(PANDA.joints.home).translation + np.array([0.1, 0.0, 0.2 + height])
    np.testing.assert_allclose(tool, expected, atol=1e-9)


@pytest.mark.parametrize("kind", ["revolute", "continuous"])
def test_a_fixed_joint_may_turn(lifted, kind):
    limit = '<limit lower="-3" upper="3" velocity="1" effort="100"/>'
    tool = Kinematics(lifted({"torso_lift_joint": 0.7}, kind, limit=limit)).placement(PANDA.joints.home)
    turned = pinocchio.SE3(pinocchio.rpy.rpyToMatrix(0.0, 0.0, 0.7), np.array([0.1, 0.0, 0.2]))
    expected = turned * Kinematics(PANDA).placement(PANDA.joints.home)
    np.testing.assert_allclose(tool.homogeneous, expected.homogeneous, atol=1e-9)


def test_distances_to_obstacles_are_those_of_the_lifted_arm(lifted):
    """A ball 0.2 m above the hand at home: as far from the lifted arm when it is as much higher."""
    home, parameters = PANDA.joints.home, load_parameters().collision
    tool = Kinematics(PANDA).placement(home).translation

    def distance(contract, offset):
        place = tool + np.array([0.0, 0.25, 0.0]) + offset
        ball = Obstacle("ball", Shape.SPHERE, np.array([0.05]), place, np.zeros(3))
        model = CollisionModel(contract, parameters, (ball,))
        return min(d for d, p in zip(model.distances(home), model.pairs, strict=True) if p.name.endswith("and ball"))

    lifted_contract = lifted({"torso_lift_joint": 0.3})
    assert distance(lifted_contract, np.array([0.1, 0.0, 0.5])) == pytest.approx(distance(PANDA, np.zeros(3)), abs=1e-6)


@pytest.mark.parametrize(
    ("fixed", "message"),
    [
        ({"torso_lift_joint": 0.6}, r"joints.fixed.torso_lift_joint: got 0.6, expected 0.0 to 0.5"),
        ({"torso_lift_joint": -0.1}, r"joints.fixed.torso_lift_joint: got -0.1"),
        ({"torso_lift_joint": 0.3, "head": 0.0}, r"joints.fixed: lifted.urdf has no joints \['head'\]"),
    ],
)
def test_a_fixed_value_that_cannot_be_is_refused(lifted, fixed, message):
    with pytest.raises(ContractError, match=message):
        Kinematics(lifted(fixed))


def test_a_joint_that_moves_in_six_directions_cannot_be_fixed_by_a_number(lifted):
    with pytest.raises(ContractError, match=r"'torso_lift_joint'.*6 directions"):
        Kinematics(lifted({"torso_lift_joint": 0.0}, "floating", limit=""))


FOLLOWER = """
<link name="shield{0}"/>
<joint name="shield{0}" type="revolute"><parent link="panda_hand"/><child link="shield{0}"/><axis xyz="0 0 1"/>
<limit lower="-3" upper="3" velocity="1" effort="1"/><mimic joint="{1}" multiplier="{2}" offset="{3}"/></joint>
"""


def posture(contract, finger):
    model = pinocchio.buildModelFromUrdf(str(contract.urdf))
    values = locked_posture(model, contract, finger)
    return {name: values[model.joints[i].idx_q] for i, name in enumerate(model.names) if i and model.joints[i].nq == 1}


def test_a_joint_that_follows_the_gripper_or_a_fixed_one_follows(lifted):
    more = (
        FOLLOWER.format(1, "panda_finger_joint1", 2.0, 0.1)
        + FOLLOWER.format(2, "shield1", -1.0, 0.0)
        + FOLLOWER.format(3, "torso_lift_joint", 3.0, 0.0)
    )
    stands = posture(lifted({"torso_lift_joint": 0.2}, more=more), 0.03)
    assert stands["shield1"] == pytest.approx(0.16)
    assert stands["shield2"] == pytest.approx(-0.16)
    assert stands["shield3"] == pytest.approx(0.6)
    assert stands["panda_finger_joint2"] == 0.03
    assert stands["torso_lift_joint"] == 0.2


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (FOLLOWER.format(1, "panda_joint3", 1, 0), "'shield1' follows 'panda_joint3', a joint of the arm"),
        (FOLLOWER.format(1, "shield2", 1, 0) + FOLLOWER.format(2, "shield1", 1, 0), "in a circle"),
        (FOLLOWER.format(1, "nobody", 1, 0), "joint 'nobody'"),
    ],
)
def test_a_follower_of_something_else_is_refused(lifted, more, message):
    with pytest.raises(ContractError, match=message):
        posture(lifted({"torso_lift_joint": 0.2}, more=more), 0.0)


@pytest.mark.parametrize(
    "text", ["<robot", FOLLOWER.format(1, "leader", "nan", 0), FOLLOWER.format(1, "leader", "x", 0)]
)
def test_followers_that_cannot_be_read_are_refused(text):
    with pytest.raises(ContractError, match=r"cannot be read|is not finite"):
        described_mimics(text if text == "<robot" else f"<robot>{text}</robot>")


def test_a_follower_cannot_be_fixed(lifted):
    more = FOLLOWER.format(1, "panda_finger_joint1", 1, 0)
    with pytest.raises(ContractError, match="'shield1' follows 'panda_finger_joint1'"):
        posture(lifted({"torso_lift_joint": 0.2, "shield1": 0.0}, more=more), 0.0)


@pytest.mark.parametrize("robot", ["panda", "fr3", "ur5e", "so101", "template"])
def test_nothing_of_the_shipped_robots_is_unaccounted_for(robot):
    contract = load_contract(robot)
    assert contract.joints.fixed == {}
    fingers = posture(contract, contract.gripper.open)
    assert tuple(fingers[name] for name in contract.gripper.names) == contract.gripper.open


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("fixed: {panda_joint1: 0.0}", r"joints.fixed: \['panda_joint1'\] are moved"),
        ("fixed: {panda_finger_joint1: 0.0}", r"joints.fixed: \['panda_finger_joint1'\] are moved"),
        ("fixed: {torso: .nan}", r"joints.fixed.torso: expected a finite number"),
        ("fixed: {torso: high}", r"joints.fixed.torso: expected a finite number"),
        ("fixed: [torso]", r"joints.fixed: expected a mapping"),
        ("fixed: {1: 0.0}", r"joints.fixed: expected names"),
    ],
)
def test_a_line_about_fixed_joints_that_makes_no_sense_is_refused(line, message):
    with pytest.raises(ContractError, match=message):
        parse_contract(PANDA.text.replace("joints:\n", f"joints:\n  {line}\n", 1))


def test_fixed_joints_are_read_from_the_contract():
    contract = parse_contract(PANDA.text.replace("joints:\n", "joints:\n  fixed: {torso: 0.3, head: -1}\n", 1))
    assert contract.joints.fixed == {"torso": 0.3, "head": -1.0}
    assert contract.joints.displaced({"torso": 0.309, "head": -0.98, "wheel": 7.0}) == {"head": -0.98}
    assert list(contract.joints.displaced({"torso": float("nan")})) == ["torso"]


@pytest.mark.parametrize(("kind", "value"), [("prismatic", 0.3), ("revolute", 0.4), ("continuous", -2.0)])
def test_the_description_with_fixed_joints_puts_everything_in_the_same_place(lifted, kind, value):
    limit = '<limit lower="-3" upper="3" velocity="1" effort="100"/>'
    contract = lifted({"torso_lift_joint": value}, kind, "0.6 0 0.8", limit)
    text = with_fixed_joints(contract.urdf.read_text(encoding="utf-8"), contract.joints.fixed)
    contract.urdf.with_name("fixed.urdf").write_text(text, encoding="utf-8")
    rebuilt = replace(contract, urdf=contract.urdf.with_name("fixed.urdf"), joints=PANDA.joints)
    ours, theirs = Kinematics(contract), Kinematics(rebuilt)
    for q in (PANDA.joints.home, PANDA.joints.lower):
        np.testing.assert_allclose(theirs.placement(q).homogeneous, ours.placement(q).homogeneous, atol=1e-9)


def test_a_description_without_fixed_joints_is_left_as_it_is():
    text = PANDA.urdf.read_text(encoding="utf-8")
    assert with_fixed_joints(text, {}) is text


@pytest.mark.parametrize("name", ["nobody", "panda_hand_joint"])
def test_a_joint_that_cannot_be_fixed_in_the_description_is_named(name):
    text = PANDA.urdf.read_text(encoding="utf-8")
    assert name == "nobody" or re.search(f'<joint name="{name}" type="fixed"', text)
    with pytest.raises(ContractError, match=name):
        with_fixed_joints(text, {name: 0.1})


def test_the_simulated_arm_stands_on_the_lift_too(lifted):
    contract = lifted({"torso_lift_joint": 0.3})
    model = build_model(contract)
    assert "torso_lift_joint" not in [model.joint(i).name for i in range(model.njnt)]
    data = mujoco.MjData(model)
    for name, value in zip(contract.joints.names, contract.joints.home, strict=True):
        data.joint(name).qpos[0] = value
    mujoco.mj_kinematics(model, data)
    expected = Kinematics(contract).placement(contract.joints.home).translation
    np.testing.assert_allclose(data.body(contract.end_effector_frame).xpos, expected, atol=1e-6)
