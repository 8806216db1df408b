"""Subscription to the emergency stop. It lives as long as the node, so that no transition loses a press.

The control thread polls it while it runs. At all other times, including before the node is configured and while a
transition blocks the executor, a dedicated thread does.
"""

from __future__ import annotations

import threading
import time

from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.topic_endpoint_info import TopicEndpointInfo
from std_msgs.msg import Bool

from vla_ros.ros.clock.publishers import NAMELESS
from vla_ros.ros.polled import PolledSubscription
from vla_ros.ros.qos import qos
from vla_ros.safety.watch.estop import EstopSignal

ESTOP_TOPIC = "vla/estop"
BUTTON_TYPE = "std_msgs/msg/Bool"

LARGEST_BUTTON = 64
"""Maximum size of a button message that is parsed, bytes."""

LISTENING_PERIOD = 0.1
"""Polling period of the dedicated thread, s: a queue of 200 lasts this long at 2000 messages per second."""

JOIN_TIMEOUT = 1.0


class EstopInput:
    """Passes the buttons' messages to an `EstopSignal`."""

    def __init__(self, node: Node, signal: EstopSignal) -> None:
        """Subscribe on `node`, both reliable and best-effort."""
        self.signal = signal
        self._node = node
        reliable = qos("estop")
        best_effort = QoSProfile(
            history=reliable.history,
            depth=reliable.depth,
            durability=reliable.durability,
            reliability=ReliabilityPolicy.BEST_EFFORT,
        )
        self._subscription = PolledSubscription(node, Bool, ESTOP_TOPIC, [reliable, best_effort], LARGEST_BUTTON)
        # One thread at a time: a control thread that did not end in time may still take messages.
        self._turn = threading.Lock()
        self._resting = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def unread(self) -> int:
        """Number of messages that could not be deserialized."""
        return self._subscription.unread

    def hear(self) -> None:
        """Process the buttons' messages; call from any thread."""
        with self._turn:
            for one in self._subscription.take():
                if not one.late:
                    self.signal.receive(bool(one.message.data), one.received, one.gid)
                elif one.message.data:
                    self.signal.tap()
            if self._subscription.overrun:
                self.signal.overrun(time.monotonic())

    def listen(self) -> None:
        """Poll from the dedicated thread until `rest`; no effect if it is already running."""
        if self._thread is None:
            self._resting.clear()
            self._thread = threading.Thread(target=self._listen, name="buttons", daemon=True)
            self._thread.start()

    def rest(self) -> None:
        """Stop the dedicated thread, because another thread polls from now on."""
        thread, self._thread = self._thread, None
        self._resting.set()
        if thread is not None:
            thread.join(timeout=JOIN_TIMEOUT)

    def _listen(self) -> None:
        while not self._resting.wait(LISTENING_PERIOD):
            self.hear()

    def find_publishers(self) -> None:
        """Report the current publishers, and those that cannot be received, to the signal; cheap and non-blocking."""
        infos = self._node.get_publishers_info_by_topic(ESTOP_TOPIC)
        names = {bytes(info.endpoint_gid): _name(info) for info in infos if info.node_name != NAMELESS}
        wrong = [f"{_name(info)} ({info.topic_type})" for info in infos if info.topic_type != BUTTON_TYPE]
        topic = self._node.resolve_topic_name(ESTOP_TOPIC)
        complaint = f"{topic} is published as another type than {BUTTON_TYPE}: {', '.join(wrong)}" if wrong else ""
        self.signal.publishers([bytes(info.endpoint_gid) for info in infos], time.monotonic(), names)
        self.signal.cannot_hear(complaint)

    def close(self) -> None:
        """Unsubscribe."""
        self.rest()
        with self._turn:
            self._subscription.close()


def _name(info: TopicEndpointInfo) -> str:
    return f"{info.node_namespace.rstrip('/')}/{info.node_name}"
