"""Transform tree of one robot, /tf and /tf_static, from its description and its joint states.

Replaces `robot_state_publisher` on machines without it. A transform must have only one publisher: this one listens
first, and never publishes if another node publishes its links.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping

from geometry_msgs.msg import TransformStamped
from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from vla_ros.errors import ContractError
from vla_ros.robot.link_frames import LinkFrames, LinkTransform
from vla_ros.ros.messages.conversions import seconds_to_stamp
from vla_ros.ros.qos import qos

try:
    from tf2_msgs.msg import TFMessage
except ImportError:  # a ROS 2 without tf2: the graph works, but RViz and MoveIt do not see the arm
    TFMessage = None

TF, TF_STATIC = "/tf", "/tf_static"

MAX_RATE = 50.0
"""Maximum publishing rate per link, by the stamps of the joint states, Hz."""

LISTENING = 1.0
"""Time of listening for other publishers before the first transform, s on the steady clock."""

MISSING = (
    "the messages of TF are not installed (sudo apt install ros-$ROS_DISTRO-tf2-msgs, or 'make setup'): nothing is "
    "published on /tf"
)


class TransformPublisher:
    """Publishes the link poses of a robot; `publish` may be called from any thread.

    Attributes:
        objection: Why it is silent, i.e. who else publishes these transforms; "" if nobody does.
    """

    def __init__(self, node: Node, frames: LinkFrames, began: Callable[[], None] = lambda: None) -> None:
        """Listen first; then publish the fixed links, call `began`, and publish the moving links on request.

        Raises:
            ContractError: when the TF messages are not installed.
        """
        if TFMessage is None:
            raise ContractError(MISSING)
        self._node, self._frames, self._began = node, frames, began
        self.objection = ""
        self._lock = threading.Lock()
        self._is_speaking, self._last = False, -1.0
        self._own = TFMessage()
        self._unheard = 0  # own messages on /tf_static that have not been received back yet
        self._moving = node.create_publisher(TFMessage, TF, qos("tf"))
        self._fixed = node.create_publisher(TFMessage, TF_STATIC, qos("tf_static"))
        self._ears = [
            node.create_subscription(TFMessage, TF_STATIC, self._hear_fixed, qos("tf_static")),
            node.create_subscription(TFMessage, TF, self._hear, qos("tf")),
        ]
        # Steady clock: a paused simulation must not delay the tree.
        self._timer = node.create_timer(LISTENING, self._begin, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def close(self) -> None:
        """Destroy the publishers and subscriptions."""
        with self._lock:
            self._is_speaking = False
            self._node.destroy_timer(self._timer)
            for subscription in self._ears:
                self._node.destroy_subscription(subscription)
            for publisher in (self._moving, self._fixed):
                self._node.destroy_publisher(publisher)
            self._ears = []

    def publish(self, positions: Mapping[str, float], stamp: float) -> None:
        """Publish the moving links, at most `MAX_RATE` times a second.

        Args:
            positions: Maps each joint to its valid position, rad or m.
            stamp: Time of the measurement, s, used as the stamp; one earlier than the last restarts the rate limit.
        """
        with self._lock:
            early = 0.0 <= stamp - self._last < 1.0 / MAX_RATE - 1e-6
            if not self._is_speaking or early:
                return
            self._last = stamp
            self._moving.publish(_message(self._frames.moving(positions), stamp))

    def _begin(self) -> None:
        with self._lock:
            self._node.destroy_timer(self._timer)
            if self.objection or not self._ears:
                return
            self._node.destroy_subscription(self._ears.pop())  # /tf: it would receive our own messages
            self._own = _message(self._frames.fixed, self._node.get_clock().now().nanoseconds * 1e-9)
            self._unheard += 1
            self._fixed.publish(self._own)
            self._is_speaking = True
        self._began()

    def _hear_fixed(self, message: TFMessage) -> None:
        with self._lock:
            if self._unheard and message == self._own:
                self._unheard -= 1
                return
        self._object(message, TF_STATIC)

    def _hear(self, message: TFMessage) -> None:
        self._object(message, TF)

    def _object(self, message: TFMessage, topic: str) -> None:
        """Become silent if a message contains one of this robot's links."""
        ours = self._frames.children
        child = next((one.child_frame_id for one in message.transforms if one.child_frame_id.lstrip("/") in ours), None)
        if child is None or self.objection:
            return
        own = self._node.get_fully_qualified_name()
        infos = self._node.get_publishers_info_by_topic(topic)
        names = sorted({f"{one.node_namespace.rstrip('/')}/{one.node_name}" for one in infos} - {own})
        self.objection = (
            f"{topic} has the frame '{child}' already, from {' or '.join(names) or 'another node'}: this node "
            "publishes no transforms, since a frame with two publishers jumps. End that one, or launch with tf:=none"
        )
        self._node.get_logger().error(self.objection)
        with self._lock:
            was_speaking, self._is_speaking = self._is_speaking, False
            if was_speaking:  # latched transforms would outlive it
                self._node.destroy_publisher(self._fixed)


def _message(links: Iterable[LinkTransform], stamp: float) -> TFMessage:
    time = seconds_to_stamp(max(stamp, 0.0))
    message = TFMessage()
    for link in links:
        one = TransformStamped(child_frame_id=link.child)
        one.header.frame_id, one.header.stamp = link.parent, time
        place, turn = one.transform.translation, one.transform.rotation
        place.x, place.y, place.z = link.translation
        turn.x, turn.y, turn.z, turn.w = link.rotation
        message.transforms.append(one)
    return message
