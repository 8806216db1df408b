"""Detects that the controller has dropped the last command: after a long gap the old posture is no longer valid.

    gap.command(step)     # every commanded step
    gap.measure(state, received)        # every new valid state
    gap.over(now)         # before every command, in any thread: nothing is published while this is true
    gap.look(now)         # every tick: sets `open`
    gap.judge(state, received, rested)  # every valid state while open; OK: `close` it, and continue

A process that was stopped or hung continues without noticing. Its controller has followed the known stop to its end,
held that for `TAIL`, and dropped the command after its own timeout: the arm may have been moved since.

The first state after a gap may have waited in a queue, and then shows where the arm was. Its stamp shows it: across the
gap, the stamp of a fresh state has advanced like the steady clock. A sensor clock that was set meanwhile looks like a
queue that never ends, so after `CLOCK_PATIENCE` the arm is given up and must be armed again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np

from vla_ros.safety.measurement.following import LOST_AFTER
from vla_ros.safety.measurement.measured_motion import NOISE
from vla_ros.safety.measurement.state_monitor import SETTLING_TIME
from vla_ros.safety.motion.command_trajectory import TAIL
from vla_ros.safety.motion.joint_motion import JointStep
from vla_ros.safety.reasons import Reason
from vla_ros.types import FloatArray, RobotState

FRESH = 0.1
"""Maximum deviation of a fresh state's stamp from the steady clock across a gap, s: transport jitter. Every gap is
longer, so a state measured before the gap is never fresh."""

CLOCK_PATIENCE = 1.0
"""Time after the first stale state, s, during which states may come from a queue; later, the clock was set."""

OFFSETS = 50
"""Number of states for the median delay before the gap: the median ignores late states and wrong stamps."""


class CommandGap:
    """Detects when the controller drops the last command; `over` is thread-safe, the rest is for the tick thread."""

    def __init__(
        self, period: float, timeout: float, reach: FloatArray, stands: Callable[[FloatArray, FloatArray], np.ndarray]
    ) -> None:
        """Start without a command.

        Args:
            period: Tick period, s.
            timeout: Time from the end of a trajectory until the controller drops it, s; inf where the controller's
                time waits for commands.
            reach: Distance of the measured from a commanded posture within which the arm is there, (n,) rad.
            stands: As `MeasuredMotion.stands`: which joints are at rest at a command, or beside it.
        """
        self._period, self._timeout, self._reach, self._stands = period, timeout, reach, stands
        self._last: tuple[float, float, FloatArray] | None = None  # due, end of trajectory, s; final posture, rad
        self.open = False
        self._before: FloatArray | None = None  # last measured positions before the gap, (n,) rad
        self._offsets: deque[float] = deque(maxlen=OFFSETS)  # receipt minus stamp before the gap, s
        self._restart()

    def _restart(self) -> None:
        self._away, self._judged_at = 0, -np.inf  # consecutive states elsewhere; receipt of the newest, s
        self._fresh_since = np.inf  # receipt of the first of the consecutive fresh states, s
        self._stale_since = np.inf  # receipt of the first stale state, s
        self._astray = 0.0  # delay of the newest stamp relative to a fresh state, s

    def command(self, step: JointStep) -> None:
        """Record a commanded step."""
        end = step.due + step.ahead.rows * self._period + TAIL
        self._last = step.due, end, step.stop.positions[-1]  # one assignment: `over` is called from any thread

    def close(self) -> None:
        """Treat the next command as the first: nothing was commanded before, or it starts from the posture of rest."""
        self._last, self.open = None, False
        self._restart()

    def measure(self, state: RobotState, received: float) -> None:
        """Record a new valid joint state received at `received`, s; during a gap only `judge` uses it."""
        if not self.over(received):
            self._before = state.joint_positions
            self._offsets.append(received - state.stamp)

    def over(self, now: float) -> bool:
        """Return whether the controller has dropped the last command at `now`, s, tick clock."""
        last = self._last
        return last is not None and not now - last[1] <= self._timeout

    def look(self, now: float) -> None:
        """Update `open`: whether there is a gap; it stays open until `close` or the next command."""
        self.open = self.over(now)

    def judge(self, state: RobotState, received: float, rested: bool) -> Reason:
        """Decide how to continue after the gap, from a valid joint state.

        Args:
            state: Joint state; its positions (n,) rad count only if its stamp shows that it is fresh.
            received: Time of receipt, s; a repeated state counts once.
            rested: Whether several states without a gap of their own show the arm at rest; the last `SETTLING_TIME` of
                them must be fresh.

        Returns:
            OK when the arm rests where the known stop ended, or beside it where it rested before the gap; TRACKING when
            `LOST_AFTER` consecutive fresh states show it elsewhere, or states are still stale after `CLOCK_PATIENCE`;
            UNSETTLED while undecided.
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
        """Return whether all joints, (n,) rad, are where the known stop ended, or beside it and not moved in the gap.

        A joint that came to rest beside it only during the gap may have been moved there, so the last measurement
        before the gap is compared.
        """
        if self._last is None:
            return False
        rest = self._last[2]
        there = np.abs(measured - rest) <= self._reach
        if self._before is not None:
            there |= self._stands(measured, rest) & (np.abs(measured - self._before) <= NOISE * self._reach)
        return bool(there.all())

    def detail(self, now: float) -> str:
        """Describe the length of the gap, and how stale the joint states are."""
        if self._last is None:
            return ""
        silence = f"no command for {now - self._last[0]:.1f} s"
        if abs(self._astray) <= FRESH:
            return f"({silence})"
        stamps = f"stamps of the joint states are {self._astray:.1f} s older than then"
        return f"({silence}, {stamps}: they waited in a queue, or the driver's clock was set)"
