"""Rotation forms and the matrices they stand for, by NumPy alone; quaternions are (x, y, z, w) as in ROS messages."""

from __future__ import annotations

import numpy as np

from vla_ros.types import UNIT_TOLERANCE, FloatArray


def matrix_from_quaternion(quaternion: FloatArray) -> FloatArray:
    """Return the (3, 3) matrix of a quaternion (x, y, z, w).

    Raises:
        ValueError: when its norm is further than `UNIT_TOLERANCE` from 1.
    """
    norm = float(np.linalg.norm(np.clip(quaternion, -2.0, 2.0)))  # clipped: 1e300 squared would overflow; NaN stays NaN
    if not abs(norm - 1.0) <= UNIT_TOLERANCE:
        raise ValueError(f"quaternion has norm {norm:.6g}, expected 1 within {UNIT_TOLERANCE}")
    x, y, z, w = np.asarray(quaternion, dtype=np.float64) / norm
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def matrix_from_six_d(columns: FloatArray) -> FloatArray:
    """Return the matrix whose first two columns are `columns` (6,), by Gram-Schmidt (Zhou et al. 2019).

    Raises:
        ValueError: when the two columns are zero or parallel.
    """
    first, second = np.asarray(columns[:3], dtype=np.float64), np.asarray(columns[3:], dtype=np.float64)
    first_norm = float(np.linalg.norm(first))
    if not first_norm > 1e-6:
        raise ValueError(f"six_d rotation: the first column has norm {first_norm:.3g}")
    x = first / first_norm
    rest = second - x * (x @ second)
    rest_norm = float(np.linalg.norm(rest))
    if not rest_norm > 1e-6:
        raise ValueError("six_d rotation: the second column is zero or parallel to the first")
    y = rest / rest_norm
    return np.stack([x, y, np.cross(x, y)], axis=1)


def six_d_from_matrix(matrix: FloatArray) -> FloatArray:
    """Return the first two columns of the matrix, (6,)."""
    return np.concatenate([matrix[:, 0], matrix[:, 1]])
