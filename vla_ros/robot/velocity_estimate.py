"""Joint velocities from positions, for drivers that report none.

The mean over a short window: q' = (q(t) - q(t - T)) / T. A difference of two neighbors at 1 kHz would make an encoder
step of 0.1 mrad a velocity of 0.1 rad/s. The price is latency: the mean is that of T/2 ago.
"""

from __future__ import annotations

from collections import deque

from vla_ros.types import FloatArray

WINDOW = 0.05
"""T, s; the time between two states where that is longer. The velocity lags behind by half of it."""

LONGEST_GAP = 0.25
"""Time between two states, s, after which the positions before say nothing about the velocity now."""

BACKWARD_RESTART = 5
"""States in a row that are older than the newest after which the driver's clock counts as set back."""

_SPACING = WINDOW / 8
"""Least time between two states that are kept, s: memory does not grow with the driver's rate."""


class VelocityEstimator:
    """Differentiates the positions of one driver."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._samples: deque[tuple[float, FloatArray]] = deque()  # the newest one last, whatever the spacing
        self._velocities: FloatArray | None = None
        self._backward = 0

    def update(self, positions: FloatArray, stamp: float) -> FloatArray | None:
        """Take a state and return its velocities, or None while they are not known.

        They are not known for the first half of a window after the start, after a gap, and after the clock was set
        back. A state that is late or comes twice changes nothing.

        Args:
            positions: Joint positions (k,), rad or m, finite.
            stamp: Time of the measurement, s, finite.

        Returns:
            Joint velocities (k,), rad/s or m/s.
        """
        if self._samples:
            gap = stamp - self._samples[-1][0]
            self._backward = self._backward + 1 if gap < 0.0 else 0
            if gap <= 0.0 and self._backward < BACKWARD_RESTART:
                return self._velocities
            if not 0.0 < gap <= LONGEST_GAP:
                self._samples.clear()
                self._backward = 0
        self._keep(positions, stamp)
        began, before = self._samples[0]
        span = stamp - began
        self._velocities = (positions - before) / span if span >= 0.5 * WINDOW else None
        return self._velocities

    def _keep(self, positions: FloatArray, stamp: float) -> None:
        if len(self._samples) > 1 and stamp - self._samples[-2][0] < _SPACING:
            self._samples.pop()
        self._samples.append((stamp, positions))
        while len(self._samples) > 2 and self._samples[1][0] <= stamp - WINDOW:
            self._samples.popleft()
