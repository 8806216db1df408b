"""Record the decision trace (observations, instructions, chunks, commands, corrections and reasons) in a ring on disk.

The node only subscribes. Messages are written as received; only two kinds are deserialized: the safety status, to
detect incidents, and observations, whose pixels are replaced by a few JPEGs per second. A full or missing disk costs
the trace and nothing else: the node stays active, reports it on /diagnostics, and retries.
"""

from __future__ import annotations

import io
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from PIL import Image as Picture
from rclpy.clock import Clock, ClockType
from rclpy.serialization import deserialize_message, serialize_message
from rclpy.subscription import Subscription
from rclpy.timer import Timer
from sensor_msgs.msg import CompressedImage
from sensor_msgs.msg import Image as ImageMessage
from std_msgs.msg import Bool, String

from vla_ros.errors import ObservationError
from vla_ros.insight.trace.incidents import Incident, IncidentWatch
from vla_ros.insight.trace.layout import INCIDENT_TOPIC, OBSERVATION_TOPIC, VERSION, Channel, image_topic
from vla_ros.insight.trace.ring import RingLimits, TraceRing
from vla_ros.msg import (
    ActionChunk,
    Instruction,
    InstructionRequest,
    InstructionStatus,
    Observation,
    PolicyStatus,
    SafetyStatus,
    TaskStatus,
)
from vla_ros.paths import expanded
from vla_ros.priority import prefer_process
from vla_ros.robot.contract import load_contract
from vla_ros.ros.lifecycle import ManagedNode, diagnostic, run_node
from vla_ros.ros.messages.conversions import image_to_array
from vla_ros.ros.messages.definitions import message_definition, type_name
from vla_ros.ros.qos import qos
from vla_ros.ros.throttled_logger import ThrottledLogger

NICENESS = 10
"""Niceness: lower priority than everything that drives the robot."""

HOUSEKEEPING = 1.0
"""Period of disk writes, s: the maximum loss when the process is killed."""

RETRY = 10.0
"""Period of retrying to begin a trace after a disk error, s."""

OBSERVATION_PERIOD = 0.045
"""Minimum time between recorded observations, s."""

JPEG_QUALITY = 80
NS = 1_000_000_000
MEBIBYTE = 1 << 20
OBSERVATION, SAFETY, DIAGNOSTICS, INCIDENT = "vla/observation", "vla/safety_status", "/diagnostics", "incident"
DISK = "trace"
"""Subject of disk complaints."""


@dataclass(frozen=True)
class Source:
    """A topic whose messages are written as received.

    Attributes:
        kind: Message class.
        profile: Key of `config/qos.yaml`.
        period: Minimum time between recorded messages, s; 0: all are recorded.
        carried: See `Channel`.
    """

    kind: type
    profile: str
    period: float = 0.0
    carried: bool = False


SOURCES: Mapping[str, Source] = {
    "vla/task": Source(Instruction, "task", carried=True),
    "vla/instruction": Source(String, "instruction"),
    "vla/instruction_request": Source(InstructionRequest, "instruction"),
    "vla/instruction_rejected": Source(String, "instruction"),
    "vla/instruction_status": Source(InstructionStatus, "trace", 0.5),
    "vla/stop_status": Source(InstructionStatus, "stop_status"),
    "vla/action_chunk": Source(ActionChunk, "action_chunk_trace"),
    "vla/policy_status": Source(PolicyStatus, "trace", 0.2),
    SAFETY: Source(SafetyStatus, "trace"),
    "vla/task_status": Source(TaskStatus, "trace", 0.5),
    "vla/estop": Source(Bool, "trace", 0.2),
    DIAGNOSTICS: Source(DiagnosticArray, "trace"),
}


