"""Resamples decoded chunks to another rate, or to start at another observation.

place of a row     0        1       2            ...  h
value              start    row 0   row 1             row h - 1, held from there on
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vla_ros.actions.rotation_vectors import slerp
from vla_ros.actions.space import ActionSpace
from vla_ros.actions.trajectory import ArmStart, ArmTrajectory
from vla_ros.types import FloatArray

EPSILON = 1e-6
"""Rounding tolerance, as a fraction of a row."""


def rows_at(trajectory: ArmTrajectory, start: ArmStart, first: float, step: float, count: int) -> ArmTrajectory:
    """Return `count` rows of a chunk at the places `first + step`, `first + 2 step`, ...

    Positions are interpolated linearly, rotations along the shortest path (slerp); the gripper opening is that of the
    row active at the midpoint of the new row. Before the start and after the last row the end values are held.

    Args:
        trajectory: (h, ...) as `decode_chunk` returns it.
        start: The arm at place 0.
        first: Place of the instant from which the new rows count.
        step: Distance between consecutive new rows, places.
        count: Number of rows, at least 1.
    """
    places = first + step * np.arange(1, count + 1)
    joints, positions, quaternions = trajectory.joint_positions, trajectory.positions, trajectory.quaternions
    found = ArmTrajectory()
    if joints is not None:
        found = replace(found, joint_positions=_linear(np.vstack([start.joint_positions, joints]), places))
    if positions is not None and quaternions is not None:
        turns = np.vstack([start.pose.quaternion, quaternions])
        found = replace(
            found,
            positions=_linear(np.vstack([start.pose.position, positions]), places),
            quaternions=np.stack([_turned(turns, place) for place in places]),
        )
    if trajectory.openings is not None:
        under_way = np.clip((places - 0.5 * step).astype(int), 0, len(trajectory.openings) - 1)
        found = replace(found, openings=np.asarray(trajectory.openings)[under_way])
    return found


def rows_within(rows: int, space: ActionSpace, other: ActionSpace) -> int:
    """Return how many rows of `other` fit into the duration of `rows` rows of `space`: 1 to the horizon of `other`."""
    held = int(np.floor(rows * space.period / other.period + EPSILON))
    return min(max(held, 1), other.horizon)


def _split(place: float, rows: int) -> tuple[int, float]:
    """Return the row before a place (of `rows`, which include the start), and the fraction of the way to the next."""
    inside = min(max(place, 0.0), float(rows - 1))
    before = min(int(inside + EPSILON), rows - 2)
    return before, max(inside - before, 0.0)


def _linear(values: FloatArray, places: np.ndarray) -> FloatArray:
    found = []
    for place in places:
        before, fraction = _split(float(place), len(values))
        found.append(values[before] + fraction * (values[before + 1] - values[before]))
    return np.array(found)


def _turned(quaternions: FloatArray, place: float) -> FloatArray:
    before, fraction = _split(place, len(quaternions))
    if fraction == 0.0:
        return np.asarray(quaternions[before])
    return slerp(quaternions[before], quaternions[before + 1], fraction)
