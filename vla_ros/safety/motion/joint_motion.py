"""Commanded joint motion: every step is within velocity, acceleration and jerk, with a stop ready after it.

Before a step is taken, the stop after it is computed in full. So whatever fails later (a solver, a sensor, a whole
tick), braking needs no computation: it reads the next row of a table computed before the failure.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import ruckig

from vla_ros.robot.contract import JointContract
from vla_ros.types import FloatArray

TOLERANCE = 1e-9
"""Relative tolerance of the re-check, for rounding only."""

STOP_MARGIN = 2.0
"""Maximum duration of a stop, as a multiple of the longest stop within the limits; longer ones are rejected."""

ACCELERATION_RESERVE, JERK_RESERVE = 1.27, 1.35
"""Factors by which the planned limits are below the contract's. Controllers join the rows by quintic splines, which
peak at up to 1.26 times the acceleration and 1.33 times the jerk where the jerk changes between two rows (maximum
over 12,000 ticks of random motion)."""

LARGEST_SWING = 5.0
"""Maximum change of a joint's acceleration within a period, in multiples of its acceleration limit. A higher jerk, by
which an acceleration comes and goes between two rows, does not show in them: their splines peak at up to 1.28 times
the acceleration limit."""

VELOCITY_RESERVE = 1.002
"""Minimum factor by which the planned velocity is below the limit: between two rows the splines overshoot, by up to
0.2 % in the reference of a real controller at 100 Hz."""

OVERSHOOT = 0.025
"""Overshoot of a quintic spline beyond the velocity that a joint reaches at the end of a period, as a fraction of
acceleration times period: 0.0244 where the acceleration ends as fast as `LARGEST_SWING` permits."""

HISTORY = 4
"""Number of rows kept before the commanded one, see `command_trajectory.py`."""


@dataclass(frozen=True)
class Rows:
    """Motion sampled at the ticks: arrays (k, n), rad, rad/s, rad/s^2."""

    positions: FloatArray
    velocities: FloatArray
    accelerations: FloatArray

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.positions)


class Stop(Rows):
    """A motion to rest: the last row has zero velocity."""


@dataclass(frozen=True)
class JointStep:
    """One tick of motion, (n,) each, and the `stop` that can follow it.

    Attributes:
        positions: rad.
        velocities: rad/s.
        accelerations: rad/s^2.
        stop: Computed with the last accepted step; `stopped_rows` of it have been taken.
        serial: Sequence number of the command.
        due: Time at which the joints should reach the positions, s on the tick clock.
        before: Commands of the `HISTORY` periods before, oldest first.
        stopped_rows: Rows of `stop` up to and including this one; 0 for an accepted step.
    """

    positions: FloatArray
    velocities: FloatArray
    accelerations: FloatArray
    stop: Stop
    serial: int = 0
    due: float = 0.0
    before: Rows | None = None
    stopped_rows: int = 0

    @property
    def resting(self) -> bool:
        """Whether the step is at rest."""
        return not (self.velocities.any() or self.accelerations.any())

    @property
    def settled(self) -> bool:
        """Whether the step, and all of its known past, is at rest."""
        return self.resting and (self.before is None or not self.before.velocities.any())

    @property
    def ahead(self) -> Rows:
        """The rows of the stop that follow, at least one: the resting posture."""
        first = min(self.stopped_rows, self.stop.rows - 1)
        return Rows(self.stop.positions[first:], self.stop.velocities[first:], self.stop.accelerations[first:])

    def without(self, ticks: int) -> FloatArray:
        """Return the positions (k, n) rad that follow without a command for `ticks` ticks, k at most until rest."""
        ahead = self.ahead.positions
        return ahead[np.minimum(np.arange(min(ticks, len(ahead) + HISTORY)), len(ahead) - 1)]


def planned_limits(joints: JointContract, period: float) -> tuple[FloatArray, FloatArray]:
    """Return the acceleration, rad/s^2, and jerk, rad/s^3, (n,) each, of motion planned at ticks `period` s apart."""
    jerk = np.minimum(joints.jerk, LARGEST_SWING * joints.acceleration / period)
    return joints.acceleration / ACCELERATION_RESERVE, jerk / JERK_RESERVE


def planned_velocity(joints: JointContract, period: float) -> FloatArray:
    """Return the velocity limits, (n,) rad/s, of motion planned at ticks `period` s apart."""
    acceleration, _ = planned_limits(joints, period)
    overshoot = OVERSHOOT * acceleration * period / joints.velocity
    return np.asarray(joints.velocity / np.maximum(VELOCITY_RESERVE, 1.0 + overshoot))


def longest_stop(joints: JointContract, period: float) -> float:
    """Return the duration of the longest stop within the limits, s, at ticks `period` s apart.

    It ramps the acceleration down, brakes from full speed, and ramps the deceleration down: a/j + v/a + a/j.
    """
    acceleration, jerk = planned_limits(joints, period)
    return float((joints.velocity / acceleration + 2.0 * acceleration / jerk).max())


class JointMotion:
    """Holds the commanded joint state; not thread-safe.

    Ruckig (Berscheid and Kroeger 2021) plans each step as a time-optimal change of velocity with limited jerk. Its
    input is checked here, because it accepts vectors of wrong length and velocities over their limit.
    """

    def __init__(self, joints: JointContract, period: float) -> None:
        """Use the limits of `joints` at ticks `period` s apart; call `seed` before anything else."""
        self._joints, self._period = joints, period
        self._acceleration, self._jerk = planned_limits(joints, period)
        acceleration, jerk = self._acceleration, self._jerk
        self._generator = ruckig.Ruckig(joints.count)
        self._trajectory = ruckig.Trajectory(joints.count)
        self._input = ruckig.InputParameter(joints.count)
        self._input.control_interface = ruckig.ControlInterface.Velocity
        self._input.max_velocity = joints.velocity
        self._input.max_acceleration = acceleration
        self._input.max_jerk = jerk
        # Speed that one tick can add and still end with zero acceleration, so that targets within it are reached.
        self.reachable = acceleration * np.maximum(period - acceleration / jerk, 0.25 * period)
        self.rise_time = acceleration / jerk  # (n,) s, time for the full acceleration to build up
        self._most_rows = int(np.ceil(STOP_MARGIN * longest_stop(joints, period) / period)) + 1
        self._serial = 0
        self.seed(joints.home)

    def seed(self, positions: FloatArray) -> None:
        """Start at rest at `positions` (n,), with a past at rest."""
        positions = np.array(positions, dtype=np.float64)
        rest = np.zeros_like(positions)
        stop = Stop(positions[None], rest[None], rest[None])
        still = np.zeros((HISTORY, len(positions)))
        before = Rows(np.tile(positions, (HISTORY, 1)), still, still)
        self._current = JointStep(positions, rest, rest, stop, self._serial, 0.0, before)
        self._accepted = -1, self._current

    def schedule(self, due: float) -> None:
        """Set the due time of the current row, s; each row after it is due one period later."""
        self._current = replace(self._current, due=due)

    @property
    def current(self) -> JointStep:
        """The last commanded step."""
        return self._current

    @property
    def resting(self) -> bool:
        """Whether the commanded motion is at rest."""
        return self._current.resting

    def settling_velocities(self) -> tuple[FloatArray, FloatArray]:
        """Return the smallest and largest joint velocities (n,) rad/s that can result from one more tick.

        An accelerating joint still gains speed while its acceleration is ramped down: with full jerk for one tick, then
        back to zero acceleration, it ends at v + a T + j T^2 / 2 + (a + j T)^2 / 2 j.
        """
        current, period = self._current, self._period
        bounds = []
        for jerk in (-self._jerk, self._jerk):
            after = np.clip(current.accelerations + jerk * period, -self._acceleration, self._acceleration)
            ramp = (after - current.accelerations) / jerk  # time to reach the maximum acceleration, s
            gained = 0.5 * (current.accelerations + after) * ramp + after * (period - ramp)
            bounds.append(current.velocities + gained + after * np.abs(after) / (2.0 * self._jerk))
        return bounds[0], bounds[1]

    def propose(self, velocities: FloatArray) -> JointStep | None:
        """Return the step towards `velocities` (n,) rad/s, or None when it cannot be made within the limits.

        The state is unchanged until `accept`.
        """
        limit = self._joints.velocity
        if velocities.shape != limit.shape or not (np.abs(velocities) <= limit * (1.0 + TOLERANCE)).all():
            return None
        current = self._current
        rows = self._plan(current.positions, current.velocities, current.accelerations, velocities, rows=1)
        if rows is None:
            return None
        positions, speeds, accelerations = (table[0] for table in rows)
        stop = self._plan(positions, speeds, accelerations, np.zeros_like(speeds))
        if stop is None:
            return None
        step = JointStep(positions, speeds, accelerations, Stop(*stop))
        return step if self._within_limits(step) else None

    def accept(self, step: JointStep) -> JointStep:
        """Command `step`, and return it with its serial number."""
        before = self._current
        self._current = replace(step, stopped_rows=0, **self._next())
        self._accepted = self._current.serial, before
        return self._current

    def withdraw(self) -> JointStep:
        """Replace a step that was just accepted by the next row of the previous stop, and command that.

        A step that is itself part of a stop is kept.
        """
        serial, before = self._accepted
        if self._current.serial == serial:
            self._current = before
            return self.brake()
        return self._current

    def rejoin(self, step: JointStep) -> JointStep:
        """Go on from `step`, commanded before, as if none had followed it; return it with a new serial number."""
        self._serial += 1
        self._current = replace(step, serial=self._serial)
        self._accepted = -1, self._current
        return self._current

    def brake(self) -> JointStep:
        """Command the next row of the stop computed with the last accepted step, and return it."""
        stop, taken = self._current.stop, self._current.stopped_rows
        row = min(taken, stop.rows - 1)
        self._current = JointStep(
            stop.positions[row],
            stop.velocities[row],
            stop.accelerations[row],
            stop,
            stopped_rows=taken + 1,
            **self._next(),
        )
        return self._current

    def _next(self) -> dict[str, Any]:
        """Return serial number, due time and past of the step after the current one."""
        self._serial += 1
        current, before = self._current, self._current.before
        rows = () if before is None else (before.positions[1:], before.velocities[1:], before.accelerations[1:])
        now = (current.positions, current.velocities, current.accelerations)
        past = Rows(*(np.vstack([old, new]) for old, new in zip(rows, now, strict=True))) if rows else None
        return {"serial": self._serial, "due": current.due + self._period, "before": past}

    def remaining_stop(self) -> FloatArray:
        """Return the positions (k, n) of braking from now on, the resting posture last."""
        return self._current.ahead.positions

    def _plan(
        self,
        positions: FloatArray,
        velocities: FloatArray,
        accelerations: FloatArray,
        target: FloatArray,
        rows: int | None = None,
    ) -> tuple[FloatArray, FloatArray, FloatArray] | None:
        """Return positions, velocities and accelerations, (k, n) each, at the next ticks.

        There are `rows` of them, or as many as needed to reach `target`; None when it cannot be reached, or takes too
        long.
        """
        self._input.current_position = positions
        self._input.current_velocity = velocities
        self._input.current_acceleration = accelerations
        self._input.target_velocity = target
        try:
            result = self._generator.calculate(self._input, self._trajectory)
        except (RuntimeError, ValueError):
            return None
        duration = self._trajectory.duration
        if result < 0 or not 0.0 <= duration < np.inf:
            return None
        count = rows or max(int(np.ceil(duration / self._period - TOLERANCE)), 1)
        if count > self._most_rows:  # truncated, it would not end at rest
            return None
        samples = [self._trajectory.at_time((i + 1) * self._period) for i in range(count)]
        table = np.array(samples)
        if not np.isfinite(table).all():
            return None
        if rows is None:  # the last row is exactly at the target, without rounding residue
            table[-1, 1], table[-1, 2] = target, 0.0
        return table[:, 0], table[:, 1], table[:, 2]

    def _within_limits(self, step: JointStep) -> bool:
        """Check the step by finite differences, from the previous command to the end of its stop."""
        joints, current, period = self._joints, self._current, self._period
        positions = np.vstack([current.positions, step.positions, step.stop.positions])
        velocities = np.vstack([current.velocities, step.velocities, step.stop.velocities])
        accelerations = np.vstack([current.accelerations, step.accelerations, step.stop.accelerations])
        speed = np.abs(np.diff(positions, axis=0)) / period
        jerk = np.abs(np.diff(accelerations, axis=0)) / period
        slack = 1.0 + 1e-6  # for differences of rounded numbers
        return bool(
            (speed <= joints.velocity * slack).all()
            and (np.abs(velocities) <= joints.velocity * slack).all()
            and (np.abs(accelerations) <= self._acceleration * slack).all()
            and (jerk <= self._jerk * slack).all()
        )
