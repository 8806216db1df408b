"""How long chunks take from their observation to the arm, measured one by one."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np

from vla_ros.errors import ChunkError

WINDOW = 20
"""Chunks that a forecast looks back on."""

ENOUGH = 3
"""Chunks after which the delay counts as measured."""

LONGEST = 60.0
"""A longer delay, s, is no delay but a clock that was set."""


@dataclass(frozen=True)
class Delay:
    """The delays of the recent chunks, s.

    Attributes:
        count: How many there are.
        median: Of them.
        jitter: The longest less the shortest.
        longest: Of them: what the next chunk is expected to take, so that it is rarely late (algorithm 1 of arXiv
            2506.07339).
    """

    count: int = 0
    median: float = 0.0
    jitter: float = 0.0
    longest: float = 0.0

    @property
    def measured(self) -> bool:
        """Whether there are enough of them."""
        return self.count >= ENOUGH


class DelayMeter:
    """Keeps the delays of the recent chunks."""

    def __init__(self) -> None:
        """Begin without any."""
        self._recent: deque[float] = deque(maxlen=WINDOW)

    def record(self, delay: float) -> None:
        """Take the delay of one chunk, s.

        Raises:
            ChunkError: when it is not finite, negative, or longer than `LONGEST`.
        """
        if not (math.isfinite(delay) and 0.0 <= delay <= LONGEST):
            raise ChunkError(f"a chunk took {delay} s from its observation, expected 0 to {LONGEST:.0f}")
        self._recent.append(delay)

    def forget(self) -> None:
        """Forget all of them."""
        self._recent.clear()

    @property
    def delay(self) -> Delay:
        """The recent delays."""
        if not self._recent:
            return Delay()
        recent = np.array(self._recent)
        return Delay(len(recent), float(np.median(recent)), float(np.ptp(recent)), float(recent.max()))
