"""Converts a step of the safety layer to a trajectory that controllers follow within the limits despite jitter.

    tick k is due at     t_0 + k * period                       (`TickSchedule`)
    step k is due at     its tick + one period + tick_budget + MARGIN
    stamp                one period + CYCLE before its step is due, but at least CYCLE + TRANSPORT after the publication
    points               the HISTORY rows before (those due before the stamp have negative times), step k, the known
                         stop after it, and its end repeated

All rows are due on one time grid, so the time of arrival does not matter: a controller follows the newest trajectory
that has begun. Without a further one it follows the known stop to its end, and the layer counts missed ticks as rows
of that stop. The rows of a step differ from those of the one before from one period before its due time on, and the
controller samples its reference one cycle ahead; so it must begin by then. Before the first point it would blend from
the state of one cycle earlier, hence the rows before. Points carry accelerations: the splines of
joint_trajectory_controller are then quintic.

With `allow_trajectory_replacement` it begins no trajectory before its stamp (ros2_controllers 6.8 and 6.9; a newer
trajectory then takes the place of one that waits): hence a stamp a cycle before the rows differ where there is time for
it, and that of the trajectory before where that one may still wait. Later versions play a trajectory whose stamp has
passed at the first update after its arrival from then on, hence a stamp that is still to come; and they delay rows that
the trajectory before has between the update before and the stamp, hence none there: a tick in time is at least one
cycle after a row where `tick_budget` + MARGIN + CYCLE is at most one period.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vla_ros.safety.motion.joint_motion import JointStep, Rows
from vla_ros.types import FloatArray

CYCLE = 2e-3
"""Longest cycle of a controller, s: its update rate must be at least 500 Hz."""

TRANSPORT = 0.5e-3
"""Usual time from a publication to the controller's receipt, s."""

MARGIN = 3e-3
"""Minimum time from the publication to the motion towards the step, s: transport and a cycle take less."""

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


def command_trajectory(step: JointStep, period: float, published: float, waiting: float = -np.inf) -> CommandTrajectory:
    """Return the trajectory of a step.

    Args:
        step: Step with its past rows.
        period: Tick period, s.
        published: Time of publication, s on the tick clock.
        waiting: Stamp of the trajectory before, s on the tick clock. Until one cycle after it, a controller may not
            have begun that trajectory, and forgets it; this one then begins no later, if need be on arrival.
    """
    past = step.before or Rows(*(rows[None][:0] for rows in (step.positions, step.velocities, step.accelerations)))
    ahead = step.ahead
    chosen = _chosen(ahead.rows, period)
    numbers = np.concatenate([np.arange(-past.rows, 1), chosen + 1])
    stamp = max(step.due - period - CYCLE, published + CYCLE + TRANSPORT)
    if published < waiting + CYCLE + TRANSPORT:
        stamp = min(stamp, waiting)
    tail = ahead.rows + TAIL / period
    positions, velocities, accelerations = (
        np.vstack([before, now[None], after[chosen], after[-1:]])
        for before, now, after in (
            (past.positions, step.positions, ahead.positions),
            (past.velocities, step.velocities, ahead.velocities),
            (past.accelerations, step.accelerations, ahead.accelerations),
        )
    )
    times = np.append(numbers, tail) * period + (step.due - stamp)
    return CommandTrajectory(stamp, times, positions, velocities, accelerations, past.rows)


def _chosen(rows: int, period: float) -> np.ndarray:
    """Return the indices of stop rows that become points: all of the next FINE s, then COARSE s apart, and the last."""
    fine = round(FINE / period)
    apart = max(round(COARSE / period), 1)
    return np.unique(np.concatenate([np.arange(min(fine, rows)), np.arange(fine, rows, apart), [rows - 1]]))
