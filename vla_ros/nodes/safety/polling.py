"""Poll the inputs before each tick: the newest messages, and whether each topic has a single publisher.

No input goes through an executor, and no oversized message is deserialized.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import JointState

from vla_ros.msg import ActionChunk, Instruction, PolicyStatus
from vla_ros.nodes.safety.estop_input import EstopInput
from vla_ros.nodes.safety.inputs import Inputs
from vla_ros.nodes.safety.orders import INSTRUCTION_STATUS_TOPIC, LARGEST_STATUS, PolledOrders, deepened
from vla_ros.robot.contract import RobotContract
from vla_ros.ros.polled import PolledSubscription, Received
from vla_ros.ros.qos import qos
from vla_ros.safety.reasons import Reason
from vla_ros.safety.watch.publisher import PATIENCE, PublisherWatch

CHUNK_TOPIC = "vla/action_chunk"
HEARTBEAT_TOPIC = "vla/policy_status"
TASK_TOPIC = "vla/task"

LARGEST_JOINT_STATE = 16_384
"""Maximum size of a joint state, bytes: over a hundred joints with long names."""

LARGEST_CHUNK = 1 << 17
"""Maximum size of a chunk, bytes: its 8,192 numbers and their texts."""

DEPTH = 10
"""Minimum queue depth between ticks; in a queue of one, two publishers would hide each other."""


class SafetyPolling:
    """Inputs of the safety node. Except for `names`, for the control thread only."""

    def __init__(
        self, node: Node, contract: RobotContract, inputs: Inputs, buttons: EstopInput, *, lockstep: bool
    ) -> None:
        """Subscribe on `node`; in lockstep, joint states, chunks and tasks come through the executor instead.

        `buttons` outlives this object and is closed by its owner.
        """
        self._inputs, self._buttons, self._lockstep = inputs, buttons, lockstep
        self.names: Mapping[bytes, str] = {}  # publisher names by GID; the executor's thread replaces it as a whole
        self._made: list[PolledSubscription] = []
        self._watches: dict[str, PublisherWatch] = {}
        # Received here as well, because the instruction node may hang or be busy with earlier messages.
        self.orders = PolledOrders(node)
        self._resolve = node.resolve_topic_name
        self._watches[INSTRUCTION_STATUS_TOPIC] = self.orders.watch
        self._unread = buttons.unread  # earlier ones are not reported
        self._unread_until = -np.inf
        self._beats = self._subscribe(node, PolicyStatus, HEARTBEAT_TOPIC, [qos("status")], LARGEST_STATUS)
        self._topics: list[tuple[str, PolledSubscription, Callable[[Received, bool], None]]] = []
        self._states_topic = contract.controllers.joint_states_topic
        self._sources = {
            one.name: f"{self._states_topic}, {one.name}" for one in contract.controllers.joint_states_from
        }
        if not lockstep:
            for kind, topic, profile, largest, offer in (
                (JointState, self._states_topic, "joint_states", LARGEST_JOINT_STATE, self._offer_state),
                (Instruction, TASK_TOPIC, "task", LARGEST_STATUS, self._offer_task),
                (ActionChunk, CHUNK_TOPIC, "action_chunk", LARGEST_CHUNK, self._offer_chunk),
            ):
                deep = deepened(qos(profile), DEPTH)
                self._topics.append((topic, self._subscribe(node, kind, topic, [deep], largest), offer))
            self._watches.update({watched: PublisherWatch() for watched in self._sources.values()})

    def _subscribe(
        self, node: Node, kind: type, topic: str, profiles: list[QoSProfile], largest: int
    ) -> PolledSubscription:
        self._made.append(PolledSubscription(node, kind, topic, profiles, largest))
        self._watches[topic] = PublisherWatch()
        return self._made[-1]

    def restart(self) -> None:
        """Discard earlier messages and what is known about their publishers.

        Presses of a button are kept, and so is the task, which is published only once and which the policy is still
        executing.
        """
        for topic, subscription, _ in self._topics:
            if topic != TASK_TOPIC:
                subscription.take()
            self._watches[topic] = PublisherWatch()
        self._watches.update({watched: PublisherWatch() for watched in self._sources.values()})
        self._inputs.restart()
        self._beats.take()
        self._watches[HEARTBEAT_TOPIC] = PublisherWatch()

    def poll(self) -> tuple[Reason, str]:
        """Receive messages since the last call; return whether a topic has several publishers, and which."""
        self._buttons.hear()
        for topic, subscription, offer in self._topics:
            for one in subscription.take():
                watched = self._watched(one) if topic == self._states_topic else topic
                if watched:
                    owner = self.orders.watch.participant if topic == TASK_TOPIC else None
                    offer(one, self._watches[watched].receive(one.gid, one.received, owner))
        now = time.monotonic()
        unread = self._buttons.unread + self.orders.unread + sum(heard.unread for heard in self._made)
        if unread > self._unread:
            self._unread, self._unread_until = unread, now + PATIENCE
        if now < self._unread_until:
            return Reason.MESSAGE_UNREADABLE, f"({unread} by now)"
        return self._conflict(now)

    def _watched(self, one: Received) -> str:
        """Return the topic or source that may have only one publisher of this joint state; "" if none is watched."""
        if not (sources := self._inputs.sources(one.message)):
            return ""  # of wheels, or of another arm
        return self._sources.get(sources[0], self._states_topic)

    def heartbeats(self) -> list[Any]:
        """Return the policy's new heartbeats, oldest first.

        None while the topic has several publishers, except in lockstep.
        """
        watch = self._watches[HEARTBEAT_TOPIC]
        return [one.message for one in self._beats.take() if watch.receive(one.gid, one.received) or self._lockstep]

    def _conflict(self, now: float) -> tuple[Reason, str]:
        for topic, watch in self._watches.items():
            if gids := watch.conflict(now):
                names = ", ".join(self.names.get(gid, "a node without a name") for gid in gids)
                return Reason.FOREIGN_PUBLISHER, f"({self._full_name(topic)}: {names})"
        return Reason.OK, ""

    def _full_name(self, watched: str) -> str:
        """Return the resolved topic name of a watched item; for a source of joint states, followed by the source."""
        topic, *source = watched.split(", ")
        return ", ".join([self._resolve(topic), *source])

    def _offer_state(self, one: Received, believed: bool) -> None:
        if believed:
            self._inputs.offer_joint_state(one.message, one.received)

    def _offer_task(self, one: Received, believed: bool) -> None:
        if believed or one.message.kind == Instruction.STOP:
            self._inputs.offer_instruction(one.message)

    def _offer_chunk(self, one: Received, believed: bool) -> None:
        self._inputs.offer_chunk(one.message, foreign=not believed)

    def close(self) -> None:
        """Unsubscribe."""
        self.orders.close()
        while self._made:
            self._made.pop().close()
