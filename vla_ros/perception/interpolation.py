"""Interpolates the robot's state between two measurements."""

from __future__ import annotations

from collections.abc import Callable

from vla_ros.types import FloatArray, Pose, RobotState


def interpolate_state(
    before: RobotState, after: RobotState, fraction: float, forward: Callable[[FloatArray], Pose]
) -> RobotState:
    """Return the state at `fraction` (0 to 1) between `before` and `after`.

    Joint positions, joint velocities and gripper openings are interpolated linearly. The tool pose is computed from the
    joints: a separately blended pose would belong to no configuration. Several arms have no tool pose.

    Args:
        before: Earlier measurement.
        after: Later measurement.
        fraction: 0 is `before`, 1 is `after`.
        forward: Maps joint positions (n,) rad to the tool pose in the base frame; not called for several arms.
    """
    if fraction <= 0.0 or before is after:
        return before
    if fraction >= 1.0:
        return after
    positions = before.joint_positions + fraction * (after.joint_positions - before.joint_positions)
    velocities = before.joint_velocities + fraction * (after.joint_velocities - before.joint_velocities)
    if len(before.gripper_openings) > 1:  # there is no tool pose
        pairs = zip(before.gripper_openings, after.gripper_openings, strict=True)
        openings = [first + fraction * (second - first) for first, second in pairs]
        return RobotState.of_arms(
            positions, velocities, openings, before.stamp + fraction * (after.stamp - before.stamp)
        )
    return RobotState(
        joint_positions=positions,
        joint_velocities=velocities,
        gripper_opening=before.gripper_opening + fraction * (after.gripper_opening - before.gripper_opening),
        end_effector=forward(positions),
        stamp=before.stamp + fraction * (after.stamp - before.stamp),
    )
