"""Inverse kinematics by damped least squares within the joint limits."""

from __future__ import annotations

import numpy as np
import pinocchio

from vla_ros.robot.kinematics import Kinematics
from vla_ros.types import FloatArray

LEVER = 0.1
"""Weight of rotation relative to position, m/rad: low, since an arm of five joints cannot rotate its tool freely."""

DAMPING, LONGEST_STEP = 1e-4, 0.2
"""Damping of the least squares, and maximum change of a joint in one iteration, rad."""

CLOSE = 1e-4
"""Weighted pose error below which the target is reached, m."""


def nearest_posture(
    kinematics: Kinematics,
    position: FloatArray,
    rotation: FloatArray,
    start: FloatArray,
    iterations: int = 40,
    *,
    slide: bool = False,
) -> FloatArray:
    """Return joint positions (n,) rad within their limits that bring the tool as near as possible to a placement.

    Args:
        kinematics: Kinematics of the robot.
        position: (3,) m, base frame.
        rotation: (3, 3), base from tool.
        start: (n,) rad, start of the search; the result is near it where possible.
        iterations: Maximum number of iterations.
        slide: Exclude joints that would exceed their limit, so that the others compensate for them.
    """
    joints = kinematics.contract.joints
    weights = np.array([1.0, 1.0, 1.0, LEVER, LEVER, LEVER])
    q = np.clip(start, joints.lower, joints.upper)
    for _ in range(iterations):
        placement = kinematics.placement(q)
        turn = np.asarray(pinocchio.log3(rotation @ np.asarray(placement.rotation).T))
        error = weights * np.concatenate([position - np.asarray(placement.translation), turn])
        if np.linalg.norm(error) < CLOSE:
            break
        jacobian = weights[:, None] * kinematics.jacobian(q)
        step = _step(jacobian, error)
        for _ in range(len(q) if slide else 0):
            stuck = ((q <= joints.lower) & (step < 0.0)) | ((q >= joints.upper) & (step > 0.0))
            if not stuck.any():
                break
            jacobian[:, stuck] = 0.0
            step = _step(jacobian, error)
        step *= min(1.0, LONGEST_STEP / max(float(np.abs(step).max()), 1e-12))
        moved = np.clip(q + step, joints.lower, joints.upper)
        if np.abs(moved - q).max() < 1e-6:
            break
        q = moved
    return q


def _step(jacobian: FloatArray, error: FloatArray) -> FloatArray:
    return np.asarray(jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + DAMPING * np.eye(6), error))
