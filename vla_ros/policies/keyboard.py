"""A person at the keyboard as a policy: keys become action chunks, which the safety node judges like any other.

Terminals say that a key went down, again and again while it is held, and never that it went up. So a press moves the
tool for `PRESS` s, and no press means stand still: when the keyboard, its process or its person is gone, the arm rests.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

import numpy as np

from vla_ros.actions.decoding import PoseTrajectory, encode
from vla_ros.actions.rotation_vectors import matrix_from_rotation_vector, quaternion_from_matrix
from vla_ros.actions.rotations import matrix_from_quaternion
from vla_ros.errors import ObservationError
from vla_ros.robot.contract import RobotContract
from vla_ros.types import ActionChunk, FloatArray, Instruction, Observation

PRESS = 0.6
"""A press moves the tool for so long, s: longer than a terminal waits before it repeats a held key."""

SPEED, TURN = 0.10, 0.6
"""Of the tool while a key is held, m/s and rad/s; never above what the robot contract allows."""

MOTIONS = {
    "w": (1, 0, 0), "s": (-1, 0, 0), "a": (0, 1, 0), "d": (0, -1, 0), "r": (0, 0, 1), "f": (0, 0, -1),
}  # fmt: skip
"""Key to direction in the base frame: forward and back, left and right, up and down."""

TURNS = {"q": 1, "e": -1}
"""Key to turn about the vertical: left and right."""

GRIPPER = " "
HELP = "w/s forward/back   a/d left/right   r/f up/down   q/e turn   space: gripper"


class KeyboardPolicy:
    """Implements the `Policy` protocol; `press` may be called by another thread."""

    def __init__(self, contract: RobotContract, clock: Callable[[], float] = time.monotonic) -> None:
        """Stand still, with the gripper as it is found.

        Args:
            contract: The robot.
            clock: Steady, s.
        """
        self.name, self.device = "keyboard", "cpu"
        self.specification = contract.action
        self.image_sizes: Mapping[str, tuple[int, int]] = {}
        self._contract, self._clock, self._lock = contract, clock, threading.Lock()
        self._speed = min(SPEED, contract.cartesian.linear_velocity)
        self._turn = min(TURN, contract.cartesian.angular_velocity)
        self._motion, self._yaw, self._until = np.zeros(3), 0.0, -np.inf
        self._opening: float | None = None
        self._toggled = False
        self._sequence = 0

    def press(self, key: str) -> bool:
        """Take a key; False when it means nothing here."""
        with self._lock:
            if key == GRIPPER:
                self._toggled = not self._toggled
                return True
            if key not in MOTIONS and key not in TURNS:
                return False
            self._motion = self._speed * np.array(MOTIONS.get(key, (0, 0, 0)), dtype=np.float64)
            self._yaw = self._turn * TURNS.get(key, 0)
            self._until = self._clock() + PRESS
            return True

    def reset(self, instruction: Instruction) -> None:
        """Stand still; the gripper stays as it is."""
        with self._lock:
            self._until = -np.inf

    def predict(self, observation: Observation) -> ActionChunk:
        """Return what the keys ask for, seen from this observation.

        Raises:
            ObservationError: when there is no instruction to serve.
        """
        if observation.instruction is None:
            raise ObservationError("the keyboard serves an instruction too: say what is going to be done first")
        with self._lock:
            remaining = max(0.0, self._until - self._clock())
            motion, yaw = self._motion, self._yaw
            opening = self._wanted_opening(observation.state.gripper_opening)
        self._sequence += 1
        return ActionChunk(
            actions=self._rows(observation, motion, yaw, remaining, opening),
            period=self.specification.period,
            observation_stamp=observation.stamp,
            specification=self.specification.fingerprint,
            observation_sequence=observation.sequence,
            instruction_sequence=observation.instruction.sequence,
            policy=self.name,
            sequence=self._sequence,
        )

    def _wanted_opening(self, measured: float) -> float:
        largest = self._contract.gripper.max_opening
        if self._opening is None:
            self._opening = float(np.clip(measured, self._contract.gripper.min_opening, largest))
        if self._toggled:
            self._toggled = False
            middle = 0.5 * (self._contract.gripper.min_opening + largest)
            self._opening = self._contract.gripper.min_opening if self._opening > middle else largest
        return self._opening

    def _rows(
        self, observation: Observation, motion: FloatArray, yaw: float, remaining: float, opening: float
    ) -> FloatArray:
        start, box, horizon = observation.state.end_effector, self._contract.cartesian, self.specification.horizon
        times = np.minimum(self.specification.period * np.arange(1, horizon + 1), remaining)
        positions = np.clip(start.position + times[:, None] * motion, box.workspace_lower, box.workspace_upper)
        matrix = matrix_from_quaternion(start.quaternion)
        turned = [matrix_from_rotation_vector(np.array([0.0, 0.0, yaw * t])) @ matrix for t in times]
        trajectory = PoseTrajectory(
            positions, np.stack([quaternion_from_matrix(one) for one in turned]), np.full(horizon, opening)
        )
        return encode(trajectory, self.specification, start, self._contract.gripper.max_opening)
