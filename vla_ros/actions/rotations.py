"""Rotation representations and matrices in plain NumPy; quaternions are (x, y, z, w) as in ROS messages."""

from __future__ import annotations

import re
from enum import Enum

import numpy as np

from vla_ros.errors import ContractError
from vla_ros.types import UNIT_TOLERANCE, FloatArray


class Rotation(str, Enum):
    """Representation of a rotation."""

    NONE = "none"  # no columns: the orientation of the observation is kept
    ROTATION_VECTOR = "rotation_vector"  # 3 columns, axis times angle in rad
    EULER = "euler"  # 3 columns, in the order of the group's euler_order
    QUATERNION = "quaternion"  # 4 columns, (x, y, z, w), unit
    QUATERNION_WXYZ = "quaternion_wxyz"  # 4 columns, (w, x, y, z), unit
    SIX_D = "six_d"  # 6 columns, the first two columns of the matrix (Zhou et al. 2019)


ROTATION_WIDTH = {
    Rotation.NONE: 0,
    Rotation.ROTATION_VECTOR: 3,
    Rotation.EULER: 3,
    Rotation.QUATERNION: 4,
    Rotation.QUATERNION_WXYZ: 4,
    Rotation.SIX_D: 6,
}

_ORDER = re.compile(r"[xyz]{3}|[XYZ]{3}")
_AXES = {"x": 0, "y": 1, "z": 2}


def check_euler_order(order: str) -> None:
    """Check an Euler angle order.

    Raises:
        ContractError: when it is not three letters of one case, adjacent ones different.
    """
    if not _ORDER.fullmatch(order) or order[0] == order[1] or order[1] == order[2]:
        raise ContractError(
            f"euler_order is {order!r}, expected three of x, y, z (fixed axes) or X, Y, Z (moving axes), such as 'xyz'"
        )


def matrix_from_euler(angles: FloatArray, order: str) -> FloatArray:
    """Return the matrix (3, 3) of Euler angles (3,), rad, in the given order: lower case is about fixed axes."""
    matrix = np.eye(3)
    for angle, letter in zip(np.asarray(angles, dtype=np.float64).tolist(), order.lower(), strict=True):
        turn = _about(_AXES[letter], angle)
        matrix = turn @ matrix if order.islower() else matrix @ turn
    return matrix


def euler_from_matrix(matrix: FloatArray, order: str) -> FloatArray:
    """Return the Euler angles (3,), rad, of a matrix; first and last within pi, one of them 0 at the singularity.

    With `i, j, k` the axes in the order of moving axes, R = Ri(a) Rj(b) Rk(c) (Diebel 2006, section 8).
    """
    fixed = order.islower()
    i, j, k = (_AXES[letter] for letter in (reversed(order.lower()) if fixed else order.lower()))
    sign = 1.0 if (j - i) % 3 == 1 else -1.0
    r = np.asarray(matrix, dtype=np.float64)
    if i != k:  # Tait-Bryan
        second = np.arctan2(sign * r[i, k], np.hypot(r[i, i], r[i, j]))
        if np.hypot(r[i, i], r[i, j]) > 1e-9:
            first = np.arctan2(-sign * r[j, k], r[k, k])
            third = np.arctan2(-sign * r[i, j], r[i, i])
        else:
            first, third = np.arctan2(sign * r[k, j], r[j, j]), 0.0
    else:  # proper Euler angles, with m the third axis
        m = 3 - i - j
        second = np.arctan2(np.hypot(r[i, j], r[i, m]), r[i, i])
        if np.hypot(r[i, j], r[i, m]) > 1e-9:
            first = np.arctan2(r[j, i], -sign * r[m, i])
            third = np.arctan2(r[i, j], sign * r[i, m])
        else:
            first, third = np.arctan2(sign * r[m, j], r[j, j]), 0.0
    return np.array([third, second, first] if fixed else [first, second, third])


def _about(axis: int, angle: float) -> FloatArray:
    c, s = np.cos(angle), np.sin(angle)
    matrix = np.eye(3)
    j, k = (axis + 1) % 3, (axis + 2) % 3
    matrix[j, j] = matrix[k, k] = c
    matrix[j, k], matrix[k, j] = -s, s
    return matrix


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
