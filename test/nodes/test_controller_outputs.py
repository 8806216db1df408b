"""What arrives at the controllers, over real topics and actions, checked against the commanded joints."""

import threading
from dataclasses import replace

import numpy as np
import pytest
from geometry_msgs.msg import PoseStamped, TwistStamped
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from vla_ros.bringup.runner import RosLink
from vla_ros.errors import ContractError
from vla_ros.nodes.safety.controller_outputs import Outputs
from vla_ros.robot.contract import GripperInterface, load_contract, parse_contract
from vla_ros.robot.kinematics import Kinematics
from vla_ros.robot.sections.gripper import NO_GRIPPER
from vla_ros.ros.dds.domains import free_domain
from vla_ros.ros.qos import qos

DEADLINE = 20.0
PANDA = load_contract("panda")
KINEMATICS = Kinematics(PANDA)
Q = PANDA.joints.home + 0.1
V = np.linspace(-0.3, 0.4, 7)


def contract(line, value):
    """The Panda's with another interface; its topic is renamed, since a topic has one type."""
    topic = line.replace("interface", "topic")
    name = getattr(PANDA.controllers, topic)
    text = PANDA.text.replace(f"  {line}: joint_trajectory", f"  {line}: {value}")
    return parse_contract(text.replace(f"  {topic}: {name}", f"  {topic}: /{value}/command"))


def trajectory(names, positions, velocities=()):
    point = JointTrajectoryPoint(positions=[float(p) for p in positions], velocities=[float(v) for v in velocities])
    return JointTrajectory(joint_names=list(names), points=[point])


class Controller:
    """Listens as a controller does, and waits until it has heard something."""

    def __init__(self, node, kind, topic):
        self.heard, self.change = [], threading.Condition()
        self.subscription = node.create_subscription(kind, topic, self.take, qos("arm_command"))

    def take(self, message):
        with self.change:
            self.heard.append(message)
            self.change.notify_all()

    def after(self, publish, message):
        """Publish until something is heard: discovery takes a moment, and this is volatile."""
        for _ in range(int(DEADLINE / 0.1)):
            publish(message)
            with self.change:
                if self.change.wait_for(lambda: self.heard, 0.1):
                    return self.heard[-1]
        raise AssertionError("the controller heard nothing")


@pytest.fixture
def node():  # one for each test: a participant keeps the type that a topic once had
    link = RosLink("outputs_test", free_domain())
    yield link.node
    link.close()


@pytest.fixture
def outputs(node):
    made = []

    def make(contract):
        made.append(Outputs(node, contract))
        return made[-1]

    yield make
    for output in made:
        output.close()


def test_a_trajectory_passes_unchanged(node, outputs):
    message = trajectory(PANDA.joints.names, Q, V)
    heard = Controller(node, JointTrajectory, PANDA.controllers.arm_topic).after(outputs(PANDA).arm(), message)
    assert heard == message


def test_a_twist_moves_the_tool_as_the_joints_would(node, outputs):
    robot = contract("arm_interface", "twist")
    command = outputs(robot).arm()
    heard = Controller(node, TwistStamped, robot.controllers.arm_topic).after(
        command, trajectory(PANDA.joints.names, Q, V)
    )
    step = 1e-6
    before, after = KINEMATICS.forward(Q - step * V), KINEMATICS.forward(Q + step * V)
    linear = (after.position - before.position) / (2 * step)
    twist = heard.twist.linear
    np.testing.assert_allclose([twist.x, twist.y, twist.z], linear, atol=1e-6)
    assert heard.header.frame_id == PANDA.base_frame
    assert heard.header.stamp.sec > 0, "Servo drops a command without a stamp"


def test_a_pose_is_where_the_joints_would_be(node, outputs):
    robot = contract("arm_interface", "pose")
    command = outputs(robot).arm()
    heard = Controller(node, PoseStamped, robot.controllers.arm_topic).after(
        command, trajectory(PANDA.joints.names, Q, V)
    )
    expected = KINEMATICS.forward(Q)
    p, o = heard.pose.position, heard.pose.orientation
    np.testing.assert_allclose([p.x, p.y, p.z], expected.position, atol=1e-12)
    np.testing.assert_allclose([o.x, o.y, o.z, o.w], expected.quaternion, atol=1e-12)


def test_finger_positions_as_an_array(node, outputs):
    robot = contract("gripper_interface", "positions")
    command = outputs(robot).gripper()
    heard = Controller(node, Float64MultiArray, robot.controllers.gripper_topic).after(
        command, trajectory(PANDA.gripper.names, [0.01, 0.01])
    )
    assert list(heard.data) == [0.01, 0.01]


@pytest.mark.parametrize("kind", ["gripper_command", "parallel_gripper_command"])
def test_an_action_without_its_package_is_refused_with_the_command_that_brings_it(outputs, kind):
    try:
        import control_msgs.action  # noqa: F401
    except ImportError:
        with pytest.raises(ContractError, match="control-msgs"):
            outputs(contract("gripper_interface", kind)).gripper()
    else:
        pytest.skip("control_msgs is installed here")


@pytest.mark.parametrize("kind", ["gripper_command", "parallel_gripper_command"])
def test_a_gripper_action_gets_every_new_target_once(node, outputs, kind):
    actions = pytest.importorskip("control_msgs.action", reason="control_msgs is not installed here")
    from rclpy.action import ActionServer

    robot = contract("gripper_interface", kind)
    type_ = actions.GripperCommand if kind == "gripper_command" else actions.ParallelGripperCommand
    goals, change = [], threading.Condition()

    def execute(handle):
        with change:
            command = handle.request.command
            goals.append(command.position if kind == "gripper_command" else list(command.position))
            change.notify_all()
        handle.succeed()
        return type_.Result()

    server = ActionServer(node, type_, robot.controllers.gripper_topic, execute)
    try:
        command = outputs(robot).gripper()
        for target in (0.04, 0.01):
            for _ in range(20):
                command(trajectory(robot.gripper.names, [target, target]))
            expected = target if kind == "gripper_command" else [target, target]
            with change:
                assert change.wait_for(lambda goal=expected: goals and goals[-1] == goal, DEADLINE)
        assert len(goals) == 2
    finally:
        server.destroy()


def test_without_a_gripper_nothing_is_published_for_one(node):
    bare = replace(
        PANDA,
        gripper=NO_GRIPPER,
        controllers=replace(PANDA.controllers, gripper_interface=GripperInterface.NONE, gripper_topic=""),
    )
    outputs = Outputs(node, bare)
    before = {name for name, _ in node.get_publisher_names_and_types_by_node(node.get_name(), "/")}
    outputs.gripper()(trajectory([], []))
    after = {name for name, _ in node.get_publisher_names_and_types_by_node(node.get_name(), "/")}
    outputs.close()
    assert after == before
