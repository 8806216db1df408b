"""Checks the reference that a trajectory controller computes from timed trajectories: limits, gaps, arming.

The checked values are those sent to the drives: sampled position, velocity and acceleration, and finite differences of
the sampled positions, which also reveal a jump where one trajectory replaces another. The larger of the two counts.

The reference's jerk is reported but not counted: splines are joined with equal position, velocity and at best
acceleration, so the jerk has a step at every point however smooth the motion is, and a cubic, whose acceleration has
steps, is detected by its acceleration. The jerk of the commands is checked where they are equally spaced.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vla_ros.robot.contract import JointContract
from vla_ros.safety_bench.referee.trajectory_controller import (
    Reference,
    Release,
    Replacement,
    TimedTrajectory,
    TrajectoryControllerModel,
)
from vla_ros.types import FloatArray

TOLERANCE = 1e-2
"""Relative tolerance: times of a trajectory are rounded to 1 ns, which is 1e-5 of an acceleration; the rest covers a
limit exceeded within a segment whose end points are both at it (a cubic of 10 ms overshoots by less than 1 %)."""

POSITION_TOLERANCE = 1e-4
"""Largest overshoot of a segment beyond a position limit that both its end points keep, rad."""

GAP = 0.03
"""Time between trajectories that counts as a gap, s: the motion must have stopped before it resumes."""

GAP_PERIODS = 2.5
"""The same in periods between the points of a trajectory, where that is longer, as at low rates."""

AT_REST = 0.01
"""Fraction of the velocity limit below which a joint is at rest."""

KINDS = ("reference_position", "reference_velocity", "reference_acceleration", "gap_resumed", "arming_jump")
"""Kinds of violation of a reference; the first three are counted per sample, the others per gap and per arming."""


@dataclass(frozen=True)
class Arming:
    """An arming of the robot at `time`, s; the commands after it start at the robot's position.

    Attributes:
        time: Time of the arming, on the clock of the trajectories.
        commanded: (n,) rad, last command before it; None when there was none.
        position: (n,) rad, actual position of the arm.
    """

    time: float
    commanded: FloatArray | None
    position: FloatArray


CONTROLLERS = (
    TrajectoryControllerModel(500.0),
    TrajectoryControllerModel(500.0, phase=0.7),
    TrajectoryControllerModel(1000.0),
    TrajectoryControllerModel(1000.0, Release.HUMBLE, phase=0.3),
    TrajectoryControllerModel(500.0, Release.JAZZY, Replacement.DEFERRED),
    TrajectoryControllerModel(500.0, Release.JAZZY, Replacement.DEFERRED, phase=0.9),
    TrajectoryControllerModel(1000.0, Release.JAZZY, Replacement.DEFERRED, phase=0.5),
)
"""Controllers with which commands must stay within the limits, all of them; their cycles and the ticks are not
aligned."""

MERGING = (
    TrajectoryControllerModel(500.0, Release.JAZZY, Replacement.MERGED),
    TrajectoryControllerModel(500.0, Release.JAZZY, Replacement.MERGED, phase=0.6),
    TrajectoryControllerModel(1000.0, Release.JAZZY, Replacement.MERGED, phase=0.4),
)
"""Controllers for which that holds only while commands are neither late nor early: the preflight refuses them."""


@dataclass(frozen=True)
class ReferenceFindings:
    """Violations by kind, and the largest fraction of each limit that was reached."""

    violations: dict[str, int]
    worst: dict[str, float]


def judge_reference(
    trajectories: Sequence[TimedTrajectory],
    joints: JointContract,
    start: FloatArray | None,
    model: TrajectoryControllerModel,
) -> ReferenceFindings:
    """Check the reference that one controller computes from trajectories.

    Args:
        trajectories: In order of arrival.
        joints: Joint limits.
        start: (n,) rad, initial resting reference; None when unknown because the controller followed trajectories that
            are not in `trajectories`: then the first of them is taken as is.
        model: Controller model.
    """
    last = trajectories[-1]
    end = max(last.arrival, last.stamp) + float(last.times[-1])
    reference = model.follow(trajectories, trajectories[0].positions[0] if start is None else start, end)
    before = _before(reference, model.cycle) if start is None else np.vstack([start, start])
    start = before[1]
    outside = np.maximum(joints.lower - reference.positions, reference.positions - joints.upper).max(axis=1)
    began = np.maximum(np.maximum(joints.lower - start, start - joints.upper), 0.0).max()  # it may lead back in
    steps = np.diff(np.vstack([before, reference.positions]), axis=0) / model.cycle
    velocity = _fraction(np.maximum(np.abs(reference.velocities), np.abs(steps[1:])), joints.velocity)
    changes = np.diff(steps, axis=0) / model.cycle
    acceleration = _fraction(np.maximum(np.abs(reference.accelerations), np.abs(changes)), joints.acceleration)
    jerk = _fraction(np.abs(reference.jerks), joints.jerk)
    return ReferenceFindings(
        {
            "reference_position": int((outside > began + POSITION_TOLERANCE).sum()),
            "reference_velocity": int((velocity > 1.0 + TOLERANCE).sum()),
            "reference_acceleration": int((acceleration > 1.0 + TOLERANCE).sum()),
            "gap_resumed": _resumed(trajectories, reference, joints),
        },
        {
            "reference_velocity": float(velocity.max()),
            "reference_acceleration": float(acceleration.max()),
            "reference_jerk": float(jerk.max()),
        },
    )


def _before(reference: Reference, cycle: float) -> FloatArray:
    """Extrapolate the two samples (2, n) rad before the first, from its velocity and acceleration."""
    back = -cycle * np.array([[2.0], [1.0]])
    return np.asarray(
        reference.positions[0] + back * reference.velocities[0] + 0.5 * back**2 * reference.accelerations[0]
    )


def _fraction(values: FloatArray, limit: FloatArray) -> FloatArray:
    return np.asarray((values / limit).max(axis=1), dtype=np.float64)


def _resumed(trajectories: Sequence[TimedTrajectory], reference: Reference, joints: JointContract) -> int:
    """Count the gaps after which a joint accelerated before it had come to rest."""
    arrivals = np.array([one.arrival for one in trajectories])
    speeds = np.abs(reference.velocities) / joints.velocity
    found = 0
    gap = max(GAP, GAP_PERIODS * _spacing(trajectories))
    for index in np.flatnonzero(np.diff(arrivals) > gap).tolist():
        # Up to the arrival after the gap the stop is known; a stop may begin while a joint is still accelerating.
        first, last = np.searchsorted(reference.times, [arrivals[index + 1], arrivals[index + 1] + 1.0])
        later = speeds[first:last]
        if len(later) == 0:
            continue
        least = np.minimum.accumulate(later, axis=0)
        found += bool(((later > least + AT_REST) & (least > AT_REST)).any())
    return found


def judge_armings(trajectories: Sequence[TimedTrajectory], armings: Sequence[Arming], joints: JointContract) -> int:
    """Count armings whose first command was more than one period's motion away from the last command or the arm.

    The period is the median time between arrivals; the command is the first point due after its arrival.
    """
    period = _period(trajectories)
    reach = joints.velocity * period * (1.0 + TOLERANCE)
    arrivals = np.array([one.arrival for one in trajectories])
    found = 0
    for number, arming in enumerate(armings):
        index = int(np.searchsorted(arrivals, arming.time))
        until = armings[number + 1].time if number + 1 < len(armings) else np.inf
        if index >= len(arrivals) or arrivals[index] >= until:
            continue  # disarmed before anything was commanded
        first = commanded(trajectories[index])
        places = [arming.position] if arming.commanded is None else [arming.position, arming.commanded]
        found += any(bool((np.abs(first - place) > reach).any()) for place in places)
    return found


def commanded(trajectory: TimedTrajectory) -> FloatArray:
    """Return the positions (n,) of the first point that is due after the arrival, or of the last one."""
    return np.asarray(trajectory.positions[_first_due(trajectory)], dtype=np.float64)


def due(trajectory: TimedTrajectory) -> float:
    """Return the time at which that point is due, s."""
    begin = trajectory.arrival if trajectory.stamp == 0.0 else trajectory.stamp
    return begin + float(trajectory.times[_first_due(trajectory)])


def _first_due(trajectory: TimedTrajectory) -> int:
    begin = trajectory.arrival if trajectory.stamp == 0.0 else trajectory.stamp
    return min(int(np.searchsorted(begin + trajectory.times, trajectory.arrival)), len(trajectory.times) - 1)


def _period(trajectories: Sequence[TimedTrajectory]) -> float:
    gaps = np.diff([one.arrival for one in trajectories])
    return float(np.median(gaps)) if len(gaps) else 0.01


def _spacing(trajectories: Sequence[TimedTrajectory]) -> float:
    """Return the shortest time between two points of a trajectory, s; 0 without such points."""
    steps = np.concatenate([np.diff(one.times) for one in trajectories])
    return float(steps.min()) if len(steps) else 0.0
