"""Has a joint been measured to jump, as no joint moves: an offset that begins, two joints that are swapped.

    jumps.measure(state.joint_positions, state.stamp, now, commanded)  # every sound joint state
    if jumps.standing.any(): ...                                       # it reads as if it rested elsewhere now

At rest such a measurement is sound in every other way: a posture, and a velocity of zero. What betrays it is the moment
when it began. A motion, by a hand too, gathers speed from state to state; a jump is there between two of them. It
stands until another jump takes it back, the joint is measured where it was last commanded to, or the driver was silent,
as when it was started again.
"""

from __future__ import annotations

import numpy as np

from vla_ros.safety.measured_motion import SILENCE
from vla_ros.types import FloatArray

LARGEST_ACCELERATION = 100.0
"""Nothing that moves a joint of an arm, a hand included, accelerates it by more, rad/s^2: a hand that shakes an arm by
0.1 rad five times a second reaches this; limits of arms are 5 to 20 (data sheets of FR3 and UR5e)."""

GROWTH = 3.0
"""So many times its last step a joint may move until the next state, of a motion that gathers speed."""


RESTART = 1.0
"""Shortest silence after which a joint that has jumped is believed, s: no driver is started again faster."""


class PostureJumps:
    """Adds up what each joint has jumped. One thread at a time."""

    def __init__(self, reach: FloatArray) -> None:
        """Take joints within `reach` (n,) rad of a posture to be there."""
        self._reach = reach
        self._last: tuple[FloatArray, float, float] | None = None  # (n,) rad, its stamp and receipt, s
        self._heard = -np.inf  # when anything came last, sound or not, s, steady clock
        self._unsound = False  # something else has come since `_last`
        self._speed = np.zeros_like(reach)  # (n,) rad/s, between the last two
        self._jumped = np.zeros_like(reach)  # (n,) rad, jumps that nothing has taken back

    @property
    def standing(self) -> np.ndarray:
        """Which joints, (n,) bool, have jumped and not jumped back."""
        return np.not_equal(self._jumped, 0.0)

    def interrupt(self) -> None:
        """Take what is measured next to come from a driver that was started again."""
        self._last = None
        self._jumped = np.zeros_like(self._jumped)

    def refuse(self, now: float) -> None:
        """Note that something came at `now`, s, that was no sound joint state: that is no silence."""
        self._hear(now)
        self._unsound = True

    def _hear(self, now: float) -> float:
        """Note that the driver has said something; returns how long it had been silent, s."""
        silence, self._heard = now - self._heard, now
        if silence > RESTART:
            self.interrupt()
        elif silence > SILENCE:
            self._last = None
        return silence

    def measure(self, positions: FloatArray, stamp: float, now: float, commanded: FloatArray | None) -> None:
        """Take what a sound joint state measured.

        Args:
            positions: (n,) rad.
            stamp: Of the state, s, sensor clock; where that jumps, the times of receipt are left.
            now: When it came, s, steady clock.
            commanded: (n,) rad, where the arm was last commanded to; None when it never was.
        """
        silence, unsound = self._hear(now), self._unsound
        last, self._last, self._unsound = self._last, (positions, stamp, now), False
        if last is None:
            self._speed = np.zeros_like(positions)
            return
        step, gap, received = positions - last[0], stamp - last[1], now - last[2]
        gap = gap if 0.0 < gap <= SILENCE else max(received, 0.0)
        # What is not sound hides jumps as well as motions; no motion is taken to have gone on.
        moving = min(gap, silence) if unsound else gap
        possible = self._reach + (GROWTH * np.abs(self._speed) + LARGEST_ACCELERATION * moving) * moving
        jump = np.abs(step) > possible
        self._jumped = self._jumped + np.where(jump, step, 0.0)
        back = np.abs(self._jumped) <= possible
        if commanded is not None:
            back |= np.abs(positions - commanded) <= self._reach
        self._jumped = np.where(back, 0.0, self._jumped)
        self._speed = np.where(jump | (gap <= 0.0), 0.0, step / max(gap, 1e-9))
