"""Monitors joint states: validity, freshness, and the current time of the sensor's clock."""

from __future__ import annotations

from collections import deque

import numpy as np

from vla_ros.errors import ObservationError
from vla_ros.safety.measurement.arm_wise import Owners, any_in_arm
from vla_ros.safety.reasons import Reason
from vla_ros.types import FloatArray, RobotState

LARGEST_VALUE = 1e3
"""Maximum plausible value, rad or rad/s; no joint of any arm exceeds it."""

CLOCK_JUMP = 0.3
"""Step of the stamps between two states received together that counts as a jump of the clock, s. States delayed that
long and then received at once have already caused a HOLD, since they were missing."""

SETTLING_TIME = 0.1
"""Time without motion after which the arm counts as at rest, s."""

_WINDOW = 1024
"""Maximum number of joint states kept to decide whether the arm is at rest: `SETTLING_TIME` at 10 kHz."""

ORDER_PATIENCE = 5
"""Number of consecutive states older than the newest, but in order, after which the clock counts as set back."""


class StateMonitor:
    """Keeps the newest valid joint state. Ages count from receipt on the steady clock, never from stamps."""

    def __init__(self, joints: int, timeout: float, owners: Owners | None = None) -> None:
        """Expect states of `joints` joints, and of one gripper per arm, at least every `timeout` s.

        `owners` is the arm of each joint, (n,); None: all belong to one.
        """
        self._owners = np.zeros(joints, dtype=np.int64) if owners is None else owners
        self._joints, self._timeout, self._arms = joints, timeout, int(self._owners.max()) + 1
        self._window: deque[tuple[float, FloatArray]] = deque(maxlen=_WINDOW)
        self.state: RobotState | None = None
        self.sound_in_row = 0
        self.jumped = False
        self._received = -np.inf
        self._interval = 0.0
        self.gripper_step = 0.0  # largest change of an opening between the last two states, m
        # Time of the last change of any position of each joint's arm, (n,) s, steady clock.
        self.changed = np.full(joints, -np.inf)
        self._older = 0
        self._older_stamp = -np.inf
        self._fault = Reason.STATE_MISSING

    def receive(self, state: RobotState, now: float) -> None:
        """Process a state received at `now`, s, steady clock.

        Raises:
            ObservationError: when it is rejected; the reason is kept for `fault`.
        """
        reason = self._judge(state)
        if reason is not Reason.OK:
            if reason is not Reason.STATE_OUT_OF_ORDER:  # a late message among valid ones is useless, but no fault
                self._fault, self.sound_in_row = reason, 0
                self._window.clear()
            raise ObservationError(reason.explain(f"(stamp {state.stamp})"))
        if self.state is not None:
            gap = state.stamp - self.state.stamp
            if gap == 0.0 and self._fault is Reason.OK:
                return  # repeated measurement: a paused simulation or a frozen driver does not stay fresh
            self.jumped = self.jumped or not 0.0 <= gap <= CLOCK_JUMP + (now - self._received)
            self._interval = gap if 0.0 < gap < CLOCK_JUMP else 0.0
            if not now - self._received <= self._timeout:
                self.sound_in_row = 0
                self._window.clear()
            openings = zip(state.gripper_openings, self.state.gripper_openings, strict=True)
            self.gripper_step = max(abs(new - old) for new, old in openings)
        before = np.full(self._joints, np.nan) if self.state is None else self.state.joint_positions
        self.changed = np.where(any_in_arm(state.joint_positions != before, self._owners), now, self.changed)
        self.sound_in_row += 1
        self._window.append((now, state.joint_positions))
        while len(self._window) > 2 and self._window[1][0] <= now - SETTLING_TIME:
            self._window.popleft()
        self.state, self._received, self._fault, self._older = state, now, Reason.OK, 0

    def refuse(self, reason: Reason = Reason.STATE_WIDTH) -> None:
        """Record the receipt of a message that is no joint state of this robot, and why."""
        if self._fault is Reason.OK:
            self._fault = reason
        self.sound_in_row = 0
        self._window.clear()

    def _judge(self, state: RobotState) -> Reason:
        if state.joint_positions.shape != (self._joints,) or len(state.gripper_openings) != self._arms:
            return Reason.STATE_WIDTH
        openings = state.gripper_openings
        values = np.concatenate([state.joint_positions, state.joint_velocities, [*openings, state.stamp]])
        if not np.isfinite(values).all():
            return Reason.STATE_NOT_FINITE
        if not (np.abs(values[:-1]) <= LARGEST_VALUE).all():
            return Reason.STATE_OUT_OF_RANGE
        if self.state is None or state.stamp >= self.state.stamp:
            return Reason.OK
        self._older = self._older + 1 if state.stamp > self._older_stamp else 1
        self._older_stamp = state.stamp
        if self._older < ORDER_PATIENCE:
            return Reason.STATE_OUT_OF_ORDER
        self.jumped, self.sound_in_row, self._older_stamp = True, 0, -np.inf
        self._window.clear()
        return Reason.OK

    def fault(self, now: float) -> Reason:
        """Return the fault of the joint states at `now`, or OK."""
        if self._fault is not Reason.OK:
            return self._fault
        if not 0.0 <= now - self._received <= self._timeout:  # also when the caller's clock went back
            return Reason.STATE_STALE
        return Reason.OK

    def unrest(self, states: int, speed: float) -> Reason:
        """Return why the arm does not count as at rest in one posture, or OK.

        Speed is computed from positions: some drivers always report a velocity of zero. And a single wrong state among
        valid ones must not become the commanded posture.

        Args:
            states: Number of consecutive valid states required, besides `SETTLING_TIME`.
            speed: Maximum joint velocity that counts as at rest, rad/s.
        """
        if not self._window or self.sound_in_row < states:
            return Reason.UNSETTLED
        span = self._window[-1][0] - self._window[0][0]
        if not span >= 0.9 * SETTLING_TIME:
            return Reason.UNSETTLED
        positions = np.stack([row for _, row in self._window])
        spread = positions.max(axis=0) - positions.min(axis=0)
        return Reason.OK if (spread <= speed * span).all() else Reason.MOVING

    def take_jump(self) -> bool:
        """Return and clear whether the sensor's clock jumped since the last call."""
        jumped, self.jumped = self.jumped, False
        return jumped

    def sensor_time(self, now: float) -> float:
        """Return the sensor's clock at `now`, s: the newest stamp, extrapolated by at most one interval between states.

        A paused simulation therefore stands still, and one slower than real time is not overtaken.
        """
        if self.state is None:
            return -np.inf
        return self.state.stamp + min(max(now - self._received, 0.0), self._interval)

    @property
    def received(self) -> float:
        """Time of receipt of the newest state, s, steady clock."""
        return self._received
