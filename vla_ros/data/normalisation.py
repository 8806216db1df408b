"""Mean and deviation of a data set's numbers, in one pass that keeps none of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vla_ros.actions.space import ActionSpace
from vla_ros.data.conventions import convert
from vla_ros.data.errors import ConventionError, DataError
from vla_ros.data.reader import EpisodeReader
from vla_ros.processing.normalizer import Normalizer
from vla_ros.types import FloatArray

FLOOR = 1e-3
"""Smallest deviation that is divided by (m, rad, share of the opening): less is noise of a value that stands still."""


@dataclass(frozen=True)
class DatasetStatistics:
    """Normalizers of one data set's actions and proprioception."""

    action: Normalizer
    proprioception: Normalizer

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as they stand in a checkpoint."""
        return {"action": self.action.to_dict(), "proprioception": self.proprioception.to_dict()}


def pool_statistics(parts: Sequence[DatasetStatistics], fractions: FloatArray) -> DatasetStatistics:
    """Return the one set of statistics of a mixture: the same motion is the same number in whichever set it is.

    Raises:
        DataError: when the data sets do not have the same columns.
    """
    for name in ("action", "proprioception"):
        if len(shapes := {getattr(part, name).first.shape for part in parts}) > 1:
            raise DataError(
                f"data sets with {name} of {sorted(shapes)} columns cannot be mixed: bring them to one convention, and "
                "to the same measurements"
            )
    return DatasetStatistics(
        Normalizer.pool([part.action for part in parts], fractions, FLOOR),
        Normalizer.pool([part.proprioception for part in parts], fractions, FLOOR),
    )


class _Running:
    """Welford's algorithm: mean and sum of squared differences, updated by one row after the other."""

    def __init__(self) -> None:
        self._count, self._mean, self._squares = 0, np.zeros(0), np.zeros(0)

    def add(self, row: FloatArray) -> None:
        if self._count == 0:
            self._mean, self._squares = np.zeros(row.shape), np.zeros(row.shape)
        self._count += 1
        before = row - self._mean
        self._mean = self._mean + before / self._count
        self._squares = self._squares + before * (row - self._mean)

    def normalizer(self) -> Normalizer:
        return Normalizer.by_mean(self._mean, np.maximum(np.sqrt(self._squares / max(self._count, 1)), FLOOR))


def fit_statistics(
    reader: EpisodeReader,
    convention: ActionSpace | None = None,
    progress: Callable[[Iterable[str]], Iterable[str]] = lambda episodes: episodes,
) -> DatasetStatistics:
    """Return the statistics of every step of a data set; no picture is decoded.

    Args:
        reader: The data set.
        convention: Convention that the actions are brought to first; their own when None.
        progress: Wraps the episodes on their way, such as `tqdm`.

    Raises:
        ConventionError: when an action cannot be brought to `convention`.
        DataError: when there is no step, or a step cannot be read.
    """
    actions, states = _Running(), _Running()
    description, steps = reader.description, 0
    for episode in progress(reader.episodes):
        for step in reader.read(episode, pictures=False):
            action = step.action
            if convention is not None:
                try:
                    action = convert(action, step.convention, convention, step.end_effector, description.max_opening)
                except ConventionError as error:
                    raise ConventionError(f"{description.name}: {error}") from error
            actions.add(action)
            states.add(step.proprioception)
            steps += 1
    if steps == 0:
        raise DataError(f"{description.name} has no step to take statistics of")
    return DatasetStatistics(actions.normalizer(), states.normalizer())
