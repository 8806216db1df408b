"""Conversion between chunks of one tool-commanded arm and end-effector poses with gripper openings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vla_ros.actions.space import ActionSpace
from vla_ros.actions.trajectory import ArmStart, ArmTrajectory, decode_chunk, encode_chunk
from vla_ros.errors import ChunkError
from vla_ros.types import FloatArray, Pose


@dataclass(frozen=True)
class PoseTrajectory:
    """Decoded chunk: `positions` (h, 3) m and `quaternions` (h, 4) in the base frame, `openings` (h,) m or None."""

    positions: FloatArray
    quaternions: FloatArray
    openings: FloatArray | None


def decode(actions: FloatArray, space: ActionSpace, start: Pose, max_opening: float) -> PoseTrajectory:
    """Return the target poses of `actions` (horizon, width).

    Args:
        actions: Rows in the convention of `space`.
        space: Action space of one tool-commanded arm.
        start: End-effector pose of the observation behind the chunk, base frame.
        max_opening: Gripper opening that counts as fully open, m.

    Raises:
        ChunkError: when the width is wrong, a value is not finite, a rotation is degenerate, or `space` is of joints.
    """
    arm = space.only_motion.arm
    found = decode_chunk(actions, space, {arm: ArmStart(np.zeros(0), start, max_opening)})[arm]
    if found.positions is None or found.quaternions is None:
        raise ChunkError(f"action group '{space.only_motion.name}' commands joints, expected a tool pose")
    return PoseTrajectory(found.positions, found.quaternions, found.openings)


def encode(trajectory: PoseTrajectory, space: ActionSpace, start: Pose, max_opening: float) -> FloatArray:
    """Return the rows (horizon, width) of `trajectory`: the inverse of `decode`.

    Raises:
        ChunkError: when the space has a gripper column and the trajectory no openings.
    """
    arm = space.only_motion.arm
    wanted = ArmTrajectory(None, trajectory.positions, trajectory.quaternions, trajectory.openings)
    return encode_chunk({arm: wanted}, space, {arm: ArmStart(np.zeros(0), start, max_opening)})
