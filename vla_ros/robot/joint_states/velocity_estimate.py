"""Joint velocities from positions, for drivers that do not report them.

The mean over a short window: q' = (q(t) - q(t - T)) / T. A difference of two neighbors at 1 kHz would turn an encoder
step of 0.1 mrad into a velocity of 0.1 rad/s. The price is latency: the mean is the velocity T/2 ago.
"""

from __future__ import annotations

from collections import deque

from vla_ros.types import FloatArray

WINDOW = 0.05
"""Window T, s, or the time between two states where that is longer. The velocity lags behind by half of it."""

LONGEST_GAP = 0.25
"""Gap between two states, s, after which the estimate restarts: older positions say nothing about the velocity."""

BACKWARD_RESTART = 5
"""Number of consecutive states older than the newest after which the driver's clock counts as set back."""

_SPACING = WINDOW / 8
"""Minimum time between two stored states, s, so that memory does not grow with the driver's rate."""


class VelocityEstimator:
    """Estimates the joint velocities of one driver from its positions."""

    def __init__(self) -> None:
        """Start without states."""
        self._samples: deque[tuple[float, FloatArray]] = deque()  # the newest last, at any spacing
        self._velocities: FloatArray | None = None
        self._backward = 0

    def update(self, positions: FloatArray, stamp: float) -> FloatArray | None:
        """Add a state and return its velocities, or None while unknown.

        They are unknown for the first half of a window after the start, after a gap, and after the clock was set back.
        A late or duplicate state changes nothing.

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
