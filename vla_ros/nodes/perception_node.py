"""Perception node: synchronizes camera images and joint states into one `Observation`.

    executor's thread    messages  ->  bounded queues                                   timers, services
    worker thread        queues    ->  decode, check, match, resize  ->  /vla/observation

A faulty camera stops the observations (the safety node then holds), is named in the log and in /diagnostics, and
recovers by itself. Staleness is measured from receipt on the steady clock; stamps only match messages to each other.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.publisher import Publisher
from rclpy.subscription import Subscription
from sensor_msgs.msg import CompressedImage, Image, JointState

from vla_ros.errors import ObservationError, VlaError
from vla_ros.msg import Observation as ObservationMessage
from vla_ros.nodes.perception.report import camera_status, observing_status
from vla_ros.perception.assembler import Assembler, ObservationLimits
from vla_ros.perception.health import CameraFault, HealthLimits
from vla_ros.robot.contract import CameraContract, load_contract
from vla_ros.robot.joint_states.reader import JointStateReader
from vla_ros.robot.joint_states.report import JointReading
from vla_ros.robot.kinematics import Kinematics
from vla_ros.ros.dds.publisher_check import publisher_mismatch
from vla_ros.ros.lifecycle import ManagedNode, diagnostic, run_node
from vla_ros.ros.messages.conversions import camera_message_type, observation_to_message, observed_joints
from vla_ros.ros.perception_inputs import add_image, add_joint_state, state_between
from vla_ros.ros.qos import qos
from vla_ros.ros.throttled_logger import ThrottledLogger

CameraMessage: TypeAlias = Image | CompressedImage

MAX_SKEW, MAX_SILENCE, MAX_PIXELS = 1.0, 5.0, 16384
"""Maximum values of the parameters: skew, s; time without an image, s (no plan is valid for longer); image size, px."""

IMAGES_WAITING = 2
"""Maximum number of images per camera that wait for the worker; new ones replace the oldest, which are counted."""

STATES_WAITING = 512

REPORT_PERIOD = 0.5
"""Period of the worker's report on the cameras, s; also its longest sleep."""

WORKER_PATIENCE = 3.0
"""Time without a report after which the worker counts as stuck, s."""

OBSERVATIONS = "observations"
"""Subject of complaints that do not concern a particular camera."""


