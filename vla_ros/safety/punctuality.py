"""Whether commands and measurements have kept time of late: on a busy machine an arm lags that nothing holds."""

from __future__ import annotations

from collections import deque

import numpy as np

WINDOW = 1.0
"""How long lateness is remembered, s: commands, whose way to the arm is not seen, are late when measurements are."""

LATE = 0.02
"""Lateness that is tolerated, s: two ticks at 100 Hz, for clocks that are read in turns."""

MOST = 1024
"""Measurements that are kept, at most."""


class Punctuality:
    """Compares the sensor's clock with the steady one; neither needs to know the other's zero. One thread at a time."""

    def __init__(self, period: float) -> None:
        """Expect ticks `period` s apart."""
        self._period = period
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._offsets: deque[tuple[float, float]] = deque(maxlen=MOST)  # when, and steady less sensor's clock, s
        self._ticked_at: float | None = None
        self._late_at = -np.inf  # s, steady clock

    def tick(self, now: float) -> None:
        """Note a tick at `now`, s, steady clock."""
        if self._ticked_at is not None and not now - self._ticked_at - self._period <= LATE:
            self._late_at = now
        self._ticked_at = now

    def measure(self, stamp: float, now: float) -> None:
        """Note a new measurement of `stamp`, s, sensor's clock, first seen at `now`."""
        self._offsets.append((now, now - stamp))
        while self._offsets[0][0] < now - WINDOW:
            self._offsets.popleft()
        soonest = min(offset for _, offset in self._offsets)
        if not now - stamp - soonest <= LATE:
            self._late_at = now

    def punctual(self, now: float) -> bool:
        """Say whether nothing has been late within the last `WINDOW` s."""
        return now - self._late_at > WINDOW
