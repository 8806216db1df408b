"""Brings what other data sets write about poses and grippers into the terms of an action specification.

Rotations by Euler angles, gripper columns from -1 to 1 and scaled controller inputs are no conventions of this package:
a reader turns them into rotation vectors and shares of the opening, exactly, and says what it did.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vla_ros.actions.decoding import decode, encode
from vla_ros.actions.rotation_vectors import (
    matrix_from_rotation_vector,
    quaternion_from_matrix,
    rotation_vector_from_matrix,
)
from vla_ros.actions.specification import ActionSpecification, GripperConvention, Reference
from vla_ros.data.errors import ConventionError
from vla_ros.errors import VlaError
from vla_ros.types import FloatArray, Pose


def matrix_from_euler(angles: FloatArray) -> FloatArray:
    """Return R = Rz(yaw) Ry(pitch) Rx(roll) for (roll, pitch, yaw), rad: about the fixed x, y, z in order."""
    roll, pitch, yaw = (
        matrix_from_rotation_vector(angle * axis) for angle, axis in zip(angles, np.eye(3), strict=True)
    )
    return np.asarray(yaw @ pitch @ roll)


def rotation_vector_from_euler(angles: FloatArray) -> FloatArray:
    """Return the rotation vector, rad, of (roll, pitch, yaw) as in `matrix_from_euler`."""
    return rotation_vector_from_matrix(matrix_from_euler(angles))


def quaternion_from_euler(angles: FloatArray) -> FloatArray:
    """Return the unit quaternion (x, y, z, w) of (roll, pitch, yaw) as in `matrix_from_euler`."""
    return quaternion_from_matrix(matrix_from_euler(angles))


def quaternion_from_rotation_vector(vector: FloatArray) -> FloatArray:
    """Return the unit quaternion (x, y, z, w) of a rotation vector, rad."""
    return quaternion_from_matrix(matrix_from_rotation_vector(vector))


def absolute_gripper(closing: FloatArray, initial: float = 1.0) -> FloatArray:
    """Return a column that says "close" (above 0), "open" (below 0) or "stay" (0) as 1 open, 0 closed at each step.

    Args:
        closing: (steps,) command to close.
        initial: State before the first command.
    """
    state, states = initial, []
    for command in closing:
        state = 0.0 if command > 0.0 else 1.0 if command < 0.0 else state
        states.append(state)
    return np.array(states)


def obstacles(given: ActionSpecification, wanted: ActionSpecification) -> list[str]:
    """Say line by line why the actions of one convention are other motions than those of another; [] when they are not.

    Another frame or rate, or a rotation or gripper that only one of them has. Horizons do not matter.
    """
    lines = [
        f"{line} is {getattr(given, line)!r} there, {getattr(wanted, line)!r} here"
        for line in ("frame", "rate_hz")
        if getattr(given, line) != getattr(wanted, line)
    ]
    for line in ("rotation", "gripper"):
        there, here = getattr(given, line).value, getattr(wanted, line).value
        if (there == "none") != (here == "none"):
            lines.append(f"{line} is '{there}' there, '{here}' here")
    return lines


def convert(
    action: FloatArray,
    given: ActionSpecification,
    wanted: ActionSpecification,
    pose: Pose | None,
    max_opening: float | None,
) -> FloatArray:
    """Return one action (width,) of the convention `given` as one of `wanted`: the same motion, written differently.

    Args:
        action: One row.
        given: Its convention.
        wanted: Another.
        pose: Tool before the action; needed between absolute and the others.
        max_opening: Opening that counts as fully open, m; needed from or to metres.

    Raises:
        ConventionError: when they mean different motions: other frame, other rate, a rotation or gripper that is not
            there; or when what is needed is not known.
    """
    given, wanted = replace(given, horizon=1), replace(wanted, horizon=1)
    if given == wanted:
        return action
    if lines := obstacles(given, wanted):
        raise ConventionError("an action cannot be converted: " + "; ".join(lines))
    metres = GripperConvention.OPENING
    if (given.gripper is metres) != (wanted.gripper is metres) and max_opening is None:
        raise ConventionError("a gripper in metres cannot be converted: the data set does not say its full opening")
    if (given.reference is Reference.ABSOLUTE) != (wanted.reference is Reference.ABSOLUTE) and pose is None:
        raise ConventionError("an absolute pose cannot be converted: the data set does not say where the tool is")
    start = pose or Pose(np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0]))
    opening = 1.0 if max_opening is None else max_opening
    try:
        return encode(decode(action[None], given, start, opening), wanted, start, opening)[0]
    except VlaError as error:
        raise ConventionError(f"an action cannot be converted: {error}") from error
