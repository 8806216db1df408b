"""A rate limiter with room for one: of what comes too fast, the newest is kept until its time has come."""

from __future__ import annotations

import math
from typing import Generic, TypeVar

Item = TypeVar("Item")


class RateLimiter(Generic[Item]):
    """Lets one item pass a period. It owns no clock: `now` is a reading of a steady clock, s.

    Attributes:
        offered: Items that came.
        passed: Items that were let through.
        superseded: Items that a newer one, or `restart`, has taken the place of.
    """

    def __init__(self, period: float) -> None:
        """Let one item pass every `period` s.

        Raises:
            ValueError: when the period is not a positive number of seconds.
        """
        if not (math.isfinite(period) and period > 0.0):
            raise ValueError(f"period is {period}, expected a positive number of seconds")
        self.period = period
        self.offered = self.passed = self.superseded = 0
        self._opens = -math.inf
        self._waiting: list[Item] = []  # at most one; a list, since None is an item like any other

    @property
    def pending(self) -> bool:
        """Whether an item waits for its time."""
        return bool(self._waiting)

    def offer(self, item: Item, now: float) -> list[Item]:
        """Take `item`; returns what may pass at once: it, or nothing."""
        self.offered += 1
        self._forget_waiting()
        self._waiting.append(item)
        return self.due(now)

    def due(self, now: float) -> list[Item]:
        """Return the item that waits once its time has come, else nothing."""
        if not self._waiting or not now >= self._opens:  # this way round a NaN lets nothing through
            return []
        self._opens = now + self.period
        self.passed += 1
        return [self._waiting.pop()]

    def restart(self, now: float) -> None:
        """Forget what waits and begin a whole period: something that outranks all items has just passed by."""
        self._forget_waiting()
        self._opens = now + self.period

    def _forget_waiting(self) -> None:
        self.superseded += len(self._waiting)
        self._waiting.clear()
