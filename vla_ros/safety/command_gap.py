"""Has the controller let go of the last command? After a gap that was so long the old posture is no command any more.

    gap.command(step)     # every step that is commanded
    gap.measure(state, received)        # every new sound state
    gap.over(now)         # before every command, in any thread: nothing goes out while this is true
    gap.look(now)         # every tick: `open` from then on
    gap.judge(state, received, rested)  # every sound state of an open gap; OK: `close` it, and go on

A process that was stopped or hung goes on with what it did before, and does not notice. Its controller has followed the
known stop to its end, held that for `TAIL`, and after its own time-out has let go: the arm may have been moved since.

What comes first after a gap may have waited in a queue, and then says where the arm was. Its stamp tells: over the gap
that of a fresh state has advanced as the steady clock did. A sensor's clock that was set meanwhile reads like a queue
that does not end, so that after `CLOCK_PATIENCE` the arm is given up: it goes on after a new arming.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np

from vla_ros.safety.command_trajectory import TAIL
from vla_ros.safety.following import LOST_AFTER
from vla_ros.safety.joint_motion import JointStep
from vla_ros.safety.measured_motion import NOISE
from vla_ros.safety.reasons import Reason
from vla_ros.safety.state_monitor import SETTLING_TIME
from vla_ros.types import FloatArray, RobotState

FRESH = 0.1
"""A state whose stamp has advanced over a gap by no more than this beside the steady clock, s, is fresh: jitter of its
way here. No gap is so short, so that what was measured before it never is."""

CLOCK_PATIENCE = 1.0
"""For so long after the first state that is not fresh, s, they may be those of a queue; then its clock was set."""

OFFSETS = 50
"""Newest states whose median delay is that of before the gap: one that came late, or with a wrong stamp, is none."""


class CommandGap:
    """Knows when the controller lets go of the last command; `over` for any thread, the rest for that of the ticks."""

    def __init__(
        self, period: float, timeout: float, reach: FloatArray, stands: Callable[[FloatArray, FloatArray], np.ndarray]
    ) -> None:
        """Take the controller to let go of a trajectory, and the arm to be where it is commanded.

        Args:
            period: Of the ticks, s.
            timeout: From the end of a trajectory until the controller lets go, s; inf: its time waits for commands.
            reach: An arm that is measured within it of a posture is there, (n,) rad.
            stands: As `MeasuredMotion.stands`: which joints stand at a command, or where they came to rest beside it.
        """
        self._period, self._timeout, self._reach, self._stands = period, timeout, reach, stands
        self._last: tuple[float, float, FloatArray] | None = None  # due, end of its trajectory, s; (n,) rad, its rest
        self.open = False
        self._before: FloatArray | None = None  # (n,) rad, measured last before the gap
        self._offsets: deque[float] = deque(maxlen=OFFSETS)  # of receipts from stamps before the gap, s
        self._restart()

    def _restart(self) -> None:
        self._away, self._judged_at = 0, -np.inf  # states in a row that show it elsewhere; receipt of the newest, s
        self._fresh_since = np.inf  # receipt of the first of the fresh states in a row, s
        self._stale_since = np.inf  # receipt of the first state that was not fresh, s
        self._astray = 0.0  # by how much the newest stamp is behind what a fresh state would have, s

    def command(self, step: JointStep) -> None:
        """Take the step that is commanded."""
        end = step.due + step.ahead.rows * self._period + TAIL
        self._last = step.due, end, step.stop.positions[-1]  # one assignment: `over` is for any thread

    def close(self) -> None:
        """Take the next command to be the first one: nothing was commanded, or it goes on from the place of rest."""
        self._last, self.open = None, False
        self._restart()

    def measure(self, state: RobotState, received: float) -> None:
        """Take a new sound joint state that came at `received`, s; what comes in a gap is for `judge` alone."""
        if not self.over(received):
            self._before = state.joint_positions
            self._offsets.append(received - state.stamp)

    def over(self, now: float) -> bool:
        """Say whether the controller has let go of the last command at `now`, s, clock of the ticks."""
        last = self._last
        return last is not None and not now - last[1] <= self._timeout

    def look(self, now: float) -> None:
        """Find out whether there is a gap; it stays open until `close` or the next command."""
        self.open = self.over(now)

    def judge(self, state: RobotState, received: float, rested: bool) -> Reason:
        """Return what is to be done after the gap, as a sound joint state shows it.

        Args:
            state: Its joint positions (n,) rad count where its stamp shows that it is fresh.
            received: When it came, s; the same one again counts once.
            rested: Several states without a gap of their own show the arm at rest; the last `SETTLING_TIME` of them
                have to be fresh.

        Returns:
            OK when the arm rests where the known stop ended, or beside it where it rested before the gap; TRACKING when
            `LOST_AFTER` fresh states in a row show it elsewhere, or when states are still not fresh after
            `CLOCK_PATIENCE`; UNSETTLED: not known yet.
        """
        self._astray = received - state.stamp - float(np.median(self._offsets)) if self._offsets else np.inf
        if not abs(self._astray) <= FRESH:
            self._fresh_since, self._stale_since = np.inf, min(self._stale_since, received)
            return Reason.UNSETTLED if received - self._stale_since <= CLOCK_PATIENCE else Reason.TRACKING
        there = self._there(state.joint_positions)
        if received != self._judged_at:
            self._judged_at, self._away = received, 0 if there else self._away + 1
        self._fresh_since = min(self._fresh_since, received)
        if self._away >= LOST_AFTER:
            return Reason.TRACKING
        settled = rested and received - self._fresh_since >= SETTLING_TIME
        return Reason.OK if there and settled else Reason.UNSETTLED

    def _there(self, measured: FloatArray) -> bool:
        """Say whether all joints, (n,) rad, are where the known stop ended, or beside it and not moved in the gap.

        What came to rest beside it in the gap alone may have been put there, hence the look at what was measured last
        before.
        """
        if self._last is None:
            return False
        rest = self._last[2]
        there = np.abs(measured - rest) <= self._reach
        if self._before is not None:
            there |= self._stands(measured, rest) & (np.abs(measured - self._before) <= NOISE * self._reach)
        return bool(there.all())

    def detail(self, now: float) -> str:
        """Say how long the gap is, and by how much the joint states are not fresh."""
        if self._last is None:
            return ""
        silence = f"no command for {now - self._last[0]:.1f} s"
        if abs(self._astray) <= FRESH:
            return f"({silence})"
        stamps = f"stamps of the joint states are {self._astray:.1f} s older than then"
        return f"({silence}, {stamps}: they waited in a queue, or the driver's clock was set)"
