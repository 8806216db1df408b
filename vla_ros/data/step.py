"""One step of a demonstration, independent of the format it was read from.

=================  ==========================  =====================================================================
field              shape, dtype                meaning
=================  ==========================  =====================================================================
images             (height, width, 3) uint8    RGB, by camera name, upright
proprioception     (n,) float64                measured before the action, one value per name (m, rad, unit quaternion)
action             (width,) float64            commanded action, as defined by `convention`
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
"""Proprioception names of the tool's pose: m, and a unit quaternion (x, y, z, w), base frame."""

GRIPPER_NAME = "gripper_opening"
"""Proprioception name of the distance between the fingers, m."""

GRIPPER_FRACTION = "gripper_open"
"""Proprioception name of a gripper measured as a fraction instead: 0 closed to 1 open."""


@dataclass(frozen=True)
class Step:
    """One time step of an episode, with the action commanded then.

    Attributes:
        images: Camera to image.
        instruction: Instruction to the robot; empty where the data set has none.
        proprioception: Measurements, in the order of `proprioception_names`.
        proprioception_names: `POSE_NAMES` and `GRIPPER_NAME` where the data set has these; otherwise its own names.
        action: One row of `convention`.
        convention: Frame, delta or absolute, rotation form, gripper convention and rate; its horizon is 1.
        task: Name of the task, such as "pick" or the data set's own.
        episode: Name of the episode, unique in its data set.
        index: Index of the step in its episode, from 0.
        timestamp: Time since the first step of the episode, s; the reader checks that it advances.
        last: Whether it is the last step of the episode.
        success: Whether the episode succeeded; None where the data set does not record it.
        aux: Simulator labels, see `DatasetDescription.aux`; readers that yield steps leave them out.

    Raises:
        ConventionError: when the action's width differs from its convention's.
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
    """Extract the tool's pose from the measurements; None when it is missing."""
    if not set(POSE_NAMES) <= set(names):
        return None
    values = proprioception[[names.index(name) for name in POSE_NAMES]]
    return Pose(values[:3], values[3:])
