"""The commanded joint motion: every step within velocity, acceleration and jerk, and a stop ready behind each one.

Before a step is taken, the stop that would follow it is computed in full. So whatever fails later (a solver, a sensor,
a whole tick), braking needs no computation: it reads the next row of a table that was made while all was well.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import ruckig

from vla_ros.robot.contract import JointContract
from vla_ros.types import FloatArray

TOLERANCE = 1e-9
"""Relative slack of the re-check: rounding, nothing else."""

STOP_MARGIN = 2.0
"""A stop that would last so many times the longest one of the limits is none."""


@dataclass(frozen=True)
class Stop:
    """A motion to rest, sampled at the ticks: each array (k, n), the last row at rest, rad, rad/s, rad/s^2."""

    positions: FloatArray
    velocities: FloatArray
    accelerations: FloatArray

    @property
    def rows(self) -> int:
        """Ticks until rest."""
        return len(self.positions)


@dataclass(frozen=True)
class JointStep:
    """One tick of motion, (n,) each, and the `stop` that can follow it; `serial` counts what was commanded."""

    positions: FloatArray
    velocities: FloatArray
    accelerations: FloatArray
    stop: Stop
    serial: int = 0


class JointMotion:
    """Keeps the commanded state of the joints; one thread at a time.

    Ruckig (Berscheid and Kroeger 2021) plans each step as a time-optimal change of velocity at constant jerk. Its input
    is checked here, because it accepts vectors of a wrong length and velocities over their limit.
    """

    def __init__(self, joints: JointContract, period: float) -> None:
        """Use the limits of `joints` at ticks `period` s apart; `seed` must be called before anything else."""
        self._joints, self._period = joints, period
        self._generator = ruckig.Ruckig(joints.count)
        self._trajectory = ruckig.Trajectory(joints.count)
        self._input = ruckig.InputParameter(joints.count)
        self._input.control_interface = ruckig.ControlInterface.Velocity
        self._input.max_velocity = joints.velocity
        self._input.max_acceleration = joints.acceleration
        self._input.max_jerk = joints.jerk
        # Speed that one tick can gain and yet end without acceleration, so that targets within it are reached.
        self.reachable = joints.acceleration * np.maximum(period - joints.acceleration / joints.jerk, 0.25 * period)
        # The longest stop takes the acceleration back, brakes from full speed, and takes that back: a/j + v/a + a/j.
        longest = float((joints.velocity / joints.acceleration + 2.0 * joints.acceleration / joints.jerk).max())
        self._most_rows = int(np.ceil(STOP_MARGIN * longest / period)) + 1
        self._serial = 0
        self.seed(joints.home)

    def seed(self, positions: FloatArray) -> None:
        """Start at rest at `positions` (n,)."""
        positions = np.array(positions, dtype=np.float64)
        rest = np.zeros_like(positions)
        stop = Stop(positions[None], rest[None], rest[None])
        self._current = JointStep(positions, rest, rest, stop, self._serial)
        self._stopped_rows = 0

    @property
    def current(self) -> JointStep:
        """The last step that was commanded."""
        return self._current

    @property
    def resting(self) -> bool:
        """Say whether the commanded motion is at rest."""
        return not (self._current.velocities.any() or self._current.accelerations.any())

    def propose(self, velocities: FloatArray) -> JointStep | None:
        """Return the step towards `velocities` (n,) rad/s, or None when it cannot be made within the limits.

        Nothing changes until the step is given to `accept`.
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
        """Command `step`, and return it with its number."""
        self._serial += 1
        self._stopped_rows = 0
        self._current = replace(step, serial=self._serial)
        return self._current

    def brake(self) -> JointStep:
        """Command the next row of the stop that was made with the last accepted step, and return it."""
        stop = self._current.stop
        row = min(self._stopped_rows, stop.rows - 1)
        self._stopped_rows += 1
        self._serial += 1
        self._current = JointStep(
            stop.positions[row], stop.velocities[row], stop.accelerations[row], stop, self._serial
        )  # fmt: skip
        return self._current

    def remaining_stop(self) -> FloatArray:
        """Return the positions (k, n) that braking from now on would pass, the resting place last."""
        stop = self._current.stop
        return stop.positions[min(self._stopped_rows, stop.rows - 1) :]

    def _plan(
        self, positions: FloatArray, velocities: FloatArray, accelerations: FloatArray, target: FloatArray,
        rows: int | None = None,
    ) -> tuple[FloatArray, FloatArray, FloatArray] | None:  # fmt: skip
        """Return positions, velocities and accelerations, (k, n) each, at the next ticks.

        There are `rows` of them, or as many as it takes to be at `target`; None when it cannot be, or takes too long.
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
        if count > self._most_rows:  # cut off, it would not end at rest
            return None
        samples = [self._trajectory.at_time((i + 1) * self._period) for i in range(count)]
        table = np.array(samples)
        if not np.isfinite(table).all():
            return None
        if rows is None:  # the last row is at the target: no residue of rounding stays in it
            table[-1, 1], table[-1, 2] = target, 0.0
        return table[:, 0], table[:, 1], table[:, 2]

    def _within_limits(self, step: JointStep) -> bool:
        """Check the step, from what was commanded before to the end of its stop, by finite differences."""
        joints, current, period = self._joints, self._current, self._period
        positions = np.vstack([current.positions, step.positions, step.stop.positions])
        velocities = np.vstack([current.velocities, step.velocities, step.stop.velocities])
        accelerations = np.vstack([current.accelerations, step.accelerations, step.stop.accelerations])
        speed = np.abs(np.diff(positions, axis=0)) / period
        jerk = np.abs(np.diff(accelerations, axis=0)) / period
        slack = 1.0 + 1e-6  # of a difference of rounded numbers
        return bool(
            (speed <= joints.velocity * slack).all()
            and (np.abs(velocities) <= joints.velocity * slack).all()
            and (np.abs(accelerations) <= joints.acceleration * slack).all()
            and (jerk <= joints.jerk * slack).all()
        )
