"""Conversion between action chunks and trajectories of joints, tools and grippers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vla_ros.actions.gripper_convention import column_from_openings, openings_from_column
from vla_ros.actions.groups import TOOL_FRAME, ActionGroup, Quantity, Reference
from vla_ros.actions.rotation_columns import CUT_MARGIN, columns_from_matrix, distance_to_cut, matrix_from_columns
from vla_ros.actions.rotation_vectors import quaternion_from_matrix
from vla_ros.actions.rotations import Rotation, matrix_from_quaternion
from vla_ros.actions.space import ActionSpace
from vla_ros.errors import ChunkError
from vla_ros.types import FloatArray, Pose


@dataclass(frozen=True)
class ArmStart:
    """State of one arm at the observation behind a chunk.

    Attributes:
        joint_positions: (n,) rad.
        pose: Pose of the tool frame, base frame.
        max_opening: Gripper opening that counts as fully open, m.
    """

    joint_positions: FloatArray
    pose: Pose
    max_opening: float


@dataclass(frozen=True)
class ArmTrajectory:
    """Commanded trajectory of one arm, one entry per row; None where the chunk commands nothing.

    Attributes:
        joint_positions: (h, n) rad.
        positions: (h, 3) m, of the tool frame in the base frame.
        quaternions: (h, 4), (x, y, z, w), base from tool.
        openings: (h,) m.
    """

    joint_positions: FloatArray | None = None
    positions: FloatArray | None = None
    quaternions: FloatArray | None = None
    openings: FloatArray | None = None


def decode_chunk(actions: FloatArray, space: ActionSpace, starts: Mapping[str, ArmStart]) -> dict[str, ArmTrajectory]:
    """Decode a chunk to one trajectory per arm.

    Args:
        actions: (h, width), h at most the horizon, in the convention of `space`.
        space: Convention of the columns.
        starts: State of each arm of the space at the observation.

    Raises:
        ChunkError: when the width is wrong, a value is not finite, or a rotation is degenerate.
    """
    actions = np.asarray(actions, dtype=np.float64)
    if actions.ndim != 2 or actions.shape[1] != space.width:
        raise ChunkError(f"chunk has shape {actions.shape}, expected (horizon, {space.width})")
    if not np.isfinite(actions).all():
        raise ChunkError(f"{int((~np.isfinite(actions)).sum())} of {actions.size} action values are not finite")
    columns, found = space.columns, {}
    for arm in space.arms:
        motion, gripper, start = space.motion(arm), space.gripper(arm), starts[arm]
        rows = motion.to_si(actions[:, columns[motion.name]])
        openings = None
        if gripper is not None:
            column = actions[:, columns[gripper.name]][:, 0]
            openings = openings_from_column(column, gripper.gripper, start.max_opening)
        if motion.quantity.of_joints:
            joints = _decode_joints(rows, motion, start.joint_positions, space.period)
            found[arm] = ArmTrajectory(joint_positions=joints, openings=openings)
        else:
            positions, quaternions = _decode_poses(rows, motion, start.pose)
            found[arm] = ArmTrajectory(positions=positions, quaternions=quaternions, openings=openings)
    return found


def encode_chunk(
    trajectories: Mapping[str, ArmTrajectory],
    space: ActionSpace,
    starts: Mapping[str, ArmStart],
    *,
    as_target: bool = False,
) -> FloatArray:
    """Encode trajectories as rows (h, width): the inverse of `decode_chunk`.

    Args:
        trajectories: One for each arm of the space, all of the same length.
        space: Convention of the columns.
        starts: State of each arm at the observation.
        as_target: Reject rotations near a discontinuity of their columns: a network that regresses them learns the
            mean of the two sides.

    Raises:
        ChunkError: when a trajectory lacks a commanded quantity, or a rotation is rejected.
    """
    columns: list[FloatArray] = []
    for group in space.groups:
        trajectory, start = trajectories[group.arm], starts[group.arm]
        if group.quantity is Quantity.GRIPPER:
            openings = _needed(trajectory.openings, group, "openings")
            columns.append(column_from_openings(openings, group.gripper, start.max_opening)[:, None])
        elif group.quantity.of_joints:
            joints = _needed(trajectory.joint_positions, group, "joint positions")
            columns.append(group.from_si(_encode_joints(joints, group, start.joint_positions, space.period)))
        else:
            positions = _needed(trajectory.positions, group, "tool positions")
            quaternions = _needed(trajectory.quaternions, group, "tool orientations")
            columns.append(group.from_si(_encode_poses(positions, quaternions, group, start.pose, as_target)))
    return np.concatenate(columns, axis=1)


def _needed(values: FloatArray | None, group: ActionGroup, what: str) -> FloatArray:
    if values is None:
        raise ChunkError(f"action group '{group.name}' needs {what}, the trajectory has none")
    return np.asarray(values, dtype=np.float64)


def _decode_joints(rows: FloatArray, group: ActionGroup, start: FloatArray, period: float) -> FloatArray:
    if group.quantity is Quantity.JOINT_VELOCITY:
        return np.asarray(start + np.cumsum(rows * period, axis=0))
    if group.reference is Reference.DELTA:
        return np.asarray(start + np.cumsum(rows, axis=0))
    return rows + start if group.reference is Reference.RELATIVE else rows


def _encode_joints(joints: FloatArray, group: ActionGroup, start: FloatArray, period: float) -> FloatArray:
    if group.quantity is Quantity.JOINT_VELOCITY:
        return np.diff(joints, axis=0, prepend=start[None]) / period
    if group.reference is Reference.DELTA:
        return np.diff(joints, axis=0, prepend=start[None])
    return joints - start if group.reference is Reference.RELATIVE else joints


def _decode_poses(rows: FloatArray, group: ActionGroup, start: Pose) -> tuple[FloatArray, FloatArray]:
    """Return positions (h, 3) m and quaternions (h, 4), base frame.

    With the reference p', R': p = p' + d and R = D R' in fixed-frame axes, p = p' + R' d and R = R' D in tool axes.
    """
    place, turn = np.asarray(start.position), matrix_from_quaternion(start.quaternion)
    positions, quaternions = [], []
    for row in rows:
        offset, change = row[:3], np.eye(3)
        if group.rotation is not Rotation.NONE:
            try:
                change = matrix_from_columns(row[3:], group.rotation, group.euler_order)
            except ValueError as error:
                raise ChunkError(str(error)) from error
        if group.reference is Reference.ABSOLUTE:
            position, matrix = offset, turn if group.rotation is Rotation.NONE else change
        elif group.frame == TOOL_FRAME:
            position, matrix = place + turn @ offset, turn @ change
        else:
            position, matrix = place + offset, change @ turn
        if group.reference is Reference.DELTA:
            place, turn = position, matrix
        positions.append(position)
        quaternions.append(quaternion_from_matrix(matrix))
    return np.array(positions), np.array(quaternions)


def _encode_poses(
    positions: FloatArray, quaternions: FloatArray, group: ActionGroup, start: Pose, as_target: bool
) -> FloatArray:
    place, turn = np.asarray(start.position), matrix_from_quaternion(start.quaternion)
    rows = []
    for position, quaternion in zip(positions, quaternions, strict=True):
        matrix = matrix_from_quaternion(quaternion)
        if group.reference is Reference.ABSOLUTE:
            offset, change = position, matrix
        elif group.frame == TOOL_FRAME:
            offset, change = turn.T @ (position - place), turn.T @ matrix
        else:
            offset, change = position - place, matrix @ turn.T
        if group.reference is Reference.DELTA:
            place, turn = position, matrix
        rows.append(np.concatenate([offset, _rotation_columns(change, group, as_target)]))
    return np.array(rows)


def _rotation_columns(matrix: FloatArray, group: ActionGroup, as_target: bool) -> FloatArray:
    if group.rotation is Rotation.NONE:
        return np.zeros(0)
    columns = columns_from_matrix(matrix, group.rotation, group.euler_order)
    if as_target and not distance_to_cut(columns, group.rotation, group.euler_order) > CUT_MARGIN:
        raise ChunkError(
            f"action group '{group.name}': the {group.rotation.value} {np.round(columns, 3).tolist()} is within "
            f"{CUT_MARGIN} rad of where its columns jump, and no network can learn it; write the rotation as six_d"
        )
    return columns
