"""Bounds how often something passes: the newest waiting value wins, and what it replaces is counted."""

from __future__ import annotations

import math
from typing import Generic, TypeVar

Value = TypeVar("Value")


class NewestWins(Generic[Value]):
    """Lets one value pass per interval; of those that come too early only the newest waits.

    The caller brings the time, on a steady clock, so that a jump of the wall clock neither opens nor closes the gate.
    """

    def __init__(self, interval: float) -> None:
        """Let values pass at least `interval` s apart.

        Raises:
            ValueError: when that is negative or not finite.
        """
        if not 0.0 <= interval < math.inf:
            raise ValueError(f"the interval is {interval} s, expected a finite number of at least 0")
        self.interval = interval
        self.replaced = 0
        self._waiting: list[Value] = []
        self._opens = -math.inf

    def offer(self, value: Value, now: float) -> Value | None:
        """Return `value` when it may pass at `now` (s), else None: it waits, in place of the one that waited."""
        self.replaced += len(self._waiting)
        self._waiting = [value]
        return self.take(now)

    def take(self, now: float) -> Value | None:
        """Return the value that waits when its time has come at `now` (s), else None."""
        if not self._waiting or now < self._opens:
            return None
        self._opens = now + self.interval
        return self._waiting.pop()

    def interrupt(self, now: float) -> None:
        """Drop what waits, and let the next value pass a whole interval after `now` (s)."""
        self.replaced += len(self._waiting)
        self._waiting = []
        self._opens = now + self.interval
