"""The player asks no more of an environment than the protocol `Env` says."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest

from vla_ros.envs.env import Env, TaskStatus
from vla_ros.errors import InstructionError
from vla_ros.evaluation.executors import DirectExecutor, Executor, SafetyExecutor
from vla_ros.evaluation.rollout import Player
from vla_ros.robot.contract import RobotContract, load_contract
from vla_ros.robot.kinematics import Kinematics
from vla_ros.safety.parameters import load_parameters
from vla_ros.types import ActionChunk, Instruction, Observation, RobotState

CONTRACT = load_contract("panda")
HEIGHT = 0.05
"""The task of `Lift` is to bring the tool up by this, m."""


class Lift:
    """An arm that is where it is commanded to be: an environment without MuJoCo and without images."""

    def __init__(self, contract: RobotContract) -> None:
        self.contract, self._kinematics = contract, Kinematics(contract)
        self.reset(0)

    @property
    def time(self) -> float:
        return self._time

    @property
    def target_name(self) -> str:
        return "tool"

    def reset(self, seed: int, instruction: str | None = None) -> str:
        rng = np.random.default_rng(seed)
        joints = self.contract.joints
        self._q = joints.home + rng.uniform(-0.02, 0.02, joints.count)
        self._wanted, self._velocity = self._q, np.zeros(joints.count)
        self._opening, self._time = self.contract.gripper.max_opening, 0.3
        self._start = self._kinematics.forward(self._q).position
        self.instruction = instruction or "rise"
        return self.instruction

    def set_instruction(self, instruction: str) -> None:
        self.instruction = instruction

    def state(self) -> RobotState:
        tool = self._kinematics.forward(self._q)
        return RobotState(self._q, self._velocity, self._opening, tool, self._time)

    def observe(self) -> Observation:
        state = self.state()
        return Observation({}, state, Instruction(self.instruction), state.stamp)

    def command(self, joint_positions: np.ndarray, gripper_opening: float) -> None:
        self._wanted, self._opening = np.array(joint_positions), gripper_opening

    def step(self, duration: float) -> None:
        self._velocity = (self._wanted - self._q) / duration
        self._q, self._time = self._wanted, self._time + duration

    def _rise(self) -> float:
        return float(self._kinematics.forward(self._q).position[2] - self._start[2])

    def task_status(self) -> TaskStatus:
        return TaskStatus(self._rise() >= HEIGHT, self._rise() / HEIGHT, "", f"{self._rise():.3f} m up")

    def success(self) -> bool:
        return self.task_status().success

    def handled(self) -> str:
        return "tool" if self._rise() > 0.01 else ""

    def close(self) -> None:
        pass


class Rise:
    """Goes straight up, 1 cm a row."""

    name, device = "rise", "cpu"
    specification = CONTRACT.action
    image_sizes: ClassVar[dict[str, tuple[int, int]]] = {}

    def reset(self, instruction: Instruction) -> None:
        if instruction.text != "rise":
            raise InstructionError(f"'{instruction.text}': expected 'rise'")
        self.seen: list[Observation] = []

    def predict(self, observation: Observation) -> ActionChunk:
        self.seen.append(observation)
        action = self.specification
        rows = np.zeros((action.horizon, action.width))
        rows[:, 2] = 0.01 * np.arange(1, action.horizon + 1)
        rows[:, -1] = 1.0
        return ActionChunk(
            rows,
            action.period,
            observation.stamp,
            action.fingerprint,
            observation_sequence=observation.sequence,
            instruction_sequence=1,
            policy="rise",
            sequence=observation.sequence,
        )


@pytest.mark.parametrize("safe", [True, False])
def test_any_environment_of_the_protocol_is_played(safe: bool) -> None:
    env: Env = Lift(CONTRACT)
    executor: Executor = SafetyExecutor(CONTRACT, load_parameters()) if safe else DirectExecutor(CONTRACT)
    policy = Rise()
    result = Player(env, policy, executor).play(3, max_seconds=6.0)
    assert result.success and result.picked == "tool" and result.detail.endswith("m up"), result
    assert [one.sequence for one in policy.seen] == list(range(1, result.steps + 1))
    assert {one.instruction for one in policy.seen} == {Instruction("rise", sequence=1)}
    assert result.seconds == pytest.approx(env.time) and 0.5 < result.seconds < 6.0


def test_what_the_policy_refuses_is_not_played() -> None:
    env = Lift(CONTRACT)
    result = Player(env, Rise(), DirectExecutor(CONTRACT)).play(3, "dance")
    assert not result.success and result.steps == 0 and "expected 'rise'" in result.detail
    assert env.time == 0.3
