"""Measured state of each arm at a step, for every layout of measurements in a data set.

=================================================  ====================================================================
measurements                                       read as
=================================================  ====================================================================
`POSE_NAMES`, `GRIPPER_NAME` or `GRIPPER_FRACTION`    tool and gripper of the only arm
the names of the robot's joints                    joints of the only arm, or of each, rad
as many as an action of absolute joint positions   joints and grippers of each arm, in the units of the actions, as
                                                   LeRobot records its arms, among them SO-101 and ALOHA
=================================================  ====================================================================
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from vla_ros.actions.gripper_convention import openings_from_column
from vla_ros.actions.groups import Quantity
from vla_ros.actions.space import ActionSpace
from vla_ros.data.step import GRIPPER_FRACTION, GRIPPER_NAME, POSE_NAMES, Step
from vla_ros.processing.state import ArmState
from vla_ros.types import FloatArray

MaxOpening = float | Mapping[str, float]
"""Opening at which a gripper counts as fully open, m: for all arms, or by name of the arm."""


def opening_of(max_opening: MaxOpening, arm: str) -> float:
    """Return the full opening of an arm's gripper, m."""
    return max_opening[arm] if isinstance(max_opening, Mapping) else max_opening


def state_is_as_actions(names: Sequence[str], space: ActionSpace) -> bool:
    """Return whether measurements with these names are joints and grippers, one per action column."""
    joints = all(space.motion(arm).quantity is Quantity.JOINT_POSITION for arm in space.arms)
    return joints and len(names) == space.width and not set(names) & {*POSE_NAMES, GRIPPER_NAME, GRIPPER_FRACTION}


def measured_arms(
    step: Step, max_opening: MaxOpening, joint_names: Mapping[str, Sequence[str]] | None = None
) -> dict[str, ArmState]:
    """Return the measured state of each arm in a step's actions; see the table of this module.

    Args:
        step: The step.
        max_opening: See `MaxOpening`.
        joint_names: Joint names of the robot, by arm, in command order.
    """
    space, names, values = step.convention, step.proprioception_names, step.proprioception
    openings = {arm: opening_of(max_opening, arm) for arm in space.arms}
    found = {arm: ArmState(max_opening=opening) for arm, opening in openings.items()}
    own = {arm: (joint_names or {}).get(arm, ()) for arm in space.arms}
    named = all(joints and set(joints) <= set(names) for joints in own.values())
    as_actions = state_is_as_actions(names, space)
    if named and not (as_actions and len(found) > 1):  # names alone do not assign grippers to arms
        found = {
            arm: replace(one, joint_positions=values[[names.index(name) for name in own[arm]]])
            for arm, one in found.items()
        }
    elif as_actions:
        found = _as_actions(values, space, openings)
    if len(found) == 1:
        ((arm, one),) = found.items()
        opening = _opening(step, openings[arm])
        found = {arm: replace(one, pose=step.end_effector, opening=one.opening if opening is None else opening)}
    return found


def _opening(step: Step, max_opening: float) -> float | None:
    names = step.proprioception_names
    for name, scale in ((GRIPPER_NAME, 1.0), (GRIPPER_FRACTION, max_opening)):
        if name in names:
            return scale * float(step.proprioception[names.index(name)])
    return None


def _as_actions(values: FloatArray, space: ActionSpace, openings: Mapping[str, float]) -> dict[str, ArmState]:
    found, columns = {}, space.columns
    for arm in space.arms:
        motion, gripper, opening = space.motion(arm), space.gripper(arm), None
        if gripper is not None:
            column = np.asarray(values[columns[gripper.name]])
            opening = float(openings_from_column(column, gripper.gripper, openings[arm])[0])
        joints = motion.to_si(values[columns[motion.name]])
        found[arm] = ArmState(joint_positions=joints, opening=opening, max_opening=openings[arm])
    return found
