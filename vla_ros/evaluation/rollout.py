"""Plays episodes: policy, safety layer and environment in lockstep; simulation time waits for all of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from vla_ros.actions.trajectory import ArmStart
from vla_ros.envs.collector import CONTROL_PERIOD
from vla_ros.envs.env import Env
from vla_ros.errors import InstructionError
from vla_ros.evaluation.executors import Executor, arm_start
from vla_ros.policies.execution.executor import ChunkExecutor
from vla_ros.policies.protocol import Policy, is_due, tell_delivered
from vla_ros.types import ActionChunk, Instruction, RobotState

POLICY_LATENCY = 0.04
"""Age of an observation when its chunk arrives, s: about that of the ROS 2 graph on two cores."""


@dataclass(frozen=True)
class RolloutResult:
    """Result of an episode: `picked` is the first object that the arm handled, or ""; `seconds` are of simulation."""

    seed: int
    instruction: str
    target: str
    success: bool
    picked: str
    steps: int
    seconds: float
    detail: str


class Player:
    """Plays episodes with an environment, a policy, and an executor of its chunks."""

    def __init__(self, env: Env, policy: Policy, executor: Executor) -> None:
        """Play in `env`; `executor` executes the chunks of `policy`."""
        self.env, self.policy, self.executor = env, policy, executor

    def play(
        self,
        seed: int,
        instruction: str | None = None,
        *,
        scene: str | None = None,
        max_seconds: float = 12.0,
        latency: float = POLICY_LATENCY,
    ) -> RolloutResult:
        """Play one scene until success or for `max_seconds` of simulation.

        Args:
            seed: Seed of the scene.
            instruction: Instruction; by default that of the scene. The scene is that of the seed either way.
            scene: Instruction that the scene is prepared for, if the environment creates scenes for instructions.
            max_seconds: Timeout, s of simulation.
            latency: Simulation time between an observation and the arrival of its chunk, s.
        """
        env = self.env
        asked = env.reset(seed, scene)
        if instruction is not None:
            env.set_instruction(instruction)
            asked = instruction
        try:
            self.begin(asked, latency)
        except InstructionError as error:
            return RolloutResult(seed, asked, env.target_name, False, "", 0, 0.0, str(error))
        picked, success = "", False
        while env.time < max_seconds and not success:
            self.period()
            picked, success = picked or env.handled(), env.success()
        detail = env.task_status().detail
        return RolloutResult(seed, asked, env.target_name, success, picked, self.observations, env.time, detail)

    def begin(self, instruction: str, latency: float = POLICY_LATENCY) -> None:
        """Give the policy `instruction` in the current scene, whether or not it fits; see `play`.

        Raises:
            InstructionError: when the policy rejects it.
        """
        self._instruction, self._latency = Instruction(instruction, sequence=1), latency
        if isinstance(self.policy, ChunkExecutor):
            self.policy.forget_delays()  # so that an episode is repeatable, whatever was played before
        self.policy.reset(self._instruction)
        self.executor.start(self.env, self._instruction)
        self.observations = 0
        self._due = self.env.time
        self._travelling: list[tuple[float, ActionChunk, ArmStart]] = []

    def period(self) -> None:
        """Advance by one control period: observe and plan if due, execute, step the physics."""
        state = self.env.state()
        if state.stamp >= self._due - 1e-9:
            self._due += self.policy.specification.period
            self._plan(state)
        while self._travelling and self._travelling[0][0] <= state.stamp + 1e-9:
            _, chunk, start = self._travelling.pop(0)
            self.executor.receive(chunk, start, state.stamp)
            tell_delivered(self.policy, chunk, state.stamp - chunk.observation_stamp)
        self.executor.control(self.env, state, state.stamp)
        self.env.step(CONTROL_PERIOD)

    def _plan(self, state: RobotState) -> None:
        """Let the policy predict a chunk from the current observation, if due."""
        if not is_due(self.policy, state.stamp):
            return
        self.observations += 1
        observation = replace(self.env.observe(), instruction=self._instruction, sequence=self.observations)
        chunk = self.policy.predict(observation)
        self._travelling.append((state.stamp + self._latency, chunk, arm_start(state, self.env.contract)))
