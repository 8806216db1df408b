import re
from dataclasses import replace

import mujoco
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from vla_ros.errors import ContractError, KinematicsError
from vla_ros.robot.contract import load_contract, parse_contract
from vla_ros.robot.kinematics import Kinematics

CONTRACT = load_contract("panda")
KINEMATICS = Kinematics(CONTRACT)
MUJOCO = mujoco.MjModel.from_xml_path(str(CONTRACT.urdf))


def configuration(seed):
    return np.random.default_rng(seed).uniform(CONTRACT.joints.lower, CONTRACT.joints.upper)


@given(st.integers(0, 10_000))
def test_the_tool_is_where_mujoco_says_it_is(seed):
    q = configuration(seed)
    data = mujoco.MjData(MUJOCO)
    for name, value in zip(CONTRACT.joints.names, q, strict=True):
        data.qpos[MUJOCO.joint(name).qposadr[0]] = value
    mujoco.mj_kinematics(MUJOCO, data)
    # MuJoCo merges bodies that are fixed to each other, so the tool is found from the last link that moves.
    last = data.body("panda_link7")
    hand = Rotation.from_quat(last.xquat[[1, 2, 3, 0]]) * Rotation.from_rotvec([0.0, 0.0, -np.pi / 4])
    position = last.xpos + hand.apply([0.0, 0.0, 0.107 + 0.1034])
    pose = KINEMATICS.forward(q)
    np.testing.assert_allclose(pose.position, position, atol=1e-9)
    assert (hand.inv() * Rotation.from_quat(pose.quaternion)).magnitude() < 1e-7


def test_the_length_of_the_arm_is_that_of_its_links():
    """From Craig's parameters of the Panda: d3, a4, a5 and d5 at right angles, a7, the flange and the hand's tool."""
    links = 0.316 + 0.0825 + np.hypot(0.0825, 0.384) + 0.088 + (0.107 + 0.1034)
    assert KINEMATICS.length == pytest.approx(links, abs=1e-9)


@given(st.integers(0, 10_000))
def test_the_jacobian_is_the_derivative_of_the_pose(seed):
    q, step = configuration(seed), 1e-6
    jacobian = KINEMATICS.jacobian(q)
    for joint in range(CONTRACT.joints.count):
        shift = np.zeros(CONTRACT.joints.count)
        shift[joint] = step
        before, after = KINEMATICS.placement(q - shift), KINEMATICS.placement(q + shift)
        linear = (after.translation - before.translation) / (2 * step)
        angular = Rotation.from_matrix(after.rotation @ before.rotation.T).as_rotvec() / (2 * step)
        np.testing.assert_allclose(jacobian[:, joint], [*linear, *angular], atol=1e-6)


def test_home_points_the_tool_down_over_the_table():
    pose = KINEMATICS.forward(CONTRACT.joints.home)
    assert pose.position[2] == pytest.approx(0.30, abs=0.01)
    np.testing.assert_allclose(Rotation.from_quat(pose.quaternion).apply([0, 0, 1]), [0, 0, -1], atol=1e-3)


@pytest.mark.parametrize(
    ("robot", "frame", "message"),
    [
        ("panda", "no_such_link", "no link 'no_such_link'.*'panda_link0'"),
        ("panda", "universe", "no link 'universe'.*'panda_link0'"),
        ("panda", "panda_link3", "'panda_link3', which panda_joint3 moves.*'panda_link0'"),
        ("panda", "panda_tcp", "'panda_tcp', which panda_joint7 moves.*'panda_link0'"),
        ("panda", "panda_leftfinger", "'panda_leftfinger', which panda_finger_joint1 moves.*'panda_link0'"),
        ("ur5e", "base", "'base', which stands 0.0000 m and 3.1416 rad from the root.*'base_link'"),
    ],
)
def test_a_base_frame_that_is_not_the_root_s_is_refused(robot, frame, message):
    contract = replace(load_contract(robot), base_frame=frame)
    with pytest.raises(ContractError, match=message):
        Kinematics(contract)


