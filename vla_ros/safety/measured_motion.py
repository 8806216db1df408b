"""Does a measurement that contradicts the last command say where the arm is? Only of joints that were seen to leave.

    motion.restart(posture)                     # at an arming
    motion.command(step.positions, now)         # every tick
    motion.measure(state.joint_positions, now)  # every sound joint state
    if motion.shows(away): ...                  # away: (n,) joints that are measured elsewhere than commanded

A driver that freezes while the arm moves goes on reporting, with fresh stamps, where the arm was. It reports a perfect
rest, and so does an arm that was guided away by hand and let go of. They differ in one thing: a joint that a hand has
moved was measured at its command before, or further from it than before, or was measured to move after the commanded
motion had ended. One whose driver froze in motion was none of these. A driver that was silent and then says something
else than before was started again, and has not frozen.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from vla_ros.safety.arm_wise import Owners, any_in_arm
from vla_ros.types import FloatArray

SHOWN_AFTER = 3
"""Joint states in a row that show a joint somewhere, after which it is there: one may be false."""

NOISE = 0.5
"""Share of the reach that a measurement may change by without a motion: noise, or a filter that settles."""

SILENCE = 0.2
"""Shortest gap in the joint states, s, after which a changed measurement counts as that of a restarted driver."""


class MeasuredMotion:
    """Watches which joints have been seen where the last command is, or in motion since. One thread at a time."""

    def __init__(self, reach: FloatArray, window: float, tolerance: float, owners: Owners | None = None) -> None:
        """Take the arm to answer within `window` s, and joints within `reach` (n,) rad of a command to be there.

        One may also come to rest within `tolerance` rad of it: gravity, or friction, holds it there. `owners` are the
        arms that the joints belong to; None: all to one.
        """
        self._owners = np.zeros(len(reach), dtype=np.int64) if owners is None else owners
        self._reach, self._window, self._tolerance = reach, window, tolerance
        self._noise = NOISE * reach  # (n,) rad
        self._commanded: FloatArray | None = None  # (n,) rad
        self._anchor: FloatArray | None = None  # (n,) rad, command from which on a motion is counted
        self._answered_at = -np.inf  # when the arm has answered the last motion, s, steady clock
        self._rest: FloatArray | None = None  # (n,) rad, measured then
        self._distances: deque[FloatArray] = deque(maxlen=SHOWN_AFTER)  # (n,) rad from the command, the newest
        self._nearest = self._nowhere()  # (n,) rad, least distance from the command that was measured
        self._last: tuple[FloatArray, float] | None = None  # newest measurement, (n,) rad, and when it came, s
        self._silenced: FloatArray | None = None  # (n,) rad, measured last before a silence
        self._returned = self._never()
        self._arrived, self._moved, self._left = self._never(), self._never(), self._never()
        # states in a row; SHOWN_AFTER stays

    def _never(self) -> np.ndarray:
        return np.zeros(len(self._reach), dtype=np.int64)

    def _nowhere(self) -> FloatArray:
        return np.full(len(self._reach), np.inf)

    def restart(self, positions: FloatArray) -> None:
        """Take the arm to be armed at `positions` (n,) rad, where it was measured at rest: that is no motion."""
        self._commanded = self._anchor = positions
        self._arrived = np.full_like(self._arrived, SHOWN_AFTER)

    def interrupt(self) -> None:
        """Take what is measured next to come after a silence, however short it was."""
        if self._last is not None:
            self._last = self._last[0], -np.inf

    def command(self, positions: FloatArray, now: float) -> None:
        """Take the command (n,) rad that stands at `now`, s, steady clock."""
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
        """Take what a sound joint state measured, (n,) rad, when it came, s."""
        if self._last is not None and now - self._last[1] > SILENCE:
            self._silenced, self._returned = self._last[0], self._never()
        self._last = positions, now
        if self._silenced is not None:
            # A driver that froze repeats the whole posture: one joint that reads otherwise shows that it did not. Of
            # several arms it shows that for the joints of its own arm: each may have a driver of its own.
            alive = any_in_arm(np.abs(positions - self._silenced) > self._noise, self._owners)
            self._returned = _count(self._returned, alive)
        if self._commanded is not None:
            distance = np.abs(positions - self._commanded)
            self._arrived = _count(self._arrived, distance <= self._reach)
            self._left = _count(self._left, distance > self._nearest + self._reach)
            self._distances.append(distance)
            if len(self._distances) == SHOWN_AFTER:  # one alone may be false
                self._nearest = np.minimum(self._nearest, np.max(self._distances, axis=0))
        if self._rest is None or now <= self._answered_at:
            self._rest = positions
        else:
            self._moved = _count(self._moved, np.abs(positions - self._rest) > self._noise)

    def stands(self, positions: FloatArray, commanded: FloatArray) -> np.ndarray:
        """Say which joints, (n,) bool, stand at the last command (n,) rad, or where they came to rest beside it."""
        there = np.abs(positions - commanded) <= self._reach
        if self._rest is None:
            return there
        beside = np.abs(self._rest - commanded) <= self._tolerance
        return there | (beside & (np.abs(positions - self._rest) <= self._noise))

    def shows(self, joints: np.ndarray) -> bool:
        """Say whether each of these joints, (n,) bool, was seen at the last command, to leave it, or to move later."""
        seen = np.maximum.reduce([self._arrived, self._moved, self._left, self._returned])
        return bool((seen[joints] >= SHOWN_AFTER).all())


def _count(in_row: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Increment the count of consecutive states where `seen`, else reset it; a count at SHOWN_AFTER is latched."""
    return np.where(in_row >= SHOWN_AFTER, SHOWN_AFTER, np.where(seen, in_row + 1, 0))
