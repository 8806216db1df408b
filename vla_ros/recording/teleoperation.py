"""Let a person drive through the graph like a policy: chunks and heartbeats, checked by the safety node."""

from __future__ import annotations

from rclpy.node import Node

from vla_ros.errors import InstructionError, ObservationError
from vla_ros.msg import ActionChunk as ChunkMessage
from vla_ros.msg import Instruction as InstructionMessage
from vla_ros.msg import Observation as ObservationMessage
from vla_ros.policies.asynchronous import InferenceWorker, WorkerStatus
from vla_ros.policies.protocol import Policy
from vla_ros.robot.contract import RobotContract
from vla_ros.ros.heartbeat import Heartbeat
from vla_ros.ros.messages.conversions import chunk_to_message, message_to_instruction, message_to_observation
from vla_ros.ros.qos import qos
from vla_ros.types import ActionChunk


class Teleoperation:
    """Replaces the policy node in a graph that runs without one; sends no commands directly."""

    def __init__(self, node: Node, contract: RobotContract, policy: Policy) -> None:
        """Subscribe and run until `close`; another thread spins `node`."""
        self._node, self._contract = node, contract
        self._chunks = node.create_publisher(ChunkMessage, "vla/action_chunk", qos("action_chunk"))
        self._worker = InferenceWorker(policy, self._publish)
        self._heartbeat = Heartbeat(node, self._worker)
        self._made = [
            node.create_subscription(ObservationMessage, "vla/observation", self._observe, qos("observation")),
            node.create_subscription(InstructionMessage, "vla/task", self._instruct, qos("task")),
        ]

    def status(self) -> WorkerStatus:
        """Return the policy's current status."""
        return self._worker.status()

    def close(self) -> None:
        """Stop; without heartbeats the safety node brings the arm to rest."""
        for subscription in self._made:
            self._node.destroy_subscription(subscription)
        self._heartbeat.close()
        self._worker.close()
        self._node.destroy_publisher(self._chunks)

    def _observe(self, message: ObservationMessage) -> None:
        try:
            self._worker.offer(message_to_observation(message, self._contract))
        except ObservationError as error:
            self._worker.complain(str(error))

    def _instruct(self, message: InstructionMessage) -> None:
        try:
            self._worker.instruct(message_to_instruction(message))
        except InstructionError as error:
            self._node.get_logger().error(str(error))

    def _publish(self, chunk: ActionChunk) -> None:
        message = chunk_to_message(chunk)
        message.header.stamp = self._node.get_clock().now().to_msg()
        message.header.frame_id = self._contract.base_frame
        self._chunks.publish(message)
