"""Joint states: are they sound, are they fresh, and how far has the sensor's clock come by now."""

from __future__ import annotations

import numpy as np

from vla_ros.errors import ObservationError
from vla_ros.safety.reasons import Reason
from vla_ros.types import RobotState

LARGEST_VALUE = 1e3
"""No joint of any arm measures more than this, rad or rad/s."""

CLOCK_JUMP = 1.0
"""A stamp that moves by more than this between two states that came together, s, is a jump of the clock."""

_ORDER_PATIENCE = 5
"""So many states in a row that are older than the newest, yet in order among themselves: the clock was set back."""


class StateMonitor:
    """Keeps the newest sound joint state. Ages count from receipt on the steady clock, never from stamps."""

    def __init__(self, joints: int, timeout: float) -> None:
        """Expect states of `joints` joints at least every `timeout` s."""
        self._joints, self._timeout = joints, timeout
        self.state: RobotState | None = None
        self.sound_in_row = 0
        self.jumped = False
        self._received = -np.inf
        self._interval = 0.0
        self.gripper_step = 0.0  # change of the opening from the state before to the newest, m
        self._older = 0
        self._older_stamp = -np.inf
        self._fault = Reason.STATE_MISSING

    def receive(self, state: RobotState, now: float) -> None:
        """Take a state that came at `now`, s, steady clock.

        Raises:
            ObservationError: when it is not used; the reason is kept for `fault`.
        """
        reason = self._judge(state)
        if reason is not Reason.OK:
            if reason is not Reason.STATE_OUT_OF_ORDER:  # one late message among good ones is no fault, only useless
                self._fault, self.sound_in_row = reason, 0
            raise ObservationError(reason.explain(f"(stamp {state.stamp})"))
        if self.state is not None:
            gap = state.stamp - self.state.stamp
            if gap == 0.0 and self._fault is Reason.OK:
                return  # the same measurement again: a paused simulation or a frozen driver does not stay fresh
            self.jumped = self.jumped or not 0.0 <= gap <= CLOCK_JUMP + (now - self._received)
            self._interval = gap if 0.0 < gap < CLOCK_JUMP else 0.0
            if not now - self._received <= self._timeout:
                self.sound_in_row = 0
            self.gripper_step = abs(state.gripper_opening - self.state.gripper_opening)
        self.sound_in_row += 1
        self.state, self._received, self._fault, self._older = state, now, Reason.OK, 0

    def refuse(self, reason: Reason = Reason.STATE_WIDTH) -> None:
        """Note that something came that is no joint state of this robot, and why."""
        if self._fault is Reason.OK:
            self._fault = reason
        self.sound_in_row = 0

    def _judge(self, state: RobotState) -> Reason:
        if state.joint_positions.shape != (self._joints,):
            return Reason.STATE_WIDTH
        values = np.concatenate([state.joint_positions, state.joint_velocities, [state.gripper_opening, state.stamp]])
        if not np.isfinite(values).all():
            return Reason.STATE_NOT_FINITE
        if not (np.abs(values[:-1]) <= LARGEST_VALUE).all():
            return Reason.STATE_OUT_OF_RANGE
        if self.state is None or state.stamp >= self.state.stamp:
            return Reason.OK
        self._older = self._older + 1 if state.stamp > self._older_stamp else 1
        self._older_stamp = state.stamp
        if self._older < _ORDER_PATIENCE:
            return Reason.STATE_OUT_OF_ORDER
        self.jumped, self.sound_in_row, self._older_stamp = True, 0, -np.inf
        return Reason.OK

    def fault(self, now: float) -> Reason:
        """Return what is wrong with the joint states at `now`, or OK."""
        if self._fault is not Reason.OK:
            return self._fault
        if not 0.0 <= now - self._received <= self._timeout:  # also when the caller's clock went back
            return Reason.STATE_STALE
        return Reason.OK

    def take_jump(self) -> bool:
        """Say once whether the sensor's clock jumped since the last call."""
        jumped, self.jumped = self.jumped, False
        return jumped

    def sensor_time(self, now: float) -> float:
        """Return the sensor's clock at `now`: the newest stamp, carried on by at most one interval between states.

        So a paused simulation stands still, and one that runs slower than real time is not overtaken.
        """
        if self.state is None:
            return -np.inf
        return self.state.stamp + min(max(now - self._received, 0.0), self._interval)

    @property
    def received(self) -> float:
        """When the newest state came, s, steady clock."""
        return self._received
