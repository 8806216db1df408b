"""Conversion between rotation columns and matrices; separate from `rotations` because it imports pinocchio."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vla_ros.actions.rotation_vectors import (
    matrix_from_rotation_vector,
    quaternion_from_matrix,
    rotation_vector_from_matrix,
)
from vla_ros.actions.rotations import (
    Rotation,
    euler_from_matrix,
    matrix_from_euler,
    matrix_from_quaternion,
    matrix_from_six_d,
    six_d_from_matrix,
)
from vla_ros.types import FloatArray

CUT_MARGIN = 0.1
"""Minimum distance, rad, from a representation's discontinuity for it to serve as a regression target."""

_FROM_COLUMNS: dict[Rotation, Callable[[FloatArray], FloatArray]] = {
    Rotation.ROTATION_VECTOR: matrix_from_rotation_vector,
    Rotation.QUATERNION: matrix_from_quaternion,
    Rotation.QUATERNION_WXYZ: lambda columns: matrix_from_quaternion(np.roll(columns, -1)),
    Rotation.SIX_D: matrix_from_six_d,
}
_TO_COLUMNS: dict[Rotation, Callable[[FloatArray], FloatArray]] = {
    Rotation.ROTATION_VECTOR: rotation_vector_from_matrix,
    Rotation.QUATERNION: quaternion_from_matrix,
    Rotation.QUATERNION_WXYZ: lambda matrix: np.roll(quaternion_from_matrix(matrix), 1),
    Rotation.SIX_D: six_d_from_matrix,
}


def matrix_from_columns(columns: FloatArray, rotation: Rotation, euler_order: str = "") -> FloatArray:
    """Return the matrix (3, 3) of rotation columns.

    Raises:
        ValueError: when the columns are not a rotation, such as a quaternion that is not unit.
    """
    if rotation is Rotation.EULER:
        return matrix_from_euler(columns, euler_order)
    return _FROM_COLUMNS[rotation](columns)


def columns_from_matrix(matrix: FloatArray, rotation: Rotation, euler_order: str = "") -> FloatArray:
    """Return the rotation columns of a matrix (3, 3)."""
    if rotation is Rotation.EULER:
        return euler_from_matrix(matrix, euler_order)
    return _TO_COLUMNS[rotation](matrix)


def distance_to_cut(columns: FloatArray, rotation: Rotation, euler_order: str = "") -> float:
    """Return the distance, rad, from a rotation to the discontinuity of its representation; inf for six_d.

    Rotation vectors and unit quaternions with w >= 0 are discontinuous at an angle of pi, Euler angles at pi and at the
    singularity of the middle angle.
    """
    if rotation is Rotation.ROTATION_VECTOR:
        return float(np.pi - np.linalg.norm(columns))
    if rotation in (Rotation.QUATERNION, Rotation.QUATERNION_WXYZ):
        w = columns[3] if rotation is Rotation.QUATERNION else columns[0]
        return float(np.pi - 2.0 * np.arccos(np.clip(abs(w), 0.0, 1.0)))
    if rotation is Rotation.EULER:
        first, middle, last = np.abs(columns)
        tait_bryan = len(set(euler_order.lower())) == 3
        singular = np.pi / 2.0 - middle if tait_bryan else min(middle, np.pi - middle)
        return float(min(np.pi - first, np.pi - last, singular))
    return float(np.inf)
