"""Measures the delay of each chunk from its observation to the arm."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np

from vla_ros.errors import ChunkError

WINDOW = 20
"""Number of recent chunks used for the estimate."""

ENOUGH = 3
"""Number of chunks after which the delay counts as measured."""

MAX_DELAY = 60.0
"""Maximum delay, s; a longer one is a clock that was set."""


@dataclass(frozen=True)
class Delay:
    """Delays of the recent chunks, s.

    Attributes:
        count: Number of delays.
        median: Median delay.
        jitter: Longest minus shortest delay.
        longest: Longest delay, the estimate for the next chunk, so that it is rarely late (algorithm 1 of arXiv
            2506.07339).
    """

    count: int = 0
    median: float = 0.0
    jitter: float = 0.0
    longest: float = 0.0

    @property
    def measured(self) -> bool:
        """Whether there are enough delays."""
        return self.count >= ENOUGH


class DelayMeter:
    """Records the delays of the recent chunks."""

    def __init__(self) -> None:
        """Start without delays."""
        self._recent: deque[float] = deque(maxlen=WINDOW)

    def record(self, delay: float) -> None:
        """Record the delay of one chunk, s.

        Raises:
            ChunkError: when it is not finite, negative, or longer than `MAX_DELAY`.
        """
        if not (math.isfinite(delay) and 0.0 <= delay <= MAX_DELAY):
            raise ChunkError(f"a chunk took {delay} s from its observation, expected 0 to {MAX_DELAY:.0f}")
        self._recent.append(delay)

    def forget(self) -> None:
        """Discard all delays."""
        self._recent.clear()

    @property
    def delay(self) -> Delay:
        """The recent delays."""
        if not self._recent:
            return Delay()
        recent = np.array(self._recent)
        return Delay(len(recent), float(np.median(recent)), float(np.ptp(recent)), float(recent.max()))
