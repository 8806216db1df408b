"""A step of the safety layer in the form that trajectory controllers follow within the limits, whatever the jitter.

    tick k is due at     t_0 + k * period                       (`TickSchedule`)
    step k is due at     its tick + one period + tick_budget + MARGIN
    stamp                first row that is due at least MARGIN after the publication
    points               the HISTORY rows before (some of them due before the stamp: their times are negative), step k,
                         the known stop behind it, and its end once more

Rows are due on one grid of time, so it does not matter when a trajectory arrives: a controller whose newest trajectory
has begun follows it as it stands. Where no further one comes it follows the known stop to its end, and the layer counts
the ticks that did not come as rows of that stop. joint_trajectory_controller with `allow_trajectory_replacement` plays
a trajectory from now on if its stamp has passed, hence a stamp that is still to come; before the first point it blends
from the state of one cycle earlier, hence the rows before. Points carry accelerations: its splines are then quintic.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vla_ros.safety.joint_motion import JointStep, Rows
from vla_ros.types import FloatArray

MARGIN = 3e-3
"""A stamp is so far ahead of the publication at least, s: transport and one cycle of the controller take less."""

TAIL = 0.2
"""The end of a stop is held by the trajectory itself for this time, s: one that ended in the past is refused."""

FINE = 0.02
"""For so long after a step every row of its stop is a point, s."""

COARSE = 0.01
"""Beyond that, points are so far apart at least, s: at 1 kHz a stop has up to 2,600 rows."""


@dataclass(frozen=True)
class CommandTrajectory:
    """One message of commands.

    Attributes:
        stamp: What `times` count from, s on the clock of the ticks.
        times: (m,) s, rising, the first ones below zero.
        positions: (m, n) rad.
        velocities: (m, n) rad/s.
        accelerations: (m, n) rad/s^2.
        step: Index of the commanded row.
    """

    stamp: float
    times: FloatArray
    positions: FloatArray
    velocities: FloatArray
    accelerations: FloatArray
    step: int


def lead(period: float, tick_budget: float) -> float:
    """Return how long after its tick a step is due, s.

    The controller begins the way to it one period before that, and up to then it must have the trajectory: a tick that
    is late by `tick_budget` s is still in time.
    """
    return period + tick_budget + MARGIN


def command_trajectory(step: JointStep, period: float, published: float) -> CommandTrajectory:
    """Return the trajectory of a step.

    Args:
        step: With its past.
        period: Of the ticks, s.
        published: When it is sent, s on the clock of the ticks.
    """
    past = step.before or Rows(*(rows[None][:0] for rows in (step.positions, step.velocities, step.accelerations)))
    ahead = step.ahead
    chosen = _chosen(ahead.rows, period)
    numbers = np.concatenate([np.arange(-past.rows, 1), chosen + 1])
    # A stamp on the grid: points that stay from an older trajectory before it keep their distance.
    first = int(np.ceil((published + MARGIN - step.due) / period - 1e-6))
    tail = ahead.rows + TAIL / period
    positions, velocities, accelerations = (
        np.vstack([before, now[None], after[chosen], after[-1:]])
        for before, now, after in (
            (past.positions, step.positions, ahead.positions),
            (past.velocities, step.velocities, ahead.velocities),
            (past.accelerations, step.accelerations, ahead.accelerations),
        )
    )
    times = (np.append(numbers, tail) - first) * period
    return CommandTrajectory(
        step.due + first * period, times, positions, velocities, accelerations, past.rows
    )  # fmt: skip


def _chosen(rows: int, period: float) -> np.ndarray:
    """Return which rows of a stop become points: those of the next FINE s, then some COARSE s apart, and the last."""
    fine = round(FINE / period)
    apart = max(round(COARSE / period), 1)
    return np.unique(np.concatenate([np.arange(min(fine, rows)), np.arange(fine, rows, apart), [rows - 1]]))
