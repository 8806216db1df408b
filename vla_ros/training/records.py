"""Records of a running training: one at intervals, each a line of the curve file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

NO_BETTER = 0.95
"""Fraction of the mean action's error from which a network counts as having learned nothing."""


@dataclass(frozen=True)
class HeldOutRecord:
    """Metrics of a network on held-out episodes.

    Attributes:
        loss: Training loss on them.
        parts: Parts of the loss, by name.
        errors: Mean error of each part of the actions, in its unit; for two-state parts, the fraction that is wrong.
        baseline: The same for a policy that always predicts the mean chunk of the training steps.
        relative: Mean over the parts of `errors` / `baseline`: 1 is no better than the mean action, 0 perfect.
    """

    loss: float
    parts: dict[str, float]
    errors: dict[str, float]
    baseline: dict[str, float]
    relative: float

    @property
    def no_better(self) -> bool:
        """Whether the network is no better than the mean action; True for NaN."""
        return not self.relative < NO_BETTER


@dataclass(frozen=True)
class PlayRecord:
    """Result of a play: the number of successful scenes, and of all scenes."""

    successes: int
    scenes: int


@dataclass(frozen=True)
class TrainingRecord:
    """Loss and its parts at one update, with the measurements made there; None for those not made."""

    step: int
    loss: float
    parts: dict[str, float]
    held_out: HeldOutRecord | None = None
    played: PlayRecord | None = None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainingRecord:
        """Read a record from the result of `dataclasses.asdict`.

        Raises:
            TypeError, KeyError: when it is not a record.
        """
        lines = dict(values)
        for name, kind in (("held_out", HeldOutRecord), ("played", PlayRecord)):
            if lines.get(name) is not None:
                lines[name] = kind(**lines[name])
        return cls(**lines)


def best_record(records: Sequence[TrainingRecord]) -> TrainingRecord | None:
    """Return the first record with the smallest held-out error; None if none was measured."""
    measured = [(r.held_out.relative, r.step, r) for r in records if r.held_out is not None]
    return min(measured, key=lambda one: one[:2])[2] if measured else None


def verdict(figures: Mapping[str, Any]) -> str:
    """Return a short summary of the held-out performance, from the metrics of a training."""
    measured = figures.get("held_out")
    if measured is not None and "trunk" in figures:
        return f"error on held-out scenes {measured['relative']:.2f} of a guess's, at update {measured['update']}"
    if measured is None:
        return "no episode was held out"
    relative = f"{measured['relative']:.2f}"
    if figures["no_better_than_mean_action"]:
        return f"NO BETTER than the mean action on held-out episodes ({relative} of its error)"
    return f"held-out action error {relative} of the mean action's, at update {measured['update']}"
