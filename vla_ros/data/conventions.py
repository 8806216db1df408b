"""Converts pose and gripper representations of other data sets to those of an action space.

Euler angles, gripper columns from -1 to 1 and scaled controller inputs are not conventions of this package: a reader
converts them exactly, to rotation vectors and fractions of the opening, and records the conversion.
"""

from __future__ import annotations

import numpy as np

from vla_ros.actions.groups import TOOL_FRAME
from vla_ros.actions.rotation_vectors import (
    matrix_from_rotation_vector,
    quaternion_from_matrix,
    rotation_vector_from_matrix,
)
from vla_ros.actions.rotations import matrix_from_euler
from vla_ros.actions.space import ActionSpace
from vla_ros.types import FloatArray

ROLL_PITCH_YAW = "xyz"
"""Order of (roll, pitch, yaw): R = Rz(yaw) Ry(pitch) Rx(roll), about fixed axes."""


def rotation_vector_from_euler(angles: FloatArray) -> FloatArray:
    """Return the rotation vector, rad, of (roll, pitch, yaw), rad."""
    return rotation_vector_from_matrix(matrix_from_euler(angles, ROLL_PITCH_YAW))


def quaternion_from_euler(angles: FloatArray) -> FloatArray:
    """Return the unit quaternion (x, y, z, w) of (roll, pitch, yaw), rad."""
    return quaternion_from_matrix(matrix_from_euler(angles, ROLL_PITCH_YAW))


def quaternion_from_rotation_vector(vector: FloatArray) -> FloatArray:
    """Return the unit quaternion (x, y, z, w) of a rotation vector, rad."""
    return quaternion_from_matrix(matrix_from_rotation_vector(vector))


def absolute_gripper(closing: FloatArray, initial: float = 1.0) -> FloatArray:
    """Convert "close" (above 0), "open" (below 0) or "stay" (0) commands to 1 open, 0 closed at each step.

    Args:
        closing: (steps,) command to close.
        initial: Gripper state before the first command, 1 open, 0 closed.
    """
    state, states = initial, []
    for command in closing:
        state = 0.0 if command > 0.0 else 1.0 if command < 0.0 else state
        states.append(state)
    return np.array(states)


def incompatibilities(source: ActionSpace, target: ActionSpace) -> list[str]:
    """Return the reasons why two action spaces cannot be converted into each other, one per line; [] if they can.

    Reasons are different arms, joints instead of a tool, another fixed frame or rate, or a rotation or gripper that
    only one of them has. Horizons do not matter.
    """
    lines = []
    if source.rate_hz != target.rate_hz:
        lines.append(f"rate_hz is {source.rate_hz!r} there, {target.rate_hz!r} here")
    if source.arms != target.arms:
        return [*lines, f"arms are {list(source.arms)} there, {list(target.arms)} here"]
    for arm in source.arms:
        there, here = source.motion(arm), target.motion(arm)
        if there.quantity.of_joints != here.quantity.of_joints or there.joints != here.joints:
            lines.append(f"{there.name} of {there.width} columns there, {here.name} of {here.width} here")
        if {there.frame, here.frame} - {TOOL_FRAME} and there.frame != here.frame:
            lines.append(f"frame is {there.frame!r} there, {here.frame!r} here")
        for line, of_there, of_here in (
            ("rotation", there.rotation.value, here.rotation.value),
            ("gripper", _gripper(source, arm), _gripper(target, arm)),
        ):
            if (of_there == "none") != (of_here == "none"):
                lines.append(f"{line} is '{of_there}' there, '{of_here}' here")
    return lines


def _gripper(space: ActionSpace, arm: str) -> str:
    group = space.gripper(arm)
    return "none" if group is None else group.gripper.value
