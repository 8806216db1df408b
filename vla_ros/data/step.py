"""One step of a demonstration, the same whichever format it was read from.

=================  ==========================  =====================================================================
field              shape, dtype                meaning
=================  ==========================  =====================================================================
images             (height, width, 3) uint8    RGB, by name of the camera, upright
proprioception     (n,) float64                measured before the action, one value a name (m, rad, unit quaternion)
action             (width,) float64            what was commanded, as `convention` says
=================  ==========================  =====================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.actions.space import ActionSpace
from vla_ros.data.errors import ConventionError, DataError, NotFiniteError
from vla_ros.types import FloatArray, ImageArray, Pose, frozen_array

POSE_NAMES = ("tool_x", "tool_y", "tool_z", "tool_qx", "tool_qy", "tool_qz", "tool_qw")
"""Names of the tool's pose among the proprioception: m, and a unit quaternion (x, y, z, w), base frame."""

GRIPPER_NAME = "gripper_opening"
"""Name of the distance between the fingers, m, among the proprioception."""

GRIPPER_SHARE = "gripper_open"
"""Name of a gripper that is measured as a share instead: 0 closed to 1 open."""


@dataclass(frozen=True)
class Step:
    """One instant of an episode, and what was commanded then.

    Attributes:
        images: Camera to picture.
        instruction: What the robot was asked to do; empty where the data set has no words.
        proprioception: Measurements, in the order of `proprioception_names`.
        proprioception_names: `POSE_NAMES` and `GRIPPER_NAME` where the data set has these; others as they are there.
        action: One row of the convention.
        convention: Frame, delta or absolute, rotation form, gripper convention and rate; its horizon is 1.
        task: Name of the task, such as "pick" or the data set's own.
        episode: Name of the episode, unique in its data set.
        index: Which step of the episode it is, from 0.
        timestamp: Time since the first step of the episode, s; whether it advances is the reader's check.
        last: It ends the episode.
        success: Whether the episode succeeded; None where the data set does not say.
        aux: Labels that only a simulator knows, as `DatasetDescription.aux` says; readers of steps leave them out.

    Raises:
        ConventionError: when the action has not the width of its convention.
        NotFiniteError: when a number is NaN or infinite.
        DataError: when shapes do not fit each other.
    """

    images: Mapping[str, ImageArray]
    instruction: str
    proprioception: FloatArray
    action: FloatArray
    convention: ActionSpace
    task: str
    episode: str
    index: int
    timestamp: float
    last: bool
    success: bool | None
    proprioception_names: tuple[str, ...] = field(default=())
    aux: Mapping[str, NDArray[Any] | str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "proprioception", frozen_array(self.proprioception))
        object.__setattr__(self, "action", frozen_array(self.action))
        where = f"episode '{self.episode}', step {self.index}"
        if self.action.shape != (self.convention.width,):
            raise ConventionError(
                f"{where}: the action has shape {self.action.shape}, its convention says ({self.convention.width},)"
            )
        if self.proprioception.shape != (len(self.proprioception_names),):
            raise DataError(
                f"{where}: proprioception has shape {self.proprioception.shape}, but "
                f"{len(self.proprioception_names)} names"
            )
        for name, values in (("action", self.action), ("proprioception", self.proprioception)):
            if not np.isfinite(values).all():
                raise NotFiniteError(f"{where}: {name} holds values that are not finite: {values.tolist()}")
        if not np.isfinite(self.timestamp):
            raise NotFiniteError(f"{where}: timestamp is {self.timestamp} s, expected a finite number")
        for camera, image in self.images.items():
            if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
                raise DataError(
                    f"{where}: camera '{camera}' gave {image.shape} {image.dtype}, expected (height, width, 3) uint8"
                )

    @property
    def end_effector(self) -> Pose | None:
        """Pose of the tool in the base frame; None where the data set does not name it."""
        return pose_of(self.proprioception, self.proprioception_names)


def pose_of(proprioception: FloatArray, names: tuple[str, ...]) -> Pose | None:
    """Return the tool's pose among the measurements, or None when it is not there."""
    if not set(POSE_NAMES) <= set(names):
        return None
    values = proprioception[[names.index(name) for name in POSE_NAMES]]
    return Pose(values[:3], values[3:])
