"""How far the controllers' clock is ahead of the steady one that the ticks follow, fixed while the arm moves."""

from __future__ import annotations

import time
from collections.abc import Callable

SPREAD = 5e-5
"""A reading of two clocks counts when it took no longer than this, s."""

ATTEMPTS = 5

JUMP = 1e-3
"""The clocks may drift apart so far in one motion, s: the reference then jumps by so much of its velocity."""


class ClockOffset:
    """Turns times of the steady clock into stamps of the system clock.

    Both clocks are slewed alike, so that their distance changes only when somebody sets the time. Stamps must not
    follow that in motion: a shift of the grid of time is a jump of the reference.
    """

    def __init__(self, steady: Callable[[], int] = time.monotonic_ns, system: Callable[[], int] = time.time_ns) -> None:
        """Read these clocks, ns."""
        self._steady, self._system = steady, system
        self._offset: int | None = None
        self.jumped = 0.0

    def follow(self, free: bool) -> None:
        """Look at the clocks: once a tick.

        Args:
            free: The arm has been at rest for a while, so that the offset may change. Otherwise `jumped` says by how
                many s the clocks have come apart, 0 for less than JUMP.
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
        """Return a time of the steady clock, s, as whole s and ns of the system clock."""
        if self._offset is None:
            self.follow(free=True)
        return divmod(round(steady * 1e9) + (self._offset or 0), 1_000_000_000)

    def _measure(self) -> int | None:
        """Return the offset, ns, or None when the thread was put aside between the clocks each time."""
        for _ in range(ATTEMPTS):
            before, system, after = self._steady(), self._system(), self._steady()
            if after - before <= SPREAD * 1e9:
                return system - (before + after) // 2
        return None
