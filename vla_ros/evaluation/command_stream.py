"""Writes steps of the safety layer as trajectories on a time grid, as controllers can follow them within the limits.

    tick k is due at        t_0 + k * period
    step k is due at        that + (LEAD + 1) slots of the grid, which is PHASE of a period behind the ticks
    the header's stamp is   the first grid time that is at least MARGIN ahead
    points                  the last rows before (times below zero), step k, the known stop behind it, its end once more

A controller whose newest trajectory has begun follows it as it stands, whenever it arrived; with
`allow_trajectory_replacement` it does so for a stamp that is still to come, with no older point before it. Slots in
which nothing was sent hold the rows of the stop: that is what a controller did then.
"""

from __future__ import annotations

import numpy as np

from vla_ros.evaluation.trajectory_controller import TimedTrajectory
from vla_ros.safety.joint_motion import JointStep
from vla_ros.types import FloatArray

PHASE = 0.7
"""Fraction of a period by which the grid is behind the ticks."""

LEAD = 1
"""Slots from the first grid time behind a tick to that of its step."""

MARGIN = 0.3
"""Fraction of a period that a stamp is ahead of the publication at least."""

HISTORY = 4
"""Rows before the step that a trajectory repeats."""

TAIL = 0.2
"""The end of a stop is held for this time by the trajectory itself, s, so that it is never one of the past."""

Row = tuple[FloatArray, FloatArray, FloatArray]


class CommandStream:
    """Makes trajectories of steps; one session from an arming on."""

    def __init__(self, period: float, latency: float = 2e-4) -> None:
        """Write for ticks `period` s apart; each trajectory arrives `latency` s after it was published."""
        self._period, self._latency = period, latency
        self.begin()

    def begin(self) -> None:
        """Begin a session: what was commanded before does not count."""
        self._rows: list[tuple[int, Row]] = []
        self._stop: list[Row] = []

    @property
    def next_tick(self) -> int:
        """First tick that a step can be written for."""
        return self._rows[-1][0] + 1 - LEAD if self._rows else 0

    def write(self, step: JointStep, tick: int, late: float = 0.0) -> TimedTrajectory:
        """Return the trajectory of one step.

        Args:
            step: What was commanded.
            tick: Number of its tick; those in between had no command.
            late: It was published so long after its tick was due, s.
        """
        row = (step.positions, step.velocities, step.accelerations)
        slot = tick + LEAD
        if not self._rows:
            rest = np.zeros_like(step.positions)
            self._rows = [(slot - before, (step.positions, rest, rest)) for before in range(HISTORY, 0, -1)]
        for missed in range(self._rows[-1][0] + 1, slot):
            self._rows.append((missed, self._stop.pop(0) if len(self._stop) > 1 else self._stop[0]))
        self._rows = [*self._rows[-HISTORY:], (slot, row)]
        self._stop = _stop_behind(step)
        published = tick * self._period + late
        ahead = int(np.ceil(published / self._period + MARGIN - PHASE - 1e-6))
        end = slot + len(self._stop)
        rows = [*self._rows, *((slot + 1 + i, one) for i, one in enumerate(self._stop))]
        times = [(number - ahead) * self._period for number, _ in rows]
        positions, velocities, accelerations = (
            np.array(values) for values in zip(*(one for _, one in rows), strict=True)
        )
        still = np.zeros_like(positions[:1])
        return TimedTrajectory(
            published + self._latency, (ahead + PHASE) * self._period,
            np.array([*times, (end - ahead) * self._period + TAIL]),
            np.vstack([positions, positions[-1:]]), np.vstack([velocities, still]), np.vstack([accelerations, still]),
        )  # fmt: skip


def _stop_behind(step: JointStep) -> list[Row]:
    """Return the rows of the stop that are still to come, at least one."""
    stop = step.stop
    taken = np.flatnonzero((stop.positions == step.positions).all(axis=1))
    first = min(int(taken[0]) + 1, stop.rows - 1) if len(taken) else 0
    return [(stop.positions[i], stop.velocities[i], stop.accelerations[i]) for i in range(first, stop.rows)]
