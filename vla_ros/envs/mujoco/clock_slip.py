"""How far simulation time is ahead of the machine's, for commands that carry times of the machine."""

from __future__ import annotations

CATCH_UP = 0.05
"""Simulation time is made up for at this rate, s/s, while little was lost."""

LITTLE = 0.02
"""What is little, s."""

TIME_CONSTANT = 0.15
"""Of what is lost beyond that, s: a machine that is too slow for real time loses time all the time."""

LONGEST = 0.3
"""More than this, s, is not followed: the simulation stood still. All else is little, and soon nothing, within the 1 s
in which the safety layer takes no lag of the arm for a contact after anything was late."""


class ClockSlip:
    """Where the machine is too slow, simulation time falls behind for good. No robot's clock does.

    Commands that were due in between would all be due at once, and the reference would jump. So they are followed later
    by what was lost, and the delay is made up for little by little.
    """

    def __init__(self, ahead: float) -> None:
        """Begin with simulation time `ahead` s of the machine's steady clock."""
        self.ahead = ahead

    def follow(self, ahead: float, period: float) -> None:
        """Take how far simulation time is ahead of the steady clock now, s; once a control period of `period` s."""
        late = self.ahead - ahead
        if not abs(late) <= LONGEST:
            self.ahead = ahead
            return
        step = CATCH_UP * period + max(abs(late) - LITTLE, 0.0) * period / TIME_CONSTANT
        self.ahead -= min(max(late, -step), step)
