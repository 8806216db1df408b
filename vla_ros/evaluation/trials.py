"""Episodes of a suite, and what came of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vla_ros.evaluation.rollout import RolloutResult


@dataclass(frozen=True)
class Trial:
    """One episode of the suite.

    Attributes:
        seed: Of the scene.
        task: What kind of task.
        split: Which words and pairs.
        perturbation: What is changed.
        scene: The instruction that the scene is prepared for; "" where the seed alone decides.
        sentence: What the policy is told; another one than `scene` when the object is exchanged. "": what the scene
            suggests.
        exchanged: Whether it asks for another object than the scene does.
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
    """A trial and what happened."""

    trial: Trial
    result: RolloutResult

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrialResult:
        """Read what `dataclasses.asdict` wrote."""
        return cls(Trial(**values["trial"]), RolloutResult(**values["result"]))
