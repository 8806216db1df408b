"""Rotation vectors, and conversions that need them; quaternions are (x, y, z, w) as in ROS messages.

Separate from `rotations` because it imports pinocchio, 50 MB that some processes do not otherwise need.
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
    """Return the matrix of a rotation vector (3,), rad, by the exponential map."""
    return np.asarray(pinocchio.exp3(np.asarray(vector, dtype=np.float64)), dtype=np.float64)


def rotation_vector_from_matrix(matrix: FloatArray) -> FloatArray:
    """Return the rotation vector (3,), rad, of a matrix; its angle is at most pi."""
    return np.asarray(pinocchio.log3(np.asarray(matrix, dtype=np.float64)), dtype=np.float64)


def slerp(start: FloatArray, end: FloatArray, fraction: float) -> FloatArray:
    """Interpolate from `start` to `end` along the shortest path; `fraction` is 0 to 1."""
    a, b = matrix_from_quaternion(start), matrix_from_quaternion(end)
    return quaternion_from_matrix(a @ matrix_from_rotation_vector(fraction * rotation_vector_from_matrix(a.T @ b)))
