"""Executors of action chunks: the safety layer or, to measure its cost, a bare follower."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from vla_ros.actions.rotation_vectors import slerp
from vla_ros.actions.trajectory import ArmStart, ArmTrajectory, decode_chunk
from vla_ros.envs.collector import CONTROL_PERIOD
from vla_ros.envs.env import Env
from vla_ros.envs.mujoco.follower import PoseFollower
from vla_ros.errors import ChunkError
from vla_ros.robot.contract import RobotContract
from vla_ros.robot.kinematics import Kinematics
from vla_ros.safety.parameters import SafetyParameters
from vla_ros.safety.reasons import Reason
from vla_ros.safety.supervisor import SafetySupervisor
from vla_ros.types import ActionChunk, FloatArray, Instruction, Pose, RobotState, SafetyDecision


class Executor(Protocol):
    """Converts chunks into joint references; times are in simulation seconds."""

    def start(self, env: Env, instruction: Instruction) -> None:
        """Begin at the current state of `env`."""

    def receive(self, chunk: ActionChunk, start: ArmStart, now: float) -> None:
        """Accept a chunk computed from an observation in which the arm was at `start`."""

    def control(self, env: Env, state: RobotState, now: float) -> None:
        """Set the references of `env` for the next control period."""


def arm_start(state: RobotState, contract: RobotContract) -> ArmStart:
    """Return the start of chunks computed from an observation of a one-arm robot."""
    return ArmStart(state.joint_positions, state.end_effector, contract.gripper.max_opening)


class SafetyExecutor:
    """Safety layer, as run by the safety node."""

    def __init__(self, contract: RobotContract, parameters: SafetyParameters) -> None:
        """Store what each episode's supervisor is built from."""
        self._contract, self._parameters = contract, parameters
        self.decisions: list[SafetyDecision] = []
        self.refused: list[str] = []

    def start(self, env: Env, instruction: Instruction) -> None:
        """Arm a new supervisor after it has received states of an arm at rest."""
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

    def receive(self, chunk: ActionChunk, start: ArmStart | Pose, now: float) -> None:
        """Pass the chunk to the supervisor; the reason for a rejection is stored in `refused`."""
        answer = self._supervisor.receive_chunk(chunk, start, now)
        if answer is not Reason.OK:
            self.refused.append(answer.label)

    def control(self, env: Env, state: RobotState, now: float) -> None:
        """Run one tick of the supervisor."""
        self._supervisor.receive_state(state, now)
        decision = self._supervisor.tick(now)
        self.decisions.append(decision)
        if decision.joint_positions is not None and decision.gripper_opening is not None:
            env.command(decision.joint_positions, decision.gripper_opening)


class DirectExecutor:
    """No safety layer: interpolates the rows and follows them. For comparison in simulation only."""

    def __init__(self, contract: RobotContract) -> None:
        """Follow with the kinematics of `contract`."""
        self._contract, self._kinematics = contract, Kinematics(contract)
        self._plan: tuple[ArmTrajectory, ArmStart, float, int] | None = None

    def start(self, env: Env, instruction: Instruction) -> None:
        """Begin at the current state of `env`."""
        del instruction
        self._plan = None
        self._follower = PoseFollower(self._contract, self._kinematics, env.state().joint_positions)
        self._opening = env.state().gripper_opening

    def receive(self, chunk: ActionChunk, start: ArmStart, now: float) -> None:
        """Replace the plan."""
        del now
        arm = self._contract.arms[0].name
        trajectory = decode_chunk(chunk.actions, self._contract.action, {arm: start})[arm]
        self._plan = (trajectory, start, chunk.observation_stamp, chunk.horizon)

    def control(self, env: Env, state: RobotState, now: float) -> None:
        """Follow the plan at the current time; without one, stay."""
        del state
        if self._plan is None:
            return
        trajectory, start, stamp, rows = self._plan
        place = (now + CONTROL_PERIOD - stamp) / self._contract.action.period
        row = min(int(place), rows - 1)
        q = self._reference(trajectory, start, row, min(place - row, 1.0))
        if trajectory.openings is not None:
            self._opening = float(np.clip(trajectory.openings[row], 0.0, self._contract.gripper.max_opening))
        env.command(q, self._opening)

    def _reference(self, trajectory: ArmTrajectory, start: ArmStart, row: int, fraction: float) -> FloatArray:
        """Return the joint positions (n,) rad at `fraction` (0 to 1) between the row before and `row`."""
        if (joints := trajectory.joint_positions) is not None:
            begin = start.joint_positions if row == 0 else joints[row - 1]
            return np.asarray(begin + fraction * (joints[row] - begin))
        positions, quaternions = trajectory.positions, trajectory.quaternions
        if positions is None or quaternions is None:
            raise ChunkError("the chunk commands neither joints nor a tool")
        before = start.pose.position if row == 0 else positions[row - 1]
        turned = start.pose.quaternion if row == 0 else quaternions[row - 1]
        position = before + fraction * (positions[row] - before)
        return self._follower.step(position, slerp(turned, quaternions[row], fraction), CONTROL_PERIOD)
