"""Checks that the arm follows, by comparing its posture with the commands it may currently be executing."""

from __future__ import annotations

from collections import deque

import numpy as np

from vla_ros.safety.parameters import MotionParameters
from vla_ros.safety.reasons import Reason
from vla_ros.types import FloatArray

LOST_AFTER = 3
"""Number of consecutive joint states far from their command that prove the arm has left it; one may be wrong."""

FROZEN_SPAN = 4e-3
"""Motion of a joint within `follow_window` that changes any encoder's reading, rad: 2.6 steps at 4,096 per turn."""

FROZEN_WINDOWS = 2.0
"""Time, in multiples of `follow_window`, after which bitwise unchanged positions during motion count as frozen."""

HISTORY = 1024
"""Maximum number of commands kept: the longest window at the highest rate."""


class FollowMonitor:
    """Keeps the commands of the last `follow_window` s and measures how far a measurement is outside their range.

    An arm that follows with a delay and a first-order lag is, joint by joint, within the range of the recent commands,
    so no model of the arm is needed. A measurement outside that band does not follow: a frozen sensor, an arm that is
    pushed or blocked, swapped joints, late states.
    """

    def __init__(self, names: tuple[str, ...], motion: MotionParameters) -> None:
        """Monitor joints of these names with the window and the tolerances of `motion`."""
        self._names, self._motion, self._window = names, motion, motion.follow_window
        self._astray = 0  # number of consecutive joint states far from their command
        self._lost = False
        self._judged_at = -np.inf  # receipt of the joint state that `_astray` counted last, s
        self._followed = False  # whether that joint state followed the commands on receipt
        self._commands: deque[tuple[float, FloatArray]] = deque(maxlen=HISTORY)

    def restart(self, positions: FloatArray, now: float) -> None:
        """Discard all commands before `positions` (n,) rad, commanded at `now`, s, steady clock."""
        self._commands.clear()
        self._commands.append((now, positions))
        self._astray, self._lost = 0, False

    def record(self, positions: FloatArray, now: float) -> None:
        """Add the command (n,) rad in effect at `now`, s, and drop those too old to be still in execution."""
        self._commands.append((now, positions))
        # The newest command older than the window was still in effect when the window began.
        while len(self._commands) > 1 and not self._commands[1][0] > now - self._window:
            self._commands.popleft()

    @property
    def lost(self) -> bool:
        """Whether several consecutive joint states were far from their command since the last restart."""
        return self._lost

    def judge(self, measured: FloatArray, received: float, still: FloatArray | float) -> tuple[Reason, str]:
        """Return why the newest measurement does not follow the commands, and by how much, or OK.

        A measurement that followed on receipt but no longer does is too old for the motion: the fault is the silence
        since then.

        Args:
            measured: Joint positions (n,) rad.
            received: Time of their receipt, s; repeated calls for the same ones count once.
            still: Time for which the positions have been unchanged to the last bit, s; or (n,), that of each joint's
                arm.
        """
        excess = self.excess(measured)
        worst = int(np.argmax(excess))
        far = not excess[worst] <= self._motion.tracking_tolerance
        fault, detail = self._verdict(excess, worst, far, still)
        if received != self._judged_at:
            self._judged_at, self._astray = received, self._astray + 1 if far else 0
            self._lost = self._lost or self._astray >= LOST_AFTER
            self._followed = fault is Reason.OK
        elif self._followed and fault is not Reason.OK:
            return Reason.STATE_STALE, f"(for {self._commands[-1][0] - received:.2f} s)"
        return fault, detail

    def _verdict(self, excess: FloatArray, worst: int, far: bool, still: FloatArray | float) -> tuple[Reason, str]:
        detail = f"({self._names[worst]}, {excess[worst]:.2f} rad)"
        if far:
            return Reason.TRACKING, detail
        if not excess[worst] <= self._motion.follow_tolerance:
            return Reason.NOT_FOLLOWING, detail
        unchanged = np.asarray(still) > FROZEN_WINDOWS * self._window
        if unchanged.any() and (frozen := unchanged & (self._spans() > FROZEN_SPAN)).any():
            longest = float(np.broadcast_to(still, frozen.shape)[frozen].max())
            of = "" if unchanged.all() else f" of the arm of {self._names[int(np.argmax(frozen))]}"
            return Reason.NOT_FOLLOWING, f"(not one position{of} has changed for {longest:.2f} s)"
        return Reason.OK, ""

    def _spans(self) -> FloatArray:
        """Return the commanded range of each joint within the window, (n,) rad."""
        recent = np.stack([positions for _, positions in self._commands])
        return np.asarray(recent.max(axis=0) - recent.min(axis=0))

    def excess(self, measured: FloatArray) -> FloatArray:
        """Return how far each joint of `measured` (n,) rad is outside the recent commands, (n,) rad; inf for NaN."""
        if not self._commands:
            return np.full_like(measured, np.inf)
        recent = np.stack([positions for _, positions in self._commands])
        beyond = np.maximum(recent.min(axis=0) - measured, measured - recent.max(axis=0))
        return np.asarray(np.where(np.isnan(beyond), np.inf, np.maximum(beyond, 0.0)), dtype=np.float64)
