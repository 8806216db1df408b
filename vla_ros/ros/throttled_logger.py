"""Throttled logging of problems: when one begins, periodically while it lasts, and when it is over."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from rclpy.impl.rcutils_logger import RcutilsLogger

REMINDER_PERIOD = 5.0
"""Period of warnings about a persistent problem, s."""

SHORTEST_PERIOD = 1.0
"""Minimum time between two log lines about one subject, s, even for an intermittent problem."""


@dataclass
class _Subject:
    kind: str = ""
    said_kind: str = ""
    said: float = -math.inf


class ThrottledLogger:
    """Current problems, by subject. Not thread-safe."""

    def __init__(self, logger: RcutilsLogger, clock: Callable[[], float] = time.monotonic) -> None:
        """Log to `logger`; `clock` is monotonic, s."""
        self._logger, self._clock = logger, clock
        self._subjects: dict[str, _Subject] = {}

    def report(self, about: str, kind: str, sentence: str) -> None:
        """Report a problem with `about`; `kind` distinguishes a new problem from a persistent one."""
        subject = self._subjects.setdefault(about, _Subject())
        subject.kind = kind
        if self._may_speak(subject, SHORTEST_PERIOD if kind != subject.said_kind else REMINDER_PERIOD):
            self._logger.warning(f"{about}: {sentence}")

    def settle(self, about: str) -> None:
        """Report that `about` has no problem."""
        subject = self._subjects.get(about)
        if subject is None:
            return
        subject.kind = ""
        if subject.said_kind and self._may_speak(subject, SHORTEST_PERIOD):
            self._logger.info(f"{about}: well again")

    def _may_speak(self, subject: _Subject, period: float) -> bool:
        now = self._clock()
        if now - subject.said < period:
            return False
        subject.said, subject.said_kind = now, subject.kind
        return True
