"""Median posture of an arm held by a contact, so that no single measurement decides.

held.look(now)                      # every tick with a valid measurement
held.measure(positions, touching)   # every new one
held.positions, held.touching       # None: wait for the next measurement
"""

from __future__ import annotations

from collections import deque

import numpy as np

from vla_ros.types import FloatArray

VOTES = 3
"""Number of measurements in the median: a single outlier, in one joint or in all, has no effect."""

PATIENCE = 0.1
"""Gap without a valid measurement, s, after which the previous ones are dropped: the arm may have moved."""

PATIENT_TICKS = 3.0
"""Minimum lifetime of a measurement in ticks, at low rates: the median needs three."""


class HeldPosture:
    """Joint-wise median of the last measurements. Not thread-safe.

    A command to the measured posture moves the arm there. A single outlier would do that to an arm that nothing else
    moves; or it would look like the end of the contact, and leave the arm pressing. The median lags the newest
    measurement by the arm's motion in one interval: almost nothing for a held arm.
    """

    def __init__(self, period: float) -> None:
        """Start without measurements, for a tick period of `period` s."""
        self._patience = max(PATIENCE, PATIENT_TICKS * period)
        self._measured: deque[tuple[FloatArray, bool]] = deque(maxlen=VOTES)
        self._looked_at = -np.inf

    def clear(self) -> None:
        """Drop all measurements."""
        self._measured.clear()

    def look(self, now: float) -> None:
        """Record that the newest measurement is valid at `now`, s, steady clock."""
        if now - self._looked_at > self._patience:
            self.clear()
        self._looked_at = now

    def measure(self, positions: FloatArray, touching: bool) -> None:
        """Add a measurement: joint positions (n,) rad, and whether they or the torques show a contact."""
        self._measured.append((positions, touching))

    @property
    def positions(self) -> FloatArray | None:
        """Median joint positions, (n,) rad; None before there are enough measurements."""
        if len(self._measured) < VOTES:
            return None
        return np.asarray(np.median([positions for positions, _ in self._measured], axis=0), dtype=np.float64)

    @property
    def touching(self) -> bool:
        """Whether more than half of the measurements show a contact."""
        return 2 * sum(touching for _, touching in self._measured) > VOTES
