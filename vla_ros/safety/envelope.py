"""The last word on every command: from it a stop must still be possible that stays within all limits.

A command is judged by the whole motion that it commits the arm to: itself and the stop behind it. What is already
broken may not get worse, so the way back in is open wherever the arm starts.
"""

from __future__ import annotations

import numpy as np

from vla_ros.robot.contract import RobotContract
from vla_ros.robot.kinematics import Kinematics
from vla_ros.safety.collision import Approaches, CollisionModel
from vla_ros.safety.joint_motion import JointStep
from vla_ros.safety.reasons import Reason
from vla_ros.types import FloatArray

JOINT_SLACK = 1e-3
"""While a joint is on its way back into its limits it may waver by this, rad."""


class Envelope:
    """Joint limits, workspace and distances, with a ratchet: what has been regained is not given away again."""

    def __init__(
        self,
        contract: RobotContract,
        kinematics: Kinematics,
        workspace_tolerance: float,
        collision: CollisionModel | None,
    ) -> None:
        """Judge by the limits of `contract`; the tool may be `workspace_tolerance` m beyond a face."""
        self._joints, self._box = contract.joints, contract.cartesian
        self._kinematics, self._collision = kinematics, collision
        self._tolerance = workspace_tolerance
        self.approaches = Approaches(np.zeros((0, contract.joints.count)), np.zeros(0), ())
        self.seed(contract.joints.home)

    def seed(self, positions: FloatArray) -> None:
        """Start from joint positions (n,) wherever they are: their violations are the most there may be."""
        self._joint_excess = self._excess_of_joints(positions)
        self._tool_excess = self._excess_of_tool(positions)
        self._positions, self._distances = positions, np.zeros(0)
        self._held = np.full(0 if self._collision is None else len(self._collision.pairs), -np.inf)
        self.advance(positions)

    def judge(self, step: JointStep) -> tuple[Reason, str]:
        """Return OK, or which limit the step would break at the latest, and where."""
        stop = step.stop.positions
        path = np.vstack([step.positions, stop])
        allowed = self._joint_excess + np.where(self._joint_excess > 0.0, JOINT_SLACK, 0.0)
        excess = self._excess_of_joints(path)
        if not (excess <= allowed).all():
            joint = self._joints.names[int(np.argmax((excess - allowed).max(axis=0)))]
            return Reason.JOINT_POSITION, f"({joint})"
        for row in (step.positions, stop[len(stop) // 2], stop[-1]):
            if not (self._excess_of_tool(row) <= self._tool_excess + self._tolerance).all():
                return Reason.WORKSPACE, ""
        if self._collision is not None:
            for row in (stop[len(stop) // 2], stop[-1])[len(stop) < 3 :]:
                pair = self._collision.violated(row, self._held, self._positions, self._distances)
                if pair is not None:
                    return pair.reason, f"({pair.name})"
        return Reason.OK, ""

    def advance(self, positions: FloatArray) -> None:
        """Note that joint positions (n,) were commanded: violations that shrank may not grow again."""
        if self._joint_excess.any():
            self._joint_excess = np.minimum(self._joint_excess, self._excess_of_joints(positions))
        if self._tool_excess.any():
            self._tool_excess = np.minimum(self._tool_excess, self._excess_of_tool(positions))
        if self._collision is not None:
            self._positions = positions
            self._distances, self.approaches = self._collision.approaches(positions)
            self._held = np.maximum(self._held, self._collision.held(self._distances))

    def clearances(self) -> dict[str, float]:
        """Return by how much the nearest pairs of each kind are further apart than they must be, m."""
        if self._collision is None:
            return {}
        return self._collision.clearances(self._distances)

    def _excess_of_joints(self, positions: FloatArray) -> FloatArray:
        """Return by how much each joint is outside of its limits, same shape as `positions` (..., n), rad."""
        return _excess(positions, self._joints.lower, self._joints.upper)

    def _excess_of_tool(self, positions: FloatArray) -> FloatArray:
        """Return by how much the tool is outside of the workspace along each axis, (3,) m."""
        tool = np.asarray(self._kinematics.placement(positions).translation)
        return _excess(tool, self._box.workspace_lower, self._box.workspace_upper)


def _excess(values: FloatArray, lower: FloatArray, upper: FloatArray) -> FloatArray:
    return np.asarray(np.maximum(np.maximum(lower - values, values - upper), 0.0), dtype=np.float64)
