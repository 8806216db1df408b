"""Camera topics and joint states in, one synchronised `Observation` out.

Callbacks only leave messages in bounded queues; a worker thread decodes, judges, resizes and publishes. A camera that
is faulty silences the observation (the safety node then holds), is named in /diagnostics, and comes back by itself.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from functools import partial

from diagnostic_msgs.msg import DiagnosticStatus
from sensor_msgs.msg import Image, JointState

from vla_ros.errors import ObservationError, VlaError
from vla_ros.msg import Observation as ObservationMessage
from vla_ros.nodes.conversions import (
    image_to_array,
    joint_state_to_robot_state,
    observation_to_message,
    stamp_to_seconds,
)
from vla_ros.nodes.lifecycle import ManagedNode, diagnostic, run_node
from vla_ros.nodes.qos import qos
from vla_ros.perception.geometry import resize_for_policy
from vla_ros.perception.health import CameraFault, CameraHealth, HealthLimits
from vla_ros.perception.synchroniser import Bundle, Synchroniser
from vla_ros.robot.contract import CameraContract, load_contract
from vla_ros.robot.kinematics import Kinematics
from vla_ros.types import FloatArray, ImageArray, Observation, RobotState

WARNING_PERIOD = 2.0
"""Least time between two warnings about the same thing, s."""


class PerceptionNode(ManagedNode):
    """See the module."""

    def __init__(self) -> None:
        """Create the node, unconfigured."""
        super().__init__("perception_node")
        self._worker: threading.Thread | None = None
        self._new = threading.Condition()

    def configure(self) -> None:
        """Read the contract and prepare buffers and topics."""
        self._contract = load_contract(self.parameter("robot", "panda"))
        self._kinematics = Kinematics(self._contract)
        tolerance = float(self.parameter("skew_tolerance", 0.05))
        limits = HealthLimits(stale_after=float(self.parameter("stale_after", 0.5)))
        self._cameras = {camera.name: self._sized(camera) for camera in self._contract.cameras}
        self._health = {name: CameraHealth(*size, limits) for name, size in self._cameras.items()}
        self._synchroniser: Synchroniser[ImageArray, RobotState] = Synchroniser(self._cameras, tolerance)
        self._images: dict[str, deque[Image]] = {name: deque(maxlen=2) for name in self._cameras}
        self._joint_states: deque[JointState] = deque(maxlen=50)
        self._joints: FloatArray | None = None
        self._sequence = self._overwritten = 0
        self._warned: dict[str, float] = {}
        self._publisher = self.create_publisher(ObservationMessage, "/vla/observation", qos("observation"))

    def _sized(self, camera: CameraContract) -> tuple[int, int]:
        """Return (height, width) px that the camera's images must have; a parameter may replace the contract's."""
        height = int(self.parameter(f"{camera.name}.height", camera.height))
        return height, int(self.parameter(f"{camera.name}.width", camera.width))

    def activate(self) -> None:
        """Subscribe and start the worker."""
        self._subscribed = [
            self.create_subscription(Image, camera.topic, partial(self._take_image, camera.name), qos("camera"))
            for camera in self._contract.cameras
        ]
        topic = self._contract.controllers.joint_states_topic
        self._subscribed.append(
            self.create_subscription(JointState, topic, self._take_joint_state, qos("joint_states"))
        )
        self._stopping = False
        self._worker = threading.Thread(target=self._work, name="perception", daemon=True)
        self._worker.start()

    def deactivate(self) -> None:
        """Stop the worker and the subscriptions."""
        with self._new:
            self._stopping = True
            self._new.notify()
        if self._worker is not None:
            self._worker.join(timeout=2.0)
            self._worker = None
        for subscription in self._subscribed:
            self.destroy_subscription(subscription)
        self._subscribed = []

    def _take_image(self, camera: str, message: Image) -> None:
        with self._new:
            queue = self._images[camera]
            self._overwritten += len(queue) == queue.maxlen
            queue.append(message)
            self._new.notify()

    def _take_joint_state(self, message: JointState) -> None:
        with self._new:
            self._joint_states.append(message)

    def _work(self) -> None:
        while True:
            with self._new:
                self._new.wait_for(lambda: self._stopping or any(self._images.values()), timeout=0.2)
                if self._stopping:
                    return
                images = [(name, queue.popleft()) for name, queue in self._images.items() if queue]
                joint_states = list(self._joint_states)
                self._joint_states.clear()
            try:
                self._digest(images, joint_states)
            except VlaError as error:
                self._warn("work", str(error))
            except Exception as error:  # whatever one set of messages does, the next one gets its chance
                self._warn("work", f"{type(error).__name__}: {error}")

    def _digest(self, images: list[tuple[str, Image]], joint_states: list[JointState]) -> None:
        for message in joint_states:
            try:
                state = joint_state_to_robot_state(message, self._contract, self._kinematics)
            except ObservationError as error:
                self._warn("joint states", str(error))
                continue
            self._joints = state.joint_positions
            self._synchroniser.add_state(state.stamp, state)
        for name, image in images:
            self._add_image(name, image)
        while (bundle := self._synchroniser.take()) is not None:
            self._publish(bundle)

    def _add_image(self, name: str, message: Image) -> None:
        now = time.monotonic()
        try:
            image = image_to_array(message)
        except ObservationError as error:
            self._health[name].unreadable(now)
            self._warn(name, f"camera '{name}': {error}")
            return
        fault = self._health[name].check(image, self._joints, now)
        if fault is not CameraFault.NONE:
            got = f"{image.shape[1]} x {image.shape[0]} px"
            self._warn(name, f"camera '{name}' is refused: {fault.value} (got {got})")
            return
        self._synchroniser.add_picture(name, stamp_to_seconds(message.header.stamp), image)

    def _publish(self, bundle: Bundle[ImageArray, RobotState]) -> None:
        self._sequence += 1
        images = {
            camera.name: resize_for_policy(bundle.pictures[camera.name].value, camera.policy_height,
                                           camera.policy_width)
            for camera in self._contract.cameras
        }  # fmt: skip
        observation = Observation(images, bundle.state.value, None, bundle.stamp, self._sequence, bundle.skew)
        self._publisher.publish(observation_to_message(observation, self._contract))

    def _warn(self, about: str, sentence: str) -> None:
        now = time.monotonic()
        if now - self._warned.get(about, -WARNING_PERIOD) >= WARNING_PERIOD:
            self._warned[about] = now
            self.get_logger().warning(sentence)

    def health(self) -> list[DiagnosticStatus]:
        """Report every camera and what an observation lacks."""
        if not self.active:
            return []
        now, lines = time.monotonic(), []
        for name, camera in self._health.items():
            fault = camera.watch(now)
            level = DiagnosticStatus.OK if fault is CameraFault.NONE else DiagnosticStatus.ERROR
            lines.append(diagnostic(f"{self.get_name()}: camera {name}", level, fault.value, {"images": camera.images}))
            if fault in (CameraFault.STALE, CameraFault.SILENT):
                self._warn(name, f"camera '{name}': {fault.value} on {self._contract.camera(name).topic}")
        missing = self._synchroniser.missing() if self._sequence == 0 else []
        counts = {"observations": self._sequence, "overwritten_images": self._overwritten,
                  "dropped_pictures": self._synchroniser.dropped, "unmatched": self._synchroniser.unmatched}  # fmt: skip
        level = DiagnosticStatus.WARN if missing else DiagnosticStatus.OK
        sentence = f"waiting for {', '.join(missing)}" if missing else "observing"
        return [*lines, diagnostic(self.get_name(), level, sentence, counts)]


def main() -> int:
    """Run the node."""
    return run_node(PerceptionNode)


if __name__ == "__main__":
    raise SystemExit(main())
