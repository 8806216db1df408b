"""How a tool is to move in the rows of a chunk, and the joint positions that bring it there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vla_ros.actions.rotation_vectors import matrix_from_rotation_vector
from vla_ros.actions.trajectory import ArmStart, ArmTrajectory, encode_chunk
from vla_ros.robot.contract import CartesianContract, RobotContract
from vla_ros.robot.inverse_kinematics import nearest_posture
from vla_ros.robot.kinematics import Kinematics
from vla_ros.types import NOWHERE, FloatArray


@dataclass(frozen=True)
class Moves:
    """Where a tool is to be in each row, seen from where it is.

    Attributes:
        ways: (h, 3) m, axes of the base frame.
        yaws: (h,) rad about the vertical.
    """

    ways: FloatArray
    yaws: FloatArray

    def positions(self, start: FloatArray, box: CartesianContract) -> FloatArray:
        """Return (h, 3) m, of a tool that is at `start` (3,) m, within its workspace."""
        return np.clip(start + self.ways, box.workspace_lower, box.workspace_upper)

    def rotations(self, start: FloatArray) -> list[FloatArray]:
        """Return a rotation (3, 3), base from tool, for each row, of a tool that is turned by `start`."""
        return [matrix_from_rotation_vector(np.array([0.0, 0.0, yaw])) @ start for yaw in self.yaws]


class JointRows:
    """Makes rows of joint positions of moves of one arm's tool; all other arms stand still."""

    def __init__(self, contract: RobotContract) -> None:
        """Prepare for the arms of a robot.

        Raises:
            ContractError: when contract and description do not fit each other.
        """
        self._contract = contract
        self._tools = [Kinematics(contract.led_by(arm.name)) for arm in contract.arms]

    def rows(self, measured: FloatArray, arm: int, moves: Moves, openings: Sequence[float]) -> FloatArray:
        """Return the rows (h, width) of a chunk.

        Args:
            measured: (n,) rad, joint positions of all arms.
            arm: Number of the arm that moves.
            moves: Of its tool.
            openings: Of each arm's gripper, m.
        """
        tool, q, postures = self._tools[arm], measured, []
        place = tool.placement(measured)
        positions = moves.positions(np.asarray(place.translation), self._contract.arms[arm].cartesian)
        for position, rotation in zip(positions, moves.rotations(np.asarray(place.rotation)), strict=True):
            q = nearest_posture(tool, position, rotation, q, slide=True)
            postures.append(q)
        joints, trajectories, starts = np.array(postures), {}, {}
        for one, opening in zip(self._contract.arms, openings, strict=True):
            own = self._contract.joint_columns(one.name)
            opened = np.full(len(joints), opening)
            trajectories[one.name] = ArmTrajectory(joint_positions=joints[:, own], openings=opened)
            starts[one.name] = ArmStart(measured[own], NOWHERE, one.gripper.max_opening)
        return encode_chunk(trajectories, self._contract.action, starts)
