"""Rate limiter with a queue of one: of items that arrive too fast, the newest waits for the next period."""

from __future__ import annotations

import math
from typing import Generic, TypeVar

Item = TypeVar("Item")


class RateLimiter(Generic[Item]):
    """Lets one item pass per period; `now` is always a reading of the caller's steady clock, s.

    Attributes:
        offered: Number of items received.
        passed: Number of items passed on.
        superseded: Number of items replaced by a newer one or dropped by `restart`.
    """

    def __init__(self, period: float) -> None:
        """Let one item pass every `period` s.

        Raises:
            ValueError: when the period is not a finite positive number.
        """
        if not (math.isfinite(period) and period > 0.0):
            raise ValueError(f"period is {period}, expected a positive number of seconds")
        self.period = period
        self.offered = self.passed = self.superseded = 0
        self._opens = -math.inf
        self._waiting: list[Item] = []  # at most one; a list, since None is a valid item

    @property
    def pending(self) -> bool:
        """Whether an item is waiting."""
        return bool(self._waiting)

    def offer(self, item: Item, now: float) -> list[Item]:
        """Accept `item`; return the item that may pass at once, or an empty list."""
        self.offered += 1
        self._forget_waiting()
        self._waiting.append(item)
        return self.due(now)

    def due(self, now: float) -> list[Item]:
        """Return the waiting item if its time has come, else an empty list."""
        if not self._waiting or not now >= self._opens:  # a NaN lets nothing through
            return []
        self._opens = now + self.period
        self.passed += 1
        return [self._waiting.pop()]

    def restart(self, now: float) -> None:
        """Drop the waiting item and start a full period: something of higher priority has just passed."""
        self._forget_waiting()
        self._opens = now + self.period

    def _forget_waiting(self) -> None:
        self.superseded += len(self._waiting)
        self._waiting.clear()
