"""Grasping rule of the scripted expert: next tool position and gripper state, from the current state alone."""

from __future__ import annotations

import numpy as np

from vla_ros.types import FloatArray

TOOL_DOWN = np.array([1.0, 0.0, 0.0, 0.0])
"""Quaternion (x, y, z, w) of a tool that points straight down."""

MAX_STEP = 0.028
"""Longest tool displacement per row, m."""

APPROACH_GAIN = 0.5
"""Fraction of the remaining distance covered per row once it is short."""

CLEARANCE = 0.075
"""Height of the hover point over the grasp point, m."""

LIFT_HEIGHT = 0.22
"""Height to which a held object is lifted, m above the table."""

ALIGNED, NEAR = 0.010, 0.008
"""Alignment tolerance before descending onto the object, and position tolerance before closing, m."""

CLOSING = 0.003
"""Opening deficit, m, from which the fingers count as closing, and continue with twice the tolerance."""


def grasp_rule(
    tool: FloatArray,
    opening: float,
    target: FloatArray,
    width: float,
    holds: bool,
    holds_other: bool,
    max_opening: float,
) -> tuple[FloatArray, bool]:
    """Return (target position of the tool, whether the gripper should be open)."""
    hover = np.array([target[0], target[1], target[2] + CLEARANCE])
    if holds:
        return np.array([tool[0], tool[1], max(LIFT_HEIGHT, tool[2])]), False
    if holds_other:
        return tool, True
    aside = float(np.linalg.norm(tool[:2] - target[:2]))
    height = float(tool[2] - target[2])
    # A cone above the object: the lower the tool, the better it must be aligned.
    if aside > ALIGNED + 0.25 * max(height - 0.02, 0.0):
        if height < CLEARANCE - 0.025:  # too low to cross: rise first
            return np.array([tool[0], tool[1], hover[2]]), True
        return hover, True
    ready = opening > width + 0.012
    closing = _at_grasp(tool, target, 2.0) and opening > width - 0.010
    if closing and (_at_grasp(tool, target, 1.0) or opening < max_opening - CLOSING):
        return target, False
    if not ready and height < 0.06:  # closed beside or above it: rise and open
        return hover, True
    return target, True


def grips(tool: FloatArray, target: FloatArray, opening: float, width: float, open_gripper: bool) -> bool:
    """Return whether fingers closed to `opening` m hold the target between them."""
    return not open_gripper and _at_grasp(tool, target, 2.0) and opening <= width


def _at_grasp(tool: FloatArray, target: FloatArray, slack: float) -> bool:
    return bool(np.linalg.norm(tool - target) < slack * NEAR)


def bounded_step(way: FloatArray) -> FloatArray:
    """Return the step of one row towards a goal `way` (3,) m from the tool."""
    length = float(np.linalg.norm(way))
    if length < 1e-9:
        return way
    return way * min(1.0, max(APPROACH_GAIN, 0.004 / length), MAX_STEP / length)
