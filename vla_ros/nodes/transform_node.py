"""Publishes the transform tree of the robot and its cameras, for robots whose driver does not.

Launched by `tf:=own`. Joint states pass the checks that all nodes share: no transform is published for a rejected one.
The simulated robot publishes its own tree.
"""

from __future__ import annotations

import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.publisher import Publisher
from rclpy.subscription import Subscription
from sensor_msgs.msg import JointState
from std_msgs.msg import String

from vla_ros.errors import ObservationError
from vla_ros.robot.contract import load_contract
from vla_ros.robot.joint_states.reader import JointStateReader
from vla_ros.robot.link_frames import LinkFrames, cameras_without_frame, complete_description
from vla_ros.ros.lifecycle import ManagedNode, diagnostic, run_node
from vla_ros.ros.messages.conversions import message_to_joint_report
from vla_ros.ros.messages.transforms import TransformPublisher
from vla_ros.ros.qos import qos
from vla_ros.ros.throttled_logger import ThrottledLogger

REFUSED = "joint states"
"""Subject of complaints."""


class TransformNode(ManagedNode):
    """Publishes the transform tree of one robot."""

    default_robot = "panda"

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 (those of rclpy.node.Node)
        """Create the node, unconfigured."""
        super().__init__("transform_node", **options)
        self._transforms: TransformPublisher | None = None
        self._subscription: Subscription | None = None
        self._description: Publisher | None = None

    def configure(self) -> None:
        """Read the contract and its description."""
        self._contract = load_contract(self.robot_parameter())
        self._text = complete_description(self._contract)
        self._frames = LinkFrames(self._text)
        if lacking := cameras_without_frame(self._contract, self._frames):
            self.get_logger().warning(missing_frames(lacking))

    def activate(self) -> None:
        """Create the publishers and subscribe to the joint states."""
        self._reader, self._throttled = JointStateReader(self._contract), ThrottledLogger(self.get_logger())
        self._description = self.create_publisher(String, "robot_description", qos("robot_description"))
        self._transforms = TransformPublisher(self, self._frames, self._describe)
        topic = self._contract.controllers.joint_states_topic
        self._subscription = self.create_subscription(JointState, topic, self._take, qos("joint_states"))

    def deactivate(self) -> None:
        """Destroy the publishers and the subscription."""
        if self._subscription is not None:
            self.destroy_subscription(self._subscription)
        if self._transforms is not None:
            self._transforms.close()
        if self._description is not None:
            self.destroy_publisher(self._description)
        self._subscription = self._transforms = self._description = None

    def health(self) -> list[DiagnosticStatus]:
        """Return an error if the tree is not published, with the reason."""
        if self._transforms is None or not self._transforms.objection:
            return []
        return [diagnostic(self.get_name(), DiagnosticStatus.ERROR, self._transforms.objection, {})]

    def _describe(self) -> None:
        if self._description is not None:
            self._description.publish(String(data=self._text))

    def _take(self, message: JointState) -> None:
        try:
            reading = self._reader.read(message_to_joint_report(message), time.monotonic())
        except ObservationError as error:
            self._throttled.report(REFUSED, type(error).__name__, str(error))
            return
        if reading is None or self._transforms is None:
            return
        self._throttled.settle(REFUSED)
        contract = self._contract
        positions = dict(zip(contract.joints.names, reading.positions.tolist(), strict=True))
        fingers = contract.finger_positions(reading.openings)
        positions |= dict(zip(contract.finger_names, fingers, strict=True))
        self._transforms.publish(positions, reading.stamp)


def missing_frames(cameras: list[str]) -> str:
    """Return the warning about cameras without a frame."""
    return (
        f"cameras {cameras} have no frame in the transform tree: the robot description has no link of that name; add "
        "it there, or write 'pose: {parent: <link>, xyz: [...], rpy: [...]}' for each in the robot contract"
    )


def main() -> int:
    """Run the node."""
    return run_node(TransformNode)


if __name__ == "__main__":
    raise SystemExit(main())
