"""Gripper command filter: range, speed limit, and chatter suppression."""

from __future__ import annotations

from vla_ros.robot.contract import GripperContract
from vla_ros.safety.reasons import Reason

_RANGE_TOLERANCE = 0.005
"""Deviation beyond the range that is not reported, m: a network may output 1.02 for "open"."""


class GripperFilter:
    """Holds the commanded opening and its goal."""

    def __init__(self, contract: GripperContract, period: float, deadband: float, reversal_time: float) -> None:
        """Use the limits of `contract`.

        Args:
            contract: Range and speed limit.
            period: Tick period, s.
            deadband: Target changes below this are ignored, m.
            reversal_time: Minimum time between two reversals, s.
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
        """Stop at the current command, and return it."""
        self._goal = self.opening
        return self.opening

    def step(self, target: float) -> Reason:
        """Move towards `target`, m, for one tick; `opening` becomes the new command."""
        self._since_reversal += self._period
        wanted = min(max(target, self._contract.min_opening), self._contract.max_opening)
        reason = Reason.OK if abs(wanted - target) <= _RANGE_TOLERANCE else Reason.GRIPPER_RANGE
        # No deadband at the two ends: a gripper that stops short of closed does not hold anything.
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
