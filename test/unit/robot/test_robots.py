"""Every shipped robot: its contract fits its description, and its kinematics are those that its maker publishes."""

import mujoco
import numpy as np
import pinocchio
import pytest
import yaml
from scipy.spatial.transform import Rotation

from vla_ros.bringup.launch_files import robot_description
from vla_ros.errors import ContractError
from vla_ros.paths import share_file
from vla_ros.robot.contract import load_contract, parse_contract
from vla_ros.robot.kinematics import Kinematics
from vla_ros.safety.parameters import load_parameters
from vla_ros.safety.selftest.run import run_selftest

FOLDER = share_file("config/robots")
ROBOTS = sorted(path.stem for path in FOLDER.glob("*.yaml"))
DESCRIBED = ("panda", "fr3", "ur5e", "so101")
HARDWARE = ("none", "gz", "gz_ros2_control", "mock")


def configurations(contract, count=20):
    rng = np.random.default_rng(3)
    return rng.uniform(contract.joints.lower, contract.joints.upper, (count, contract.joints.count))


def transform(rotation, translation):
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation, translation
    return matrix


def turn_x(angle):
    return transform(Rotation.from_rotvec([angle, 0, 0]).as_matrix(), [0, 0, 0])


def turn_z(angle):
    return transform(Rotation.from_rotvec([0, 0, angle]).as_matrix(), [0, 0, 0])


def shift(x, y, z):
    return transform(np.eye(3), [x, y, z])


def franka_flange(q):
    """Craig's convention, Franka's FCI documentation: a (m), d (m), alpha (rad) of the seven joints and the flange."""
    a = [0, 0, 0, 0.0825, -0.0825, 0, 0.088, 0]
    d = [0.333, 0, 0.316, 0, 0.384, 0, 0, 0.107]
    alpha = np.pi / 2 * np.array([0, -1, 1, 1, -1, 1, 1, 0])
    pose = np.eye(4)
    for i, angle in enumerate([*q, 0.0]):
        pose = pose @ turn_x(alpha[i]) @ shift(a[i], 0, 0) @ turn_z(angle) @ shift(0, 0, d[i])
    return pose


def ur5e_tool0(q):
    """Classic convention, Universal Robots' "DH parameters for calculations of kinematics and dynamics"."""
    a = [0, -0.425, -0.3922, 0, 0, 0]
    d = [0.1625, 0, 0, 0.1333, 0.0997, 0.0996]
    alpha = np.pi / 2 * np.array([1, 0, 0, 1, -1, 0])
    pose = turn_z(np.pi)  # REP 103: base_link is half a turn from the controller's base
    for i, angle in enumerate(q):
        pose = pose @ turn_z(angle) @ shift(0, 0, d[i]) @ shift(a[i], 0, 0) @ turn_x(alpha[i])
    return pose


def so101_tool_in_its_plane(q):
    """The planar chain over the shoulder's axis, drawn by hand: distance from that axis, and height, m.

    Upper arm sqrt(0.11257^2 + 0.028^2), forearm sqrt(0.1349^2 + 0.0052^2), wrist to tool 0.0611 + 0.0981274 along.
    """
    _, lift, elbow, wrist, _ = q
    x, z = 0.0303992, 0.0624 + 0.0542
    angle = np.pi / 2 - lift  # of the upper arm's 0.11257, from the horizontal
    x, z = x + 0.11257 * np.cos(angle) + 0.028 * np.sin(angle), z + 0.11257 * np.sin(angle) - 0.028 * np.cos(angle)
    angle -= np.pi / 2 + elbow
    x, z = x + 0.1349 * np.cos(angle) - 0.0052 * np.sin(angle), z + 0.1349 * np.sin(angle) + 0.0052 * np.cos(angle)
    angle -= wrist
    reach = 0.0611 + 0.0981274
    return x + reach * np.cos(angle), z + reach * np.sin(angle)


