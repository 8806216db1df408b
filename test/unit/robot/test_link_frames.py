"""The links of a description, each in the frame of its parent, against Pinocchio's kinematics and MuJoCo's cameras."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

import mujoco
import numpy as np
import pinocchio
import pytest

from vla_ros.envs.mujoco.model import build_model
from vla_ros.errors import ContractError
from vla_ros.robot.contract import RobotContract, load_contract
from vla_ros.robot.description.urdf import with_camera_links
from vla_ros.robot.kinematics import Kinematics
from vla_ros.robot.link_frames import LinkFrames, LinkTransform, cameras_without_frame, complete_description
from vla_ros.robot.sections.camera import CameraPose

PANDA = load_contract("panda")
ROBOTS = ("panda", "fr3", "ur5e", "so101")
TOLERANCE = 1e-9
MUJOCO_SAYS = np.diag([1.0, -1.0, -1.0])
"""MuJoCo's cameras look along -z with y up, optical frames along z with y down."""


def placed(frames: LinkFrames, positions: Mapping[str, float], link: str) -> pinocchio.SE3:
    """Where a link is in the description's root, by the way a listener of /tf computes it: along the parents."""
    tree: dict[str, LinkTransform] = {one.child: one for one in (*frames.fixed, *frames.moving(positions))}
    result = pinocchio.SE3.Identity()
    while link in tree:
        one = tree[link]
        turn = pinocchio.Quaternion(np.array(one.rotation)).toRotationMatrix()
        result, link = pinocchio.SE3(turn, np.array(one.translation)) * result, one.parent
    return result


def random_positions(contract: RobotContract, seed: int) -> dict[str, float]:
    rng = np.random.default_rng(seed)
    arm = rng.uniform(contract.joints.lower, contract.joints.upper)
    opening = rng.uniform(contract.gripper.min_opening, contract.gripper.max_opening)
    fingers = contract.gripper.joint_positions(opening)
    return dict(zip((*contract.joints.names, *contract.gripper.names), (*arm.tolist(), *fingers), strict=True))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("robot", ROBOTS)
def test_every_link_is_where_pinocchio_has_it(robot: str, seed: int) -> None:
    contract = load_contract(robot)
    text = complete_description(contract)
    frames, positions = LinkFrames(text), random_positions(contract, seed)
    model = pinocchio.buildModelFromXML(text)
    data, q = model.createData(), pinocchio.neutral(model)
    for name, position in positions.items():
        q[model.joints[model.getJointId(name)].idx_q] = position
    pinocchio.framesForwardKinematics(model, data, q)
    links = [one for one in model.frames if one.type == pinocchio.FrameType.BODY]
    assert {one.name for one in links[1:]} == frames.children
    for one in links:
        expected = data.oMf[model.getFrameId(one.name)]
        np.testing.assert_allclose(
            placed(frames, positions, one.name).homogeneous, expected.homogeneous, atol=TOLERANCE
        )
    arm = np.array([positions[name] for name in contract.joints.names])
    tool = placed(frames, positions, contract.end_effector_frame)
    np.testing.assert_allclose(tool.homogeneous, Kinematics(contract).placement(arm).homogeneous, atol=TOLERANCE)


@pytest.mark.parametrize("robot", ROBOTS[:3])  # the cell is for arms with two fingers
def test_cameras_stand_where_the_cell_renders_them(robot: str) -> None:
    contract = load_contract(robot)
    frames = LinkFrames(complete_description(contract))
    assert cameras_without_frame(contract, frames) == []
    model = build_model(contract)
    data, positions = mujoco.MjData(model), random_positions(contract, 7)
    for name, position in positions.items():
        data.joint(name).qpos[0] = position
    mujoco.mj_forward(model, data)
    base = data.body(contract.base_frame)
    for camera in contract.cameras:
        rendered, told = data.camera(camera.name), placed(frames, positions, camera.frame)
        turn = base.xmat.reshape(3, 3).T @ rendered.xmat.reshape(3, 3) @ MUJOCO_SAYS
        np.testing.assert_allclose(told.translation, base.xmat.reshape(3, 3).T @ (rendered.xpos - base.xpos), atol=1e-6)
        np.testing.assert_allclose(told.rotation, turn, atol=1e-6)


