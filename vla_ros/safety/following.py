"""Does the arm go where it is commanded? The measurement against the commands that it can be answering to."""

from __future__ import annotations

from collections import deque

import numpy as np

from vla_ros.types import FloatArray

HISTORY = 1024
"""Commands that are kept, at most: the longest window at the highest rate."""


class FollowMonitor:
    """Keeps the commands of the last `window` s and tells how far a measurement lies outside of what they span.

    An arm that follows with a delay and a first-order lag is, joint by joint, somewhere between the commands of the
    recent past: it needs no model of its own. What lies outside of that band does not follow: a frozen sensor, an arm
    that is pushed or blocked, joints that are swapped, states that come too late.
    """

    def __init__(self, window: float) -> None:
        """Expect the arm to answer a command within `window` s."""
        self._window = window
        self._commands: deque[tuple[float, FloatArray]] = deque(maxlen=HISTORY)

    def restart(self, positions: FloatArray, now: float) -> None:
        """Forget every command before `positions` (n,) rad, commanded at `now`, s, steady clock."""
        self._commands.clear()
        self._commands.append((now, positions))

    def record(self, positions: FloatArray, now: float) -> None:
        """Take the command (n,) rad that stands at `now`, s, and forget those that are too old to be answered."""
        self._commands.append((now, positions))
        # The newest command that is older than the window still stood when the window began.
        while len(self._commands) > 1 and not self._commands[1][0] > now - self._window:
            self._commands.popleft()

    def span(self) -> float:
        """Return the longest way that one joint was commanded within the window, rad."""
        recent = np.stack([positions for _, positions in self._commands])
        return float((recent.max(axis=0) - recent.min(axis=0)).max())

    def excess(self, measured: FloatArray) -> FloatArray:
        """Return how far each joint of `measured` (n,) rad lies outside of the recent commands, (n,) rad, NaN kept."""
        if not self._commands:
            return np.full_like(measured, np.inf)
        recent = np.stack([positions for _, positions in self._commands])
        beyond = np.maximum(recent.min(axis=0) - measured, measured - recent.max(axis=0))
        return np.asarray(np.where(np.isnan(beyond), np.inf, np.maximum(beyond, 0.0)), dtype=np.float64)
