"""Measured arm states as the columns of a state vector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vla_ros.actions.gripper_convention import GripperConvention, column_from_openings
from vla_ros.actions.groups import ActionGroup, Quantity
from vla_ros.actions.rotations import Rotation, matrix_from_quaternion, six_d_from_matrix
from vla_ros.errors import ObservationError
from vla_ros.robot.sections.arm import ArmContract
from vla_ros.types import FloatArray, Observation, Pose


@dataclass(frozen=True)
class ArmState:
    """Measured state of one arm; None for what was not measured.

    Attributes:
        joint_positions: (n,) rad.
        joint_velocities: (n,) rad/s.
        pose: Pose of the tool frame in the base frame.
        opening: Gripper opening, m.
        max_opening: Opening of the fully open gripper, m.
    """

    joint_positions: FloatArray | None = None
    joint_velocities: FloatArray | None = None
    pose: Pose | None = None
    opening: float | None = None
    max_opening: float | None = None


def observed_arms(observation: Observation, arms: Sequence[str], robot: Sequence[ArmContract]) -> dict[str, ArmState]:
    """Return the arm states of a live observation by the policy's arm names.

    With several arms, each has its own joints and opening but no pose: the observation has none.

    Args:
        observation: Observation whose joints are ordered arm after arm.
        arms: Names of the policy's arms; for a single-arm robot, any name stands for its arm.
        robot: The robot's arms, in the order of the observation.

    Raises:
        ObservationError: when the robot lacks an arm of that name, or the observation is of other arms.
    """
    state = observation.state
    if len(robot) == 1:
        if len(arms) > 1:
            raise ObservationError(f"the policy has arms {list(arms)}, the observation is of one")
        opening, wide = state.gripper_opening, robot[0].gripper.max_opening
        one = ArmState(state.joint_positions, state.joint_velocities, state.end_effector, opening, wide)
        return dict.fromkeys(arms, one)
    counts = [arm.joints.count for arm in robot]
    if sum(counts) != len(state.joint_positions) or len(robot) != len(state.gripper_openings):
        raise ObservationError(
            f"the observation has {len(state.joint_positions)} joints and {len(state.gripper_openings)} grippers, the "
            f"arms {[arm.name for arm in robot]} have {counts} joints"
        )
    found, first = {}, 0
    for arm, count, opening in zip(robot, counts, state.gripper_openings, strict=True):
        own = slice(first, first + count)
        positions, velocities = state.joint_positions[own], state.joint_velocities[own]
        found[arm.name] = ArmState(positions, velocities, None, opening, arm.gripper.max_opening)
        first += count
    if strange := [arm for arm in arms if arm not in found]:
        raise ObservationError(f"the policy has arms {strange}, the robot has {[*found]}")
    return {arm: found[arm] for arm in arms}


def state_values(groups: Sequence[ActionGroup], arms: Mapping[str, ArmState]) -> FloatArray:
    """Return the state vector (width,) in the units of its groups.

    Raises:
        ObservationError: naming the group whose arm, joints, pose or opening was not measured.
    """
    return np.concatenate([_columns(group, arms.get(group.arm)) for group in groups])


def _columns(group: ActionGroup, arm: ArmState | None) -> FloatArray:
    if arm is None:
        raise ObservationError(f"state '{group.name}' is needed, and nothing was measured of arm '{group.arm}'")
    if group.quantity is Quantity.GRIPPER:
        if arm.opening is None or (group.gripper is not GripperConvention.OPENING and not arm.max_opening):
            raise ObservationError(f"state '{group.name}' needs the gripper's opening, and the one that is fully open")
        return column_from_openings(np.array([arm.opening]), group.gripper, arm.max_opening or 1.0)
    if group.quantity is Quantity.EE_POSE:
        if arm.pose is None:
            raise ObservationError(f"state '{group.name}' needs the pose of the tool, which was not measured")
        return group.from_si(np.concatenate([arm.pose.position, _rotation(group, arm.pose)]))
    joints = arm.joint_velocities if group.quantity is Quantity.JOINT_VELOCITY else arm.joint_positions
    if joints is None or joints.shape != (group.joints,):
        got = "none" if joints is None else joints.shape[0]
        raise ObservationError(f"state '{group.name}' needs {group.joints} joints, {got} were measured")
    return group.from_si(joints)


def _rotation(group: ActionGroup, pose: Pose) -> FloatArray:
    """Return the rotation columns of a tool-pose group."""
    if group.rotation is Rotation.NONE:
        return np.zeros(0)
    if group.rotation is Rotation.QUATERNION:
        quaternion = pose.quaternion / np.linalg.norm(pose.quaternion)
        return -quaternion if quaternion[3] < 0.0 else quaternion
    matrix = matrix_from_quaternion(pose.quaternion)
    if group.rotation is Rotation.SIX_D:
        return six_d_from_matrix(matrix)
    # Imported here: the other forms need Pinocchio, 50 MB that a policy process does not need otherwise.
    from vla_ros.actions.rotation_columns import columns_from_matrix

    return columns_from_matrix(matrix, group.rotation, group.euler_order)
