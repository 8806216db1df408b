"""What to log of refused messages: the first of a kind at once, then a line a second with how many more there were.

A policy that goes on sending what is refused does so ten times a second, a driver a hundred times; the counters of
`/vla/safety_status` have every single one.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from vla_ros.language.rate import RateLimiter

PERIOD = 1.0
"""Time between two lines of one kind, s."""

KINDS = 64
"""So many kinds are told apart; all further ones share one line a period, so that no sender can fill the memory."""


class Refusals:
    """Refused messages of several kinds, each kind with a line a period; used by one thread."""

    def __init__(self, tell: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        """Hand each line to `tell`; `clock` is steady, s."""
        self._tell, self._clock = tell, clock
        self._limiters: dict[str, RateLimiter[str]] = {}
        self._told: dict[str, int] = {}  # by kind: how many of those left out have been told of

    def note(self, kind: str, sentence: str) -> None:
        """Take note of one refused message; `kind` is what it was and why it was refused, `sentence` says more."""
        if kind not in self._limiters and len(self._limiters) >= KINDS:
            kind = ""
        limiter = self._limiters.setdefault(kind, RateLimiter(PERIOD))
        self._say(kind, limiter, limiter.offer(sentence, self._clock()))

    def catch_up(self) -> None:
        """Tell the newest of what was left out once its time has come; to be called again and again."""
        now = self._clock()
        for kind, limiter in self._limiters.items():
            self._say(kind, limiter, limiter.due(now))

    def _say(self, kind: str, limiter: RateLimiter[str], sentences: list[str]) -> None:
        for sentence in sentences:
            left_out = limiter.superseded - self._told.get(kind, 0)
            self._told[kind] = limiter.superseded
            self._tell(f"{sentence} (and {left_out} more since the last such line)" if left_out else sentence)
