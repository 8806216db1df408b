"""Watchdog for the heartbeat of the instruction node, on the steady clock."""

from __future__ import annotations

import numpy as np

from vla_ros.safety.parameters import TimingParameters
from vla_ros.safety.reasons import Reason


class InstructionWatch:
    """Monitors one heartbeat.

    The heartbeat is required after its first beat. Before, there may be no instruction node at all: a teleoperator, or
    a task published directly, needs none, and the safety layer detects a spoken stop by itself. Once it has been
    received, operators rely on it, and its silence is a fault.
    """

    def __init__(self, timing: TimingParameters) -> None:
        """Use `timing.instruction_timeout`."""
        self._timeout = timing.instruction_timeout
        self._newest: int | None = None
        self._received = -np.inf

    def receive(self, beat: int, now: float) -> None:
        """Record the beat number `beat` received at `now`, s; the same number again is the same beat."""
        if beat != self._newest:
            self._newest, self._received = beat, now

    def fault(self, now: float) -> tuple[Reason, str]:
        """Return why the arm must not continue at `now`, s, or OK."""
        silence = now - self._received
        if self._newest is None or 0.0 <= silence <= self._timeout:
            return Reason.OK, ""
        return Reason.INSTRUCTION_SILENT, f"(for {silence:.2f} s)"
