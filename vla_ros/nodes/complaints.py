"""Says what is wrong when it begins, once in a while when it lasts, and that it is over; never once per message."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from rclpy.impl.rcutils_logger import RcutilsLogger

REMINDER_PERIOD = 5.0
"""Time between two warnings about a trouble that lasts, s."""

SHORTEST_PERIOD = 1.0
"""Time between two lines about one subject, s, however often its trouble comes and goes."""


@dataclass
class _Subject:
    kind: str = ""
    said_kind: str = ""
    said: float = -math.inf


class Complaints:
    """What is wrong just now, by subject; used by one thread."""

    def __init__(self, logger: RcutilsLogger, clock: Callable[[], float] = time.monotonic) -> None:
        """Log to `logger`; `clock` is steady, s."""
        self._logger, self._clock = logger, clock
        self._subjects: dict[str, _Subject] = {}

    def report(self, about: str, kind: str, sentence: str) -> None:
        """Note that something is wrong with `about`; `kind` tells a new trouble from one that goes on."""
        subject = self._subjects.setdefault(about, _Subject())
        subject.kind = kind
        if self._may_speak(subject, SHORTEST_PERIOD if kind != subject.said_kind else REMINDER_PERIOD):
            self._logger.warning(f"{about}: {sentence}")

    def settle(self, about: str) -> None:
        """Note that `about` is well."""
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
