"""When ticks are due, and which of them did not come: a grid of times that stays as it is while the arm moves."""

from __future__ import annotations

import math
from dataclasses import dataclass

from vla_ros.safety.command_trajectory import lead

EARLY = 0.25
"""A tick may come so early, as a fraction of the period; one that is earlier has the place of the tick before."""

DRIFT = 0.25
"""At rest the grid is moved when ticks are later than this, as a fraction of the period."""

LONGEST_GAP = 0.03
"""After a gap between two commands that was so long, s, the motion has to come to rest before it goes on."""


@dataclass(frozen=True)
class Place:
    """The place of a tick on the grid.

    Attributes:
        missed: Ticks between the last step and this one that did not come.
        due: When the step before this one is due, s, those of the missed ticks included.
        taken: A step for this tick has been made before.
        late: The controller has begun the stop in the place of this step, or will have.
        gap: Enough consecutive ticks were missed that the motion has to come to rest.
    """

    missed: int
    due: float
    taken: bool
    late: bool
    gap: bool


class TickSchedule:
    """The grid. Steps are known by when they are due, which is `lead` after their tick."""

    def __init__(self, period: float, tick_budget: float) -> None:
        """Expect ticks `period` s apart, each late by `tick_budget` s at most."""
        self._period, self._budget = period, tick_budget
        self._lead = lead(period, tick_budget)

    def next_tick(self, due: float) -> float:
        """Return when the tick is due that follows the step due at `due`, s."""
        return due - self._lead + self._period

    def anchor(self, now: float, due: float) -> float:
        """Return when the resting step that was due at `due` shall count as due, so that the tick at `now` is on time.

        The grid follows ticks that come early and those that are late for longer, but not the jitter of a clock.
        """
        late = now - self.next_tick(due)
        return due if 0.0 <= late <= DRIFT * self._period else now + self._lead - self._period

    def place(self, now: float, due: float, early: float = EARLY) -> Place:
        """Return the place of the tick at `now`, s.

        Args:
            now: When it came.
            due: When the last step is due.
            early: Fraction of the period by which it may be early.
        """
        late = now - self.next_tick(due)
        if not late >= -self._period:  # the clock went back, or is none: nothing can be told of the time between
            return Place(0, due, taken=False, late=True, gap=False)
        ticks = math.floor(late / self._period + early)
        missed = max(ticks, 0)
        late -= missed * self._period
        gap = (missed + 1) * self._period > LONGEST_GAP - 1e-6
        return Place(missed, due + missed * self._period, ticks < 0, late > self._budget, missed > 0 and gap)