class TraceNode(ManagedNode):
    """Records the decision trace."""

    default_robot = "panda"
    niceness = NICENESS

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 (those of rclpy.node.Node)
        """Create the node, unconfigured."""
        super().__init__("trace_node", **options)
        self._ring: TraceRing | None = None
        self._subscriptions_made: list[Subscription] = []
        self._timer: Timer | None = None
        self._failure = ""

    def configure(self) -> None:
        """Read the parameters and the message definitions."""
        self._contract = load_contract(self.robot_parameter())
        folder = str(self.parameter("folder", "", "of the traces; empty: vla_ros/trace in $ROS_HOME or ~/.ros"))
        self._folder = trace_folder(folder)
        rate = float(self.parameter("image_rate", 2.0, "images of each camera, 1/s; 0: none", low=0.0, high=30.0))
        self._image_period = 1.0 / rate if rate > 0.0 else math.inf
        number = partial(self.parameter, low=1.0, high=1e5)
        self._limits = RingLimits(
            ring_seconds=float(number("ring_seconds", 600.0, "how far back the ring reaches, s")),
            ring_bytes=int(MEBIBYTE * number("ring_mib", 128.0, "largest size of the ring, MiB")),
            kept_bytes=int(MEBIBYTE * number("kept_mib", 1024.0, "largest size of all that is kept, MiB")),
            keep_after=float(
                self.parameter("keep_after", 5.0, "how long an incident is followed, s", low=0.0, high=600.0)
            ),
        )
        self._channels = self._make_channels()

    def activate(self) -> None:
        """Begin a ring and subscribe."""
        self._throttled = ThrottledLogger(self.get_logger())
        self._watch = IncidentWatch()
        self._written: dict[str, float] = {}
        self._state = ""
        self._images_due = -math.inf
        self._messages = 0
        self._wall, self._steady = time.time_ns(), time.monotonic_ns()
        self._retry_at = -math.inf
        self._open()
        for name, source in SOURCES.items():
            take = partial(self._guarded, partial(self._take, name))
            self._listen(source.kind, name, take, source.profile)
        self._listen(Observation, OBSERVATION, partial(self._guarded, self._take_observation), "observation_trace")
        clock = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = self.create_timer(HOUSEKEEPING, partial(self._guarded, self._keep_house), clock=clock)

    def deactivate(self) -> None:
        """Unsubscribe and end the ring."""
        while self._subscriptions_made:
            self.destroy_subscription(self._subscriptions_made.pop())
        if self._timer is not None:
            self.destroy_timer(self._timer)
            self._timer = None
        ring, self._ring = self._ring, None
        if ring is not None:
            try:
                self._tell_kept(ring.close())
            except OSError as error:
                self.get_logger().error(f"the end of the trace in {ring.run} is lost: {error}")

    def health(self) -> list[DiagnosticStatus]:
        """Report where the trace is written, or why there is none."""
        if not self.active:
            return []
        if self._failure:
            return [diagnostic(self.get_name(), DiagnosticStatus.ERROR, f"no trace: {self._failure}", {})]
        values = {
            "folder": self._ring.run if self._ring else "",
            "messages": self._messages,
            "kept": len(self._ring.kept) if self._ring else 0,
        }
        return [diagnostic(self.get_name(), DiagnosticStatus.OK, "recording the last minutes", values)]

    def _listen(self, kind: type, name: str, take: Callable[[bytes], None], profile: str) -> None:
        self._subscriptions_made.append(self.create_subscription(kind, name, take, qos(profile), raw=True))

    def _make_channels(self) -> dict[str, Channel]:
        kinds: dict[str, tuple[str, type, bool]] = {
            name: (name, source.kind, source.carried) for name, source in SOURCES.items()
        }
        kinds[OBSERVATION] = (OBSERVATION_TOPIC, Observation, False)
        kinds[INCIDENT] = (INCIDENT_TOPIC, String, False)
        for camera in self._contract.cameras:
            kinds[image_topic(camera.name)] = (image_topic(camera.name), CompressedImage, False)
        definitions = {kind: message_definition(type_name(kind)) for _, kind, _ in kinds.values()}
        return {
            key: Channel(self.resolve_topic_name(topic), type_name(kind), definitions[kind], carried)
            for key, (topic, kind, carried) in kinds.items()
        }

    def _now(self) -> int:
        """Return the wall clock at the start plus the steady time since, ns, because the wall clock may be changed."""
        return self._wall + time.monotonic_ns() - self._steady

    def _guarded(self, work: Callable[..., None], *arguments: bytes) -> None:
        """Run a function that writes; a disk error ends this ring, and another one is tried later."""
        try:
            work(*arguments)
        except OSError as error:
            self._fail(error)

    def _fail(self, error: OSError) -> None:
        self._failure = f"{error.strerror or error} ({self._folder}); trying again every {RETRY:.0f} s"
        self._throttled.report(DISK, type(error).__name__, self._failure)
        self._retry_at = time.monotonic() + RETRY
        ring, self._ring = self._ring, None
        if ring is not None:
            try:
                ring.close()
            except OSError as again:
                self._throttled.report(DISK, "close", str(again))

    def _open(self) -> None:
        if time.monotonic() < self._retry_at:
            return
        origin = {
            "version": VERSION,
            "robot": self._contract.name,
            "started": f"{datetime.now().astimezone():%Y-%m-%dT%H:%M:%S%z}",
        }
        try:
            self._ring = TraceRing(self._folder, self._channels, origin, self._now(), self._limits)
        except OSError as error:
            self._fail(error)
            return
        self._failure = ""
        self._throttled.settle(DISK)
        self.get_logger().info(f"the last {self._limits.ring_seconds:.0f} s are in {self._ring.run}")

    def _write(self, key: str, content: bytes) -> None:
        if self._ring is not None:
            self._ring.write(key, content, self._now())
            self._messages += 1

    def _take(self, name: str, content: bytes) -> None:
        now, period = time.monotonic(), SOURCES[name].period
        if period and now - self._written.get(name, -math.inf) < period:
            return
        self._written[name] = now
        self._write(name, content)
        if name == SAFETY:
            self._judge(deserialize_message(content, SafetyStatus))
        elif name == DIAGNOSTICS:
            self._note_life(deserialize_message(content, DiagnosticArray), now)

    def _judge(self, status: SafetyStatus) -> None:
        if status.state_name != self._state:
            self._state = status.state_name
            self._images_due = -math.inf  # records the images at the change of state
        incident = self._watch.safety(int(status.state), status.reason, status.sentence, armed=status.armed)
        self._mark(incident)

    def _note_life(self, message: DiagnosticArray, now: float) -> None:
        own = [status for status in message.status if self._is_of_this_graph(status.name)]
        gone = [status.name for status in own if status.message == "not active"]
        self._watch.alive([one.name for one in own if one.name not in gone], now, leaving=gone)

    def _is_of_this_graph(self, name: str) -> bool:
        """Return whether an entry of /diagnostics, which all arms share, is of another node of this graph."""
        namespace, _, node = name.rpartition("/")
        return namespace == self.get_namespace().strip("/") and node.endswith("_node") and node != self.get_name()

    def _mark(self, incident: Incident | None) -> None:
        if incident is None or self._ring is None:
            return
        self.get_logger().warning(f"the trace will be kept ({incident.what}): {incident.sentence}")
        self._write(INCIDENT, bytes(serialize_message(String(data=f"{incident.what}: {incident.sentence}"))))
        if self._ring is not None:
            self._ring.incident(incident.what, self._now())

    def _take_observation(self, content: bytes) -> None:
        now = time.monotonic()
        if now - self._written.get(OBSERVATION, -math.inf) < OBSERVATION_PERIOD:
            return
        self._written[OBSERVATION] = now
        message = deserialize_message(content, Observation)
        if now >= self._images_due:
            self._images_due = now + self._image_period
            if math.isfinite(self._image_period):
                self._write_images(message)
        for image in message.images:
            image.data = []
        self._write(OBSERVATION, bytes(serialize_message(message)))

    def _write_images(self, message: Observation) -> None:
        for camera, image in zip(message.camera_names, message.images, strict=False):
            if (key := image_topic(camera)) not in self._channels:
                continue
            try:
                self._write(key, bytes(serialize_message(compressed(image))))
            except ObservationError as error:
                self._throttled.report(f"image of {camera}", type(error).__name__, str(error))

    def _keep_house(self) -> None:
        if self._ring is None:
            self._open()
            return
        self._mark(self._watch.silent(time.monotonic()))
        self._tell_kept(self._ring.tick(self._now()))

    def _tell_kept(self, kept: Path | None) -> None:
        if kept is not None:
            self.get_logger().warning(f"the trace was kept: vla-ros explain {kept}")


def compressed(image: ImageMessage) -> CompressedImage:
    """Convert an image of an observation to a small JPEG with the same stamp and frame.

    Raises:
        ObservationError: when it is not a readable image.
    """
    buffer = io.BytesIO()
    Picture.fromarray(image_to_array(image)).save(buffer, "JPEG", quality=JPEG_QUALITY)
    message = CompressedImage(header=image.header, format="rgb8; jpeg compressed bgr8")
    message.data.frombytes(buffer.getvalue())
    return message


def trace_folder(chosen: str) -> Path:
    """Return the trace folder: `chosen`, or the default below ROS 2's home."""
    home = os.environ.get("ROS_HOME") or "~/.ros"
    return expanded(chosen or Path(home) / "vla_ros" / "trace").absolute()


def main() -> int:
    """Run the node."""
    prefer_process(NICENESS)
    return run_node(TraceNode)


if __name__ == "__main__":
    raise SystemExit(main())
