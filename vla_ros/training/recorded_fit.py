"""Whether recorded data can teach a robot: every line of a data set that does not fit its contract is said at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vla_ros.actions.gripper_convention import GripperConvention
from vla_ros.actions.legacy_specification import ONLY_ARM
from vla_ros.actions.rotations import Rotation
from vla_ros.actions.space import ActionSpace
from vla_ros.data.checking import MotionLimits
from vla_ros.data.chunks import check_convention
from vla_ros.data.errors import ConventionError, MissingColumnError
from vla_ros.data.reader import DatasetDescription
from vla_ros.data.step import GRIPPER_NAME, GRIPPER_SHARE, POSE_NAMES, Step
from vla_ros.processing.features import tool_state
from vla_ros.processing.state import ArmState, state_values
from vla_ros.robot.contract import RobotContract
from vla_ros.robot.kinematics import Kinematics

LEARNED_GRIPPERS = (GripperConvention.OPEN_IS_ONE, GripperConvention.CLOSED_IS_ONE)
"""What the networks can say about a gripper: one number between two states."""

OPENING_TOLERANCE = 1e-6
"""Difference of two full openings, m, that is none."""


def check_dataset(description: DatasetDescription, contract: RobotContract) -> None:
    """Raise when a data set does not fit a robot; no step is read for that.

    Raises:
        ConventionError: when its actions, rate or gripper are others, naming every line that differs.
        MissingColumnError: when only cameras or measurements are missing.
    """
    wrong: list[str] = []
    try:
        check_convention(description.convention, contract.action, full_opening(description, contract))
    except ConventionError as error:
        wrong.append(f"actions: {error}")
    opening = description.max_opening
    if opening is not None and abs(opening - contract.gripper.max_opening) > OPENING_TOLERANCE:
        wrong.append(f"max_opening is {opening} m there, {contract.gripper.max_opening} m here")
    missing: list[str] = []
    cameras = [camera.name for camera in contract.cameras]
    if absent := [name for name in cameras if name not in description.cameras]:
        missing.append(
            f"cameras {absent} are not there, it has {[*description.cameras]}"
            + (f", and {[*description.depth_cameras]} without color" if description.depth_cameras else "")
            + " (in a table of data sets 'rename_cameras: {there: here}' gives one the contract's name)"
        )
    names = set(description.proprioception_names)
    if lacks := [name for name in POSE_NAMES if name not in names]:
        missing.append(f"the tool's {lacks} are not measured")
    if not names & {GRIPPER_NAME, GRIPPER_SHARE}:
        missing.append(f"the gripper's opening ('{GRIPPER_NAME}', m, or '{GRIPPER_SHARE}', 0 to 1) is not measured")
    if not (wrong or missing):
        return
    text = (
        f"{description.name} does not fit robot '{contract.name}': " + "; ".join([*wrong, *missing])
        + ". Train with the contract of the robot that it was recorded with (--robot)"
    )  # fmt: skip
    raise ConventionError(text) if wrong else MissingColumnError(text)


def check_contract(contract: RobotContract) -> None:
    """Raise when the networks cannot say actions as a robot wants them.

    Raises:
        ConventionError: naming the line.
    """
    motion, gripper = contract.action.only_motion, contract.action.only_gripper
    convention = GripperConvention.NONE if gripper is None else gripper.gripper
    if motion.rotation is not Rotation.ROTATION_VECTOR or convention not in LEARNED_GRIPPERS:
        raise ConventionError(
            f"robot '{contract.name}' takes rotation '{motion.rotation.value}' and gripper '{convention.value}'; "
            f"the networks say '{Rotation.ROTATION_VECTOR.value}' and one of {[g.value for g in LEARNED_GRIPPERS]}"
        )


def full_opening(description: DatasetDescription, contract: RobotContract) -> float | None:
    """Return the opening that counts as fully open, m; None where it is not known and would be needed."""
    if description.max_opening is not None or description.convention.in_meters:
        return description.max_opening
    return contract.gripper.max_opening


def motion_limits(contract: RobotContract) -> MotionLimits:
    """Return what the motion in a data set is measured against."""
    cartesian = contract.cartesian
    return MotionLimits(
        cartesian.linear_velocity,
        cartesian.angular_velocity,
        cartesian.workspace_lower,
        cartesian.workspace_upper,
        contract.joints.names,
        Kinematics(contract).forward,
    )


def network_state(step: Step, action: ActionSpace, max_opening: float) -> NDArray[np.float64]:
    """Return the state (10,) of a step, as a policy of that action space sees it.

    `max_opening`, m, is that of a gripper that is measured as a fraction of 1.
    """
    pose, names = step.end_effector, step.proprioception_names
    if GRIPPER_NAME in names:
        opening = float(step.proprioception[names.index(GRIPPER_NAME)])
    else:
        opening = max_opening * float(step.proprioception[names.index(GRIPPER_SHARE)])
    return state_values(tool_state(action), {ONLY_ARM: ArmState(pose=pose, opening=opening)})