@pytest.mark.parametrize("robot", ["panda", "fr3"])
def test_a_franka_arm_has_the_published_parameters(robot):
    contract = load_contract(robot)
    kinematics = Kinematics(contract)
    hand = turn_z(-np.pi / 4) @ shift(0, 0, 0.1034)
    for q in configurations(contract):
        np.testing.assert_allclose(kinematics.placement(q).homogeneous, franka_flange(q) @ hand, atol=1e-9)


def test_the_ur5e_has_the_published_parameters():
    contract = load_contract("ur5e")
    kinematics = Kinematics(contract)
    for q in configurations(contract):
        np.testing.assert_allclose(kinematics.placement(q).homogeneous, ur5e_tool0(q) @ shift(0, 0, 0.148), atol=1e-9)


def test_the_so101_is_a_planar_chain_on_a_turntable():
    contract = load_contract("so101")
    kinematics = Kinematics(contract)
    for q in configurations(contract):
        position = kinematics.forward(np.array([*q[:4], 0.0])).position
        along = np.array([np.cos(q[0]), -np.sin(q[0])])  # the shoulder's axis points down
        offset = position[:2] - [0.0388353, 0.0]
        distance, height = so101_tool_in_its_plane(q)
        # Jaws and horns are up to a centimetre off the plane and the axis of the wrist.
        assert float(offset @ along) == pytest.approx(distance, abs=0.012)
        assert float(position[2]) == pytest.approx(height, abs=0.012)


@pytest.mark.parametrize("robot", ROBOTS)
def test_contract_description_and_safety_layer_go_together(robot):
    contract = load_contract(robot)
    for arm in contract.arms:
        assert np.isfinite(Kinematics(contract.led_by(arm.name)).forward(contract.joints.home).position).all()
    assert run_selftest(contract, load_parameters()) == []


@pytest.mark.parametrize("robot", ROBOTS)
def test_no_limit_is_beyond_the_description(robot):
    contract = load_contract(robot)
    model = pinocchio.buildModelFromUrdf(str(contract.urdf))
    for index, name in enumerate(contract.joints.names):
        joint = model.joints[model.getJointId(name)]
        assert contract.joints.velocity[index] <= model.upperVelocityLimit[joint.idx_v] + 1e-9
        assert contract.joints.effort[index] <= model.upperEffortLimit[joint.idx_v] + 1e-9
    for name, *stops in zip(contract.finger_names, contract.fingers_closed, contract.fingers_open, strict=True):
        joint = model.joints[model.getJointId(name)]
        for position in stops:
            lower, upper = model.lowerPositionLimit[joint.idx_q], model.upperPositionLimit[joint.idx_q]
            assert lower - 1e-9 <= position <= upper + 1e-9


def test_the_fr3_is_never_faster_than_its_position_dependent_limit():
    """libfranka, rate_limiting.h: |v| <= -c + sqrt(k (q_limit - q)) towards either end of every joint."""
    c = np.array([0.30, 0.20, 0.20, 0.30, 0.35, 0.35, 0.35])
    k = np.array([12.0, 5.17, 7.0, 8.0, 34.0, 11.0, 34.0])
    upper = np.array([2.7501, 1.7918, 2.9065, -0.1458, 2.8101, 4.5205, 3.0196])
    lower = np.array([-2.7501, -1.7918, -2.9065, -3.0481, -2.8101, 0.54092, -3.0196])
    joints = load_contract("fr3").joints
    for share in np.linspace(0.0, 1.0, 200):
        speed = share * joints.velocity
        distance = speed**2 / (2.0 * joints.acceleration)  # where it must begin to brake
        for gap in (upper - joints.upper, joints.lower - lower):
            assert (speed <= -c + np.sqrt(k * (gap + distance)) + 1e-9).all()


