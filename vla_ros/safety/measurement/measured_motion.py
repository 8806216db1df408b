"""Decides whether joints measured away from the last command are really there: only if they were seen to leave it.

    motion.restart(posture)                     # on arming
    motion.command(step.positions, now)         # every tick
    motion.measure(state.joint_positions, now)  # every valid joint state
    if motion.shows(away): ...                  # away: (n,) joints measured elsewhere than commanded

A driver that freezes while the arm moves keeps reporting the arm's old posture with fresh stamps: a perfect rest, as
reported for an arm that was guided away by hand and released. They differ in one respect: a joint moved by hand was
measured at its command before, or at an increasing distance from it, or moving after the commanded motion had ended. A
joint whose driver froze in motion was none of these. A driver that was silent and then reports another posture than
before has been restarted, and is not frozen.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from vla_ros.safety.measurement.arm_wise import Owners, any_in_arm
from vla_ros.types import FloatArray

SHOWN_AFTER = 3
"""Number of consecutive joint states required to establish where a joint is: one may be wrong."""

NOISE = 0.5
"""Maximum change of a measurement without motion, as a fraction of the reach: noise, or a settling filter."""

SILENCE = 0.2
"""Minimum gap in the joint states after which a changed measurement is attributed to a restarted driver, s."""


class MeasuredMotion:
    """Tracks which joints have been measured at the last command, or moving since. Not thread-safe."""

    def __init__(self, reach: FloatArray, window: float, tolerance: float, owners: Owners | None = None) -> None:
        """Configure the tracker.

        Args:
            reach: (n,) rad, distance from a command within which a joint is at it.
            window: Time within which the arm executes a command, s.
            tolerance: Distance from a command within which a joint may also come to rest, held by gravity or friction,
                rad.
            owners: (n,), arm of each joint; None: all belong to one.
        """
        self._owners = np.zeros(len(reach), dtype=np.int64) if owners is None else owners
        self._reach, self._window, self._tolerance = reach, window, tolerance
        self._noise = NOISE * reach  # (n,) rad
        self._commanded: FloatArray | None = None  # (n,) rad
        self._anchor: FloatArray | None = None  # (n,) rad, command relative to which a motion is detected
        self._answered_at = -np.inf  # time at which the arm has executed the last motion, s, steady clock
        self._rest: FloatArray | None = None  # (n,) rad, measured at that time
        self._distances: deque[FloatArray] = deque(maxlen=SHOWN_AFTER)  # (n,) rad, latest distances from the command
        self._nearest = self._nowhere()  # (n,) rad, smallest measured distance from the command
        self._last: tuple[FloatArray, float] | None = None  # newest measurement, (n,) rad, and its receipt, s
        self._silenced: FloatArray | None = None  # (n,) rad, last measurement before a silence
        self._returned = self._never()
        self._arrived, self._moved, self._left = self._never(), self._never(), self._never()
        # numbers of consecutive states; a count at SHOWN_AFTER is latched

    def _never(self) -> np.ndarray:
        return np.zeros(len(self._reach), dtype=np.int64)

    def _nowhere(self) -> FloatArray:
        return np.full(len(self._reach), np.inf)

    def restart(self, positions: FloatArray) -> None:
        """Record an arming at `positions` (n,) rad, where the arm was measured at rest: that is no motion."""
        self._commanded = self._anchor = positions
        self._arrived = np.full_like(self._arrived, SHOWN_AFTER)

    def interrupt(self) -> None:
        """Treat the next measurement as following a silence, however short."""
        if self._last is not None:
            self._last = self._last[0], -np.inf

    def command(self, positions: FloatArray, now: float) -> None:
        """Record the command (n,) rad in effect at `now`, s, steady clock."""
        if self._commanded is None or self._anchor is None:
            return  # nothing is commanded before the first arming
        if not np.array_equal(positions, self._commanded):
            self._commanded, self._nearest = positions, self._nowhere()
            self._distances.clear()
            self._arrived, self._left = self._never(), self._never()
            self._silenced, self._returned = None, self._never()
        if not (np.abs(positions - self._anchor) <= self._reach).all():
            self._anchor, self._answered_at = positions, now + self._window
            self._rest, self._moved = None, self._never()

    def measure(self, positions: FloatArray, now: float) -> None:
        """Record the positions (n,) rad of a valid joint state, received at `now`, s."""
        if self._last is not None and now - self._last[1] > SILENCE:
            self._silenced, self._returned = self._last[0], self._never()
        self._last = positions, now
        if self._silenced is not None:
            # A frozen driver repeats the whole posture: one changed joint shows that it is not frozen. With several
            # arms this holds for the joints of the same arm only: each may have its own driver.
            alive = any_in_arm(np.abs(positions - self._silenced) > self._noise, self._owners)
            self._returned = _count(self._returned, alive)
        if self._commanded is not None:
            distance = np.abs(positions - self._commanded)
            self._arrived = _count(self._arrived, distance <= self._reach)
            self._left = _count(self._left, distance > self._nearest + self._reach)
            self._distances.append(distance)
            if len(self._distances) == SHOWN_AFTER:  # a single one may be wrong
                self._nearest = np.minimum(self._nearest, np.max(self._distances, axis=0))
        if self._rest is None or now <= self._answered_at:
            self._rest = positions
        else:
            self._moved = _count(self._moved, np.abs(positions - self._rest) > self._noise)

    def stands(self, positions: FloatArray, commanded: FloatArray) -> np.ndarray:
        """Return which joints, (n,) bool, are at the last command (n,) rad, or where they came to rest near it."""
        there = np.abs(positions - commanded) <= self._reach
        if self._rest is None:
            return there
        beside = np.abs(self._rest - commanded) <= self._tolerance
        return there | (beside & (np.abs(positions - self._rest) <= self._noise))

    def shows(self, joints: np.ndarray) -> bool:
        """Return whether each of these joints, (n,) bool, was seen at the last command, leaving it, or moving later."""
        seen = np.maximum.reduce([self._arrived, self._moved, self._left, self._returned])
        return bool((seen[joints] >= SHOWN_AFTER).all())


def _count(in_row: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Increment the count of consecutive states where `seen`, else reset it; a count at SHOWN_AFTER is latched."""
    return np.where(in_row >= SHOWN_AFTER, SHOWN_AFTER, np.where(seen, in_row + 1, 0))
