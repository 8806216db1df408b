"""From the steps of an episode, one action each, to an action chunk a step: what a network is taught to say.

Row k of a step's chunk is the pose and the opening that were commanded k periods later, written as seen from the step:
the last command that was given by then, for steps may lie a little more or less than a period apart. Behind the end of
the episode its last command is held.

    step t, at time s_t               row k of its chunk
    commanded pose c_t (absolute)     encode(c_j, seen from the tool at t), j the last step with s_j <= s_t + k periods
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from vla_ros.actions.decoding import PoseTrajectory, decode, encode
from vla_ros.actions.specification import ActionSpecification, GripperConvention
from vla_ros.data.conventions import obstacles
from vla_ros.data.errors import ConventionError, MissingColumnError
from vla_ros.data.step import Step
from vla_ros.errors import VlaError
from vla_ros.types import FloatArray, Pose

SLACK = 0.5
"""Periods that a step may come late and still count for the row that it belongs to."""


def action_chunks(steps: Sequence[Step], wanted: ActionSpecification, max_opening: float | None) -> FloatArray:
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
        chunks = []
        for pose, rows in zip(poses, _rows(steps, wanted), strict=True):
            plan = PoseTrajectory(positions[rows], quaternions[rows], None if openings is None else openings[rows])
            chunks.append(encode(plan, wanted, pose, opening))
    except ConventionError:
        raise
    except VlaError as error:
        raise ConventionError(f"episode '{steps[0].episode}': its actions cannot be read: {error}") from error
    return np.stack(chunks)


def check_convention(given: ActionSpecification, wanted: ActionSpecification, max_opening: float | None) -> None:
    """Raise when actions of `given` cannot be written in the convention `wanted`.

    Raises:
        ConventionError: naming every line that differs.
    """
    if lines := obstacles(given, wanted):
        raise ConventionError("; ".join(lines))
    metres = GripperConvention.OPENING
    if (given.gripper is metres) != (wanted.gripper is metres) and max_opening is None:
        raise ConventionError("the gripper is in metres, and the data set does not say its full opening (max_opening)")


def _pose(step: Step) -> Pose:
    pose = step.end_effector
    if pose is None:
        raise MissingColumnError(
            f"episode '{step.episode}', step {step.index} does not say where the tool is; it measures "
            f"{list(step.proprioception_names)}"
        )
    return pose


def _rows(steps: Sequence[Step], wanted: ActionSpecification) -> list[FloatArray]:
    """Return, for every step, which steps' commands its chunk is made of."""
    times = np.array([step.timestamp for step in steps])
    ahead = (np.arange(wanted.horizon) + SLACK) * wanted.period
    return [np.searchsorted(times, time + ahead, side="right") - 1 for time in times]
