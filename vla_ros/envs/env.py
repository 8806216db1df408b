"""Environment protocol: what collection and evaluation need from a simulated robot with a task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from vla_ros.robot.contract import RobotContract
from vla_ros.types import FloatArray, Observation, RobotState


@dataclass(frozen=True)
class TaskStatus:
    """Verdict of the success checker.

    Attributes:
        success: The task is done.
        progress: 0 to 1.
        grasped_object: Name of the object held, or "".
        detail: Explanation, one sentence.
    """

    success: bool
    progress: float
    grasped_object: str
    detail: str


class Env(Protocol):
    """A robot, its workcell and a task; deterministic per seed, not thread-safe."""

    contract: RobotContract
    instruction: str

    @property
    def time(self) -> float:
        """Simulation time, s."""

    @property
    def target_name(self) -> str:
        """Name of the first object in the current instruction."""

    def reset(self, seed: int, instruction: str | None = None) -> str:
        """Prepare the scene of `seed`, for `instruction` if given, and return its instruction.

        Raises:
            SimulationError: when the instruction names no object of the environment.
        """

    def set_instruction(self, instruction: str) -> None:
        """Change the task without changing the scene.

        Raises:
            InstructionError: when the instruction does not fit the scene.
        """

    def state(self) -> RobotState:
        """Return the robot's measured state."""

    def observe(self) -> Observation:
        """Return the policy's observation: images at its resolution, state and instruction."""

    def command(self, joint_positions: FloatArray, gripper_opening: float | Sequence[float]) -> None:
        """Set the servo references, joints (n,) rad and opening m (one per arm); held until the next call.

        Raises:
            SimulationError: when they are not finite or not (n,).
        """

    def step(self, duration: float) -> None:
        """Advance the simulation by `duration` s.

        Raises:
            SimulationError: when the physics diverged.
        """

    def task_status(self) -> TaskStatus:
        """Return the success checker's verdict on the current instruction."""

    def success(self) -> bool:
        """Return whether the current instruction is fulfilled."""

    def handled(self) -> str:
        """Return the name of the object that the arm has manipulated, or ""."""

    def close(self) -> None:
        """Release the environment's resources."""
