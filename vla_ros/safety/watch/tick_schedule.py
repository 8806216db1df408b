"""Schedule of ticks on a time grid that is fixed while the arm moves; detects missed ticks."""

from __future__ import annotations

import math
from dataclasses import dataclass

from vla_ros.safety.motion.command_trajectory import lead

EARLY = 0.25
"""Tolerated earliness of a tick, as a fraction of the period; an earlier one counts as the previous tick."""

DRIFT = 0.25
"""Lateness, as a fraction of the period, beyond which the grid is shifted at rest."""

LONGEST_GAP = 0.03
"""Gap between two commands, s, from which the motion must come to rest before it continues."""


@dataclass(frozen=True)
class Place:
    """Place of a tick on the grid.

    Attributes:
        missed: Number of missed ticks between the last step and this one.
        due: Due time of the step before this one, s, counting missed ticks.
        taken: Whether a step for this tick has already been made.
        late: Whether the controller has started the stop instead of this step, or will have.
        gap: Whether enough consecutive ticks were missed that the motion must come to rest.
    """

    missed: int
    due: float
    taken: bool
    late: bool
    gap: bool


class TickSchedule:
    """The time grid; a step is identified by its due time, which is `lead` after its tick."""

    def __init__(self, period: float, tick_budget: float) -> None:
        """Expect ticks `period` s apart, each at most `tick_budget` s late."""
        self._period, self._budget = period, tick_budget
        self._lead = lead(period, tick_budget)

    def next_tick(self, due: float) -> float:
        """Return the due time of the tick after the step due at `due`, s."""
        return due - self._lead + self._period

    def anchor(self, now: float, due: float) -> float:
        """Return the new due time of the resting step due at `due`, so that the tick at `now` is on time.

        The grid follows early ticks and persistently late ones, but not clock jitter.
        """
        late = now - self.next_tick(due)
        return due if 0.0 <= late <= DRIFT * self._period else now + self._lead - self._period

    def place(self, now: float, due: float, early: float = EARLY) -> Place:
        """Return the place of the tick at `now`, s.

        Args:
            now: Time of the tick.
            due: Due time of the last step.
            early: Tolerated earliness, as a fraction of the period.
        """
        late = now - self.next_tick(due)
        if not late >= -self._period:  # the clock went back or is NaN: the time between is unknown
            return Place(0, due, taken=False, late=True, gap=False)
        ticks = math.floor(late / self._period + early)
        missed = max(ticks, 0)
        late -= missed * self._period
        gap = (missed + 1) * self._period > LONGEST_GAP - 1e-6
        return Place(missed, due + missed * self._period, ticks < 0, late > self._budget, missed > 0 and gap)
