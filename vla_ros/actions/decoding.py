"""Turns the rows of an action chunk into end-effector poses and gripper openings, and back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vla_ros.actions.rotation_vectors import (
    matrix_from_rotation_vector,
    quaternion_from_matrix,
    rotation_vector_from_matrix,
)
from vla_ros.actions.rotations import matrix_from_quaternion, matrix_from_six_d, six_d_from_matrix
from vla_ros.actions.specification import ActionSpecification, GripperConvention, Reference, Rotation
from vla_ros.errors import ChunkError
from vla_ros.types import FloatArray, Pose

_FROM_COLUMNS = {
    Rotation.ROTATION_VECTOR: matrix_from_rotation_vector,
    Rotation.QUATERNION: matrix_from_quaternion,
    Rotation.SIX_D: matrix_from_six_d,
}
_TO_COLUMNS = {
    Rotation.ROTATION_VECTOR: rotation_vector_from_matrix,
    Rotation.QUATERNION: quaternion_from_matrix,
    Rotation.SIX_D: six_d_from_matrix,
}


@dataclass(frozen=True)
class PoseTrajectory:
    """Decoded chunk: `positions` (h, 3) m and `quaternions` (h, 4) in the base frame, `openings` (h,) m or None."""

    positions: FloatArray
    quaternions: FloatArray
    openings: FloatArray | None


def decode(actions: FloatArray, specification: ActionSpecification, start: Pose, max_opening: float) -> PoseTrajectory:
    """Return the poses that `actions` (horizon, width) ask for.

    Args:
        actions: Rows as `specification` says.
        specification: Convention of the rows.
        start: End-effector pose of the observation behind the chunk, base frame.
        max_opening: Opening of the gripper that counts as fully open, m.

    Raises:
        ChunkError: when the width is wrong, a value is not finite, or a rotation is degenerate.
    """
    actions = np.asarray(actions, dtype=np.float64)
    if actions.ndim != 2 or actions.shape[1] != specification.width:
        raise ChunkError(f"chunk has shape {actions.shape}, expected (horizon, {specification.width})")
    if not np.isfinite(actions).all():
        raise ChunkError("chunk holds values that are not finite")
    start_matrix = matrix_from_quaternion(start.quaternion)
    positions = actions[:, :3].copy()
    matrices = _decode_rotations(actions, specification, start_matrix)
    if specification.reference is Reference.DELTA:
        positions = np.cumsum(positions, axis=0)
    if specification.reference is not Reference.ABSOLUTE:
        positions = positions + start.position
    quaternions = np.stack([quaternion_from_matrix(matrix) for matrix in matrices])
    return PoseTrajectory(positions, quaternions, _decode_gripper(actions, specification, max_opening))


def _decode_rotations(
    actions: FloatArray, specification: ActionSpecification, start_matrix: FloatArray
) -> list[FloatArray]:
    if specification.rotation is Rotation.NONE:
        return [start_matrix] * len(actions)
    from_columns = _FROM_COLUMNS[specification.rotation]
    matrices, current = [], start_matrix
    for row in actions[:, specification.rotation_columns]:
        try:
            matrix = from_columns(row)
        except ValueError as error:
            raise ChunkError(str(error)) from error
        if specification.reference is Reference.RELATIVE:
            matrix = matrix @ start_matrix
        elif specification.reference is Reference.DELTA:
            matrix = current = matrix @ current
        matrices.append(matrix)
    return matrices


def _decode_gripper(actions: FloatArray, specification: ActionSpecification, max_opening: float) -> FloatArray | None:
    if specification.gripper is GripperConvention.NONE:
        return None
    column = actions[:, -1]
    if specification.gripper is GripperConvention.OPEN_IS_ONE:
        return column * max_opening
    if specification.gripper is GripperConvention.CLOSED_IS_ONE:
        return (1.0 - column) * max_opening
    return column.copy()


def encode(
    trajectory: PoseTrajectory, specification: ActionSpecification, start: Pose, max_opening: float
) -> FloatArray:
    """Return the rows (horizon, width) that `decode` turns into `trajectory`: its inverse.

    Raises:
        ChunkError: when the specification has a gripper column and the trajectory no openings.
    """
    start_matrix = matrix_from_quaternion(start.quaternion)
    quaternions = np.asarray(trajectory.quaternions)
    if (quaternions == quaternions[0]).all():  # a tool that keeps its attitude is the usual case
        matrices = [matrix_from_quaternion(quaternions[0])] * len(quaternions)
    else:
        matrices = [matrix_from_quaternion(q) for q in quaternions]
    positions = np.asarray(trajectory.positions, dtype=np.float64)
    if specification.reference is not Reference.ABSOLUTE:
        positions = positions - start.position
    if specification.reference is Reference.DELTA:
        positions = np.diff(positions, axis=0, prepend=np.zeros((1, 3)))
        matrices = [m @ before.T for m, before in zip(matrices, [start_matrix, *matrices[:-1]], strict=True)]
    elif specification.reference is Reference.RELATIVE:
        matrices = [m @ start_matrix.T for m in matrices]
    columns = [positions]
    if specification.rotation is not Rotation.NONE:
        columns.append(np.stack([_TO_COLUMNS[specification.rotation](m) for m in matrices]))
    if specification.gripper is not GripperConvention.NONE:
        if trajectory.openings is None:
            raise ChunkError("the specification has a gripper column, but the trajectory has no openings")
        columns.append(_encode_gripper(trajectory.openings, specification, max_opening)[:, None])
    return np.concatenate(columns, axis=1)


def _encode_gripper(openings: FloatArray, specification: ActionSpecification, max_opening: float) -> FloatArray:
    if specification.gripper is GripperConvention.OPEN_IS_ONE:
        return openings / max_opening
    if specification.gripper is GripperConvention.CLOSED_IS_ONE:
        return 1.0 - openings / max_opening
    return openings
