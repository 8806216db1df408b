"""Lets a checkpoint drive in place of the scripted expert, for DAgger and for exploration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vla_ros.policies.build import load_policy
from vla_ros.policies.local import LocalPolicy
from vla_ros.robot.contract import RobotContract
from vla_ros.types import FloatArray, Observation


@dataclass(frozen=True)
class PolicyDriver:
    """Builds, in any process, a function from observations to action chunks.

    Attributes:
        checkpoint: Folder of the policy.
        device: Device of its computations.
        noise: Standard deviation of the noise on the positions of each chunk, in units of its normalizer: one offset
            for all its rows, redrawn for each chunk.
        seed: Seed of the noise, together with the observed joint positions.
    """

    checkpoint: str
    device: str = "cpu"
    noise: float = 0.0
    seed: int = 0

    def __call__(self, contract: RobotContract) -> Callable[[Observation], FloatArray]:
        """Load the policy and return the function; chunks are (horizon, width), as in the contract."""
        import torch

        torch.set_num_threads(1)  # several processes share the CPU
        policy = load_policy(self.checkpoint, contract, self.device)
        sentence: str | None = None

        def drive(observation: Observation) -> FloatArray:
            nonlocal sentence
            if observation.instruction is not None and observation.instruction.text != sentence:
                policy.reset(observation.instruction)
                sentence = observation.instruction.text
            actions = np.array(policy.predict(observation).actions)
            if self.noise > 0.0 and isinstance(policy, LocalPolicy):
                actions[:, :3] += self._offset(observation) * policy.processor.statistics.action.scale[:, :3]
            return actions

        return drive

    def _offset(self, observation: Observation) -> FloatArray:
        """Draw (3,) from the observation, so that an episode is reproducible whatever ran before it."""
        seen = np.ascontiguousarray(observation.state.joint_positions).view(np.uint64)
        rng = np.random.default_rng([self.seed, *(int(value) for value in seen)])
        return np.asarray(self.noise * rng.standard_normal(3))