class PerceptionNode(ManagedNode):
    """Lifecycle node that publishes observations."""

    default_robot = "panda"

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 (those of rclpy.node.Node)
        """Create the node, unconfigured."""
        super().__init__("perception_node", **options)
        self._sequence = 0  # never reset by a lifecycle transition: subscribers take a lower number for an old one
        self._change = threading.Condition()
        self._worker: threading.Thread | None = None
        self._publisher: Publisher | None = None
        self._subscriptions_made: list[Subscription] = []

    def configure(self) -> None:
        """Read the contract and the parameters; create the publisher."""
        self._contract = load_contract(self.robot_parameter())
        self._kinematics = Kinematics(self._contract)
        self._cameras = [self._settings(camera) for camera in self._contract.cameras]
        if len(self._cameras) > ObservationMessage.MAX_CAMERAS:
            raise ObservationError(
                f"robot '{self._contract.name}' has {len(self._cameras)} cameras, an observation holds at most "
                f"{ObservationMessage.MAX_CAMERAS}"
            )
        joints = len(observed_joints(self._contract))
        if joints > ObservationMessage.MAX_JOINTS:
            raise ObservationError(
                f"robot '{self._contract.name}' has {joints} joints, an observation holds at most "
                f"{ObservationMessage.MAX_JOINTS}"
            )
        self._limits = ObservationLimits(
            skew=float(
                self.parameter(
                    "skew_tolerance", 0.05, "largest difference of stamps in one observation, s", low=0.0, high=MAX_SKEW
                )
            ),
            patience=float(
                self.parameter("patience", 0.02, "how long a picture waits for its partners, s", low=0.0, high=MAX_SKEW)
            ),
            health=HealthLimits(
                stale_after=float(self.parameter("stale_after", 0.5, "s without an image", low=0.0, high=MAX_SILENCE)),
                joint_speed=float(self._contract.joints.velocity.max()),
            ),
        )
        self._publisher = self.create_publisher(ObservationMessage, "vla/observation", qos("observation"))

    def _settings(self, camera: CameraContract) -> CameraContract:
        """Return the expected settings of a camera; parameters may override the contract's image size, px."""
        about = "px that the driver sends; by default the contract's"
        height = int(self.parameter(f"{camera.name}.height", camera.height, about, low=1, high=MAX_PIXELS))
        width = int(self.parameter(f"{camera.name}.width", camera.width, about, low=1, high=MAX_PIXELS))
        return replace(camera, height=height, width=width)

    def activate(self) -> None:
        """Start the worker with empty buffers, and subscribe."""
        self._reader = JointStateReader(self._contract)
        between = state_between(self._kinematics)
        self._assembler: Assembler[JointReading] = Assembler(self._cameras, between, self._limits)
        self._throttled = ThrottledLogger(self.get_logger())
        self._images: dict[str, deque[CameraMessage]] = {c.name: deque(maxlen=IMAGES_WAITING) for c in self._cameras}
        self._overwritten = dict.fromkeys(self._images, 0)
        self._joint_states: deque[JointState] = deque(maxlen=STATES_WAITING)
        self._stopping = self._state_wanted = False
        self._lines: list[DiagnosticStatus] = []
        self._failure = ""
        self._reported = self._observed = time.monotonic()
        self._worker = threading.Thread(target=self._work, name="perception", daemon=True)
        self._worker.start()
        for camera in self._contract.cameras:
            take = partial(self._take_image, camera.name)
            kind = camera_message_type(camera)
            self._subscriptions_made.append(self.create_subscription(kind, camera.topic, take, qos("camera")))
        topic = self._contract.controllers.joint_states_topic
        subscription = self.create_subscription(JointState, topic, self._take_joint_state, qos("joint_states"))
        self._subscriptions_made.append(subscription)

    def deactivate(self) -> None:
        """Stop the subscriptions and the worker."""
        while self._subscriptions_made:
            self.destroy_subscription(self._subscriptions_made.pop())
        if self._worker is not None:
            with self._change:
                self._stopping = True
                self._change.notify_all()
            self._worker.join(timeout=2.0)
            self._worker = None

    def cleanup(self) -> None:
        """Destroy the publisher."""
        if self._publisher is not None:
            self.destroy_publisher(self._publisher)
            self._publisher = None

    def health(self) -> list[DiagnosticStatus]:
        """Return the worker's latest report, or an error when it has stopped reporting."""
        if self._worker is None:
            return []
        silence = time.monotonic() - self._reported
        if self._worker.is_alive() and silence <= WORKER_PATIENCE:
            return self._lines
        sentence = f"the worker has not reported for {silence:.1f} s: no observations"
        return [diagnostic(self.get_name(), DiagnosticStatus.ERROR, sentence, {"observations": self._sequence})]

    # Executor's thread.

    def _take_image(self, camera: str, message: CameraMessage) -> None:
        with self._change:
            queue = self._images[camera]
            self._overwritten[camera] += len(queue) == IMAGES_WAITING
            queue.append(message)
            self._change.notify_all()

    def _take_joint_state(self, message: JointState) -> None:
        with self._change:
            self._joint_states.append(message)
            if self._state_wanted:
                self._change.notify_all()

    # Worker thread.

    def _work(self) -> None:
        while not self._stopping:
            images, joint_states = self._wait()
            try:
                self._digest(images, joint_states)
            except Exception as error:  # a failure on one set of messages must not prevent processing of the next
                self._failure = str(error) if isinstance(error, VlaError) else repr(error)
                self._throttled.report(OBSERVATIONS, type(error).__name__, self._failure)
            now = time.monotonic()
            if now - self._reported >= REPORT_PERIOD:
                self._lines, self._reported = self._write_report(now), now

    def _wait(self) -> tuple[list[tuple[str, CameraMessage]], list[JointState]]:
        """Sleep until there is work, and return the messages received."""
        patience = self._assembler.synchronizer.expires(time.monotonic())
        with self._change:
            self._state_wanted = self._assembler.synchronizer.wants_state()

            def busy() -> bool:
                return self._stopping or any(self._images.values()) or (self._state_wanted and bool(self._joint_states))

            self._change.wait_for(busy, timeout=REPORT_PERIOD if patience is None else min(patience, REPORT_PERIOD))
            images = [(name, queue.popleft()) for name, queue in self._images.items() if queue]
            joint_states = list(self._joint_states)
            self._joint_states.clear()
        return images, joint_states

    def _digest(self, images: list[tuple[str, CameraMessage]], joint_states: list[JointState]) -> None:
        now = time.monotonic()
        for message in joint_states:
            try:
                add_joint_state(self._assembler, self._reader, message, now)
            except ObservationError as error:
                self._failure = str(error)
                self._throttled.report(OBSERVATIONS, type(error).__name__, self._failure)
        for name, message in images:
            add_image(self._assembler, name, message, now)
            self._complain_about(name, now)
        while (made := self._assembler.take(self._sequence + 1, time.monotonic())) is not None:
            observation, stamps = made
            self._sequence += 1
            self._observed = time.monotonic()
            self._failure = ""
            self._throttled.settle(OBSERVATIONS)
            if self._publisher is not None:
                self._publisher.publish(observation_to_message(observation, self._contract, stamps))

    def _complain_about(self, name: str, now: float) -> bool:
        """Warn about a camera if it is faulty, and return whether it is."""
        health = self._assembler.health[name]
        fault = health.watch(now)
        about = f"camera '{name}' ({self.resolve_topic_name(self._contract.camera(name).topic)})"
        if fault is CameraFault.NONE:
            self._throttled.settle(about)
        else:
            self._throttled.report(about, fault.name, self._sentence(name, now))
        return fault is not CameraFault.NONE

    def _sentence(self, name: str, now: float) -> str:
        """Return the verdict on a camera; if it sends nothing, with the mismatch in the graph that explains it."""
        health, camera = self._assembler.health[name], self._contract.camera(name)
        sentence = health.sentence(now)
        if health.watch(now) not in (CameraFault.SILENT, CameraFault.STALE):
            return sentence
        mismatch = publisher_mismatch(self, camera.topic, camera_message_type(camera), qos("camera"))
        return f"{sentence}: {mismatch}" if mismatch else sentence

    def _write_report(self, now: float) -> list[DiagnosticStatus]:
        """Report on every camera, and on what prevents the next observation."""
        assembler, name = self._assembler, self.get_name()
        faulty = [camera.name for camera in self._cameras if self._complain_about(camera.name, now)]
        silence, longest = now - self._observed, self._limits.health.stale_after
        why = f"see camera {', '.join(faulty)}" if faulty else self._failure or assembler.synchronizer.sentence()
        if silence > longest:
            self._throttled.report(OBSERVATIONS, "silence", f"none for {silence:.1f} s: {why}")
        counts = {
            "observations": self._sequence,
            "unmatched": assembler.synchronizer.unmatched,
            "out_of_order": assembler.synchronizer.dropped,
            "withheld": assembler.withheld,
        }
        return [
            observing_status(name, silence, longest, why, counts),
            *(
                camera_status(
                    name, c, assembler.health[c.name], self._overwritten[c.name], now, self._sentence(c.name, now)
                )
                for c in self._cameras
            ),
        ]


def main() -> int:
    """Run the node."""
    return run_node(PerceptionNode)


if __name__ == "__main__":
    raise SystemExit(main())
