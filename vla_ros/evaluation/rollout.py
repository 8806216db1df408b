"""One policy, one scene, the safety layer in between, in lock-step: simulation time moves only when all have spoken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from vla_ros.envs.collector import CONTROL_PERIOD
from vla_ros.envs.tabletop.env import TabletopEnv
from vla_ros.errors import InstructionError
from vla_ros.evaluation.carriers import Carrier
from vla_ros.policies.protocol import Policy
from vla_ros.types import ActionChunk, Instruction, Pose

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


def rollout(
    cell: TabletopEnv, policy: Policy, carrier: Carrier, seed: int, instruction: str | None = None, *,
    scene: str | None = None, max_seconds: float = 12.0, latency: float = POLICY_LATENCY,
    watch: Callable[[TabletopEnv], None] | None = None,
) -> RolloutResult:  # fmt: skip
    """Play one scene to success or to `max_seconds` of simulation.

    Args:
        cell: The simulated cell; reset to `seed` here.
        policy: What decides.
        carrier: What carries out its chunks.
        seed: Of the scene.
        instruction: What to ask for; by default what the scene suggests. The scene is that of the seed either way.
        scene: The sentence that the scene is prepared for, where a world makes scenes for sentences.
        max_seconds: When to give up.
        latency: Simulation time between an observation and the arrival of its chunk, s.
        watch: Called after every control period, e.g. to film.
    """
    given = cell.reset(seed, scene)
    if instruction is not None:
        cell.set_instruction(instruction)
        given = instruction
    order = Instruction(given, sequence=1)
    try:
        policy.reset(order)
    except InstructionError as error:
        return RolloutResult(seed, given, cell.target.name, False, "", 0, 0.0, str(error))
    carrier.start(cell, order)
    player = Player(cell, policy, carrier, order, latency)
    picked = ""
    while cell.time < max_seconds:
        player.period()
        if watch is not None:
            watch(cell)
        picked = picked or cell.handled()
        status = cell.task_status()
        if status.success:
            break
    return RolloutResult(
        seed, given, cell.target.name, status.success, picked, player.observations, cell.time, status.detail
    )


class Player:
    """Lets policy, carrier and physics play together; a chunk arrives `latency` s after its observation."""

    def __init__(self, cell: TabletopEnv, policy: Policy, carrier: Carrier, order: Instruction, latency: float) -> None:
        self.cell, self.policy, self.carrier, self.order, self.latency = cell, policy, carrier, order, latency
        self.observations = 0
        self._due = cell.time
        self._travelling: list[tuple[float, ActionChunk, Pose]] = []
        self._period = policy.specification.period

    def period(self) -> None:
        """Advance by one control period: look and plan where that is due, carry out, step the physics."""
        state = self.cell.state()
        if state.stamp >= self._due - 1e-9:
            self._due += self._period
            self.observations += 1
            observation = replace(self.cell.observe(), instruction=self.order, sequence=self.observations)
            chunk = self.policy.predict(observation)
            self._travelling.append((state.stamp + self.latency, chunk, state.end_effector))
        while self._travelling and self._travelling[0][0] <= state.stamp + 1e-9:
            _, chunk, start = self._travelling.pop(0)
            self.carrier.receive(chunk, start, state.stamp)
        self.carrier.control(self.cell, state, state.stamp)
        self.cell.step(CONTROL_PERIOD)
