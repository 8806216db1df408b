"""Decoded joint chunks as continuous motion, and the blend from the current motion to the next chunk.

elapsed      0        period      2 period   ...   horizon * period
joints       start    row 0       row 1            last row, held from there on
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vla_ros.types import FloatArray


@dataclass(frozen=True)
class JointTarget:
    """Target positions and velocities of an arm's joints.

    Attributes:
        positions: (n,) rad.
        velocities: (n,) rad/s.
    """

    positions: FloatArray
    velocities: FloatArray


class JointPlan:
    """Joint chunk as a function of time since its observation: each joint at constant speed from row to row."""

    def __init__(self, rows: FloatArray, openings: FloatArray | None, start: FloatArray, period: float) -> None:
        """Interpolate from `start` at time 0 through row i at (i + 1) * `period` s.

        Args:
            rows: (h, n) rad.
            openings: (h,) m for one gripper, or (h, arms) for several, NaN where one is not commanded; None: none.
            start: (n,) rad, at the observation.
            period: Time between rows, s.
        """
        self.period = period
        self.rows = len(rows)
        self.openings = openings
        self._positions = np.vstack([start, rows])
        self._velocities = np.diff(self._positions, axis=0) / period
        self._rest = np.zeros(self._positions.shape[1])

    @property
    def duration(self) -> float:
        """Time of the last row, s after the observation."""
        return self.rows * self.period

    def target(self, elapsed: float) -> JointTarget:
        """Return the target `elapsed` s after the observation; before and after the chunk its ends are held."""
        if elapsed >= self.duration or elapsed < 0.0:
            return JointTarget(self._positions[-1 if elapsed >= self.duration else 0], self._rest)
        row = min(int(elapsed / self.period), self.rows - 1)
        within = elapsed - row * self.period
        return JointTarget(self._positions[row] + within * self._velocities[row], self._velocities[row])

    def opening(self, elapsed: float) -> float | None:
        """Return the opening, m, of the current row; None without a gripper."""
        return self.openings_of_arms(elapsed)[0]

    def openings_of_arms(self, elapsed: float) -> tuple[float | None, ...]:
        """Return the opening of each arm's gripper, m, in the current row; None where it is not commanded."""
        if self.openings is None:
            return (None,)
        row = np.atleast_1d(self.openings[min(max(int(elapsed / self.period), 0), self.rows - 1)])
        return tuple(None if np.isnan(opening) else float(opening) for opening in row)


class JointBlend:
    """Blends the current motion into a new plan: an offset from the new plan that fades out within `duration` s."""

    def __init__(self, positions: FloatArray, first: JointTarget, duration: float) -> None:
        """Start the blend at the executed reference.

        Args:
            positions: (n,) rad, current reference positions.
            first: Target of the new plan at this time.
            duration: Blend time, s; afterwards the new plan is followed exactly.
        """
        self._shift = positions - first.positions
        self._duration = duration

    def apply(self, target: JointTarget, since: float) -> JointTarget:
        """Return the new plan's `target`, offset towards the old motion, `since` s after the blend began."""
        if since >= self._duration:
            return target
        s = max(since / self._duration, 0.0)
        weight = 1.0 - s * s * (3.0 - 2.0 * s)
        fading = -6.0 * s * (1.0 - s) / self._duration
        return JointTarget(target.positions + weight * self._shift, target.velocities + fading * self._shift)
