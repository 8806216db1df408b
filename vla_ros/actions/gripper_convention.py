"""Gripper column conventions, and their conversion to an opening in meters."""

from __future__ import annotations

from enum import Enum

import numpy as np

from vla_ros.types import FloatArray


class GripperConvention(str, Enum):
    """Meaning of a gripper column; fractions are of the maximum opening."""

    NONE = "none"
    OPENING = "opening"  # m between the fingers
    OPEN_IS_ONE = "open_is_one"  # 0 closed to 1 open: Bridge, ALOHA
    CLOSED_IS_ONE = "closed_is_one"  # 0 open to 1 closed: DROID
    OPEN_IS_PLUS = "open_is_plus"  # -1 closed to 1 open
    CLOSED_IS_PLUS = "closed_is_plus"  # -1 open to 1 closed: robosuite, LIBERO
    OPEN_IS_HUNDRED = "open_is_hundred"  # 0 closed to 100 open: LeRobot's arms


_FRACTION = {  # fraction = scale * column + offset
    GripperConvention.OPEN_IS_ONE: (1.0, 0.0),
    GripperConvention.CLOSED_IS_ONE: (-1.0, 1.0),
    GripperConvention.OPEN_IS_PLUS: (0.5, 0.5),
    GripperConvention.CLOSED_IS_PLUS: (-0.5, 0.5),
    GripperConvention.OPEN_IS_HUNDRED: (0.01, 0.0),
}


def openings_from_column(column: FloatArray, convention: GripperConvention, max_opening: float) -> FloatArray:
    """Convert a gripper column (h,) to openings (h,) in m; `max_opening` in m is fully open."""
    if convention is GripperConvention.OPENING:
        return np.array(column, dtype=np.float64)
    scale, offset = _FRACTION[convention]
    return (scale * np.asarray(column, dtype=np.float64) + offset) * max_opening


def column_from_openings(openings: FloatArray, convention: GripperConvention, max_opening: float) -> FloatArray:
    """Convert openings (h,) in m to a gripper column: the inverse of `openings_from_column`."""
    if convention is GripperConvention.OPENING:
        return np.array(openings, dtype=np.float64)
    scale, offset = _FRACTION[convention]
    return (np.asarray(openings, dtype=np.float64) / max_opening - offset) / scale
