"""Rotations as axis times angle, and what is made of them; quaternions are (x, y, z, w) as in ROS messages.

Apart from `rotations` because pinocchio comes with it, 50 MB of a process that needs nothing else of it.
"""

from __future__ import annotations

import numpy as np
import pinocchio

from vla_ros.actions.rotations import matrix_from_quaternion
from vla_ros.types import FloatArray


def quaternion_from_matrix(matrix: FloatArray) -> FloatArray:
    """Return the unit quaternion (x, y, z, w), w >= 0, of a (3, 3) rotation matrix."""
    coefficients = np.asarray(pinocchio.Quaternion(np.asarray(matrix, dtype=np.float64)).coeffs(), dtype=np.float64)
    coefficients = coefficients / np.linalg.norm(coefficients)
    return -coefficients if coefficients[3] < 0.0 else coefficients


def matrix_from_rotation_vector(vector: FloatArray) -> FloatArray:
    """Return the matrix of axis times angle (rad), by the exponential map."""
    return np.asarray(pinocchio.exp3(np.asarray(vector, dtype=np.float64)), dtype=np.float64)


def rotation_vector_from_matrix(matrix: FloatArray) -> FloatArray:
    """Return axis times angle (3,), rad, angle at most pi."""
    return np.asarray(pinocchio.log3(np.asarray(matrix, dtype=np.float64)), dtype=np.float64)


def slerp(start: FloatArray, end: FloatArray, share: float) -> FloatArray:
    """Return the quaternion `share` (0 to 1) of the shortest way from `start` to `end`."""
    a, b = matrix_from_quaternion(start), matrix_from_quaternion(end)
    return quaternion_from_matrix(a @ matrix_from_rotation_vector(share * rotation_vector_from_matrix(a.T @ b)))
