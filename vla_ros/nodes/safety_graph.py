"""Who else talks on the safety node's topics: strangers that send chunks or commands, and quality of service."""

from __future__ import annotations

from rclpy.node import Node
from rclpy.qos import QoSCompatibility, qos_check_compatible

from vla_ros.errors import ContractError
from vla_ros.nodes.qos import qos
from vla_ros.robot.contract import RobotContract

CHUNK_TOPIC = "/vla/action_chunk"
HEARTBEAT_TOPIC = "/vla/policy_status"


class GraphWatch:
    """Asks the middleware's own picture of the graph; cheap, and never waits."""

    def __init__(self, node: Node, contract: RobotContract) -> None:
        """Look with the eyes of `node`."""
        self._node = node
        controllers = contract.controllers
        self._command_topics = (controllers.arm_topic, controllers.gripper_topic)
        self._inputs = {
            controllers.joint_states_topic: "joint_states", CHUNK_TOPIC: "action_chunk", "/vla/task": "task",
            "/vla/estop": "estop", HEARTBEAT_TOPIC: "status",
        }  # fmt: skip

    def chunk_strangers(self) -> str:
        """Say who the several senders of chunks or heartbeats are; "" while there is at most one of each.

        rclpy does not say which publisher a message came from, so with two of them none is believed. A process that was
        started again has the name of the one before, whose end the middleware may not have noticed yet.
        """
        for topic in (CHUNK_TOPIC, HEARTBEAT_TOPIC):
            names = sorted(self._publishers(topic))
            if len(names) > 1:
                return f"several nodes publish {topic}: {', '.join(names)}; none is followed"
        return ""

    def complaint(self) -> str:
        """Say what forbids to arm: strangers, or inputs that are never delivered; "" when nothing does."""
        if strangers := self.chunk_strangers():
            return strangers
        own = f"{self._node.get_namespace().rstrip('/')}/{self._node.get_name()}"
        for topic in self._command_topics:
            others = sorted(self._publishers(topic) - {own})
            if others:
                return f"{', '.join(others)} also publishes {topic}: the robot must have one commander"
        for topic, profile in self._inputs.items():
            for info in self._node.get_publishers_info_by_topic(topic):
                verdict, why = qos_check_compatible(info.qos_profile, qos(profile))
                if verdict == QoSCompatibility.ERROR:
                    return f"{info.node_name} publishes {topic} with a quality of service that is not received: {why}"
        return ""

    def require(self) -> None:
        """Refuse to go on while there is a complaint.

        Raises:
            ContractError: the complaint.
        """
        if complaint := self.complaint():
            raise ContractError(complaint)

    def _publishers(self, topic: str) -> set[str]:
        infos = self._node.get_publishers_info_by_topic(topic)
        return {f"{info.node_namespace.rstrip('/')}/{info.node_name}" for info in infos}
