"""Final check of every command: accept a step only if a stop within all limits exists after it.

A command is checked with the whole motion that it commits the arm to: itself and the stop after it. An existing
violation must not get worse, so the way back inside the limits is open from any start.
"""

from __future__ import annotations

import numpy as np

from vla_ros.robot.contract import RobotContract
from vla_ros.robot.kinematics import Kinematics
from vla_ros.safety.motion.collision import Approaches, CollisionModel
from vla_ros.safety.motion.joint_motion import JointStep
from vla_ros.safety.reasons import Reason
from vla_ros.types import FloatArray

JOINT_SLACK = 1e-3
"""Tolerance of a joint on its way back into its limits, rad."""

LONGEST_SEGMENT = 0.01
"""Maximum time for which a motion is approximated as straight in joint space, s."""

LEAST_TOLERANCE = 1e-5
"""Minimum tolerance of the tool beyond a face between two checked points, m, even if none is configured."""


class Envelope:
    """Checks joint limits, workspace and distances; violations may only shrink (ratchet)."""

    def __init__(
        self,
        contract: RobotContract,
        kinematics: Kinematics,
        workspace_tolerance: float,
        collision: CollisionModel | None,
        period: float = LONGEST_SEGMENT,
    ) -> None:
        """Check against the limits of `contract`.

        Args:
            contract: Contract of the robot.
            kinematics: Kinematics of the robot.
            workspace_tolerance: Tolerance of the tool beyond a face, m.
            collision: Collision model; None: distances are not checked.
            period: Time between rows of a step or its stop, s.
        """
        self._joints = contract.joints
        boxes = [arm.cartesian for arm in contract.arms]
        self._lower = np.concatenate([box.workspace_lower for box in boxes])  # (3 * arms,) m
        self._upper = np.concatenate([box.workspace_upper for box in boxes])
        self._kinematics, self._collision = kinematics, collision
        self._tolerance = workspace_tolerance
        self._period, self._segments = period, max(round(period / LONGEST_SEGMENT), 1)
        # If joints turn by a in all, the tool's path deviates from its chord by at most length * a^2 / 8.
        self._longest_chord = float(np.sqrt(8.0 * max(workspace_tolerance, LEAST_TOLERANCE) / kinematics.length))
        self.approaches = Approaches(np.zeros((0, contract.joints.count)), np.zeros(0), ())
        self.seed(contract.joints.home)

    def seed(self, positions: FloatArray) -> None:
        """Start from joint positions (n,), anywhere: their violations become the allowed maximum."""
        self._joint_excess = self._excess_of_joints(positions)
        self._tool_excess = self._excess_of_tool(positions)
        self._positions, self._distances = positions, np.zeros(0)
        self._held = np.full(0 if self._collision is None else len(self._collision.pairs), -np.inf)
        self.advance(positions)

    def judge(self, step: JointStep) -> tuple[Reason, str]:
        """Return OK, or the limit that the step would break before the end of its stop, with the joint or pair."""
        path = self._path(step)
        allowed = self._joint_excess + np.where(self._joint_excess > 0.0, JOINT_SLACK, 0.0)
        excess = self._excess_of_joints(path[1:])
        if not (excess <= allowed).all():
            joint = self._joints.names[int(np.argmax((excess - allowed).max(axis=0)))]
            return Reason.JOINT_POSITION, f"({joint})"
        if self._leaves_workspace(path):
            return Reason.WORKSPACE, ""
        if self._collision is not None:
            pair = self._collision.violated_along(path, self._held, self._distances)
            if pair is not None:
                return pair.reason, f"({pair.name})"
        return Reason.OK, ""

    def _path(self, step: JointStep) -> FloatArray:
        """Return the postures (k, n) from the current one through the step to the end of its stop."""
        positions = np.vstack([self._positions, step.positions, step.stop.positions])
        if self._segments == 1:
            return positions
        return _refined(positions, self._period * np.vstack([step.velocities, step.stop.velocities]), self._segments)

    def _leaves_workspace(self, path: FloatArray) -> bool:
        """Return whether a tool leaves the workspace by more than allowed along `path` (k, n).

        A box contains the chord between any two points in it, so only the deviation of the path from its chords
        matters.
        """
        ways = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(path, axis=0)).sum(axis=1))])
        most = self._tool_excess + self._tolerance
        pieces = max(int(np.ceil(ways[-1] / self._longest_chord)), 1)
        for way in np.linspace(0.0, ways[-1], pieces + 1)[1:]:
            row = min(int(np.searchsorted(ways, way)), len(path) - 1)
            if not (self._excess_of_tool(path[row]) <= most).all():
                return True
        return False

    def advance(self, positions: FloatArray) -> None:
        """Record the commanded joint positions (n,): violations that have shrunk may not grow again."""
        if self._joint_excess.any():
            self._joint_excess = np.minimum(self._joint_excess, self._excess_of_joints(positions))
        if self._tool_excess.any():
            self._tool_excess = np.minimum(self._tool_excess, self._excess_of_tool(positions))
        self._positions = positions
        if self._collision is not None:
            self._distances, self.approaches = self._collision.approaches(positions)
            self._held = np.maximum(self._held, self._collision.held(self._distances))

    def clearances(self) -> dict[str, float]:
        """Return the smallest clearance above the required distance, m, by kind of pair."""
        if self._collision is None:
            return {}
        return self._collision.clearances(self._distances)

    def _excess_of_joints(self, positions: FloatArray) -> FloatArray:
        """Return each joint's distance outside its limits, rad, in the shape of `positions` (..., n)."""
        return _excess(positions, self._joints.lower, self._joints.upper)

    def _excess_of_tool(self, positions: FloatArray) -> FloatArray:
        """Return each tool's distance outside its workspace along each axis, (3 * arms,) m."""
        tools = np.concatenate([place.translation for place in self._kinematics.placements(positions)])
        return _excess(tools, self._lower, self._upper)


def _excess(values: FloatArray, lower: FloatArray, upper: FloatArray) -> FloatArray:
    return np.asarray(np.maximum(np.maximum(lower - values, values - upper), 0.0), dtype=np.float64)


def _refined(positions: FloatArray, changes: FloatArray, parts: int) -> FloatArray:
    """Return `positions` (k, n) with each step split into `parts`, (1 + (k - 1) * parts, n): cubics in joint space.

    Args:
        positions: rad.
        changes: (k - 1, n) rad, velocity at `positions[1:]` times the step time. The first step is a parabola, since
            its initial velocity is free.
        parts: Parts per step.
    """
    first, steps = positions[:-1, None], np.diff(positions, axis=0)[:, None]
    ends = changes[:, None]
    starts = np.concatenate([2.0 * steps[:1] - ends[:1], ends[:-1]])
    s = (np.arange(1, parts + 1) / parts)[:, None]
    rows = first + s * (starts + s * (3.0 * steps - 2.0 * starts - ends + s * (starts + ends - 2.0 * steps)))
    return np.vstack([positions[:1], rows.reshape(-1, positions.shape[1])])
