"""Operator inputs that the safety node receives directly: stop phrases, the instruction node's heartbeat, its tasks.

The control thread polls all of it, so no executor and no other node can delay a stop.
"""

from __future__ import annotations

import functools
from collections import deque
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from std_msgs.msg import String

from vla_ros.errors import InstructionError
from vla_ros.language.instruction import normalize_instruction
from vla_ros.language.stop import is_stop, may_be_stop
from vla_ros.msg import Instruction, InstructionRequest, InstructionStatus
from vla_ros.ros.polled import PolledSubscription
from vla_ros.ros.qos import qos
from vla_ros.safety.watch.publisher import PublisherWatch
from vla_ros.safety.watch.task_order import TaskOrder

INSTRUCTION_STATUS_TOPIC = "vla/instruction_status"
STOP_STATUS_TOPIC = "vla/stop_status"

LARGEST_STATUS = 4_096
"""Maximum size of a heartbeat, bytes; its texts are bounded."""

LARGEST_SENTENCE = 1 << 14
"""Maximum size of an instruction, bytes: more than is searched for a stop."""

SENTENCES = 1000
"""Queue size for instructions between two ticks: none is lost below a hundred thousand per second."""

LOST_SENTENCES = "stop: sentences were lost"
"""Text of a stop that is assumed when instructions were lost, because one may have been among them."""

ECHOES, ECHOES_A_TICK = 64, 8
"""Maximum number of stop acknowledgements that are due, and that are sent per tick; a lost one is requested again."""


class Orders:
    """Interface for the control thread; this implementation receives nothing."""

    def stop_phrase(self) -> str:
        """Return the newest stop instruction received since the last call, or ""."""
        return ""

    def admit(self, messages: list[Instruction]) -> list[Instruction]:
        """Return the admitted instructions among `messages` (oldest first) and those that were waiting."""
        return messages

    def beats(self) -> list[tuple[int, float]]:
        """Return the instruction node's heartbeats since the last call: number and receive time (s, steady clock)."""
        return []

    def echo(self, outcome: str) -> None:
        """Acknowledge the stops of this tick to their senders, with the outcome."""


class PolledOrders(Orders):
    """Polls the raw instructions and the instruction node's heartbeat; for the control thread only."""

    def __init__(self, node: Node) -> None:
        """Subscribe and publish on `node`."""
        self._node = node
        reliable = deepened(qos("estop"), SENTENCES)
        best_effort = QoSProfile(
            history=reliable.history,
            depth=reliable.depth,
            durability=reliable.durability,
            reliability=ReliabilityPolicy.BEST_EFFORT,
        )
        self._sentences = {
            kind: PolledSubscription(node, kind, topic, [reliable, best_effort], LARGEST_SENTENCE, serialized=True)
            for kind, topic in ((String, "vla/instruction"), (InstructionRequest, "vla/instruction_request"))
        }
        self._beats = PolledSubscription(
            node, InstructionStatus, INSTRUCTION_STATUS_TOPIC, qos("status"), LARGEST_STATUS
        )
        self._echo = node.create_publisher(InstructionStatus, STOP_STATUS_TOPIC, qos("stop_status"))
        self._due: deque[str] = deque(maxlen=ECHOES)
        self._order: TaskOrder[Instruction] = TaskOrder()
        self.watch = PublisherWatch()
        self._node_known = False
        self._lost = self._stops = 0
        self._stopping = False  # whether a stop was among the instructions of this tick

    @property
    def unread(self) -> int:
        """Number of messages that could not be deserialized."""
        return self._beats.unread + sum(subscription.unread for subscription in self._sentences.values())

    def stop_phrase(self) -> str:
        """Return the newest stop instruction received since the last call, or ""."""
        stop = ""
        heard = [
            (one.received, kind, one) for kind, subscription in self._sentences.items() for one in subscription.take()
        ]
        for _, kind, one in sorted(heard, key=lambda sentence: sentence[0]):
            if text := self._stop_in(kind, one.message):
                stop = text
                self._order.stop()
            elif not one.late:  # a retransmitted one may be from before a stop that arrived first
                self._order.hear(functools.partial(_key_of_sentence, kind, one.message))
        lost = sum(subscription.lost for subscription in self._sentences.values())
        if lost > self._lost:  # a stop may have been among them, at an unknown position
            stop = stop or LOST_SENTENCES
            self._order.stop()
        self._lost = lost
        self._stopping = bool(stop)
        return stop

    def _stop_in(self, kind: type, raw: bytes) -> str:
        """Return the text of a serialized instruction if it is a stop, and queue its acknowledgement; else ""."""
        if not may_be_stop(raw):
            return ""
        message = _read(kind, raw)
        if message is None:
            self._sentences[kind].unread += 1
            return ""
        text = str(message.data if kind is String else message.text)
        if not is_stop(text):
            return ""
        self._stops += 1
        if kind is not String:
            self._due.append(str(message.id)[:64])
        return text

    def beats(self) -> list[tuple[int, float]]:
        """Return the new heartbeats; none while the topic has several publishers."""
        beats = [
            (int(one.message.beat), one.received)
            for one in self._beats.take()
            if self.watch.receive(one.gid, one.received)
        ]
        self._node_known = self._node_known or bool(beats)
        return beats

    def admit(self, messages: list[Instruction]) -> list[Instruction]:
        """Return the admitted instructions.

        A stop is always admitted. Until an instruction node's heartbeat is received, tasks are published directly and
        admitted unless a stop was received in the same tick: messages queued before activation arrive all at once, so
        their order is unknown.
        """
        stops = [message for message in messages if message.kind == Instruction.STOP]
        tasks = [message for message in messages if message.kind != Instruction.STOP]
        if not self._node_known:
            return stops if self._stopping else [*stops, *tasks]
        return [*stops, *self._order.admit([(_key_of_task(task), task) for task in tasks])]

    def echo(self, outcome: str) -> None:
        """Acknowledge the stops of this tick to their senders, with the outcome."""
        for _ in range(min(len(self._due), ECHOES_A_TICK)):
            request_id = self._due.popleft()
            message = InstructionStatus(
                stops=self._stops, request_id=request_id, request_accepted=True, sentence=outcome[:256]
            )
            message.header.stamp = self._node.get_clock().now().to_msg()
            self._echo.publish(message)

    def close(self) -> None:
        """Unsubscribe."""
        for subscription in (*self._sentences.values(), self._beats):
            subscription.close()
        self._node.destroy_publisher(self._echo)


def _read(kind: type, raw: bytes) -> Any:  # noqa: ANN401 (a message)
    try:
        return deserialize_message(raw, kind)
    except Exception:  # publishers may send anything
        return None


def _key_of_sentence(kind: type, raw: bytes) -> tuple[str, str] | None:
    """Return the key of the task that a serialized instruction will become; None if it will not become one."""
    message = _read(kind, raw)
    if message is None:
        return None
    if kind is not String:
        return "id", str(message.id)
    try:
        return "text", normalize_instruction(message.data)
    except InstructionError:
        return None


def _key_of_task(task: Instruction) -> tuple[str, str]:
    return ("id", str(task.request_id)) if task.request_id else ("text", str(task.text))


def deepened(profile: QoSProfile, depth: int) -> QoSProfile:
    """Return the profile with a queue of at least `depth` messages."""
    return QoSProfile(
        history=profile.history,
        depth=max(profile.depth, depth),
        durability=profile.durability,
        reliability=profile.reliability,
        liveliness=profile.liveliness,
    )
