"""Converts a step of the safety layer to a trajectory that controllers follow within the limits despite jitter.

    tick k is due at     t_0 + k * period                       (`TickSchedule`)
    step k is due at     its tick + one period + tick_budget + MARGIN
    stamp                first row that is due at least MARGIN after the publication
    points               the HISTORY rows before (those due before the stamp have negative times), step k, the known
                         stop after it, and its end repeated

All rows are due on one time grid, so the time of arrival does not matter: a controller follows the newest trajectory
that has begun. Without a further one it follows the known stop to its end, and the layer counts missed ticks as rows
of that stop. joint_trajectory_controller with `allow_trajectory_replacement` starts a trajectory immediately if its
stamp has passed, hence a stamp in the future; before the first point it blends from the state of one cycle earlier,
hence the rows before. Points carry accelerations: its splines are then quintic.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vla_ros.safety.motion.joint_motion import JointStep, Rows
from vla_ros.types import FloatArray

MARGIN = 3e-3
"""Minimum lead of a stamp over the publication, s: transport and one controller cycle take less."""

TAIL = 0.2
"""Time for which the trajectory holds the end of a stop, s: a trajectory that ended in the past is rejected."""

FINE = 0.02
"""Time after a step during which every row of its stop is a point, s."""

COARSE = 0.01
"""Minimum spacing of later points, s: at 1 kHz a stop has up to 2,600 rows."""


@dataclass(frozen=True)
class CommandTrajectory:
    """One command message.

    Attributes:
        stamp: Origin of `times`, s on the tick clock.
        times: (m,) s, increasing, the first ones negative.
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
    """Return the delay from a tick to the due time of its step, s.

    The controller starts towards the step one period before, and must have the trajectory by then: a tick that is late
    by `tick_budget` s is still in time.
    """
    return period + tick_budget + MARGIN


def command_trajectory(step: JointStep, period: float, published: float) -> CommandTrajectory:
    """Return the trajectory of a step.

    Args:
        step: Step with its past rows.
        period: Tick period, s.
        published: Time of publication, s on the tick clock.
    """
    past = step.before or Rows(*(rows[None][:0] for rows in (step.positions, step.velocities, step.accelerations)))
    ahead = step.ahead
    chosen = _chosen(ahead.rows, period)
    numbers = np.concatenate([np.arange(-past.rows, 1), chosen + 1])
    # A stamp on the grid, so that points kept from an older trajectory stay evenly spaced.
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
    return CommandTrajectory(step.due + first * period, times, positions, velocities, accelerations, past.rows)


def _chosen(rows: int, period: float) -> np.ndarray:
    """Return the indices of stop rows that become points: all of the next FINE s, then COARSE s apart, and the last."""
    fine = round(FINE / period)
    apart = max(round(COARSE / period), 1)
    return np.unique(np.concatenate([np.arange(min(fine, rows)), np.arange(fine, rows, apart), [rows - 1]]))
