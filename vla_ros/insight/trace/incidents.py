"""When a trace is kept: an emergency stop, a hold for a fault, a node that has gone silent."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from vla_ros.safety.reasons import Reason
from vla_ros.types import SafetyState

SILENCE = 5.0
"""A node that reported its health once a second and has not for this long is gone, s."""

ORDERLY = frozenset({
    Reason.OK, Reason.DISARMED, Reason.DISARMING, Reason.WAITING, Reason.INSTRUCTION_NEW, Reason.INSTRUCTION_OLD,
    Reason.INSTRUCTION_STOP, Reason.POLICY_WAITING, Reason.UNSETTLED,
})  # fmt: skip
"""Reasons to hold that are no fault: an operator's order, or the moments before the motion begins."""

_ORDERLY_LABELS = frozenset(reason.label for reason in ORDERLY)


@dataclass(frozen=True)
class Incident:
    """What went wrong: a word for names of files, and a sentence."""

    what: str
    sentence: str


class IncidentWatch:
    """Follows the state of the safety layer and the signs of life of the nodes."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._before: tuple[int, str] | None = None
        self._heard: dict[str, float] = {}

    def safety(self, state: int, reason: str, sentence: str, *, armed: bool) -> Incident | None:
        """Return what went wrong with this status of the safety layer, once.

        Args:
            state: `SafetyState` as a number.
            reason: Label of the reason.
            sentence: The same for people.
            armed: The arm is armed.
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
        """Note that these nodes have reported their health at `now`, s; those `leaving` need not any more."""
        for node in nodes:
            self._heard[node] = now
        for node in leaving:
            self._heard.pop(node, None)

    def silent(self, now: float) -> Incident | None:
        """Return which node has gone silent, once each."""
        for node, heard in self._heard.items():
            if now - heard > SILENCE:
                del self._heard[node]
                sentence = f"{node} has not reported its health for {now - heard:.0f} s: it has died or hangs."
                return Incident("node_silent", sentence)
        return None
