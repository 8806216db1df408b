"""Throttled logging of refused messages: the first of a kind at once, then one line per second with their number.

A policy whose messages are refused sends ten per second, a driver a hundred. The counters of `/vla/safety_status` count
every single one.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from vla_ros.language.rate import RateLimiter

PERIOD = 1.0
"""Minimum time between two lines of one kind, s."""

KINDS = 64
"""Maximum number of kinds; all further ones share one line per period, so that no sender can exhaust the memory."""


class RejectionLog:
    """Logs refused messages, one line per kind and period. Not thread-safe."""

    def __init__(self, tell: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        """Pass each line to `tell`; `clock` is monotonic, s."""
        self._tell, self._clock = tell, clock
        self._limiters: dict[str, RateLimiter[str]] = {}
        self._told: dict[str, int] = {}  # by kind: number of suppressed messages already reported

    def note(self, kind: str, sentence: str) -> None:
        """Register a refused message; `kind` is its type and the reason, `sentence` has the details."""
        if kind not in self._limiters and len(self._limiters) >= KINDS:
            kind = ""
        limiter = self._limiters.setdefault(kind, RateLimiter(PERIOD))
        self._say(kind, limiter, limiter.offer(sentence, self._clock()))

    def catch_up(self) -> None:
        """Report the newest suppressed message of each kind when it is due; call periodically."""
        now = self._clock()
        for kind, limiter in self._limiters.items():
            self._say(kind, limiter, limiter.due(now))

    def _say(self, kind: str, limiter: RateLimiter[str], sentences: list[str]) -> None:
        for sentence in sentences:
            left_out = limiter.superseded - self._told.get(kind, 0)
            self._told[kind] = limiter.superseded
            self._tell(f"{sentence} (and {left_out} more since the last such line)" if left_out else sentence)
