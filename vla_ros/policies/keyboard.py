"""Keyboard teleoperation as a policy: keys become action chunks, which the safety node checks like any other.

Terminals report key presses, repeatedly while a key is held, but never releases. A press therefore moves the tool for
`PRESS` s, and without a press the arm stands still: it rests when the keyboard, its process or its operator is gone.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from vla_ros.actions.decoding import PoseTrajectory, encode
from vla_ros.actions.rotation_vectors import quaternion_from_matrix
from vla_ros.actions.rotations import matrix_from_quaternion
from vla_ros.errors import ObservationError
from vla_ros.policies.tool_moves import JointRows, Moves
from vla_ros.robot.contract import RobotContract
from vla_ros.types import ActionChunk, FloatArray, Instruction, Observation, Pose

PRESS = 0.6
"""Duration of the motion of one press, s: longer than a terminal's delay before it repeats a held key."""

SPEED, TURN = 0.10, 0.6
"""Linear and angular speed of the tool while a key is held, m/s and rad/s; capped by the contract's limits."""

MOTIONS = {
    "w": (1, 0, 0),
    "s": (-1, 0, 0),
    "a": (0, 1, 0),
    "d": (0, -1, 0),
    "r": (0, 0, 1),
    "f": (0, 0, -1),
}
"""Direction in the base frame by key: forward and back, left and right, up and down."""

TURNS = {"q": 1, "e": -1}
"""Direction of rotation about the vertical by key: left and right."""

GRIPPER, NEXT_ARM = " ", "\t"
HELP = "w/s forward/back   a/d left/right   r/f up/down   q/e turn   space: gripper"


class KeyboardPolicy:
    """Implements the `Policy` protocol; `press` may be called by another thread.

    For joint-space actions, tool motions are converted by inverse kinematics. With several arms the keys drive one at a
    time, starting with the first; the others stand still.
    """

    def __init__(self, contract: RobotContract, clock: Callable[[], float] = time.monotonic) -> None:
        """Start at rest, with every gripper at its measured opening.

        Args:
            contract: Robot contract.
            clock: Steady clock, s.
        """
        self.name, self.device = "keyboard", "cpu"
        self.specification = contract.action
        self.image_sizes: Mapping[str, tuple[int, int]] = {}
        self._contract, self._clock, self._lock = contract, clock, threading.Lock()
        self._arms, self._driven = contract.arms, 0
        self._joints = JointRows(contract) if contract.commands_joints else None
        self._motion, self._yaw, self._until = np.zeros(3), 0.0, -np.inf
        self._openings: list[float] | None = None
        self._toggled = False
        self._sequence = 0

    @property
    def help(self) -> str:
        """Help text of the keys."""
        others = "   tab: next arm" if len(self._arms) > 1 else ""
        return HELP + others

    def press(self, key: str) -> bool:
        """Handle a key press; return False for an unknown key."""
        with self._lock:
            if key == GRIPPER:
                self._toggled = not self._toggled
                return True
            if key == NEXT_ARM and len(self._arms) > 1:
                self._driven, self._until, self._toggled = (self._driven + 1) % len(self._arms), -np.inf, False
                return True
            if key not in MOTIONS and key not in TURNS:
                return False
            box = self._arms[self._driven].cartesian
            self._motion = min(SPEED, box.linear_velocity) * np.array(MOTIONS.get(key, (0, 0, 0)), dtype=np.float64)
            self._yaw = min(TURN, box.angular_velocity) * TURNS.get(key, 0)
            self._until = self._clock() + PRESS
            return True

    def reset(self, instruction: Instruction) -> None:
        """Stop the motion; the grippers keep their openings."""
        with self._lock:
            self._until = -np.inf

    def predict(self, observation: Observation) -> ActionChunk:
        """Return the motion requested by the keys, starting from this observation.

        Raises:
            ObservationError: when there is no instruction.
        """
        if observation.instruction is None:
            raise ObservationError("the keyboard serves an instruction too: say what is going to be done first")
        with self._lock:
            remaining = max(0.0, self._until - self._clock())
            motion, yaw, driven = self._motion, self._yaw, self._driven
            openings = self._wanted_openings(observation.state.gripper_openings)
        self._sequence += 1
        times = np.minimum(self.specification.period * np.arange(1, self.specification.horizon + 1), remaining)
        moves = Moves(times[:, None] * motion, yaw * times)
        return ActionChunk(
            actions=(
                self._rows(observation.state.end_effector, moves, openings[0])
                if self._joints is None
                else self._joints.rows(observation.state.joint_positions, driven, moves, openings)
            ),
            period=self.specification.period,
            observation_stamp=observation.stamp,
            specification=self.specification.fingerprint,
            observation_sequence=observation.sequence,
            instruction_sequence=observation.instruction.sequence,
            policy=self.name,
            sequence=self._sequence,
        )

    def _wanted_openings(self, measured: Sequence[float]) -> list[float]:
        grippers = [arm.gripper for arm in self._arms]
        if self._openings is None:
            found = zip(grippers, measured, strict=True)
            self._openings = [float(np.clip(opening, one.min_opening, one.max_opening)) for one, opening in found]
        if self._toggled:
            self._toggled = False
            gripper, opening = grippers[self._driven], self._openings[self._driven]
            middle = 0.5 * (gripper.min_opening + gripper.max_opening)
            self._openings[self._driven] = gripper.min_opening if opening > middle else gripper.max_opening
        return list(self._openings)

    def _rows(self, start: Pose, moves: Moves, opening: float) -> FloatArray:
        """Return the rows (h, width) of an arm commanded in tool space."""
        positions = moves.positions(start.position, self._contract.cartesian)
        turned = moves.rotations(matrix_from_quaternion(start.quaternion))
        quaternions = np.stack([quaternion_from_matrix(one) for one in turned])
        trajectory = PoseTrajectory(positions, quaternions, np.full(len(positions), opening))
        return encode(trajectory, self.specification, start, self._contract.gripper.max_opening)
