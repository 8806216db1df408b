"""Tracks how far simulation time is ahead of the machine's clock, for commands stamped with machine time."""

from __future__ import annotations

CATCH_UP = 0.05
"""Rate at which a small slip is corrected, s/s."""

LITTLE = 0.02
"""Largest slip counted as small, s."""

TIME_CONSTANT = 0.15
"""Time constant for correcting slip beyond `LITTLE`, s: a machine too slow for real time loses time continuously."""

LONGEST = 0.3
"""Largest slip that is tracked, s; a larger one means that the simulation was halted. Any tracked slip becomes small
within the 1 s after a delay in which the safety layer does not take the arm's lag for a contact."""


class ClockSlip:
    """Estimates the slip of simulation time on a machine too slow for real time.

    Simulation time then falls behind permanently, which no robot's clock does. Commands that were due in between would
    all be due at once, and the reference would jump. So they are executed later by the lost time, and this delay is
    reduced gradually.
    """

    def __init__(self, ahead: float) -> None:
        """Start with simulation time `ahead` s ahead of the machine's steady clock."""
        self.ahead = ahead

    def follow(self, ahead: float, period: float) -> None:
        """Update with the current lead of simulation time over the steady clock, s; once per control `period`, s."""
        late = self.ahead - ahead
        if not abs(late) <= LONGEST:
            self.ahead = ahead
            return
        step = CATCH_UP * period + max(abs(late) - LITTLE, 0.0) * period / TIME_CONSTANT
        self.ahead -= min(max(late, -step), step)
