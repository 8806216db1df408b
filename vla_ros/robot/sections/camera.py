"""Parser of the section `cameras` of a robot contract: image topics, sizes and health limits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

from vla_ros.errors import ContractError
from vla_ros.robot.sections.section import Section
from vla_ros.types import FloatArray

RAW, COMPRESSED = "raw", "compressed"
TRANSPORTS = (RAW, COMPRESSED)
"""Image transports: `sensor_msgs/Image`, or `sensor_msgs/CompressedImage` with JPEG or PNG."""

OTHER_TRANSPORTS = ("compressedDepth", "ffmpeg", "theora", "zstd", "draco")
"""Topic suffixes of unsupported image_transport plugins."""

COLOR_ENCODINGS = (
    "rgb8",
    "bgr8",
    "rgba8",
    "bgra8",
    "8UC3",
    "mono8",
    "rgb16",
    "bgr16",
    "rgba16",
    "bgra16",
    "yuv422",
    "uyvy",
    "yuv422_yuy2",
    "yuyv",
    "nv12",
    "nv21",
    *(f"bayer_{pattern}{bits}" for bits in (8, 16) for pattern in ("rggb", "bggr", "gbrg", "grbg")),
)
"""Encodings, as in `sensor_msgs/image_encodings`, that always hold a camera image."""

GRAY_16 = ("mono16", "16UC1")
"""Encodings used for 16-bit gray by cameras and for millimeters by depth sensors: the contract must say which."""

MAX_FIELD_OF_VIEW = 170.0
"""Upper bound of the field of view of a pinhole camera, deg."""

KNOWN_ENCODINGS = (*COLOR_ENCODINGS, *GRAY_16)


@dataclass(frozen=True)
class CameraHealthLimits:
    """Image health limits of one camera; the defaults are strict.

    Attributes:
        min_contrast: Minimum standard deviation of the brightness, 0 to 255; an image with less is uniform.
        max_dark_fraction: Maximum fraction of nearly black pixels (every channel below 12); above, the image is black.
        max_bright_fraction: Maximum fraction of nearly white pixels (every channel above 250); above, it is
            overexposed.
        max_noise: Maximum uncorrelated fraction of the variance between neighboring pixels: near 0 in images of a
            scene, 1 in noise; 2 disables the check.
        frozen_travel: Joint displacement, rad, during which the image must change. Oscillation of more than half of it
            counts after a path of four times as much; within half of it, a noisy joint adds no path.
        frozen_after: Number of consecutive unchanged images that is also required before the camera counts as frozen.
        min_changed_fraction: Minimum fraction of the pixels that must differ for an image to count as changed.
        expects_motion: Whether the image changes when the arm moves; False for a camera that does not see the arm
            and has no noise of its own: it is then never frozen.
    """

    min_contrast: float = 3.0
    max_dark_fraction: float = 0.95
    max_bright_fraction: float = 0.9
    max_noise: float = 0.75
    frozen_travel: float = 0.08
    frozen_after: int = 3
    min_changed_fraction: float = 0.0005
    expects_motion: bool = True


@dataclass(frozen=True)
class CameraPose:
    """Pose of a camera's optical frame, as in a fixed joint of a URDF.

    Attributes:
        parent: Link that carries the camera.
        xyz: Position (3,) in the link's frame, m.
        rpy: Roll, pitch and yaw (3,) about the link's fixed axes, rad. The optical frame has z forward, x right.
    """

    parent: str
    xyz: FloatArray
    rpy: FloatArray


@dataclass(frozen=True)
class CameraContract:
    """One camera: its image topic, and the image size that the policy needs (height, width).

    Attributes:
        name: Name of the camera in the policy's inputs.
        topic: Image topic.
        info_topic: Calibration topic, or ""; no node reads it: it is for RViz and recordings.
        frame: Optical frame, the `frame_id` of its images.
        width: Image width from the driver, px.
        height: Image height from the driver, px.
        rate_hz: Image rate, Hz.
        policy_height: Image height for the policy, px.
        policy_width: Image width for the policy, px.
        health: Image health limits.
        transport: "raw" or "compressed": the message type on `topic`.
        encoding: Required encoding; "": any supported one that is not depth.
        pose: Pose of the optical frame; None where the robot description has it, or it is unknown.
        field_of_view: Vertical field of view of the simulated camera, deg; None: the simulation's default.
    """

    name: str
    topic: str
    info_topic: str
    frame: str
    width: int
    height: int
    rate_hz: float
    policy_height: int
    policy_width: int
    health: CameraHealthLimits = field(default_factory=CameraHealthLimits)
    transport: str = RAW
    encoding: str = ""
    pose: CameraPose | None = None
    field_of_view: float | None = None

    @property
    def is_compressed(self) -> bool:
        """Whether `topic` is of type CompressedImage."""
        return self.transport == COMPRESSED


def parse_cameras(root: Section) -> tuple[CameraContract, ...]:
    """Parse the cameras of a contract.

    Raises:
        ContractError: when there is none, or a field is missing, unknown or invalid.
    """
    section = root.section("cameras")
    if not section.values:
        raise ContractError(f"{section.where}: at least one camera is needed")
    return tuple(_camera(str(name), section.section(name)) for name in section.values)


def _camera(name: str, section: Section) -> CameraContract:
    section.only(
        "topic",
        "info_topic",
        "frame",
        "width",
        "height",
        "rate_hz",
        "policy_height",
        "policy_width",
        "health",
        "transport",
        "encoding",
        "pose",
        "field_of_view",
    )
    topic = section.text("topic")
    transport = _transport(topic, section)
    return CameraContract(
        name=name,
        topic=topic,
        info_topic=section.text("info_topic") if section.values.get("info_topic") is not None else "",
        frame=section.text("frame"),
        width=section.count("width"),
        height=section.count("height"),
        rate_hz=section.number("rate_hz"),
        policy_height=section.count("policy_height"),
        policy_width=section.count("policy_width"),
        health=_health(section.section("health")) if "health" in section.values else CameraHealthLimits(),
        transport=transport,
        encoding=_encoding(transport, section),
        pose=_pose(section.section("pose")) if "pose" in section.values else None,
        field_of_view=_field_of_view(section) if "field_of_view" in section.values else None,
    )


def _transport(topic: str, section: Section) -> str:
    """Return the transport in the contract, or the one that the topic's suffix means to image_transport."""
    last = topic.rsplit("/", 1)[-1]
    if last in OTHER_TRANSPORTS:
        what = "depth, not images of a camera" if last == "compressedDepth" else "a stream that is not decoded here"
        raise ContractError(
            f"{section.where}.topic: got '{topic}', which by its name holds {what}; expected a topic of type Image, or "
            "CompressedImage (.../compressed)"
        )
    if "transport" not in section.values:
        return COMPRESSED if last == COMPRESSED else RAW
    transport = section.text("transport")
    if transport not in TRANSPORTS:
        raise ContractError(f"{section.where}.transport: got '{transport}', expected one of {list(TRANSPORTS)}")
    return transport


