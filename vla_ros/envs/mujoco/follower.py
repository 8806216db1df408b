"""Differential inverse kinematics that tracks a pose, for fast data collection.

It has no safety layer, so it is for simulation only.
"""

from __future__ import annotations

import numpy as np
import pinocchio

from vla_ros.actions.rotations import matrix_from_quaternion
from vla_ros.robot.contract import RobotContract
from vla_ros.robot.kinematics import Kinematics
from vla_ros.types import FloatArray

DAMPING = 0.02
"""Damping factor of the least squares (Nakamura and Hanafusa 1986)."""


class PoseFollower:
    """Moves a joint reference towards a pose, within the contract's joint limits."""

    def __init__(self, contract: RobotContract, kinematics: Kinematics, q: FloatArray) -> None:
        """Start from joint positions `q` (n,) rad."""
        self._joints, self._kinematics = contract.joints, kinematics
        self._cartesian = contract.cartesian
        self.q = np.array(q, dtype=np.float64)

    def step(self, position: FloatArray, quaternion: FloatArray, duration: float) -> FloatArray:
        """Move towards the pose for `duration` s and return the new joint reference (n,) rad."""
        placement = self._kinematics.placement(self.q)
        rotation = matrix_from_quaternion(quaternion)
        turn = placement.rotation @ pinocchio.log3(placement.rotation.T @ rotation)
        error = np.concatenate([position - placement.translation, turn])
        limit = duration * np.array([self._cartesian.linear_velocity, self._cartesian.angular_velocity])
        error[:3] *= min(1.0, limit[0] / max(float(np.linalg.norm(error[:3])), 1e-9))
        error[3:] *= min(1.0, limit[1] / max(float(np.linalg.norm(error[3:])), 1e-9))
        jacobian = self._kinematics.jacobian(self.q)
        step = jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + DAMPING**2 * np.eye(6), error)
        centre = self._joints.home - self.q  # use the redundancy to stay near home
        step += (np.eye(self._joints.count) - np.linalg.pinv(jacobian, rcond=1e-2) @ jacobian) @ (0.02 * centre)
        step *= min(1.0, float(np.min(duration * self._joints.velocity / np.maximum(np.abs(step), 1e-12))))
        self.q = np.clip(self.q + step, self._joints.lower, self._joints.upper)
        return self.q
