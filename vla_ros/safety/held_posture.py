"""Where a contact holds the arm, and whether it still does: no single measurement decides that.

held.look(now)                      # every tick with a sound measurement
held.measure(positions, touching)   # every new one
held.positions, held.touching       # None: wait for the next measurement
"""

from __future__ import annotations

from collections import deque

import numpy as np

from vla_ros.types import FloatArray

VOTES = 3
"""Measurements that decide together: what one of them says alone, in one joint or in all, has no effect."""

PATIENCE = 0.1
"""Without a sound measurement for longer than this, s, those before are forgotten: the arm may be elsewhere."""

PATIENT_TICKS = 3.0
"""Shortest lifetime of a measurement in ticks, at low rates: the median needs three of them."""


class HeldPosture:
    """The joint-wise median of the last measurements. One thread at a time.

    A command that goes to where the arm is measured takes it there. One false measurement would do so with an arm that
    nothing else moves; or it would look like the end of the contact, and leave the arm pressing. The median differs
    from the newest measurement by what the arm moved within one: next to nothing for one that is held.
    """

    def __init__(self, period: float) -> None:
        """Begin without measurements; the ticks are `period` s apart."""
        self._patience = max(PATIENCE, PATIENT_TICKS * period)
        self._measured: deque[tuple[FloatArray, bool]] = deque(maxlen=VOTES)
        self._looked_at = -np.inf

    def clear(self) -> None:
        """Forget every measurement."""
        self._measured.clear()

    def look(self, now: float) -> None:
        """Note that the newest measurement is sound at `now`, s, steady clock."""
        if now - self._looked_at > self._patience:
            self.clear()
        self._looked_at = now

    def measure(self, positions: FloatArray, touching: bool) -> None:
        """Take a new measurement: joint positions (n,) rad, and whether they or its torques show a contact."""
        self._measured.append((positions, touching))

    @property
    def positions(self) -> FloatArray | None:
        """Where the arm is, (n,) rad; None before there are enough measurements."""
        if len(self._measured) < VOTES:
            return None
        return np.asarray(np.median([positions for positions, _ in self._measured], axis=0), dtype=np.float64)

    @property
    def touching(self) -> bool:
        """Say whether more than half of the measurements show a contact."""
        return 2 * sum(touching for _, touching in self._measured) > VOTES
