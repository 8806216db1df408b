"""Preflight check: verifies everything the robot contract names, reports faults, and exits with 0 (all well) or 1.

Images and joint states pass through the perception node's checks for a while. The launch files run it before anything
is activated, so that a camera that never publishes, a missing controller or a wrong namespace is named within seconds,
and nothing moves.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import rclpy
from geometry_msgs.msg import PoseStamped, TwistStamped
from rclpy.duration import Infinite
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.topic_endpoint_info import TopicEndpointInfo
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from vla_ros.errors import ContractError
from vla_ros.nodes.perception.sensor_trial import SensorTrial
from vla_ros.nodes.safety.command_listeners import may_be_controller
from vla_ros.nodes.safety.controller_settings import SettingsQuestion, objections
from vla_ros.robot.contract import ArmContract, ArmInterface, CameraContract, GripperInterface, load_contract
from vla_ros.robot.kinematics import Kinematics
from vla_ros.ros.clock.publishers import CLOCK_TOPIC, several_clocks
from vla_ros.ros.dds.environment_check import require_domain
from vla_ros.ros.dds.publisher_check import full_names, incompatible, publisher_mismatch, type_name
from vla_ros.ros.lifecycle import describe_parameter, initialize
from vla_ros.ros.messages.conversions import camera_message_type
from vla_ros.ros.qos import qos

TIMEOUT = 8.0
"""Time to wait for everything, s."""

LONGEST = 600.0
"""Maximum value of the parameter `timeout`, s."""

FIRST_WORD = 3.0
"""Time after which missing items are first reported, s: discovery takes one or two seconds."""

POLL = 0.1

COMPRESSED = "sensor_msgs/msg/CompressedImage"

COMMANDS = qos("arm_command_out")
COMMANDS.deadline = COMMANDS.liveliness_lease_duration = Infinite  # unset means none, as the graph reports it
"""Quality of service that the safety node offers."""

ARM_TYPES: dict[ArmInterface, type] = {
    ArmInterface.JOINT_TRAJECTORY: JointTrajectory,
    ArmInterface.TWIST: TwistStamped,
    ArmInterface.POSE: PoseStamped,
}
GRIPPER_TYPES: dict[GripperInterface, type | None] = {
    GripperInterface.JOINT_TRAJECTORY: JointTrajectory,
    GripperInterface.POSITIONS: Float64MultiArray,
    GripperInterface.GRIPPER_COMMAND: None,  # actions: known by their services
    GripperInterface.PARALLEL_GRIPPER_COMMAND: None,
}


class Preflight(Node):
    """Waits for the robot's topics; `missing` returns a sentence for each item not seen so far."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 (those of rclpy.node.Node)
        """Subscribe to everything named in the contract of the parameter `robot`.

        Raises:
            ContractError: when there is no such contract, or it does not match its robot description.
        """
        super().__init__("preflight", **options)
        about = describe_parameter("panda", "robot contract: a name or a file", None, None, read_only=True)
        contract = load_contract(self.declare_parameter("robot", "panda", about).value)
        about = describe_parameter(TIMEOUT, "s that everything is waited for", 0.0, LONGEST, read_only=True)
        try:
            self.timeout = float(self.declare_parameter("timeout", TIMEOUT, about).value)
        except (InvalidParameterTypeException, InvalidParameterValueException) as error:
            raise ContractError(f"parameter timeout: {error}; expected s, to {LONGEST}, such as {TIMEOUT}") from error
        if not 0.0 < self.timeout <= LONGEST:
            raise ContractError(f"timeout is {self.timeout} s, expected more than 0, and at most {LONGEST}")
        self._contract, self._kinematics = contract, Kinematics(contract)
        self._pending: dict[str, Callable[[], str]] = {}
        self._questions: dict[str, SettingsQuestion] = {}
        if self.get_parameter("use_sim_time").value:
            self._expect(Clock, CLOCK_TOPIC, "clock", lambda message: None, lambda: several_clocks(self))
        self._simulated = bool(self.get_parameter("use_sim_time").value)
        self._trial = SensorTrial(contract, self._kinematics)
        self._expect_joint_states(contract.controllers.joint_states_topic)
        for camera in contract.cameras:
            self._expect_camera(camera)
        for arm in contract.arms:
            kind = ARM_TYPES[arm.controllers.arm_interface]
            self._expect_listener(arm.controllers.arm_topic, kind, arm.joints.names)
            self._expect_gripper(arm)
        self._own = {self.resolve_topic_name(topic) for topic in self._pending}

    def missing(self) -> list[str]:
        """Return a sentence for everything that is still missing or faulty."""
        sentences = [sentence for say in list(self._pending.values()) if (sentence := say())]
        unobserved = self._trial.observation(time.monotonic())
        if not sentences and unobserved:
            sentences.append(f"images and joint states make no observation: {unobserved}")
        return sentences

    def notes(self) -> list[str]:
        """Return a sentence for everything that is accepted with a drawback."""
        name = self.resolve_topic_name(self._contract.controllers.joint_states_topic)
        notes = [f"{name}: {price}"] if (price := self._trial.price()) else []
        now = time.monotonic()
        slow = [(c, self._trial.slow(c, now)) for c in self._contract.cameras if self._simulated]
        return notes + [f"{self.resolve_topic_name(camera.topic)}: {sentence}" for camera, sentence in slow if sentence]

    # Topics that must be published.

    def _expect(
        self,
        kind: type,
        topic: str,
        profile: str,
        take: Callable[[Any], object],
        judge: Callable[[], str] = lambda: "",
    ) -> None:
        """Subscribe to a topic; `judge` returns the fault of its messages, or ""."""
        name, received = self.resolve_topic_name(topic), False

        def receive(message: Any) -> None:  # noqa: ANN401 (any message)
            nonlocal received
            received = True
            take(message)

        def say() -> str:
            publishers = self.get_publishers_info_by_topic(topic)
            if mismatch := publisher_mismatch(self, topic, kind, qos(profile)):
                return mismatch
            if received:
                return f"{name}: {fault}" if (fault := judge()) else ""
            if publishers:
                return f"no message on {name} ({kind.__name__}), although {full_names(publishers)} publishes it"
            return f"nobody publishes {name} ({kind.__name__}){self._compressed(name)}{self._elsewhere(name, kind)}"

        self.create_subscription(kind, topic, receive, qos(profile))
        self._pending[topic] = say

    def _expect_joint_states(self, topic: str) -> None:
        def judge() -> str:
            publishers = full_names(self.get_publishers_info_by_topic(topic))
            return self._trial.joint_states(publishers, time.monotonic())

        def take(message: JointState) -> None:
            self._trial.add_joint_state(message, time.monotonic())

        self._expect(JointState, topic, "joint_states", take, judge)

    def _expect_camera(self, camera: CameraContract) -> None:
        def judge() -> str:
            now = time.monotonic()
            # A simulation on a busy machine is expected to be slow: that is only a note.
            return self._trial.camera(camera, now) or ("" if self._simulated else self._trial.slow(camera, now))

        def take(message: Image | CompressedImage) -> None:
            self._trial.add_image(camera.name, message, time.monotonic())

        self._expect(camera_message_type(camera), camera.topic, "camera", take, judge)

    def _compressed(self, name: str) -> str:
        """Return a hint if only compressed images are published, else ""."""
        compressed = f"{name}/compressed"
        if COMPRESSED not in dict(self.get_topic_names_and_types()).get(compressed, []):
            return ""
        return (
            f"; only {compressed} is published: name that topic in the robot contract (topic: {compressed}), "
            "or have the driver publish raw images"
        )

    # Topics that controllers must subscribe to, and actions that they must serve.

    def _expect_listener(self, topic: str, kind: type, joints: Sequence[str]) -> None:
        name, wanted = self.resolve_topic_name(topic), type_name(kind)

        def say() -> str:
            listeners = [one for one in self.get_subscriptions_info_by_topic(topic) if may_be_controller(one.node_name)]
            if fitting := [one for one in listeners if one.topic_type == wanted]:
                for one in fitting:
                    if why := incompatible(COMMANDS, one.qos_profile):
                        return f"{full_names([one])} does not receive {name}, by its quality of service: {why}"
                objection = self._objection(fitting, joints) if kind is JointTrajectory else ""
                if not objection:
                    self._pending.pop(topic, None)
                return objection
            if listeners:
                return f"{name} is listened to as {listeners[0].topic_type}, the contract says {wanted}"
            return f"no controller listens to {name} ({wanted}){self._elsewhere(name, kind)}"

        self._pending[topic] = say

    def _objection(self, listeners: Sequence[TopicEndpointInfo], joints: Sequence[str]) -> str:
        """Return the objection to these controllers' parameters, or that they have not been reported yet, or ""."""
        for one in listeners:
            name = f"{one.node_namespace.rstrip('/')}/{one.node_name}"
            question = self._questions.get(name) or SettingsQuestion(self, name)
            self._questions[name] = question
            if not question.poll():
                return f"{name} does not say what its parameters are"
            if said := objections(question.settings or {}, joints):
                return f"{name}: {'; '.join(said)}"
        return ""

    def _expect_gripper(self, arm: ArmContract) -> None:
        if not arm.gripper.present:
            return
        topic, kind = arm.controllers.gripper_topic, GRIPPER_TYPES[arm.controllers.gripper_interface]
        if kind is not None:
            self._expect_listener(topic, kind, arm.gripper.names)
            return
        name = self.resolve_service_name(f"{topic}/_action/send_goal")

        def say() -> str:
            if any(service == name for service, _ in self.get_service_names_and_types()):
                self._pending.pop(topic, None)
                return ""
            return f"no controller serves the action {topic} ({arm.controllers.gripper_interface.value})"

        self._pending[topic] = say

    def _elsewhere(self, name: str, kind: type) -> str:
        """Return a hint at similar topics, or "": the usual causes are the namespace and the name."""
        wanted = type_name(kind)
        same = [
            other for other, types in self.get_topic_names_and_types() if wanted in types and other not in self._own
        ]
        near = sorted(same, key=lambda other: (not _same_but_for_namespace(other, name), other))
        if not near:
            return ""
        what = "namespace" if _same_but_for_namespace(near[0], name) else "topic"
        return f"; there is {', '.join(near[:4])}: is the {what} right?"


