"""Plays episodes: policy, environment and the safety layer in between, in lockstep; simulation time waits for all."""

from __future__ import annotations

from dataclasses import dataclass, replace

from vla_ros.actions.trajectory import ArmStart
from vla_ros.envs.collector import CONTROL_PERIOD
from vla_ros.envs.env import Env
from vla_ros.errors import InstructionError
from vla_ros.evaluation.carriers import Carrier, arm_start
from vla_ros.policies.execution.executor import ChunkExecutor
from vla_ros.policies.protocol import Policy, is_due, tell_delivered
from vla_ros.types import ActionChunk, Instruction, RobotState

POLICY_LATENCY = 0.04
"""How old an observation is when its chunk arrives, s: about what the ROS 2 graph needs on two cores."""


@dataclass(frozen=True)
class RolloutResult:
    """What happened: `picked` is the first object that the arm handled, "" for none; `seconds` of simulation."""

    seed: int
    instruction: str
    target: str
    success: bool
    picked: str
    steps: int
    seconds: float
    detail: str


class Player:
    """Lets an environment, a policy and what carries out its chunks play together."""

    def __init__(self, env: Env, policy: Policy, carrier: Carrier) -> None:
        """Play in `env`; `carrier` carries out the chunks of `policy`."""
        self.env, self.policy, self.carrier = env, policy, carrier

    def play(
        self,
        seed: int,
        instruction: str | None = None,
        *,
        scene: str | None = None,
        max_seconds: float = 12.0,
        latency: float = POLICY_LATENCY,
    ) -> RolloutResult:
        """Play one scene to success or to `max_seconds` of simulation.

        Args:
            seed: Of the scene.
            instruction: What to ask for; by default what the scene suggests. The scene is that of the seed either way.
            scene: The instruction that the scene is prepared for, where the environment makes scenes for instructions.
            max_seconds: When to give up, s.
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
        """Ask the policy for `instruction` in the scene as it is, whether or not it fits; see `play`.

        Raises:
            InstructionError: when the policy refuses it.
        """
        self._instruction, self._latency = Instruction(instruction, sequence=1), latency
        if isinstance(self.policy, ChunkExecutor):
            self.policy.forget_delays()  # an episode repeats whatever was played before it
        self.policy.reset(self._instruction)
        self.carrier.start(self.env, self._instruction)
        self.observations = 0
        self._due = self.env.time
        self._travelling: list[tuple[float, ActionChunk, ArmStart]] = []

    def period(self) -> None:
        """Advance by one control period: observe and plan where that is due, carry out, step the physics."""
        state = self.env.state()
        if state.stamp >= self._due - 1e-9:
            self._due += self.policy.specification.period
            self._plan(state)
        while self._travelling and self._travelling[0][0] <= state.stamp + 1e-9:
            _, chunk, start = self._travelling.pop(0)
            self.carrier.receive(chunk, start, state.stamp)
            tell_delivered(self.policy, chunk, state.stamp - chunk.observation_stamp)
        self.carrier.control(self.env, state, state.stamp)
        self.env.step(CONTROL_PERIOD)

    def _plan(self, state: RobotState) -> None:
        """Let the policy plan from what is seen now, where that is due."""
        if not is_due(self.policy, state.stamp):
            return
        self.observations += 1
        observation = replace(self.env.observe(), instruction=self._instruction, sequence=self.observations)
        chunk = self.policy.predict(observation)
        self._travelling.append((state.stamp + self._latency, chunk, arm_start(state, self.env.contract)))
