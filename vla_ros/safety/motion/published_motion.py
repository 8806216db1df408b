"""Motion that the controller executes: the last published step, its past, and the stop after it.

    published.continues(step)       # before every publication
    published.interrupted(now)      # the same: whether the motion must come to rest first
    published.record(step, now)     # after it

Two threads make steps, and each may be preempted between making one and publishing it; meanwhile the other goes on. A
step is published only if it leads on from what the controller executes, whatever has been made in between.
"""

from __future__ import annotations

import numpy as np

from vla_ros.safety.motion.joint_motion import JointStep

ROUNDING = 1e-9
"""Largest difference of equal rows, rad and rad/s."""

OFF_GRID = 1e-3
"""Largest difference of equal due times, in periods."""


LONGEST_INTERVAL = 0.027
"""Interval between publications, s, beyond which the motion must come to rest before it continues: a controller counts
0.03 s (`LONGEST_GAP`) as a gap, and transport jitter may add to the interval."""

LONGEST_PERIODS = 1.6
"""The same in periods, where that is longer, as at low rates."""


class PublishedMotion:
    """Compares steps with the last published one. Not thread-safe."""

    def __init__(self, period: float) -> None:
        """Start without a published step, for a tick period of `period` s."""
        self._period = period
        self._longest = max(LONGEST_INTERVAL, LONGEST_PERIODS * period)
        self.last: JointStep | None = None
        self._at = -np.inf  # time of its publication, s
        self._older = -1  # serial of the last step from before an arming

    def clear(self, serial: int) -> None:
        """Forget the published step, as where the arm is armed; no step up to `serial` may be published any more."""
        self.last, self._older = None, serial

    def record(self, step: JointStep, now: float) -> None:
        """Record a step published at `now`, s, tick clock."""
        self.last, self._at = step, now

    def interrupted(self, now: float) -> bool:
        """Return whether nothing has been published for so long, at `now`, s, that a moving arm must come to rest."""
        return self.last is not None and not self.last.settled and not now - self._at <= self._longest

    def continues(self, step: JointStep) -> bool:
        """Return whether the controller, from what it executes, arrives at the row before `step` when that is due.

        At rest the due times of the steps may be shifted.
        """
        last, before = self.last, step.before
        if last is None:
            return step.serial > self._older
        if last.before is None or before is None:
            return False
        periods = (step.due - last.due) / self._period
        row = round(periods) - 1  # 0: the published step; negative: before it; positive: its stop
        if row < 0:
            positions, velocities = (
                rows[max(row, -len(rows))] for rows in (last.before.positions, last.before.velocities)
            )
        elif row == 0:
            positions, velocities = last.positions, last.velocities
        else:
            ahead = last.ahead
            index = min(row, ahead.rows) - 1
            positions, velocities = ahead.positions[index], ahead.velocities[index]
        same = float(np.abs(before.positions[-1] - positions).max()) <= ROUNDING
        same &= float(np.abs(before.velocities[-1] - velocities).max()) <= ROUNDING
        resting = not (before.velocities[-1].any() or velocities.any())
        return bool(same and (resting or (row >= 0 and abs(periods - round(periods)) <= OFF_GRID)))
