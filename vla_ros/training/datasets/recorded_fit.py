"""Checks whether recorded data fit a robot: reports every line of a dataset that does not fit the contract at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vla_ros.data.checking import MotionLimits
from vla_ros.data.chunks import check_convention
from vla_ros.data.errors import ConventionError, MissingColumnError
from vla_ros.data.foreign.measured_arms import MaxOpening, measured_arms, state_is_as_actions
from vla_ros.data.reader import DatasetDescription
from vla_ros.data.step import GRIPPER_FRACTION, GRIPPER_NAME, POSE_NAMES, Step
from vla_ros.processing.features import default_state
from vla_ros.processing.state import state_values
from vla_ros.robot.contract import RobotContract
from vla_ros.robot.kinematics import Kinematics

OPENING_TOLERANCE = 1e-6
"""Tolerance when comparing two full openings, m."""


def check_dataset(description: DatasetDescription, contract: RobotContract) -> None:
    """Check that a dataset fits a robot, without reading any step.

    Raises:
        ConventionError: when its actions, rate or gripper differ, naming every line that differs.
        MissingColumnError: when only cameras or measurements are missing.
    """
    wrong: list[str] = []
    try:
        check_convention(description.convention, contract.action, full_opening(description, contract))
    except ConventionError as error:
        wrong.append(f"actions: {error}")
    opening = description.max_opening
    for arm, own in max_openings(contract).items():
        if opening is not None and abs(opening - own) > OPENING_TOLERANCE:
            wrong.append(f"max_opening is {opening} m there, {own} m here, of arm '{arm}'")
    missing: list[str] = []
    cameras = [camera.name for camera in contract.cameras]
    if absent := [name for name in cameras if name not in description.cameras]:
        missing.append(
            f"cameras {absent} are not there, it has {[*description.cameras]}"
            + (f", and {[*description.depth_cameras]} without color" if description.depth_cameras else "")
            + " (in a table of data sets 'rename_cameras: {there: here}' gives one the contract's name)"
        )
    missing += _unmeasured(description, contract)
    if not (wrong or missing):
        return
    text = (
        f"{description.name} does not fit robot '{contract.name}': "
        + "; ".join([*wrong, *missing])
        + ". Train with the contract of the robot that it was recorded with (--robot)"
    )
    raise ConventionError(text) if wrong else MissingColumnError(text)


def _unmeasured(description: DatasetDescription, contract: RobotContract) -> list[str]:
    """Return one message per measurement that a policy of the robot needs and the dataset lacks."""
    names, action = set(description.proprioception_names), contract.action
    if state_is_as_actions(description.proprioception_names, description.convention):
        return []
    lines, several = [], len(contract.arms) > 1
    if action.of_joints:
        if lacks := [name for name in contract.joints.names if name not in names]:
            lines.append(
                f"the joints {lacks} are not measured (it measures {[*description.proprioception_names]}; with as many "
                "columns as the actions, they are read as those)"
            )
    elif lacks := [name for name in POSE_NAMES if name not in names]:
        lines.append(f"the tool's {lacks} are not measured")
    gripped = any(action.gripper(arm) is not None for arm in action.arms)
    if gripped and several:
        lines.append(
            "the grippers' openings are not measured: of several arms, they are with as many columns as the "
            "actions, joints and grippers of each"
        )
    elif gripped and not names & {GRIPPER_NAME, GRIPPER_FRACTION}:
        lines.append(f"the gripper's opening ('{GRIPPER_NAME}', m, or '{GRIPPER_FRACTION}', 0 to 1) is not measured")
    return lines


def max_openings(contract: RobotContract) -> dict[str, float]:
    """Return the opening of each arm's fully open gripper, m; 0 without a gripper."""
    return {arm.name: arm.gripper.max_opening for arm in contract.arms}


def joint_names(contract: RobotContract) -> dict[str, tuple[str, ...]]:
    """Return the joint names of each arm, in command order."""
    return {arm.name: arm.joints.names for arm in contract.arms}


def full_opening(description: DatasetDescription, contract: RobotContract) -> MaxOpening | None:
    """Return the opening of the fully open gripper, m; None if it is needed but unknown."""
    if description.max_opening is not None or description.convention.in_meters:
        return description.max_opening
    return max_openings(contract)


def motion_limits(contract: RobotContract) -> MotionLimits:
    """Return the limits for checking the motion in a dataset; with several arms, those of their joints."""
    joints, boxes = contract.joints, [arm.cartesian for arm in contract.arms]
    only = contract.arms[0] if len(contract.arms) == 1 else None
    return MotionLimits(
        max(box.linear_velocity for box in boxes),
        max(box.angular_velocity for box in boxes),
        np.min([box.workspace_lower for box in boxes], axis=0),
        np.max([box.workspace_upper for box in boxes], axis=0),
        joints.names,
        None if only is None else Kinematics(contract).forward,
        joints.lower,
        joints.upper,
        None if only is None else only.gripper.max_opening,
        {} if only is not None else {arm.name: contract.joint_columns(arm.name) for arm in contract.arms},
    )


def network_state(step: Step, contract: RobotContract) -> NDArray[np.float64]:
    """Return the state (state_width,) of a step, as seen by a policy of the robot."""
    arms = measured_arms(step, max_openings(contract), joint_names(contract))
    return state_values(default_state(contract.action), arms)
