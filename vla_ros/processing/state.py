"""What was measured of each arm as the columns of a state vector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vla_ros.actions.gripper_convention import GripperConvention, column_from_openings
from vla_ros.actions.groups import ActionGroup, Quantity
from vla_ros.actions.rotations import Rotation, matrix_from_quaternion, six_d_from_matrix
from vla_ros.errors import ObservationError
from vla_ros.types import FloatArray, Observation, Pose


@dataclass(frozen=True)
class ArmState:
    """What was measured of one arm; what was not is None.

    Attributes:
        joint_positions: (n,) rad.
        joint_velocities: (n,) rad/s.
        pose: Of the tool frame, base frame.
        opening: Of the gripper, m.
        max_opening: Opening that counts as fully open, m.
    """

    joint_positions: FloatArray | None = None
    joint_velocities: FloatArray | None = None
    pose: Pose | None = None
    opening: float | None = None
    max_opening: float | None = None


def observed_arms(
    observation: Observation, arms: Sequence[str], max_opening: float | None = None
) -> dict[str, ArmState]:
    """Return the arms of a live observation by the names of a policy's arms.

    Raises:
        ObservationError: when the policy has several arms: an observation is of one.
    """
    if len(arms) > 1:
        raise ObservationError(f"the policy has arms {list(arms)}, the observation is of one")
    state = observation.state
    one = ArmState(
        state.joint_positions, state.joint_velocities, state.end_effector, state.gripper_opening, max_opening
    )
    return dict.fromkeys(arms, one)


def state_values(groups: Sequence[ActionGroup], arms: Mapping[str, ArmState]) -> FloatArray:
    """Return the state (width,) in the units of its groups.

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
    """Return the rotation columns of a tool group."""
    if group.rotation is Rotation.NONE:
        return np.zeros(0)
    if group.rotation is Rotation.QUATERNION:
        quaternion = pose.quaternion / np.linalg.norm(pose.quaternion)
        return -quaternion if quaternion[3] < 0.0 else quaternion
    matrix = matrix_from_quaternion(pose.quaternion)
    if group.rotation is Rotation.SIX_D:
        return six_d_from_matrix(matrix)
    # Pinocchio comes with the other forms: 50 MB of a process that runs a policy and needs nothing else of it.
    from vla_ros.actions.rotation_columns import columns_from_matrix

    return columns_from_matrix(matrix, group.rotation, group.euler_order)