def test_a_link_behind_an_unknown_joint_is_left_out() -> None:
    frames = LinkFrames(complete_description(PANDA))
    assert [one.child for one in frames.moving({"panda_joint3": 0.5, "wheel": 1.0})] == ["panda_link3"]


CHAIN = """<robot name="chain"><link name="a"/><link name="b"/><link name="c"/><link name="d"/><link name="e"/>
<joint name="turn" type="continuous"><parent link="a"/><child link="b"/><axis xyz="0 0 2"/></joint>
<joint name="slide" type="prismatic"><parent link="b"/><child link="c"/><axis xyz="0 1 0"/>
<origin xyz="1 0 0" rpy="1.5707963267948966 0 0"/>
<limit lower="0" upper="1" velocity="1" effort="1"/><mimic joint="turn" multiplier="-2" offset="0.1"/></joint>
<joint name="follow" type="prismatic"><parent link="c"/><child link="d"/><limit lower="0" upper="1" velocity="1"
effort="1"/><mimic joint="slide" multiplier="3"/></joint>
<joint name="float" type="floating"><parent link="d"/><child link="e"/></joint></robot>"""


def test_a_joint_that_follows_another_is_where_that_brings_it() -> None:
    frames = LinkFrames(CHAIN)
    places = {one.child: one for one in frames.moving({"turn": 0.5})}
    assert places["b"].rotation == pytest.approx((0.0, 0.0, np.sin(0.25), np.cos(0.25)))
    assert places["c"].translation == pytest.approx((1.0, 0.0, -0.9))
    assert places["d"].translation == pytest.approx((-2.7, 0.0, 0.0))
    reported = {one.child: one for one in frames.moving({"turn": 0.5, "slide": 0.2})}
    assert reported["c"].translation == pytest.approx((1.0, 0.0, 0.2))
    assert frames.unsupported == ("float",)
    assert frames.children == {"b", "c", "d"}


def test_joints_that_follow_each_other_in_a_circle_are_left_out() -> None:
    circle = CHAIN.replace('<mimic joint="turn"', '<mimic joint="follow"')
    assert [one.child for one in LinkFrames(circle).moving({"turn": 0.5})] == ["b"]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('<axis xyz="0 1 0"/>', '<axis xyz="0 0 0"/>', "'slide' .* no direction"),
        ('<origin xyz="1 0 0"', '<origin xyz="1 0"', "expected 3 numbers"),
        ('<child link="b"/>', "", "'turn' .* has no <child"),
        ("</robot>", "", "cannot be read"),
    ],
)
def test_a_description_that_makes_no_sense_is_refused(old: str, new: str, says: str) -> None:
    with pytest.raises(ContractError, match=says):
        LinkFrames(CHAIN.replace(old, new))


def with_pose(frame: str, pose: CameraPose) -> list[object]:
    return [replace(PANDA.camera("front"), frame=frame, pose=pose)]


def test_a_camera_of_the_contract_is_a_link_of_the_description() -> None:
    pose = CameraPose("panda_link0", np.array([0.1, 0.2, 0.3]), np.array([0.0, 0.0, np.pi / 2]))
    text = PANDA.urdf.read_text(encoding="utf-8")
    frames = LinkFrames(with_camera_links(text, with_pose("/eye", pose)))
    told = next(one for one in frames.fixed if one.child == "eye")
    assert (told.parent, told.translation) == ("panda_link0", (0.1, 0.2, 0.3))
    assert told.rotation == pytest.approx((0.0, 0.0, np.sqrt(0.5), np.sqrt(0.5)))
    assert with_camera_links(text, [PANDA.camera("wrist")]) == text
    for frame, parent, says in (
        ("camera_wrist_optical", "panda_link0", "has the frame 'camera_wrist_optical' already"),
        ("eye", "head", "no link 'head'"),
    ):
        with pytest.raises(ContractError, match=re.escape(says)):
            with_camera_links(text, with_pose(frame, replace(pose, parent=parent)))


def test_a_camera_without_a_frame_is_named() -> None:
    contract = replace(PANDA, cameras=(replace(PANDA.camera("front"), pose=None), PANDA.camera("wrist")))
    assert cameras_without_frame(contract, LinkFrames(complete_description(contract))) == ["front"]
