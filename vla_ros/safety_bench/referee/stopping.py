"""Closed-form duration and travel of a joint's time-optimal stop, the yardstick for a recorded stop."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from vla_ros.robot.contract import JointContract
from vla_ros.types import FloatArray


@dataclass(frozen=True)
class StopComparison:
    """A recorded stop and the analytic one, for the joint that needs longest.

    Attributes:
        joint: Name of the joint.
        seconds: Duration of the recorded stop, s.
        analytic_seconds: Duration of the shortest stop, s.
        travel: Travel of the joint, rad.
        analytic_travel: Its travel in the shortest stop, rad.
    """

    joint: str
    seconds: float
    analytic_seconds: float
    travel: float
    analytic_travel: float


def shortest_stop(velocity: float, acceleration: float, most: float, jerk: float) -> tuple[float, float]:
    """Return duration, s, and travel, rad, of the time-optimal stop of one joint.

    Acceleration falls at -j to -p, stays there, and returns at +j: v + (a^2 - p^2) / 2j - p^2 / 2j = 0 gives
    p = sqrt(j v + a^2 / 2), or the limit if that is smaller. Mirrored if the motion would otherwise end before zero.

    Args:
        velocity: rad/s.
        acceleration: rad/s^2, at most `most`.
        most: Acceleration limit, rad/s^2.
        jerk: Jerk limit, rad/s^3.
    """
    sign = 1.0 if velocity + acceleration * abs(acceleration) / (2.0 * jerk) >= 0.0 else -1.0
    v, a = sign * velocity, sign * acceleration
    peak = min(math.sqrt(max(jerk * v + 0.5 * a * a, 0.0)), most)
    if peak == 0.0:
        return 0.0, 0.0
    held = max((v + (a * a - 2.0 * peak * peak) / (2.0 * jerk)) / peak, 0.0)
    phases = (((a + peak) / jerk, -jerk), (held, 0.0), (peak / jerk, jerk))
    way = 0.0
    for duration, change in phases:
        way += v * duration + 0.5 * a * duration**2 + change * duration**3 / 6.0
        v += a * duration + 0.5 * change * duration**2
        a += change * duration
    return sum(duration for duration, _ in phases), sign * way


def compare_stop(commands: FloatArray, first: int, joints: JointContract, period: float) -> StopComparison | None:
    """Compare the stop in recorded commands with the analytic one.

    Args:
        commands: (k, n) rad, `period` s apart.
        first: Index of the first braking command; at least three must precede it.
        joints: Joint limits.
        period: s.

    Returns:
        The comparison, or None when the recording does not contain the stop from its beginning to rest.
    """
    if first < 3 or first >= len(commands) - 1:
        return None
    speeds = np.diff(commands, axis=0) / period
    moving = np.flatnonzero((speeds[first - 1 :] != 0.0).any(axis=1))
    if len(moving) and first + int(moving[-1]) >= len(commands) - 1:
        return None
    # Assuming constant jerk: the speed in the middle of a tick, extrapolated by half a tick.
    acceleration = (speeds[first - 2] - speeds[first - 3]) / period
    velocity = speeds[first - 2] + 0.5 * period * acceleration
    acceleration = np.clip(acceleration, -joints.acceleration, joints.acceleration)
    stops = [
        shortest_stop(float(velocity[i]), float(acceleration[i]), float(joints.acceleration[i]), float(joints.jerk[i]))
        for i in range(joints.count)
    ]
    longest = int(np.argmax([duration for duration, _ in stops]))
    rows = int(moving[-1]) + 1 if len(moving) else 0
    travel = float(commands[first - 1 + rows, longest] - commands[first - 1, longest])
    return StopComparison(joints.names[longest], rows * period, stops[longest][0], travel, stops[longest][1])