@pytest.mark.parametrize(("height", "stands"), [("0", True), ("1e-7", True), ("0.8", False)])
def test_a_base_frame_on_another_root_is_taken_only_in_the_very_same_place(tmp_path, height, stands):
    text = CONTRACT.urdf.read_text(encoding="utf-8")
    world = (
        '<link name="world"/><joint name="bolts" type="fixed"><parent link="world"/><child link="panda_link0"/>'
        f'<origin xyz="0 0 {height}" rpy="0 0 0"/></joint></robot>'
    )
    (tmp_path / "arm.urdf").write_text(text.replace("</robot>", world), encoding="utf-8")
    contract = replace(CONTRACT, urdf=tmp_path / "arm.urdf")
    Kinematics(replace(contract, base_frame="world"))
    if stands:
        place = Kinematics(contract).placement(CONTRACT.joints.home)
        np.testing.assert_allclose(place, KINEMATICS.placement(CONTRACT.joints.home), atol=1e-6)
    else:
        with pytest.raises(ContractError, match=r"0.8000 m and 0.0000 rad from the root.*'world'"):
            Kinematics(contract)


@pytest.mark.parametrize("kind", ["prismatic", "floating"])
def test_an_arm_s_joint_that_does_not_turn_is_refused(tmp_path, kind):
    text = CONTRACT.urdf.read_text(encoding="utf-8")
    other = re.sub(r'(name="panda_joint3"\s+type=")revolute', rf"\g<1>{kind}", text)
    assert other != text
    (tmp_path / "arm.urdf").write_text(other, encoding="utf-8")
    with pytest.raises(ContractError, match=r'panda_joint3.*type="revolute" or "continuous"'):
        Kinematics(replace(CONTRACT, urdf=tmp_path / "arm.urdf"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"open": (0.0401, 0.04)}, "gripper.open of panda_finger_joint1: got 0.0401, expected 0.0 to 0.04"),
        ({"closed": (-0.001, 0.0)}, "gripper.closed of panda_finger_joint1"),
        ({"open": (0.04, 0.0401)}, "gripper.open of panda_finger_joint2: got 0.0401"),
        ({"names": ("panda_finger_joint1", "thumb")}, "no joint 'thumb'"),
    ],
)
def test_fingers_that_the_description_does_not_have_so_are_refused(change, message):
    with pytest.raises(ContractError, match=message):
        Kinematics(replace(CONTRACT, gripper=replace(CONTRACT.gripper, **change)))


@pytest.mark.parametrize("q", [np.zeros(6), np.zeros((1, 7)), np.full(7, np.nan), np.full(7, np.inf)])
def test_joints_that_cannot_be_are_refused(q):
    with pytest.raises(KinematicsError):
        KINEMATICS.forward(q)
    with pytest.raises(KinematicsError):
        KINEMATICS.jacobian(q)


def described_with(tmp_path, **limits):
    """The Panda with other limits of its first joint: "2.175" becomes what is given."""
    text = CONTRACT.urdf.read_text(encoding="utf-8")
    for name, value in limits.items():
        text, count = re.subn(
            f'(name="panda_joint1".*?<limit[^>]*{name}=")[^"]*', rf"\g<1>{value}", text, count=1, flags=re.S
        )
        assert count == 1
    (tmp_path / "arm.urdf").write_text(text, encoding="utf-8")
    return parse_contract(CONTRACT.text.replace("urdf/panda.urdf", str(tmp_path / "arm.urdf")))


@pytest.mark.parametrize("limits", [{"velocity": "2.1749"}, {"velocity": "0.1"}, {"effort": "86.9"}])
def test_what_is_more_than_the_description_allows_is_refused(tmp_path, limits):
    (name, value), allowed = *limits.items(), {"velocity": "2.175 rad/s", "effort": "87.0 N m"}
    with pytest.raises(ContractError, match=f"{name}.*panda_joint1.*{allowed[name]}.*{value}"):
        Kinematics(described_with(tmp_path, **limits))


@pytest.mark.parametrize("value", ["0", "1e300", "2.175", "9.9"])
def test_a_description_that_says_nothing_or_more_is_no_error(tmp_path, value):
    Kinematics(described_with(tmp_path, velocity=value, effort="0" if value == "0" else "87"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("velocity: [2.1750,", "velocity: [26.2,", "velocity.*panda_joint1.*26.2.*2.175"),
        ("effort: [87.0,", "effort: [870.0,", "effort.*panda_joint1.*870.0.*87.0"),
        ("panda_joint7]", "panda_joint8]", "panda_joint8"),
        ("[panda_joint1, panda_joint2,", "[panda_joint2, panda_joint1,", "order"),
        ("end_effector_frame: panda_tcp", "end_effector_frame: nose", "nose"),
        ("lower: [-2.8973,", "lower: [-3.5,", "panda_joint1"),
    ],
)
def test_a_contract_that_does_not_fit_the_description_is_refused(old, new, message):
    assert old in CONTRACT.text
    with pytest.raises(ContractError, match=message):
        Kinematics(parse_contract(CONTRACT.text.replace(old, new)))
