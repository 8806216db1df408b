"""Rotation columns of an action as matrices, in each form; apart from `rotations` because pinocchio comes with it."""

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
"""Distance, rad, from the angle at which a form jumps, below which it is of no use as a regression target."""

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
    """Return the matrix (3, 3) that rotation columns stand for.

    Raises:
        ValueError: for columns that are no rotation, such as a quaternion that is not unit.
    """
    if rotation is Rotation.EULER:
        return matrix_from_euler(columns, euler_order)
    return _FROM_COLUMNS[rotation](columns)


def columns_from_matrix(matrix: FloatArray, rotation: Rotation, euler_order: str = "") -> FloatArray:
    """Return the columns that stand for a matrix (3, 3)."""
    if rotation is Rotation.EULER:
        return euler_from_matrix(matrix, euler_order)
    return _TO_COLUMNS[rotation](matrix)


def distance_to_cut(columns: FloatArray, rotation: Rotation, euler_order: str = "") -> float:
    """Return how far, rad, a rotation is from where its columns jump while it turns on steadily; inf for six_d.

    Rotation vectors jump at an angle of pi, unit quaternions with w >= 0 too, Euler angles at pi and at the
    singularity of the middle one.
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
