"""Monitors whether ticks are on time, by their clock and by the steps sent in their place."""

from __future__ import annotations

import numpy as np

from vla_ros.safety.parameters import TimingParameters
from vla_ros.safety.reasons import Reason

MEMORY = 0.5
"""Time for which the arm stays slow after late ticks, s."""


class TickWatch:
    """Monitors the ticks of one control thread."""

    def __init__(self, timing: TimingParameters) -> None:
        """Use the period and the counts of `timing`; before the first tick none is missed."""
        self._timing = timing
        self._missed = self._overran = 0
        self._last: float | None = None
        self._slow_until = -np.inf

    def count(self, now: float, overruns: int) -> int:
        """Record a tick.

        Args:
            now: Time of the tick, s.
            overruns: Number of consecutive ticks, until now, in whose place the known stop was followed.

        Returns:
            Number of ticks missed in the gap before it.
        """
        gap = 0.0 if self._last is None else (now - self._last) / self._timing.period
        self._missed = max(round(gap) - 1, 0)
        self._last, self._overran = now, overruns
        if max(self._missed, overruns) >= self._timing.missed_ticks_slow:
            self._slow_until = now + MEMORY
        return self._missed

    def fault(self) -> tuple[Reason, str]:
        """Return why the plan must not be followed in the last tick, or OK."""
        if self._overran >= self._timing.missed_ticks_hold:
            return Reason.TICK_OVERRUN, f"({self._overran} in a row)"
        if self._missed >= self._timing.missed_ticks_hold:
            return Reason.TICKS_MISSED, f"({self._missed} in a row)"
        return Reason.OK, ""

    def late(self, now: float) -> Reason:
        """Return why the arm must move slowly at `now`, s, or OK."""
        if now >= self._slow_until:
            return Reason.OK
        return Reason.TICK_OVERRUN if self._overran else Reason.TICKS_MISSED
