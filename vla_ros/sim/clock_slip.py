"""How far simulation time is ahead of the machine's, for commands that carry times of the machine."""

from __future__ import annotations

CATCH_UP = 5e-4
"""So much of what the machine lost is made up for in each control period, s: 5 % of 10 ms."""

LONGEST = 0.05
"""More than this, s, is not followed in small steps: the simulation stood still. It is made up for within 1 s: for as
long after anything late the safety layer takes no lag of the arm for a contact."""


class ClockSlip:
    """Where the machine is late, simulation time falls behind for good. No robot's clock does.

    Commands that were due in between would all be due at once, and the reference would jump. So they are followed later
    by what was lost, and the delay is made up for little by little.
    """

    def __init__(self, ahead: float) -> None:
        """Begin with simulation time `ahead` s of the machine's steady clock."""
        self.ahead = ahead

    def follow(self, ahead: float) -> None:
        """Take how far simulation time is ahead of the steady clock now, s; once a control period."""
        late = self.ahead - ahead
        if not abs(late) <= LONGEST:
            self.ahead = ahead
        else:
            self.ahead -= min(max(late, -CATCH_UP), CATCH_UP)