@pytest.mark.parametrize("hardware", HARDWARE)
@pytest.mark.parametrize("robot", DESCRIBED)
def test_pinocchio_and_mujoco_read_the_same_robot(robot, hardware):
    contract = load_contract(robot)
    text = robot_description(contract, hardware, "/tmp/controllers.yaml")
    ours, theirs = pinocchio.buildModelFromXML(text), mujoco.MjModel.from_xml_string(text)
    assert theirs.njnt == ours.njoints - 1
    # MuJoCo welds the base link to the world, and a fixed part into what carries it: the moving mass is comparable.
    moving = sum(inertia.mass for inertia in list(ours.inertias)[1:])
    assert float(theirs.body_mass[1:].sum()) == pytest.approx(moving, rel=1e-9)
    data, state = ours.createData(), mujoco.MjData(theirs)
    rng = np.random.default_rng(1)
    for _ in range(10):
        q = rng.uniform(ours.lowerPositionLimit, ours.upperPositionLimit)
        pinocchio.forwardKinematics(ours, data, q)
        for number, name in list(enumerate(ours.names))[1:]:
            state.qpos[theirs.joint(name).qposadr[0]] = q[ours.joints[number].idx_q]
        mujoco.mj_kinematics(theirs, state)
        for number, name in list(enumerate(ours.names))[1:]:
            body = int(theirs.jnt_bodyid[theirs.joint(name).id])
            np.testing.assert_allclose(state.xpos[body], data.oMi[number].translation, atol=1e-6)
            np.testing.assert_allclose(state.xmat[body].reshape(3, 3), data.oMi[number].rotation, atol=1e-6)


@pytest.mark.parametrize("robot", DESCRIBED)
def test_hardware_moves_the_joints_of_the_contract(robot):
    contract = load_contract(robot)
    wanted = {*contract.joints.names, *contract.gripper.names}
    from xml.etree import ElementTree

    gazebo = ElementTree.fromstring(robot_description(contract, "gz"))
    servos = [e.text for e in gazebo.iter("joint_name")]
    assert sorted(servos) == sorted([*wanted, *wanted])  # each is commanded once and reported once
    for kind, plugin in (
        ("gz_ros2_control", "gz_ros2_control/GazeboSimSystem"),
        ("mock", "mock_components/GenericSystem"),
    ):
        control = ElementTree.fromstring(robot_description(contract, kind)).find("ros2_control")
        assert control.findtext("hardware/plugin") == plugin
        assert {joint.get("name") for joint in control.findall("joint")} == wanted
    assert ElementTree.fromstring(robot_description(contract)).find("ros2_control") is None
    with pytest.raises(ContractError, match="warp"):
        robot_description(contract, "warp")


def test_plain_descriptions_are_the_expanded_ones():
    from expand_descriptions import expansions

    for path, text in expansions().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: python scripts/expand_descriptions.py"


def test_the_template_explains_every_line():
    text = (FOLDER / "template.yaml").read_text(encoding="utf-8")
    section = ""
    for line in text.splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            assert "#" in line or section, f"not explained: {line}"
        section = line if line.strip().startswith("#") else section if line.strip() else ""
    assert yaml.safe_load(text).keys() == yaml.safe_load(load_contract("panda").text).keys()


def test_a_gripper_maps_its_opening_to_its_joints_and_back():
    for gripper in (arm.gripper for robot in ROBOTS for arm in load_contract(robot).arms):
        for opening in np.linspace(gripper.min_opening, gripper.max_opening, 7):
            assert gripper.opening(gripper.joint_positions(opening)) == pytest.approx(opening, abs=1e-12)
        assert gripper.joint_positions(gripper.max_opening) == pytest.approx(list(gripper.open))
    panda = load_contract("panda")
    assert panda.gripper.joint_positions(0.05) == pytest.approx([0.025, 0.025])
    with pytest.raises(ContractError, match="would not move"):
        parse_contract(panda.text.replace("  open: 0.04", "  open: 0.0"))


@pytest.mark.parametrize(("line", "wrong"), [("arm_interface", "twists"), ("gripper_interface", "vacuum")])
def test_an_unknown_interface_is_refused(line, wrong):
    text = load_contract("panda").text.replace(f"  {line}: joint_trajectory", f"  {line}: {wrong}")
    with pytest.raises(ContractError, match=wrong):
        parse_contract(text)
