"""Ring buffer of values by stamp, to look up the one that belongs to an observation."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import deque
from typing import Generic, TypeVar

from vla_ros.safety.measurement.state_monitor import ORDER_PATIENCE

Value = TypeVar("Value")


class History(Generic[Value]):
    """The last `size` values, ordered by stamp.

    A value older than the newest is dropped. One older than all stored values, or the last of as many consecutive older
    ones as `StateMonitor` waits for, means that the clock was set back: the history restarts.
    """

    def __init__(self, size: int) -> None:
        """Keep at most `size` values."""
        self._stamps: deque[float] = deque(maxlen=size)
        self._values: deque[Value] = deque(maxlen=size)
        self._older, self._older_stamp = 0, -math.inf

    def add(self, stamp: float, value: Value) -> None:
        """Add the newest value; one with a repeated or non-finite stamp is dropped."""
        if not math.isfinite(stamp) or (self._stamps and stamp == self._stamps[-1]):
            return
        if self._stamps and stamp < self._stamps[-1]:
            self._older = self._older + 1 if stamp > self._older_stamp else 1
            self._older_stamp = stamp
            if stamp >= self._stamps[0] and self._older < ORDER_PATIENCE:
                return
            self._stamps.clear()
            self._values.clear()
        self._older, self._older_stamp = 0, -math.inf
        self._stamps.append(stamp)
        self._values.append(value)

    def nearest(self, stamp: float, tolerance: float) -> Value | None:
        """Return the value nearest to `stamp`, s; None if there is none within `tolerance` s."""
        place = bisect_left(self._stamps, stamp)
        candidates = [i for i in (place - 1, place) if 0 <= i < len(self._stamps)]
        if not candidates:
            return None
        best = min(candidates, key=lambda i: abs(self._stamps[i] - stamp))
        return self._values[best] if abs(self._stamps[best] - stamp) <= tolerance else None
