"""Buffer of the newest items of one sensor, ordered by stamp, robust against clock jumps."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")

BACKWARD_RESTART = 5
"""Number of consecutive items older than the newest after which the sensor's clock counts as set back."""


@dataclass(frozen=True, eq=False)
class Stamped(Generic[Item]):
    """A value with its stamp, s on the sensor's clock, and its time of receipt, s on the steady clock."""

    stamp: float
    value: Item
    received: float = 0.0


class SensorBuffer(Generic[Item]):
    """Keeps the newest items, stamps strictly increasing; out-of-order or duplicate items are dropped and counted."""

    def __init__(self, kept: int) -> None:
        """Keep at most `kept` items, the newest."""
        self.items: deque[Stamped[Item]] = deque(maxlen=kept)
        self.dropped = 0
        self._newest = -math.inf
        self._backward = 0

    def add(self, item: Stamped[Item]) -> bool:
        """Add an item; return True when the sensor's clock was set back, which invalidates everything before it."""
        if item.stamp > self._newest:
            self._append(item)
            return False
        self.dropped += 1
        if item.stamp < self._newest:  # an equal stamp is a repetition, not a sign of a clock change
            self._backward += 1
        if self._backward < BACKWARD_RESTART:
            return False
        self.clear()
        self._append(item)
        return True

    def clear(self) -> None:
        """Drop all items, and forget the newest stamp."""
        self.items.clear()
        self._newest, self._backward = -math.inf, 0

    def nearest(self, stamp: float) -> Stamped[Item]:
        """Return the item with the stamp nearest to `stamp`; the buffer must not be empty."""
        return min(self.items, key=lambda item: abs(item.stamp - stamp))

    def _append(self, item: Stamped[Item]) -> None:
        self._newest, self._backward = item.stamp, 0
        self.items.append(item)
