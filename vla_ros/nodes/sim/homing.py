"""Moves simulated arms to their home posture before a new scene. Simulation only: no policy, no filter.

The safety node must be the only one to command the robot, so this publishes only while the robot is disarmed, and its
publishers exist only during the motion.
"""

from __future__ import annotations

import numpy as np
from rclpy.node import Node
from rclpy.publisher import Publisher
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from vla_ros.nodes.sim.wait import PERIOD
from vla_ros.robot.contract import RobotContract
from vla_ros.ros.qos import qos
from vla_ros.types import FloatArray

SPEED_SHARE = 0.25
"""Peak velocity of the motion, as a fraction of every joint's velocity limit."""

SHORTEST = 1.0
"""Minimum duration of the motion, s."""


class Homing:
    """Smooth joint motion from the current posture to home, gripper open; call `step` at least every `PERIOD` s.

    Time is simulation time: commands must not run ahead of a simulation slower than the wall clock.
    """

    def __init__(self, node: Node, contract: RobotContract, positions: FloatArray) -> None:
        """Start at `positions` (n,) rad."""
        self._node, self._contract = node, contract
        self._start = np.asarray(positions, dtype=np.float64)
        self._way = contract.joints.home - self._start
        # 1.5 is the peak of the smoothstep's derivative.
        fastest = float(np.max(1.5 * np.abs(self._way) / (SPEED_SHARE * contract.joints.velocity)))
        self._duration, self._elapsed = max(SHORTEST, fastest), 0.0
        self._arms = [
            node.create_publisher(JointTrajectory, arm.controllers.arm_topic, qos("arm_command"))
            for arm in contract.arms
        ]
        self._grippers = [
            (node.create_publisher(JointTrajectory, arm.controllers.gripper_topic, qos("gripper_command")), arm.gripper)
            for arm in contract.arms
            if arm.gripper.present
        ]

    @property
    def connected(self) -> bool:
        """Whether all controllers are subscribed."""
        return all(one.get_subscription_count() > 0 for one in self._publishers)

    @property
    def _publishers(self) -> list[Publisher]:
        return [*self._arms, *(publisher for publisher, _ in self._grippers)]

    @property
    def done(self) -> bool:
        """Whether the last command has been sent."""
        return self._elapsed >= self._duration

    def step(self, elapsed: float) -> None:
        """Publish the command for `elapsed` s of simulation time after the start."""
        self._elapsed = min(max(elapsed, 0.0), self._duration)
        s = self._elapsed / self._duration
        positions = self._start + self._way * s * s * (3.0 - 2.0 * s)
        velocities = self._way * 6.0 * s * (1.0 - s) / self._duration
        for publisher, arm in zip(self._arms, self._contract.arms, strict=True):
            own = self._contract.joint_columns(arm.name)
            publisher.publish(_trajectory(arm.joints.names, positions[own].tolist(), velocities[own].tolist()))
        for publisher, gripper in self._grippers:
            fingers = gripper.joint_positions(gripper.max_opening)
            publisher.publish(_trajectory(gripper.names, fingers, [0.0] * len(fingers)))

    def close(self) -> None:
        """Destroy the publishers."""
        for publisher in self._publishers:
            self._node.destroy_publisher(publisher)


def _trajectory(names: tuple[str, ...], positions: list[float], velocities: list[float]) -> JointTrajectory:
    point = JointTrajectoryPoint(positions=positions, velocities=velocities)
    point.time_from_start.nanosec = round(1.5 * PERIOD * 1e9)
    return JointTrajectory(joint_names=list(names), points=[point])
