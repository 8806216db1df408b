"""Assembles observations: checks, synchronizes and resizes images and joint states. No ROS, no threads."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from vla_ros.errors import ObservationError
from vla_ros.perception.geometry import resize_for_policy
from vla_ros.perception.health import CameraFault, CameraHealth, HealthLimits
from vla_ros.perception.synchronizer import Synchronizer
from vla_ros.robot.sections.camera import CameraContract
from vla_ros.types import ImageArray, Observation, RobotState

RawState = TypeVar("RawState")


@dataclass(frozen=True)
class ObservationLimits:
    """Limits on the parts of an observation.

    Attributes:
        skew: Largest difference between the stamps of the parts, s.
        patience: Maximum time an image waits for its partners, s on the steady clock.
        health: Health limits of all cameras.
    """

    skew: float = 0.05
    patience: float = 0.02
    health: HealthLimits = field(default_factory=HealthLimits)

    def __post_init__(self) -> None:
        for name, value in (("skew", self.skew), ("patience", self.patience)):
            if not 0.0 <= value < math.inf:
                raise ObservationError(f"{name} is {value} s, expected a finite number of at least 0")
        if not 0.0 < self.health.stale_after < math.inf:
            raise ObservationError(f"stale_after is {self.health.stale_after} s, expected a finite positive number")
        if not self.health.joint_speed > 0.0:
            raise ObservationError(f"joint_speed is {self.health.joint_speed} rad/s, expected more than 0")


class Assembler(Generic[RawState]):
    """Collects the sensor data of one robot; `now` is always the caller's steady clock, s.

    Attributes:
        cameras: Camera contracts by name.
        health: Health monitor of each camera.
        withheld: Number of image sets not used because one image was frozen.
    """

    def __init__(
        self,
        cameras: Sequence[CameraContract],
        state_between: Callable[[RawState, RawState, float], RobotState],
        limits: ObservationLimits,
    ) -> None:
        """Prepare for `cameras`; `state_between` is the `blend` of the synchronizer."""
        self.cameras = {camera.name: camera for camera in cameras}
        self.health = {
            name: CameraHealth(camera, limits.health, [other for other in cameras if other is not camera])
            for name, camera in self.cameras.items()
        }
        rates = {name: camera.rate_hz for name, camera in self.cameras.items()}
        self.synchronizer: Synchronizer[ImageArray, RawState, RobotState] = Synchronizer(
            rates, limits.skew, state_between, limits.patience
        )
        self.withheld = 0

    def add_state(self, stamp: float, state: RawState, now: float) -> None:
        """Add a joint state; it is evaluated only when an image needs it."""
        self.synchronizer.add_state(stamp, state, now)

    def add_image(self, camera: str, stamp: float, frame: str, image: ImageArray, now: float) -> CameraFault:
        """Add an image (h, w, 3) uint8 RGB if it is healthy; return the verdict."""
        fault = self.health[camera].receive(image, frame, stamp, now)
        if fault in (CameraFault.NONE, CameraFault.FROZEN):  # `take` checks for frozen again, with the joints
            self.synchronizer.add_image(camera, stamp, image, now)
        return fault

    def reject_image(self, camera: str, detail: str, now: float) -> CameraFault:
        """Record an image that could not be decoded."""
        return self.health[camera].refuse(CameraFault.UNREADABLE, detail, now)

    def take(self, sequence: int, now: float) -> tuple[Observation, Mapping[str, float]] | None:
        """Return the newest available observation, numbered `sequence`, and the stamp of each of its images, s.

        Raises:
            Exception: as raised by `state_between` for an unusable joint state.
        """
        bundle = self.synchronizer.take(now)
        if bundle is None:
            return None
        state = bundle.state.value
        faults = [
            self.health[name].check_motion(item.value, state.joint_positions, item.stamp)
            for name, item in bundle.pictures.items()
        ]
        if CameraFault.FROZEN in faults:
            self.withheld += 1
            return None
        images = {
            name: resize_for_policy(bundle.pictures[name].value, camera.policy_height, camera.policy_width)
            for name, camera in self.cameras.items()
        }
        observation = Observation(images, state, None, bundle.stamp, sequence, bundle.skew)
        return observation, {name: item.stamp for name, item in bundle.pictures.items()}
