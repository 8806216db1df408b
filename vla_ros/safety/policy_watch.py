"""Is the policy alive, well, and getting on? Judged by its heartbeats, on the steady clock of whoever listens.

Chunks alone say so late: one that has come is a plan for more than a second. A heartbeat comes many times in between,
so that little of a plan is carried out whose policy has died meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

from vla_ros.safety.parameters import TimingParameters
from vla_ros.safety.reasons import Reason


class Condition(Enum):
    """What a policy says of itself."""

    RUNNING = "running"
    IDLE = "idle"
    WAITING = "waiting"
    FAULT = "fault"


COMPLAINTS = {
    Condition.RUNNING: Reason.OK, Condition.IDLE: Reason.POLICY_WAITING, Condition.WAITING: Reason.POLICY_WAITING,
    Condition.FAULT: Reason.POLICY_FAULT,
}  # fmt: skip
"""The reason for which the arm holds when a policy goes on saying so."""


@dataclass(frozen=True)
class Heartbeat:
    """One sign of life.

    Attributes:
        condition: What the policy says of itself.
        inferences: How many it has finished: progress, which a hung policy cannot fake.
        computing: It has begun another one.
        sentence: For people.
    """

    condition: Condition
    inferences: int
    computing: bool
    sentence: str = ""


class PolicyWatch:
    """Judges the heartbeats of one policy."""

    def __init__(self, timing: TimingParameters) -> None:
        """Judge by the deadlines of `timing`; before the first heartbeat the policy counts as silent."""
        self._timing = timing
        self._newest: Heartbeat | None = None
        self._received = self._well = self._progressed = -np.inf

    def receive(self, beat: Heartbeat, now: float) -> None:
        """Take a heartbeat that came at `now`, s, steady clock."""
        newest = self._newest
        if newest is None or not beat.computing or beat.inferences != newest.inferences:
            self._progressed = now
        if beat.condition is Condition.RUNNING:
            self._well = now
        self._newest, self._received = beat, now

    def fault(self, now: float) -> tuple[Reason, str]:
        """Return why the policy must not be followed at `now`, or OK."""
        timing, beat = self._timing, self._newest
        silence = now - self._received
        if beat is None or not 0.0 <= silence <= timing.policy_timeout:
            return Reason.POLICY_SILENT, f"(for {silence:.2f} s)" if np.isfinite(silence) else "(since the start)"
        busy = now - self._progressed
        if not busy <= timing.inference_timeout:
            return Reason.POLICY_STUCK, f"({busy:.2f} s after {beat.inferences} inferences)"
        if not now - self._well <= timing.policy_timeout:
            return COMPLAINTS[beat.condition], f"({beat.sentence})" if beat.sentence else ""
        return Reason.OK, ""

    def late(self, now: float) -> bool:
        """Say whether the heartbeat is late enough to slow down for."""
        return not now - self._received <= self._timing.policy_slow

    def left(self, now: float) -> float:
        """Return how long, s, until silence holds the arm."""
        return self._timing.policy_timeout - (now - self._received)
