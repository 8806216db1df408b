"""Filters the joint motion to its target: within the speed limits of joints and tool, always able to brake."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vla_ros.actions.joint_plan import JointTarget
from vla_ros.robot.contract import CartesianContract, JointContract
from vla_ros.safety.motion.joint_motion import JointMotion
from vla_ros.types import FloatArray


class JointFilter:
    """Computes the next joint velocities towards a target, as `CartesianFilter` does for the tool. Stateless.

    Acceleration and jerk are left to `JointMotion`. All joints approach by one common factor and are slowed down by
    one, so that the direction in joint space stays that of the plan.
    """

    def __init__(
        self,
        joints: JointContract,
        motion: JointMotion,
        tools: Sequence[CartesianContract],
        period: float,
        gain: float,
        brake_share: float,
        margin: float,
    ) -> None:
        """Use the limits of `joints` and `tools` at ticks `period` s apart.

        Args:
            joints: Joint limits of all arms.
            motion: Executes the velocities.
            tools: Tool speed limits of each arm.
            period: s.
            gain: Approach gain over short distances, 1/s.
            brake_share: Fraction of the acceleration that the approach relies on for braking.
            margin: Distance kept from every joint limit, rad.
        """
        self._lower, self._upper = joints.lower + margin, joints.upper - margin
        self._velocity, self._gain = joints.velocity, gain
        self._brake = brake_share * joints.acceleration
        self._rise = motion.rise_time
        self._linear = np.array([tool.linear_velocity for tool in tools])
        self._angular = np.array([tool.angular_velocity for tool in tools])
        self.preview = 1.0 / gain
        self.brake_preview = 2.0 / gain

    def project(self, target: JointTarget) -> tuple[JointTarget, FloatArray]:
        """Return the target clamped to the joint limits, and the distance moved per joint, (n,) rad."""
        positions = np.minimum(np.maximum(target.positions, self._lower), self._upper)
        moved = np.abs(positions - target.positions)
        if not moved.any():
            return target, moved
        return JointTarget(positions, np.where(moved == 0.0, target.velocities, 0.0)), moved

    def step(
        self,
        positions: FloatArray,
        velocities: FloatArray,
        jacobian: FloatArray,
        ahead: JointTarget,
        later: JointTarget,
        scale: float,
    ) -> FloatArray:
        """Return the joint velocities (n,) rad/s towards the target.

        Args:
            positions: (n,) rad, executed.
            velocities: (n,) rad/s, executed.
            jacobian: (6 * arms, n), stacked tool Jacobians at `positions`.
            ahead: The plan at `preview` from now, inside the joint limits.
            later: The plan at `brake_preview` from now: its velocity still applies after braking.
            scale: Fraction of the allowed speed, 0 to 1.
        """
        error = ahead.positions - positions - later.velocities * self.preview
        error = error - self._rise * (velocities - later.velocities)  # distance covered until braking takes effect
        distances = np.abs(error)
        far = distances > 1e-12
        wanted = later.velocities
        if far.any():
            speeds = approach_speeds(distances[far], self._gain, self._brake[far])
            wanted = wanted + error * float((speeds / distances[far]).min())
        return self.capped(wanted, jacobian, scale)

    def capped(self, velocities: FloatArray, jacobian: FloatArray, scale: float) -> FloatArray:
        """Scale `velocities` (n,) down uniformly to the fraction `scale` of the limits of joints and tools."""
        linear, angular = self._tool_speeds(velocities, jacobian)
        fastest = max(
            float((np.abs(velocities) / self._velocity).max()),
            float((linear / self._linear).max()),
            float((angular / self._angular).max()),
        )
        return velocities if fastest <= scale else velocities * (scale / fastest)

    def excess_speed(self, target: JointTarget, jacobian: FloatArray) -> tuple[FloatArray, float, float]:
        """Return the excess of the plan's own speed over the limits: joints (n,) rad/s, tool m/s and rad/s."""
        linear, angular = self._tool_speeds(target.velocities, jacobian)
        joints = np.maximum(np.abs(target.velocities) - self._velocity, 0.0)
        most = float((linear - self._linear).max()), float((angular - self._angular).max())
        return joints, max(most[0], 0.0), max(most[1], 0.0)

    def _tool_speeds(self, velocities: FloatArray, jacobian: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the tool speeds, (arms,) m/s and rad/s."""
        twists = (jacobian @ velocities).reshape(-1, 2, 3)
        speeds = np.array([[np.sqrt(part @ part) for part in twist] for twist in twists])
        return speeds[:, 0], speeds[:, 1]


def approach_speeds(distances: FloatArray, gain: float, brake: FloatArray | float) -> FloatArray:
    """Return the speeds from which `distances` suffice to stop: `approach_speed` for arrays."""
    left = np.maximum(distances, 0.0)
    near = brake / gain**2
    return np.where(left <= near, gain * left, np.sqrt(brake * np.maximum(2.0 * left - near, 0.0)))
