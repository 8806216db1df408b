"""The newest items of one sensor, in the order of their stamps, whatever its clock does."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")

BACKWARD_RESTART = 5
"""After so many items in a row that are older than the newest, the sensor's clock is taken to have been set back."""


@dataclass(frozen=True, eq=False)
class Stamped(Generic[Item]):
    """A value, its stamp, s on the sensor's clock, and when it came, s on the steady clock."""

    stamp: float
    value: Item
    received: float = 0.0


class SensorBuffer(Generic[Item]):
    """Keeps the newest items; stamps rise strictly. What comes out of order or twice is dropped and counted."""

    def __init__(self, kept: int) -> None:
        """Keep at most `kept` items; the oldest give way."""
        self.items: deque[Stamped[Item]] = deque(maxlen=kept)
        self.dropped = 0
        self._newest = -math.inf
        self._backward = 0

    def add(self, item: Stamped[Item]) -> bool:
        """Take an item; True when the sensor's clock was set back, so that everything before this item is void."""
        if item.stamp > self._newest:
            self._append(item)
            return False
        self.dropped += 1
        if item.stamp < self._newest:  # the same stamp again is a repetition, not a sign of another clock
            self._backward += 1
        if self._backward < BACKWARD_RESTART:
            return False
        self.clear()
        self._append(item)
        return True

    def clear(self) -> None:
        """Forget everything, the order too."""
        self.items.clear()
        self._newest, self._backward = -math.inf, 0

    def nearest(self, stamp: float) -> Stamped[Item]:
        """Return the item whose stamp is nearest to `stamp`; there must be one."""
        return min(self.items, key=lambda item: abs(item.stamp - stamp))

    def _append(self, item: Stamped[Item]) -> None:
        self._newest, self._backward = item.stamp, 0
        self.items.append(item)
