"""Relay between the sensors and the graph that tampers with messages on request.

The simulator publishes under `/raw`; this node republishes to the real topics. Untouched messages are relayed as bytes.
Orders arrive as JSON on `/tamper/orders`; the reply on `/tamper/done` says when they took effect, s on the steady
clock.

    {"id": 7, "images": {"front": "black"}, "states": "partial", "offset": 3600.0, "clock_offset": 0.0, "deaf": false}
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.serialization import deserialize_message
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import String

from vla_ros.robot.contract import load_contract
from vla_ros.ros.lifecycle import ManagedNode, run_node
from vla_ros.ros.qos import qos
from vla_ros.safety_bench.graph.tampering.tampering import IMAGES, STATES, shifted

RAW = "/raw"
ORDERS, DONE = "/tamper/orders", "/tamper/done"
ORDER_PROFILE = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class TamperNode(ManagedNode):
    """Relays cameras, joint states and /clock, and tampers with them."""

    default_robot = "panda"

    def __init__(self) -> None:
        """Create the node, unconfigured."""
        super().__init__("tamper_node")
        self._made: list[Callable[[], object]] = []

    def configure(self) -> None:
        """Create both sides of every topic."""
        contract = load_contract(self.robot_parameter())
        self._images: dict[str, Callable[[Image], Image | None]] = {}
        self._states: Callable[[JointState], JointState | None] | None = None
        self._offset = self._clock_offset = 0.0
        self._deaf = self._swapped = False
        self._cameras = {camera.name: self._out(Image, camera.topic, "camera_out") for camera in contract.cameras}
        for camera in contract.cameras:
            self._in(Image, camera.topic, "camera", partial(self._pass_image, camera.name))
        self._joints = self._out(JointState, contract.controllers.joint_states_topic, "joint_states_out")
        self._in(JointState, contract.controllers.joint_states_topic, "joint_states", self._pass_state)
        self._clock_out = self._out(Clock, "/clock", "clock")
        self._in(Clock, "/clock", "clock", self._pass_clock)
        self._done = self.create_publisher(String, DONE, ORDER_PROFILE)
        orders = self.create_subscription(String, ORDERS, self._obey, ORDER_PROFILE)
        self._made += [lambda: self.destroy_publisher(self._done), lambda: self.destroy_subscription(orders)]

    def cleanup(self) -> None:
        """Destroy the publishers and subscriptions."""
        while self._made:
            self._made.pop()()

    def _out(self, kind: type, topic: str, profile: str) -> Callable[[Any], None]:
        publisher = self.create_publisher(kind, topic, qos(profile))
        self._made.append(lambda: self.destroy_publisher(publisher))
        return publisher.publish

    def _in(self, kind: type, topic: str, profile: str, callback: Callable[[bytes], None]) -> None:
        subscription = self.create_subscription(kind, RAW + topic, callback, qos(profile), raw=True)
        self._made.append(lambda: self.destroy_subscription(subscription))

    def _obey(self, message: String) -> None:
        order = json.loads(message.data)
        self._images = {camera: IMAGES[name]() for camera, name in order.get("images", {}).items()}
        states = order.get("states")
        self._states = STATES[states]() if states else None
        self._offset, self._clock_offset = float(order.get("offset", 0.0)), float(order.get("clock_offset", 0.0))
        self._deaf, self._swapped = bool(order.get("deaf", False)), bool(order.get("swapped", False))
        self._done.publish(String(data=json.dumps({"id": order["id"], "at": time.monotonic()})))

    def _pass_image(self, camera: str, raw: bytes) -> None:
        if self._deaf:
            return
        change = self._images.get(camera)
        if self._swapped:
            names = list(self._cameras)
            camera = names[(names.index(camera) + 1) % len(names)]
        if change is None and not self._offset:
            self._cameras[camera](raw)
            return
        message: Image | None = deserialize_message(raw, Image)
        if change is not None:
            message = change(message)
        if message is not None:
            self._cameras[camera](shifted(message, self._offset))

    def _pass_state(self, raw: bytes) -> None:
        if self._deaf:
            return
        if self._states is None and not self._offset:
            self._joints(raw)
            return
        message: JointState | None = deserialize_message(raw, JointState)
        if self._states is not None:
            message = self._states(message)
        if message is not None:
            self._joints(shifted(message, self._offset) if self._offset else message)

    def _pass_clock(self, raw: bytes) -> None:
        if self._deaf:
            return
        if not (self._offset or self._clock_offset):
            self._clock_out(raw)
            return
        self._clock_out(shifted(deserialize_message(raw, Clock), self._offset + self._clock_offset))


def main() -> int:
    """Run the node."""
    return run_node(TamperNode)


if __name__ == "__main__":
    raise SystemExit(main())
