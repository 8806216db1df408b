"""Decides when a trace is kept: an emergency stop, a HOLD due to a fault, a silent node."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from vla_ros.safety.reasons import Reason
from vla_ros.types import SafetyState

SILENCE = 5.0
"""Time without a health report (one is due per second) after which a node counts as gone, s."""

ORDERLY = frozenset(
    {
        Reason.OK,
        Reason.DISARMED,
        Reason.DISARMING,
        Reason.WAITING,
        Reason.INSTRUCTION_NEW,
        Reason.INSTRUCTION_OLD,
        Reason.INSTRUCTION_STOP,
        Reason.POLICY_WAITING,
        Reason.UNSETTLED,
    }
)
"""Reasons for HOLD that are no fault: an operator's request, or the time before the motion begins."""

_ORDERLY_LABELS = frozenset(reason.label for reason in ORDERLY)


@dataclass(frozen=True)
class Incident:
    """An incident: a word for file names, and a sentence for users."""

    what: str
    sentence: str


class IncidentWatch:
    """Watches the state of the safety layer and the health reports of the nodes."""

    def __init__(self) -> None:
        """Start without observations."""
        self._before: tuple[int, str] | None = None
        self._heard: dict[str, float] = {}

    def safety(self, state: int, reason: str, sentence: str, *, armed: bool) -> Incident | None:
        """Return the incident that a safety status indicates, once.

        Args:
            state: `SafetyState` as a number.
            reason: Label of the reason.
            sentence: Explanation of the reason for users.
            armed: Whether the arm is armed.
        """
        before, self._before = self._before, (state, reason)
        if self._before == before:
            return None
        if state == SafetyState.ESTOP:
            return None if before is not None and before[0] == state else Incident("estop", sentence)
        if state == SafetyState.HOLD and armed and reason not in _ORDERLY_LABELS:
            return Incident(f"hold_{''.join(c if c.isalnum() else '_' for c in reason)[:40]}", sentence)
        return None

    def alive(self, nodes: Iterable[str], now: float, *, leaving: Iterable[str] = ()) -> None:
        """Record health reports of these nodes at `now`, s; nodes in `leaving` are no longer watched."""
        for node in nodes:
            self._heard[node] = now
        for node in leaving:
            self._heard.pop(node, None)

    def silent(self, now: float) -> Incident | None:
        """Return an incident for a node that has gone silent, once per node."""
        for node, heard in self._heard.items():
            if now - heard > SILENCE:
                del self._heard[node]
                sentence = f"{node} has not reported its health for {now - heard:.0f} s: it has died or hangs."
                return Incident("node_silent", sentence)
        return None
