"""Offset between the controllers' clock and the steady clock of the ticks, constant while the arm moves."""

from __future__ import annotations

import time
from collections.abc import Callable

SPREAD = 5e-5
"""Maximum duration of a valid reading of both clocks, s."""

ATTEMPTS = 5

JUMP = 1e-3
"""Tolerated drift between the clocks during a motion, s: the reference then jumps by this much of its velocity."""


class ClockOffset:
    """Converts times of the steady clock to stamps of the system clock.

    Both clocks are slewed alike, so their offset changes only when the time is set. Stamps must not follow that during
    motion: a shift of the time grid is a jump of the reference.
    """

    def __init__(self, steady: Callable[[], int] = time.monotonic_ns, system: Callable[[], int] = time.time_ns) -> None:
        """Use these clocks, which return ns."""
        self._steady, self._system = steady, system
        self._offset: int | None = None
        self.jumped = 0.0

    def follow(self, free: bool) -> None:
        """Compare the clocks, once per tick.

        Args:
            free: Whether the arm has been at rest for a while, so that the offset may change. Otherwise `jumped` is the
                change of the offset, s, or 0 if less than JUMP.
        """
        measured = self._measure()
        if measured is None and self._offset is None:
            measured = self._system() - self._steady()
        if measured is None:
            return
        if self._offset is None or free:
            self._offset = measured
        apart = 1e-9 * (measured - self._offset)
        self.jumped = apart if abs(apart) > JUMP else 0.0

    def stamp(self, steady: float) -> tuple[int, int]:
        """Convert a time of the steady clock, s, to whole s and ns of the system clock."""
        if self._offset is None:
            self.follow(free=True)
        return divmod(round(steady * 1e9) + (self._offset or 0), 1_000_000_000)

    def _measure(self) -> int | None:
        """Return the offset, ns, or None when the thread was preempted during every reading."""
        for _ in range(ATTEMPTS):
            before, system, after = self._steady(), self._system(), self._steady()
            if after - before <= SPREAD * 1e9:
                return system - (before + after) // 2
        return None
