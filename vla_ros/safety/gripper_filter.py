"""The gripper's command: in range, no faster than it can, and without chatter."""

from __future__ import annotations

from vla_ros.robot.contract import GripperContract
from vla_ros.safety.reasons import Reason

_RANGE_TOLERANCE = 0.005
"""A network that says 1.02 for "open" is not worth a report; this, m, is."""


class GripperFilter:
    """Keeps the commanded opening and the goal it moves to."""

    def __init__(self, contract: GripperContract, period: float, deadband: float, reversal_time: float) -> None:
        """Use the limits of `contract`.

        Args:
            contract: Range and speed.
            period: Seconds between ticks.
            deadband: Changes of the target below this, m, are ignored.
            reversal_time: Two reversals of the direction are at least this far apart, s.
        """
        self._contract, self._period = contract, period
        self._deadband, self._reversal_time = deadband, reversal_time
        self.seed(contract.max_opening)

    def seed(self, opening: float) -> None:
        """Start at rest at `opening`, m."""
        self.opening = min(max(opening, self._contract.min_opening), self._contract.max_opening)
        self._goal = self.opening
        self._direction = 0
        self._since_reversal = self._reversal_time

    def hold(self) -> float:
        """Stay where the command is now, and return it."""
        self._goal = self.opening
        return self.opening

    def step(self, target: float) -> Reason:
        """Move towards `target`, m, for one tick; `opening` is the new command."""
        self._since_reversal += self._period
        wanted = min(max(target, self._contract.min_opening), self._contract.max_opening)
        reason = Reason.OK if abs(wanted - target) <= _RANGE_TOLERANCE else Reason.GRIPPER_RANGE
        # The two ends are taken exactly: a gripper that stays a deadband short of closed does not hold anything.
        at_end = wanted != self._goal and wanted in (self._contract.min_opening, self._contract.max_opening)
        if at_end or abs(wanted - self._goal) >= self._deadband:
            direction = 1 if wanted > self._goal else -1
            if self._direction in (0, direction) or self._since_reversal >= self._reversal_time:
                if direction == -self._direction:
                    self._since_reversal = 0.0
                self._direction, self._goal = direction, wanted
            else:
                reason = Reason.GRIPPER_CHATTER
        most = self._contract.velocity * self._period
        self.opening += min(max(self._goal - self.opening, -most), most)
        return reason