def _same_but_for_namespace(one: str, other: str) -> bool:
    return one.endswith(other) or other.endswith(one)


def wait_for_robot(node: Preflight) -> list[str]:
    """Wait until everything is there; log what is missing, and return it."""
    began = time.monotonic()
    first_word = min(FIRST_WORD, node.timeout)
    missing = node.missing()
    while missing and (waited := time.monotonic() - began) < node.timeout:
        if waited >= first_word:
            first_word = node.timeout
            for sentence in missing:
                node.get_logger().warning(f"still waiting: {sentence}")
        _spin(node, POLL)
        missing = node.missing()
    for sentence in missing:
        node.get_logger().fatal(sentence)
    for sentence in node.notes():
        node.get_logger().warning(sentence)
    if not missing:
        node.get_logger().info("cameras, joint states and controllers are there")
    return missing


def _spin(node: Node, duration: float) -> None:
    """Process messages for `duration` s: there are many where a driver reports at 1 kHz."""
    end = time.monotonic() + duration
    while (left := end - time.monotonic()) > 0.0:
        rclpy.spin_once(node, timeout_sec=left)


def main(arguments: Sequence[str] | None = None) -> int:
    """Wait until everything is there, or report what is missing."""
    require_domain()
    if wrong := initialize(arguments):
        print(f"preflight: {wrong}", file=sys.stderr, flush=True)
        return 1
    try:
        missing = wait_for_robot(Preflight())
    except ContractError as error:
        print(f"preflight: {error}", file=sys.stderr, flush=True)
        return 1
    except KeyboardInterrupt:
        return 1
    finally:
        rclpy.try_shutdown()
    return 1 if missing else 0


if __name__ == "__main__":
    raise SystemExit(main())
