"""What carries a chunk to the joints: the safety layer, or (to measure what it costs) a bare follower."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from vla_ros.actions.decoding import PoseTrajectory, decode
from vla_ros.actions.rotation_vectors import slerp
from vla_ros.envs.collector import CONTROL_PERIOD
from vla_ros.envs.env import Env
from vla_ros.envs.mujoco.follower import PoseFollower
from vla_ros.robot.contract import RobotContract
from vla_ros.robot.kinematics import Kinematics
from vla_ros.safety.parameters import SafetyParameters
from vla_ros.safety.reasons import Reason
from vla_ros.safety.supervisor import SafetySupervisor
from vla_ros.types import ActionChunk, Instruction, Pose, RobotState, SafetyDecision


class Carrier(Protocol):
    """Turns chunks into joint references; times are simulation seconds."""

    def start(self, env: Env, instruction: Instruction) -> None:
        """Begin at the present state of `env`."""

    def receive(self, chunk: ActionChunk, start: Pose, now: float) -> None:
        """Take a chunk made from an observation in which the tool was at `start`."""

    def control(self, env: Env, state: RobotState, now: float) -> None:
        """Set the references of `env` for the next control period."""


class SafeCarrier:
    """The safety layer, as the safety node runs it."""

    def __init__(self, contract: RobotContract, parameters: SafetyParameters) -> None:
        """Keep what every episode's supervisor is made of."""
        self._contract, self._parameters = contract, parameters
        self.decisions: list[SafetyDecision] = []
        self.refused: list[str] = []

    def start(self, env: Env, instruction: Instruction) -> None:
        """Arm a fresh supervisor, once the simulator has shown it an arm at rest."""
        self.decisions, self.refused = [], []
        self._supervisor = SafetySupervisor(self._contract, self._parameters)
        for _ in range(self._supervisor.settling_ticks):
            self._supervisor.receive_state(env.state(), env.time)
            env.step(CONTROL_PERIOD)
        self._supervisor.receive_state(env.state(), env.time)
        self._supervisor.receive_instruction(instruction, env.time)
        answer = self._supervisor.arm(env.time)
        if answer is not Reason.OK:
            raise RuntimeError(f"the safety layer does not arm: {answer.explain()}")

    def receive(self, chunk: ActionChunk, start: Pose, now: float) -> None:
        """Hand the chunk to the supervisor; what it says against it is kept in `refused`."""
        answer = self._supervisor.receive_chunk(chunk, start, now)
        if answer is not Reason.OK:
            self.refused.append(answer.label)

    def control(self, env: Env, state: RobotState, now: float) -> None:
        """One tick of the supervisor."""
        self._supervisor.receive_state(state, now)
        decision = self._supervisor.tick(now)
        self.decisions.append(decision)
        if decision.joint_positions is not None and decision.gripper_opening is not None:
            env.command(decision.joint_positions, decision.gripper_opening)


class BareCarrier:
    """No safety layer: interpolates the rows and follows them. For comparison in simulation, and nothing else."""

    def __init__(self, contract: RobotContract) -> None:
        """Follow with the kinematics of `contract`."""
        self._contract, self._kinematics = contract, Kinematics(contract)
        self._plan: tuple[PoseTrajectory, Pose, float] | None = None

    def start(self, env: Env, instruction: Instruction) -> None:
        """Begin at the present state of `env`."""
        del instruction
        self._plan = None
        self._follower = PoseFollower(self._contract, self._kinematics, env.state().joint_positions)
        self._opening = env.state().gripper_opening

    def receive(self, chunk: ActionChunk, start: Pose, now: float) -> None:
        """Replace the plan."""
        del now
        trajectory = decode(chunk.actions, self._contract.action, start, self._contract.gripper.max_opening)
        self._plan = (trajectory, start, chunk.observation_stamp)

    def control(self, env: Env, state: RobotState, now: float) -> None:
        """Follow the plan at the present time; without one, stay."""
        del state
        if self._plan is None:
            return
        trajectory, start, stamp = self._plan
        place = (now + CONTROL_PERIOD - stamp) / self._contract.action.period
        row = min(int(place), len(trajectory.positions) - 1)
        share = min(place - row, 1.0)
        before = start.position if row == 0 else trajectory.positions[row - 1]
        turned = start.quaternion if row == 0 else trajectory.quaternions[row - 1]
        position = before + share * (trajectory.positions[row] - before)
        q = self._follower.step(position, slerp(turned, trajectory.quaternions[row], share), CONTROL_PERIOD)
        if trajectory.openings is not None:
            self._opening = float(np.clip(trajectory.openings[row], 0.0, self._contract.gripper.max_opening))
        env.command(q, self._opening)
