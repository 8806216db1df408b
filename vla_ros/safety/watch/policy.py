"""Watchdog for the policy: alive, healthy and making progress, by its heartbeats on the receiver's steady clock.

Chunks alone show a failure too late: each is a plan for more than a second. Heartbeats are far more frequent, so that
little of a plan is executed after its policy has crashed.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

from vla_ros.safety.parameters import TimingParameters
from vla_ros.safety.reasons import Reason


class Condition(Enum):
    """Condition reported by a policy."""

    RUNNING = "running"
    IDLE = "idle"
    WAITING = "waiting"
    FAULT = "fault"


COMPLAINTS = {
    Condition.RUNNING: Reason.OK,
    Condition.IDLE: Reason.POLICY_WAITING,
    Condition.WAITING: Reason.POLICY_WAITING,
    Condition.FAULT: Reason.POLICY_FAULT,
}
"""Reason to hold for each condition, if it persists."""


@dataclass(frozen=True)
class Heartbeat:
    """One heartbeat.

    Attributes:
        condition: Condition reported by the policy.
        inferences: Number of completed inferences: progress, which a hung policy cannot fake.
        computing: Whether another inference is running.
        sentence: Explanation for users.
    """

    condition: Condition
    inferences: int
    computing: bool
    sentence: str = ""


class PolicyWatch:
    """Monitors the heartbeats of one policy."""

    def __init__(self, timing: TimingParameters) -> None:
        """Use the deadlines of `timing`; before the first heartbeat the policy counts as silent."""
        self._timing = timing
        self._newest: Heartbeat | None = None
        self._received = self._well = self._progressed = -np.inf

    def receive(self, beat: Heartbeat, now: float) -> None:
        """Record a heartbeat received at `now`, s, steady clock."""
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
        """Return whether the heartbeat is late enough to slow down."""
        return not now - self._received <= self._timing.policy_slow

    def left(self, now: float) -> float:
        """Return the time until silence makes the arm hold, s."""
        return self._timing.policy_timeout - (now - self._received)
