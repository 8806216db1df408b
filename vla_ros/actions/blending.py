"""Decoded pose chunks as continuous motion, and the blend from the current motion to the next chunk.

elapsed      0        period      2 period   ...   horizon * period
pose         start    row 0       row 1            last row, held from there on
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pinocchio

from vla_ros.actions.decoding import PoseTrajectory
from vla_ros.actions.rotations import matrix_from_quaternion
from vla_ros.types import FloatArray, Pose


@dataclass(frozen=True)
class PoseTarget:
    """Target pose and velocity of the tool, base frame.

    Attributes:
        position: (3,) m.
        rotation: (3, 3) base from tool.
        linear: (3,) m/s.
        angular: (3,) rad/s.
    """

    position: FloatArray
    rotation: FloatArray
    linear: FloatArray
    angular: FloatArray


class PosePlan:
    """Pose chunk as a function of time since its observation: linear interpolation, constant speed per row."""

    def __init__(self, trajectory: PoseTrajectory, start: Pose, period: float) -> None:
        """Interpolate from `start` at time 0 through row i of `trajectory` at (i + 1) * `period` s."""
        self.period = period
        self.rows = len(trajectory.positions)
        self.openings = trajectory.openings
        self._positions = np.vstack([start.position, trajectory.positions])
        self._velocities = np.diff(self._positions, axis=0) / period
        self._rotations = [matrix_from_quaternion(q) for q in (start.quaternion, *trajectory.quaternions)]
        # Rotation from row to row in base-frame axes: divided by the period it is an angular velocity.
        self._turns = [
            np.asarray(pinocchio.log3(after @ before.T))
            for before, after in zip(self._rotations[:-1], self._rotations[1:], strict=True)
        ]

    @property
    def duration(self) -> float:
        """Time of the last row, s after the observation."""
        return self.rows * self.period

    def target(self, elapsed: float) -> PoseTarget:
        """Return the target `elapsed` s after the observation; before and after the chunk its ends are held."""
        if elapsed >= self.duration or elapsed < 0.0:
            end = -1 if elapsed >= self.duration else 0
            return PoseTarget(self._positions[end], self._rotations[end], np.zeros(3), np.zeros(3))
        row = min(int(elapsed / self.period), self.rows - 1)
        within = elapsed - row * self.period
        turn = self._turns[row]
        return PoseTarget(
            self._positions[row] + within * self._velocities[row],
            np.asarray(pinocchio.exp3((within / self.period) * turn)) @ self._rotations[row],
            self._velocities[row],
            turn / self.period,
        )

    def opening(self, elapsed: float) -> float | None:
        """Return the opening, m, of the current row; None without a gripper."""
        if self.openings is None:
            return None
        return float(self.openings[min(max(int(elapsed / self.period), 0), self.rows - 1)])


class Blend:
    """Blends the current motion into a new plan: an offset from the new plan that fades out within `duration` s."""

    def __init__(self, position: FloatArray, rotation: FloatArray, first: PoseTarget, duration: float) -> None:
        """Start the blend at the executed reference.

        Args:
            position: (3,) m, current reference position.
            rotation: (3, 3) current reference rotation.
            first: Target of the new plan at this time.
            duration: Blend time, s; afterwards the new plan is followed exactly.
        """
        self._shift = position - first.position
        self._turn = np.asarray(pinocchio.log3(rotation @ first.rotation.T))
        self._duration = duration

    def apply(self, target: PoseTarget, since: float) -> PoseTarget:
        """Return the new plan's `target`, offset towards the old motion, `since` s after the blend began."""
        if since >= self._duration:
            return target
        s = max(since / self._duration, 0.0)
        weight = 1.0 - s * s * (3.0 - 2.0 * s)
        fading = -6.0 * s * (1.0 - s) / self._duration
        return PoseTarget(
            target.position + weight * self._shift,
            np.asarray(pinocchio.exp3(weight * self._turn)) @ target.rotation,
            target.linear + fading * self._shift,
            target.angular + fading * self._turn,
        )
