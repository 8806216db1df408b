"""What was measured when: the last values by stamp, to look up the one that belongs to an observation."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from typing import Generic, TypeVar

Value = TypeVar("Value")


class History(Generic[Value]):
    """The last `size` values, in the order of their stamps; a stamp that goes back starts it afresh."""

    def __init__(self, size: int) -> None:
        """Keep at most `size` values."""
        self._stamps: deque[float] = deque(maxlen=size)
        self._values: deque[Value] = deque(maxlen=size)

    def add(self, stamp: float, value: Value) -> None:
        """Take the newest value; one with the stamp of the newest is dropped, NaN too."""
        if self._stamps and stamp < self._stamps[-1]:
            self._stamps.clear()
            self._values.clear()
        if not self._stamps or stamp > self._stamps[-1]:
            self._stamps.append(stamp)
            self._values.append(value)

    def nearest(self, stamp: float, tolerance: float) -> Value | None:
        """Return the value nearest to `stamp`, s; None when there is none within `tolerance` s."""
        place = bisect_left(self._stamps, stamp)
        candidates = [i for i in (place - 1, place) if 0 <= i < len(self._stamps)]
        if not candidates:
            return None
        best = min(candidates, key=lambda i: abs(self._stamps[i] - stamp))
        return self._values[best] if abs(self._stamps[best] - stamp) <= tolerance else None
