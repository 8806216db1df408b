"""From the steps of an episode, one action each, to an action chunk a step: what a network is taught to say.

Row k of a step's chunk is the pose and the opening that were commanded k periods later, written as seen from the step:
the last command that was given by then, for steps may lie a little more or less than a period apart. Behind the end of
the episode its last command is held.

    step t, at time s_t               row k of its chunk
    commanded pose c_t (absolute)     encode(c_j, seen from the tool at t), j the last step with s_j <= s_t + k periods

A data set of another rate is resampled: the command of step j is where the tool is sent by s_j + p, p a period of the
data set, and row k is where that path is at s_t + k + 1 periods of the chunk; the gripper is not interpolated.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from vla_ros.actions.decoding import PoseTrajectory, decode, encode
from vla_ros.actions.rotation_vectors import slerp
from vla_ros.actions.space import ActionSpace
from vla_ros.data.conventions import obstacles
from vla_ros.data.errors import ConventionError, MissingColumnError
from vla_ros.data.step import Step
from vla_ros.errors import VlaError
from vla_ros.types import FloatArray, Pose

SLACK = 0.5
"""Periods that a step may come late and still count for the row that it belongs to."""


def action_chunks(steps: Sequence[Step], wanted: ActionSpace, max_opening: float | None) -> FloatArray:
    """Return the chunks (steps, horizon, width) of an episode in the convention `wanted`.

    Args:
        steps: A whole episode, in order; pictures are not looked at.
        wanted: Convention of the chunks; its horizon is their length.
        max_opening: Opening that counts as fully open, m; needed from or to metres.

    Raises:
        ConventionError: when the actions are other motions than `wanted` can say, naming every line that differs.
        MissingColumnError: when the steps do not say where the tool is.
    """
    given = replace(steps[0].convention, horizon=1)
    check_convention(given, wanted, max_opening)
    opening = 1.0 if max_opening is None else max_opening  # a share of it goes in and comes out
    poses = [_pose(step) for step in steps]
    try:
        commanded = [decode(step.action[None], given, pose, opening) for step, pose in zip(steps, poses, strict=True)]
        positions = np.concatenate([one.positions for one in commanded])
        quaternions = np.concatenate([one.quaternions for one in commanded])
        openings = None if commanded[0].openings is None else np.concatenate([one.openings for one in commanded])
        path = PoseTrajectory(positions, quaternions, openings)
        plans = _same_rate(steps, path, wanted) if given.rate_hz == wanted.rate_hz else _resampled(steps, path, wanted)
        chunks = [encode(plan, wanted, pose, opening) for pose, plan in zip(poses, plans, strict=True)]
    except ConventionError:
        raise
    except VlaError as error:
        raise ConventionError(f"episode '{steps[0].episode}': its actions cannot be read: {error}") from error
    return np.stack(chunks)


def check_convention(given: ActionSpace, wanted: ActionSpace, max_opening: float | None) -> None:
    """Raise when actions of `given` cannot be written in the convention `wanted`; rates are resampled.

    Raises:
        ConventionError: naming every line that differs.
    """
    if lines := obstacles(given, replace(wanted, rate_hz=given.rate_hz)):
        raise ConventionError("; ".join(lines))
    if given.in_meters != wanted.in_meters and max_opening is None:
        raise ConventionError("the gripper is in metres, and the data set does not say its full opening (max_opening)")


def _pose(step: Step) -> Pose:
    pose = step.end_effector
    if pose is None:
        raise MissingColumnError(
            f"episode '{step.episode}', step {step.index} does not say where the tool is; it measures "
            f"{list(step.proprioception_names)}"
        )
    return pose


def _same_rate(steps: Sequence[Step], path: PoseTrajectory, wanted: ActionSpace) -> Iterator[PoseTrajectory]:
    for rows in _in_force(steps, wanted, steps[0].convention.period):
        openings = None if path.openings is None else path.openings[rows]
        yield PoseTrajectory(path.positions[rows], path.quaternions[rows], openings)


def _resampled(steps: Sequence[Step], path: PoseTrajectory, wanted: ActionSpace) -> Iterator[PoseTrajectory]:
    """Yield for every step where the commanded path is at the times of its rows."""
    period = steps[0].convention.period
    due = np.array([step.timestamp for step in steps]) + period
    ahead = (np.arange(wanted.horizon) + 1.0) * wanted.period
    for index, rows in enumerate(_in_force(steps, wanted, period)):
        pose = _pose(steps[index])
        knots = np.concatenate([[due[index] - period], due[index:]])
        positions = np.concatenate([[pose.position], path.positions[index:]])
        quaternions = np.concatenate([[pose.quaternion], path.quaternions[index:]])
        places = np.interp(knots[0] + ahead, knots, np.arange(len(knots), dtype=np.float64))
        before = np.minimum(places.astype(int), len(knots) - 2)
        share = places - before
        moved = positions[before] + share[:, None] * (positions[before + 1] - positions[before])
        turned = [slerp(quaternions[k], quaternions[k + 1], float(part)) for k, part in zip(before, share, strict=True)]
        openings = None if path.openings is None else path.openings[rows]
        yield PoseTrajectory(moved, np.stack(turned), openings)


def _in_force(steps: Sequence[Step], wanted: ActionSpace, period: float) -> list[FloatArray]:
    """Return, for every step, which steps' commands are in force at the rows of its chunk."""
    times = np.array([step.timestamp for step in steps])
    ahead = np.arange(wanted.horizon) * wanted.period + SLACK * period
    return [np.searchsorted(times, time + ahead, side="right") - 1 for time in times]
