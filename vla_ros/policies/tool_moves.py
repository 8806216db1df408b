"""Tool motions in the rows of a chunk, and the joint positions that achieve them."""

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
    """Target of a tool in each row, relative to its current pose.

    Attributes:
        ways: (h, 3) m, displacements along the axes of the base frame.
        yaws: (h,) rad, rotations about the vertical.
    """

    ways: FloatArray
    yaws: FloatArray

    def positions(self, start: FloatArray, box: CartesianContract) -> FloatArray:
        """Return the positions (h, 3) m of a tool at `start` (3,) m, clipped to its workspace."""
        return np.clip(start + self.ways, box.workspace_lower, box.workspace_upper)

    def rotations(self, start: FloatArray) -> list[FloatArray]:
        """Return the rotation (3, 3), base from tool, in each row, of a tool whose current rotation is `start`."""
        return [matrix_from_rotation_vector(np.array([0.0, 0.0, yaw])) @ start for yaw in self.yaws]


class JointRows:
    """Converts motions of one arm's tool to joint-space rows; all other arms stand still."""

    def __init__(self, contract: RobotContract) -> None:
        """Prepare the kinematics of a robot's arms.

        Raises:
            ContractError: when contract and robot description do not match.
        """
        self._contract = contract
        self._tools = [Kinematics(contract.led_by(arm.name)) for arm in contract.arms]

    def rows(self, measured: FloatArray, arm: int, moves: Moves, openings: Sequence[float]) -> FloatArray:
        """Return the rows (h, width) of a chunk.

        Args:
            measured: (n,) rad, joint positions of all arms.
            arm: Number of the moving arm.
            moves: Motions of its tool.
            openings: Opening of each arm's gripper, m.
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
