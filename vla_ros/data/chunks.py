"""Builds the training targets, one action chunk per step, from the single actions of an episode's steps.

Row k of a step's chunk is the command (joints or pose, and opening) in force k periods later, expressed relative to the
step: the last command given by then, since steps may be slightly more or less than a period apart. After the end of the
episode, its last command is held.

    step t, at time s_t               row k of its chunk
    commanded c_t (absolute)          encode(c_j, seen from step t), j the last step with s_j <= s_t + k periods

A data set with another rate is resampled: the command of step j is the target at s_j + p, with p the period of the data
set, and row k is the point of that path at s_t + (k + 1) periods of the chunk. Joints and positions are interpolated
linearly, rotations by slerp, grippers not at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vla_ros.actions.rotation_vectors import slerp
from vla_ros.actions.space import ActionSpace
from vla_ros.actions.trajectory import ArmStart, ArmTrajectory, decode_chunk, encode_chunk
from vla_ros.data.conventions import incompatibilities
from vla_ros.data.errors import ConventionError, MissingColumnError, UnusableEpisodeError
from vla_ros.data.foreign.measured_arms import MaxOpening, measured_arms, opening_of
from vla_ros.data.step import Step
from vla_ros.errors import ChunkError, VlaError
from vla_ros.types import FloatArray, Pose

SLACK = 0.5
"""Maximum delay of a step that still counts for its row, periods."""

_NOWHERE = Pose(np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0]))


def action_chunks(
    steps: Sequence[Step],
    target: ActionSpace,
    max_opening: MaxOpening | None,
    joint_names: Mapping[str, Sequence[str]] | None = None,
) -> FloatArray:
    """Return the chunks (steps, horizon, width) of an episode in the convention `target`.

    Args:
        steps: A whole episode, in order; images are not used.
        target: Convention of the chunks; its horizon is their length.
        max_opening: Opening that counts as fully open, m; required to convert from or to meters.
        joint_names: Joint names of the robot, by arm, as a data set may measure them; see `measured_arms`.

    Raises:
        ConventionError: when `target` cannot express the actions, naming every field that differs.
        MissingColumnError: when the steps lack the tool pose or the joint positions that `target` requires.
        UnusableEpisodeError: when a rotation is near a discontinuity of its columns, so that no network can learn it.
    """
    source = replace(steps[0].convention, horizon=1)
    check_convention(source, target, max_opening)
    opening: MaxOpening = 1.0 if max_opening is None else max_opening  # if None, its value cancels out
    starts = [_starts(step, target, opening, joint_names) for step in steps]
    try:
        rows = [decode_chunk(step.action[None], source, one) for step, one in zip(steps, starts, strict=True)]
        path = {arm: _joined([row[arm] for row in rows]) for arm in source.arms}
        in_force = _in_force(steps, target)
        same = source.rate_hz == target.rate_hz
        chunks = []
        for index, start in enumerate(starts):
            plans = {arm: _rows(one, in_force[index]) for arm, one in path.items()}
            if not same:
                plans = {arm: _moved(path[arm], plans[arm], start[arm], index, steps, target) for arm in path}
            chunks.append(_target(plans, target, start, steps[index]))
    except (ConventionError, UnusableEpisodeError):
        raise
    except VlaError as error:
        raise ConventionError(f"episode '{steps[0].episode}': its actions cannot be read: {error}") from error
    return np.stack(chunks)


def _target(
    plans: Mapping[str, ArmTrajectory], target: ActionSpace, start: Mapping[str, ArmStart], step: Step
) -> FloatArray:
    try:
        return encode_chunk(plans, target, start, as_target=True)
    except ChunkError as error:
        raise UnusableEpisodeError(f"episode '{step.episode}', step {step.index}: {error}") from error


def check_convention(source: ActionSpace, target: ActionSpace, max_opening: MaxOpening | None) -> None:
    """Raise if actions of `source` cannot be converted to `target`; rates may differ.

    Raises:
        ConventionError: naming every field that differs.
    """
    if lines := incompatibilities(source, replace(target, rate_hz=source.rate_hz)):
        raise ConventionError("; ".join(lines))
    if source.in_meters != target.in_meters and max_opening is None:
        raise ConventionError("the gripper is in meters, and the data set does not say its full opening (max_opening)")


def _starts(
    step: Step, target: ActionSpace, opening: MaxOpening, names: Mapping[str, Sequence[str]] | None
) -> Mapping[str, ArmStart]:
    """Return the measured state of each arm at a step, as the start of its chunk."""
    found, starts = measured_arms(step, opening, names), {}
    for arm in target.arms:
        one, of_joints = found[arm], target.motion(arm).quantity.of_joints
        if of_joints and one.joint_positions is None:
            raise MissingColumnError(
                f"episode '{step.episode}', step {step.index} does not say where the joints of arm '{arm}' are; it "
                f"measures {list(step.proprioception_names)}"
            )
        if not of_joints and one.pose is None:
            raise MissingColumnError(
                f"episode '{step.episode}', step {step.index} does not say where the tool is; it measures "
                f"{list(step.proprioception_names)}"
            )
        joints = np.zeros(0) if one.joint_positions is None else one.joint_positions
        starts[arm] = ArmStart(joints, one.pose or _NOWHERE, opening_of(opening, arm))
    return starts


def _joined(rows: Sequence[ArmTrajectory]) -> ArmTrajectory:
    """Concatenate trajectories of one row each."""

    def together(name: str) -> FloatArray | None:
        values = [getattr(row, name) for row in rows]
        return None if values[0] is None else np.concatenate(values)

    return ArmTrajectory(*(together(name) for name in ("joint_positions", "positions", "quaternions", "openings")))


def _rows(path: ArmTrajectory, rows: NDArray[np.int64]) -> ArmTrajectory:
    values = (path.joint_positions, path.positions, path.quaternions, path.openings)
    return ArmTrajectory(*(None if one is None else one[rows] for one in values))


def _moved(
    path: ArmTrajectory, held: ArmTrajectory, start: ArmStart, index: int, steps: Sequence[Step], target: ActionSpace
) -> ArmTrajectory:
    """Return the commanded path at the times of the rows of step `index`; openings are those of `held`."""
    period = steps[0].convention.period
    due = np.array([step.timestamp for step in steps[index:]]) + period
    knots = np.concatenate([[due[0] - period], due])
    ahead = (np.arange(target.horizon) + 1.0) * target.period
    places = np.interp(knots[0] + ahead, knots, np.arange(len(knots), dtype=np.float64))
    before = np.minimum(places.astype(int), len(knots) - 2)
    part = places - before

    def between(first: FloatArray, later: FloatArray | None) -> FloatArray | None:
        if later is None:
            return None
        values = np.concatenate([first[None], later[index:]])
        return np.asarray(values[before] + part[:, None] * (values[before + 1] - values[before]))

    turned = None
    if path.quaternions is not None:
        turns = np.concatenate([start.pose.quaternion[None], path.quaternions[index:]])
        turned = np.stack([slerp(turns[k], turns[k + 1], float(p)) for k, p in zip(before, part, strict=True)])
    joints, positions = (
        between(start.joint_positions, path.joint_positions),
        between(start.pose.position, path.positions),
    )
    return ArmTrajectory(joints, positions, turned, held.openings)


def _in_force(steps: Sequence[Step], target: ActionSpace) -> list[NDArray[np.int64]]:
    """Return, for every step, the indices of the steps whose commands are in force at the rows of its chunk."""
    times = np.array([step.timestamp for step in steps])
    ahead = np.arange(target.horizon) * target.period + SLACK * steps[0].convention.period
    return [np.searchsorted(times, time + ahead, side="right") - 1 for time in times]
