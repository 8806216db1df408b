"""The protocol of environments: what collection and evaluation need of a simulated robot with a task."""

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
        detail: A sentence about it.
    """

    success: bool
    progress: float
    grasped_object: str
    detail: str


class Env(Protocol):
    """A robot, its workcell and a task, deterministic by seed; one thread at a time."""

    contract: RobotContract
    instruction: str

    @property
    def time(self) -> float:
        """Simulation time, s."""

    @property
    def target_name(self) -> str:
        """Name of the object that the current instruction names first."""

    def reset(self, seed: int, instruction: str | None = None) -> str:
        """Prepare the scene of `seed`, for `instruction` where there is one, and return its instruction.

        Raises:
            SimulationError: when the instruction names nothing that the environment has.
        """

    def set_instruction(self, instruction: str) -> None:
        """Change the task, in the scene as it is.

        Raises:
            InstructionError: when the instruction does not fit the scene.
        """

    def state(self) -> RobotState:
        """Return the robot's measured state."""

    def observe(self) -> Observation:
        """Return what a policy gets: images at its resolution, state and instruction."""

    def command(self, joint_positions: FloatArray, gripper_opening: float | Sequence[float]) -> None:
        """Set the references of the servos, (n,) rad and m, of several arms one opening each; held until the next call.

        Raises:
            SimulationError: when they are not finite or not (n,).
        """

    def step(self, duration: float) -> None:
        """Advance the simulation by `duration` s.

        Raises:
            SimulationError: when the physics diverged.
        """

    def task_status(self) -> TaskStatus:
        """Return the verdict of the success checker on the current instruction."""

    def success(self) -> bool:
        """Return whether the current instruction is carried out."""

    def handled(self) -> str:
        """Return the name of the object that the arm has acted on, or ""."""

    def close(self) -> None:
        """Free what the environment holds."""
