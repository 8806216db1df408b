"""The section `cameras` of a robot contract: where images come from, and when they count as sound."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

from vla_ros.errors import ContractError
from vla_ros.robot.section import Section


@dataclass(frozen=True)
class CameraHealthLimits:
    """When an image of one camera counts as faulty; the defaults are the strict ones.

    Attributes:
        min_contrast: Least standard deviation of the brightness, 0 to 255; an image with less is uniform.
        max_dark_fraction: Fraction of nearly black pixels (every channel below 12); an image with more is black.
        max_bright_fraction: Fraction of nearly white pixels (every channel above 250); one with more is overexposed.
        max_noise: Fraction of the contrast that neighboring pixels do not share: near 0 in images of a scene, 1 in
            noise. More than this counts as noise; 2 allows everything.
        frozen_travel: Travel of any joint during which the image must change, rad.
        frozen_after: Number of images in a row that must be unchanged, too, before the camera counts as frozen.
        min_changed_fraction: Fraction of the pixels that must differ for an image to count as changed.
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
class CameraContract:
    """One camera: where its images come from and how large the policy wants them (height, width).

    Attributes:
        name: What the policy calls it.
        topic: Of its images.
        info_topic: Of its calibration, which no node reads: it is for RViz and recordings. "": there is none.
        frame: Optical frame, the `frame_id` of its images.
        width: Columns that the driver sends, px.
        height: Rows, px.
        rate_hz: Images a second.
        policy_height: Rows that the policy wants, px.
        policy_width: Columns, px.
        health: When an image counts as faulty.
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


def parse_cameras(root: Section) -> tuple[CameraContract, ...]:
    """Read the cameras of a contract.

    Raises:
        ContractError: when there is none, or a line is missing, unknown or invalid.
    """
    section = root.section("cameras")
    if not section.values:
        raise ContractError(f"{section.where}: at least one camera is needed")
    return tuple(_camera(str(name), section.section(name)) for name in section.values)


def _camera(name: str, section: Section) -> CameraContract:
    section.only("topic", "info_topic", "frame", "width", "height", "rate_hz", "policy_height", "policy_width",
                 "health")  # fmt: skip
    return CameraContract(
        name=name,
        topic=section.text("topic"),
        info_topic=section.text("info_topic") if section.values.get("info_topic") is not None else "",
        frame=section.text("frame"),
        width=section.count("width"),
        height=section.count("height"),
        rate_hz=section.number("rate_hz"),
        policy_height=section.count("policy_height"),
        policy_width=section.count("policy_width"),
        health=_health(section.section("health")) if "health" in section.values else CameraHealthLimits(),
    )


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
