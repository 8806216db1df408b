"""What the numbers of a step say of each arm, whichever way a data set writes its measurements.

=================================================  ====================================================================
measurements                                       read as
=================================================  ====================================================================
`POSE_NAMES`, `GRIPPER_NAME` or `GRIPPER_SHARE`    tool and gripper of the only arm
the names of the robot's joints                    joints of the only arm, rad
as many as an action of absolute joint positions   joints and grippers of each arm, in the units of the actions: so
                                                   LeRobot writes the state of its arms, SO-101 and ALOHA among them
=================================================  ====================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from vla_ros.actions.gripper_convention import openings_from_column
from vla_ros.actions.groups import Quantity
from vla_ros.actions.space import ActionSpace
from vla_ros.data.step import GRIPPER_NAME, GRIPPER_SHARE, POSE_NAMES, Step
from vla_ros.processing.state import ArmState
from vla_ros.types import FloatArray


def state_is_as_actions(names: Sequence[str], space: ActionSpace) -> bool:
    """Tell whether measurements of these names are joints and grippers, one for each column of an action."""
    joints = all(space.motion(arm).quantity is Quantity.JOINT_POSITION for arm in space.arms)
    return joints and len(names) == space.width and not set(names) & {*POSE_NAMES, GRIPPER_NAME, GRIPPER_SHARE}


def measured_arms(step: Step, max_opening: float, joint_names: Sequence[str] = ()) -> dict[str, ArmState]:
    """Return what was measured of each arm of a step's actions; see the table of this module.

    Args:
        step: The step.
        max_opening: Opening of the gripper that counts as fully open, m.
        joint_names: Of the robot, in command order.
    """
    space, names, values = step.convention, step.proprioception_names, step.proprioception
    found = {arm: ArmState(max_opening=max_opening) for arm in space.arms}
    if joint_names and set(joint_names) <= set(names):
        joints = values[[names.index(name) for name in joint_names]]
        found = {arm: replace(one, joint_positions=joints) for arm, one in found.items()} if len(found) == 1 else found
    elif state_is_as_actions(names, space):
        found = _as_actions(values, space, max_opening)
    if len(found) == 1:
        opening = _opening(step, max_opening)
        found = {
            arm: replace(one, pose=step.end_effector, opening=one.opening if opening is None else opening)
            for arm, one in found.items()
        }
    return found


def _opening(step: Step, max_opening: float) -> float | None:
    names = step.proprioception_names
    for name, scale in ((GRIPPER_NAME, 1.0), (GRIPPER_SHARE, max_opening)):
        if name in names:
            return scale * float(step.proprioception[names.index(name)])
    return None


def _as_actions(values: FloatArray, space: ActionSpace, max_opening: float) -> dict[str, ArmState]:
    found, columns = {}, space.columns
    for arm in space.arms:
        motion, gripper, opening = space.motion(arm), space.gripper(arm), None
        if gripper is not None:
            column = np.asarray(values[columns[gripper.name]])
            opening = float(openings_from_column(column, gripper.gripper, max_opening)[0])
        joints = motion.to_si(values[columns[motion.name]])
        found[arm] = ArmState(joint_positions=joints, opening=opening, max_opening=max_opening)
    return found