def _encoding(transport: str, section: Section) -> str:
    if "encoding" not in section.values:
        return ""
    encoding = section.text("encoding")
    if encoding not in KNOWN_ENCODINGS:
        raise ContractError(f"{section.where}.encoding: got '{encoding}', expected one of {list(KNOWN_ENCODINGS)}")
    if transport == COMPRESSED and encoding not in GRAY_16:
        raise ContractError(
            f"{section.where}.encoding: got '{encoding}' for a compressed topic, whose images say it themselves; leave "
            f"the line out, or write one of {list(GRAY_16)} for 16-bit gray in PNG"
        )
    return encoding


def _pose(section: Section) -> CameraPose:
    section.only("parent", "xyz", "rpy")
    return CameraPose(section.text("parent"), section.vector("xyz", 3), section.vector("rpy", 3))


def _field_of_view(section: Section) -> float:
    angle = section.number("field_of_view")
    if not angle < MAX_FIELD_OF_VIEW:
        raise ContractError(f"{section.where}.field_of_view: got {angle}, expected deg below {MAX_FIELD_OF_VIEW:.0f}")
    return angle


def _health(section: Section) -> CameraHealthLimits:
    section.only(*(limit.name for limit in fields(CameraHealthLimits)))
    readers: dict[str, Callable[[str], Any]] = {
        "max_dark_fraction": section.fraction,
        "max_bright_fraction": section.fraction,
        "min_changed_fraction": section.fraction,
        "min_contrast": lambda name: section.number(name, positive=False),
        "max_noise": section.number,
        "frozen_travel": section.number,
        "frozen_after": section.count,
        "expects_motion": section.flag,
    }
    return CameraHealthLimits(**{name: readers[name](name) for name in section.values})
