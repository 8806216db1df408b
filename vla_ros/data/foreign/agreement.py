"""Agreement of an episode's commanded and measured motion, in direction and in magnitude.

Measurement noise has an arbitrary direction and its own magnitude, so only significant motion is counted. Slow motion
is not significant from one step to the next; its magnitude is therefore measured over windows of steps.
"""

from __future__ import annotations

import numpy as np

from vla_ros.types import FloatArray

WINDOW = 20
"""Longest window over which commanded and measured motion are summed, steps."""


class DirectionAgreement:
    """Mean cosine between commanded and measured motion, weighted by their magnitudes."""

    def __init__(self, least: float) -> None:
        """Start empty; motions shorter than `least` (m or rad) are ignored."""
        self.count, self._least, self._products, self._sizes = 0, least, 0.0, 0.0

    def add(self, sent: FloatArray, went: FloatArray) -> None:
        """Add the commanded (`sent`) and the measured (`went`) motion of one step, both (n,) m or rad."""
        sizes = float(np.linalg.norm(sent)), float(np.linalg.norm(went))
        if min(sizes) >= self._least:
            self.count += 1
            self._products += float(sent @ went)
            self._sizes += sizes[0] * sizes[1]

    @property
    def cosine(self) -> float:
        """Mean cosine, -1 to 1; at least one motion must have been counted."""
        return self._products / self._sizes


class SizeAgreement:
    """Ratios of commanded to measured motion, one for each window in which the tool moved significantly."""

    def __init__(self, least: float) -> None:
        """Start empty; a window ends at `least` (m or rad) of measured motion, or unused after `WINDOW` steps."""
        self._least, self._ratios = least, list[float]()
        self._steps, self._sent, self._went = 0, np.zeros(3), np.zeros(3)

    def add(self, sent: FloatArray, went: FloatArray) -> None:
        """Add one step: the commanded and the measured motion, both (3,) m or rad."""
        self._steps, self._sent, self._went = self._steps + 1, self._sent + sent, self._went + went
        size = float(np.linalg.norm(self._went))
        if size >= self._least:
            self._ratios.append(float(np.linalg.norm(self._sent)) / size)
        elif self._steps < WINDOW:
            return
        self._steps, self._sent, self._went = 0, np.zeros(3), np.zeros(3)

    @property
    def count(self) -> int:
        """Number of windows used."""
        return len(self._ratios)

    @property
    def ratio(self) -> float:
        """Median of commanded over measured motion; at least one window must have been used."""
        return float(np.median(self._ratios))
