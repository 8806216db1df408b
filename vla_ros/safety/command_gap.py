"""Has the controller let go of the last command? After a gap that was so long the old posture is no command any more.

    gap.command(step)     # every step that is commanded
    gap.over(now)         # before every command, in any thread: nothing goes out while this is true
    gap.look(now)         # every tick: `open` from then on
    gap.judge(positions, received, rested)   # every sound state of an open gap; OK: `close` it, and go on

A process that was stopped or hung goes on with what it did before, and does not notice. Its controller has followed the
known stop to its end, held that for `TAIL`, and after its own time-out has let go: the arm may have been moved since.
"""

from __future__ import annotations

import numpy as np

from vla_ros.safety.command_trajectory import TAIL
from vla_ros.safety.following import LOST_AFTER
from vla_ros.safety.joint_motion import JointStep
from vla_ros.safety.reasons import Reason
from vla_ros.types import FloatArray


class CommandGap:
    """Knows when the controller lets go of the last command; `over` for any thread, the rest for that of the ticks."""

    def __init__(self, period: float, timeout: float, reach: FloatArray) -> None:
        """Take the controller to let go of a trajectory, and the arm to be where it is commanded.

        Args:
            period: Of the ticks, s.
            timeout: From the end of a trajectory until the controller lets go, s; inf: its time waits for commands.
            reach: An arm that is measured within it of a posture is there, (n,) rad.
        """
        self._period, self._timeout, self._reach = period, timeout, reach
        self._last: tuple[float, float, FloatArray] | None = None  # due, end of its trajectory, s; (n,) rad, its rest
        self.open = False
        self._away, self._judged_at = 0, 0.0  # states in a row that show it elsewhere; receipt of the newest, s

    def command(self, step: JointStep) -> None:
        """Take the step that is commanded."""
        end = step.due + step.ahead.rows * self._period + TAIL
        self._last = step.due, end, step.stop.positions[-1]  # one assignment: `over` is for any thread

    def close(self) -> None:
        """Take the next command to be the first one: nothing was commanded, or it goes on from the place of rest."""
        self._last, self.open, self._away = None, False, 0

    def over(self, now: float) -> bool:
        """Say whether the controller has let go of the last command at `now`, s, clock of the ticks."""
        last = self._last
        return last is not None and not now - last[1] <= self._timeout

    def look(self, now: float) -> None:
        """Find out whether there is a gap; it stays open until `close` or the next command."""
        self.open = self.over(now)

    def judge(self, measured: FloatArray, received: float, rested: bool) -> Reason:
        """Return what is to be done after the gap, as a sound joint state shows it.

        Args:
            measured: Joint positions (n,) rad.
            received: When they came, s; the same ones again count once.
            rested: Several states without a gap of their own show the arm at rest: one may have waited in a queue.

        Returns:
            OK when the arm rests where the known stop ended; TRACKING when `LOST_AFTER` states in a row show it
            elsewhere; UNSETTLED: not known yet.
        """
        there = self._last is not None and bool((np.abs(measured - self._last[2]) <= self._reach).all())
        if received != self._judged_at:
            self._judged_at, self._away = received, 0 if there else self._away + 1
        if self._away >= LOST_AFTER:
            return Reason.TRACKING
        return Reason.OK if there and rested else Reason.UNSETTLED

    def detail(self, now: float) -> str:
        """Say how long the gap is."""
        return "" if self._last is None else f"(no command for {now - self._last[0]:.1f} s)"
