"""Does the arm go where it is commanded? The measurement against the commands that it can be answering to."""

from __future__ import annotations

from collections import deque

import numpy as np

from vla_ros.safety.parameters import MotionParameters
from vla_ros.safety.reasons import Reason
from vla_ros.types import FloatArray

LOST_AFTER = 3
"""Joint states in a row, far from their command, after which the arm has left it: one may be false."""

FROZEN_SPAN = 4e-3
"""Way of a joint within `follow_window`, rad, that changes what any encoder reads: 2.6 steps of one with 4,096."""

FROZEN_WINDOWS = 2.0
"""Positions that stay the same to the last bit for this multiple of `follow_window` while it moves are frozen."""

HISTORY = 1024
"""Commands that are kept, at most: the longest window at the highest rate."""


class FollowMonitor:
    """Keeps the commands of the last `window` s and tells how far a measurement lies outside of what they span.

    An arm that follows with a delay and a first-order lag is, joint by joint, somewhere between the commands of the
    recent past: it needs no model of its own. What lies outside of that band does not follow: a frozen sensor, an arm
    that is pushed or blocked, joints that are swapped, states that come too late.
    """

    def __init__(self, names: tuple[str, ...], motion: MotionParameters) -> None:
        """Judge joints of these names by the window and the tolerances of `motion`."""
        self._names, self._motion, self._window = names, motion, motion.follow_window
        self._astray = 0  # joint states in a row that are far from their command
        self._lost = False
        self._judged_at = -np.inf  # receipt of the joint state that `_astray` counted last, s
        self._followed = False  # whether that joint state followed the commands when it came
        self._commands: deque[tuple[float, FloatArray]] = deque(maxlen=HISTORY)

    def restart(self, positions: FloatArray, now: float) -> None:
        """Forget every command before `positions` (n,) rad, commanded at `now`, s, steady clock."""
        self._commands.clear()
        self._commands.append((now, positions))
        self._astray, self._lost = 0, False

    def record(self, positions: FloatArray, now: float) -> None:
        """Take the command (n,) rad that stands at `now`, s, and forget those that are too old to be answered."""
        self._commands.append((now, positions))
        # The newest command that is older than the window still stood when the window began.
        while len(self._commands) > 1 and not self._commands[1][0] > now - self._window:
            self._commands.popleft()

    @property
    def lost(self) -> bool:
        """Whether several joint states in a row have shown the arm far from its command since the last restart."""
        return self._lost

    def judge(self, measured: FloatArray, received: float, still: FloatArray | float) -> tuple[Reason, str]:
        """Return why the newest measurement does not follow the commands, and by how much, or OK.

        One that followed when it came, and does so no more, is too old for the motion: the fault is the silence since.

        Args:
            measured: Joint positions (n,) rad.
            received: When they came, s; the same ones again count once.
            still: How long the positions have stayed the same to the last bit, s; of each joint (n,) those of its arm.
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
        """Return how far each joint was commanded within the window, (n,) rad."""
        recent = np.stack([positions for _, positions in self._commands])
        return np.asarray(recent.max(axis=0) - recent.min(axis=0))

    def excess(self, measured: FloatArray) -> FloatArray:
        """Return how far each joint of `measured` (n,) rad lies outside of the recent commands, (n,) rad, NaN kept."""
        if not self._commands:
            return np.full_like(measured, np.inf)
        recent = np.stack([positions for _, positions in self._commands])
        beyond = np.maximum(recent.min(axis=0) - measured, measured - recent.max(axis=0))
        return np.asarray(np.where(np.isnan(beyond), np.inf, np.maximum(beyond, 0.0)), dtype=np.float64)
