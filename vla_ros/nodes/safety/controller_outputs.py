"""Publishes the safety node's commands in the form that the robot's controllers accept.

The safety node produces joint trajectories. As configured in the robot contract, they become a trajectory, a twist of
the tool (MoveIt Servo) or a pose of the tool (Cartesian controllers), and for the gripper a trajectory, an array of
positions or a goal of one of two actions. With several arms each has its own topics and receives its part of every
command. Nothing is decided here, and nothing is added to a command.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped, TwistStamped
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from std_msgs.msg import Float64MultiArray, Header
from trajectory_msgs.msg import JointTrajectory

from vla_ros.errors import ContractError
from vla_ros.robot.contract import ArmContract, ArmInterface, GripperInterface, RobotContract
from vla_ros.robot.kinematics import Kinematics
from vla_ros.ros.messages.commands import commanded_point, part_of
from vla_ros.ros.messages.conversions import pose_to_message
from vla_ros.ros.qos import qos

GOAL_PERIOD = 0.1
"""Minimum time between goals of a gripper action, s: each goal preempts the previous one."""

Publish = Callable[[JointTrajectory], None]


class Outputs:
    """Creates the publishers of one robot on a node; `close` destroys them."""

    def __init__(self, node: Node, contract: RobotContract) -> None:
        """Prepare; publishers are created by `arm` and `gripper`."""
        self._node, self._contract = node, contract
        self._undo: list[Callable[[], object]] = []

    def arm(self) -> Publish:
        """Return the publish function for all arms; it takes one trajectory of their joints, arm after arm."""
        arms = self._contract.arms
        if len(arms) == 1:
            return self._arm(arms[0])
        return _all([self._arm_of_several(arm) for arm in arms])

    def _arm_of_several(self, arm: ArmContract) -> Publish:
        if arm.controllers.arm_interface is not ArmInterface.JOINT_TRAJECTORY:  # its kinematics require all joints
            return self._arm(arm)
        return _part(self._arm(arm), self._contract.joint_columns(arm.name))

    def _arm(self, arm: ArmContract) -> Publish:
        interface, topic = arm.controllers.arm_interface, arm.controllers.arm_topic
        if interface is ArmInterface.JOINT_TRAJECTORY:
            return self._publisher(JointTrajectory, topic, "arm_command_out")
        kinematics = Kinematics(self._contract.led_by(arm.name))
        if interface is ArmInterface.TWIST:
            return self._twist(self._publisher(TwistStamped, topic, "arm_command_out"), kinematics)
        return self._pose(self._publisher(PoseStamped, topic, "arm_command_out"), kinematics)

    def gripper(self) -> Publish:
        """Return the publish function for all grippers; it takes one point of their fingers, arm after arm.

        Raises:
            ContractError: when the contract requires an action and control_msgs is not installed, or too old for it.
        """
        arms = self._contract.arms
        if len(arms) == 1:
            return self._gripper(arms[0])
        publishers, first = list[Publish](), 0
        for arm in arms:
            fingers = slice(first, first + len(arm.gripper.names))
            first = fingers.stop
            if arm.gripper.present:
                publishers.append(_part(self._gripper(arm), fingers))
        return _all(publishers)

    def _gripper(self, arm: ArmContract) -> Publish:
        interface, topic = arm.controllers.gripper_interface, arm.controllers.gripper_topic
        if interface is GripperInterface.NONE:
            return lambda message: None
        if interface is GripperInterface.JOINT_TRAJECTORY:
            return self._publisher(JointTrajectory, topic, "gripper_command")
        if interface is GripperInterface.POSITIONS:
            publish = self._publisher(Float64MultiArray, topic, "gripper_command")
            return lambda message: publish(Float64MultiArray(data=list(message.points[0].positions)))
        goals = GripperGoals(self._node, arm)
        self._undo.append(goals.close)
        return goals.command

    def close(self) -> None:
        """Destroy all publishers and action clients."""
        while self._undo:
            self._undo.pop()()

    def _publisher(self, kind: type, topic: str, profile: str) -> Callable[[Any], None]:
        publisher = self._node.create_publisher(kind, topic, qos(profile))
        self._undo.append(lambda: self._node.destroy_publisher(publisher))
        return publisher.publish

    def _twist(self, publish: Callable[[Any], None], kinematics: Kinematics) -> Publish:
        def command(message: JointTrajectory) -> None:
            point = commanded_point(message)
            twist = kinematics.jacobian(np.array(point.positions)) @ np.array(point.velocities)
            stamped = TwistStamped(header=self._header())
            linear, angular = stamped.twist.linear, stamped.twist.angular
            linear.x, linear.y, linear.z, angular.x, angular.y, angular.z = twist.tolist()
            publish(stamped)

        return command

    def _pose(self, publish: Callable[[Any], None], kinematics: Kinematics) -> Publish:
        def command(message: JointTrajectory) -> None:
            pose = kinematics.forward(np.array(commanded_point(message).positions))
            publish(PoseStamped(header=self._header(), pose=pose_to_message(pose)))

        return command

    def _header(self) -> Header:
        """Return a header stamped now: Servo drops a command without a stamp as too old."""
        return Header(stamp=self._node.get_clock().now().to_msg(), frame_id=self._contract.base_frame)


def _all(publishers: Sequence[Publish]) -> Publish:
    """Return a function that passes a message to all `publishers`, in order."""

    def publish(message: JointTrajectory) -> None:
        for one in publishers:
            one(message)

    return publish


def _part(publish: Publish, joints: slice) -> Publish:
    """Return a function that publishes some joints of a message."""
    return lambda message: publish(part_of(message, joints))


class GripperGoals:
    """Sends the newest gripper target as an action goal, at most every `GOAL_PERIOD`, and only when it has changed.

    The control thread stores targets; the executor's timer sends them, so that a slow server never delays a tick.
    """

    def __init__(self, node: Node, contract: ArmContract) -> None:
        """Create the action client for the gripper of an arm.

        Raises:
            ContractError: when the action's type is not installed.
        """
        from rclpy.action import ActionClient

        self._node, self._contract = node, contract
        self._kind, self._goal = _action(contract)
        self._client = ActionClient(node, self._kind, contract.controllers.gripper_topic)
        self._timer = node.create_timer(GOAL_PERIOD, self._send, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._lock = threading.Lock()
        self._target: tuple[float, ...] | None = None
        self._sent: tuple[float, ...] | None = None
        self._asked: float | None = None

    def command(self, message: JointTrajectory) -> None:
        """Store the newest target; thread-safe."""
        with self._lock:
            self._target = tuple(message.points[0].positions)

    def close(self) -> None:
        """Destroy the client."""
        self._node.destroy_timer(self._timer)
        self._client.destroy()

    def _send(self) -> None:
        with self._lock:
            target = self._target
        waiting = self._asked is not None and time.monotonic() - self._asked < 10 * GOAL_PERIOD
        if target is None or target == self._sent or waiting:
            return
        if not self._client.server_is_ready():
            topic = self._contract.controllers.gripper_topic
            self._node.get_logger().error(f"no server of the gripper action {topic}", throttle_duration_sec=2.0)
            return
        self._asked = time.monotonic()
        self._client.send_goal_async(self._goal(target)).add_done_callback(
            lambda future: self._on_answer(target, future)
        )

    def _on_answer(self, target: tuple[float, ...], future: Any) -> None:  # noqa: ANN401 (of an action)
        self._asked = None
        if future.exception() is None and future.result().accepted:
            self._sent = target
        else:
            self._node.get_logger().error("the gripper refused its goal", throttle_duration_sec=2.0)


def _action(contract: ArmContract) -> tuple[type, Callable[[tuple[float, ...]], Any]]:
    """Return the action type and a function from finger positions to a goal; GripperCommand uses the first finger."""
    gripper, kind = contract.gripper, contract.controllers.gripper_interface
    try:
        if kind is GripperInterface.GRIPPER_COMMAND:
            from control_msgs.action import GripperCommand

            def single(target: tuple[float, ...]) -> Any:  # noqa: ANN401 (a goal)
                goal = GripperCommand.Goal()
                goal.command.position, goal.command.max_effort = target[0], gripper.force
                return goal

            return GripperCommand, single
        from control_msgs.action import ParallelGripperCommand
    except ImportError as error:
        raise ContractError(
            f"gripper_interface is '{kind.value}', but {error}: sudo apt install ros-$ROS_DISTRO-control-msgs"
        ) from error

    def parallel(target: tuple[float, ...]) -> Any:  # noqa: ANN401 (a goal)
        goal = ParallelGripperCommand.Goal()
        goal.command.name, goal.command.position = list(gripper.names), list(target)
        goal.command.effort = [gripper.force] * len(target)
        return goal

    return ParallelGripperCommand, parallel
