"""Episodes of a suite, and their results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vla_ros.evaluation.rollout import RolloutResult


@dataclass(frozen=True)
class Trial:
    """One episode of a suite.

    Attributes:
        seed: Seed of the scene.
        task: Type of task.
        split: Split of phrasings and pairs.
        perturbation: Perturbation of the scene.
        scene: Instruction for which the scene is prepared; "" where the seed alone decides.
        sentence: Instruction to the policy; differs from `scene` when the object is exchanged. "": the scene's own.
        exchanged: Whether it names another object than the scene's instruction does.
    """

    seed: int
    task: str
    split: str
    perturbation: str
    scene: str
    sentence: str
    exchanged: bool = False


@dataclass(frozen=True)
class TrialResult:
    """A trial and its result."""

    trial: Trial
    result: RolloutResult

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrialResult:
        """Build it from the output of `dataclasses.asdict`."""
        return cls(Trial(**values["trial"]), RolloutResult(**values["result"]))
