"""What a training tells about itself while it runs: one record now and then, a line each in the curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

NO_BETTER = 0.95
"""From this fraction of the mean action's error on, a network has learned nothing about what to do."""


@dataclass(frozen=True)
class HeldOutRecord:
    """How good a network is on episodes that it does not learn from.

    Attributes:
        loss: What training makes small, there.
        parts: Its parts by name.
        errors: Mean error of each part of the actions, in its unit; the fraction that is wrong for what has two states.
        baseline: The same of a policy that always says the mean chunk of the training steps.
        relative: Mean of `errors` over `baseline`, part by part: 1 is no better than the mean action, 0 perfect.
    """

    loss: float
    parts: dict[str, float]
    errors: dict[str, float]
    baseline: dict[str, float]
    relative: float

    @property
    def no_better(self) -> bool:
        """Whether the network is no better than the mean action; NaN is not."""
        return not self.relative < NO_BETTER


@dataclass(frozen=True)
class PlayRecord:
    """How many of so many scenes were a success."""

    successes: int
    scenes: int


@dataclass(frozen=True)
class TrainingRecord:
    """The loss and its parts at one update, and what was measured there; what was not is None."""

    step: int
    loss: float
    parts: dict[str, float]
    held_out: HeldOutRecord | None = None
    played: PlayRecord | None = None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainingRecord:
        """Read what `dataclasses.asdict` made of a record.

        Raises:
            TypeError, KeyError: when it is none.
        """
        lines = dict(values)
        for name, kind in (("held_out", HeldOutRecord), ("played", PlayRecord)):
            if lines.get(name) is not None:
                lines[name] = kind(**lines[name])
        return cls(**lines)


def best_record(records: Sequence[TrainingRecord]) -> TrainingRecord | None:
    """Return the first with the smallest error on held-out episodes; None where none was measured."""
    measured = [(r.held_out.relative, r.step, r) for r in records if r.held_out is not None]
    return min(measured, key=lambda one: one[:2])[2] if measured else None


def verdict(figures: Mapping[str, Any]) -> str:
    """Return in a few words how good what came out is on held-out episodes, by the figures of its training."""
    measured = figures.get("held_out")
    if measured is not None and "trunk" in figures:
        return f"error on held-out scenes {measured['relative']:.2f} of a guess's, at update {measured['update']}"
    if measured is None:
        return "no episode was held out"
    relative = f"{measured['relative']:.2f}"
    if figures["no_better_than_mean_action"]:
        return f"NO BETTER than the mean action on held-out episodes ({relative} of its error)"
    return f"held-out action error {relative} of the mean action's, at update {measured['update']}"
