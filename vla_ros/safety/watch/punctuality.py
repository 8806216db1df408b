"""Timeliness of commands and measurements: on a busy machine an arm lags without being held."""

from __future__ import annotations

from collections import deque

import numpy as np

WINDOW = 1.0
"""Time for which lateness is remembered, s: late measurements imply late commands, whose transport is not visible."""

LATE = 0.02
"""Tolerated lateness, s: two ticks at 100 Hz, since the clocks are read one after the other."""

MOST = 1024
"""Maximum number of measurements kept."""


class Punctuality:
    """Compares the sensors' clock with the steady clock, independent of their offset. Not thread-safe."""

    def __init__(self, period: float) -> None:
        """Expect ticks `period` s apart."""
        self._period = period
        self.reset()

    def reset(self) -> None:
        """Drop all measurements."""
        self._offsets: deque[tuple[float, float]] = deque(maxlen=MOST)  # receipt, and steady minus sensor clock, s
        self._ticked_at: float | None = None
        self._late_at = -np.inf  # s, steady clock

    def tick(self, now: float) -> None:
        """Record a tick at `now`, s, steady clock."""
        if self._ticked_at is not None and not now - self._ticked_at - self._period <= LATE:
            self._late_at = now
        self._ticked_at = now

    def measure(self, stamp: float, now: float) -> None:
        """Record a new measurement with `stamp`, s, sensor clock, first seen at `now`."""
        self._offsets.append((now, now - stamp))
        while self._offsets[0][0] < now - WINDOW:
            self._offsets.popleft()
        soonest = min(offset for _, offset in self._offsets)
        if not now - stamp - soonest <= LATE:
            self._late_at = now

    def punctual(self, now: float) -> bool:
        """Return whether nothing has been late within the last `WINDOW` s."""
        return now - self._late_at > WINDOW
