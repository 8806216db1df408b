"""Is there somebody who passes orders on? Judged by the heartbeat of the instruction node, on the steady clock."""

from __future__ import annotations

import numpy as np

from vla_ros.safety.parameters import TimingParameters
from vla_ros.safety.reasons import Reason


class InstructionWatch:
    """Judges one heartbeat.

    It is required from its first beat on. Before that nothing says that there is an instruction node at all: a
    teleoperator, or a task published directly, needs none, and the safety layer hears a stop in words by itself. Once
    it has been heard, operators rely on it, and its silence is a fault.
    """

    def __init__(self, timing: TimingParameters) -> None:
        """Judge by `timing.instruction_timeout`."""
        self._timeout = timing.instruction_timeout
        self._newest: int | None = None
        self._received = -np.inf

    def receive(self, beat: int, now: float) -> None:
        """Take the beat with this number, which came at `now`, s; the same number again is the same beat."""
        if beat != self._newest:
            self._newest, self._received = beat, now

    def fault(self, now: float) -> tuple[Reason, str]:
        """Return why the arm must not go on at `now`, s, or OK."""
        silence = now - self._received
        if self._newest is None or 0.0 <= silence <= self._timeout:
            return Reason.OK, ""
        return Reason.INSTRUCTION_SILENT, f"(for {silence:.2f} s)"
