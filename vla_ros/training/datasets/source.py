"""Batches as a function of the update's number: the same for a run that was resumed, and for several processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vla_ros.errors import VlaError
from vla_ros.models.contract import ModelInput, ModelTarget

ReadImages = Callable[[NDArray[np.int64], Sequence[np.random.Generator]], Mapping[str, Tensor]]
"""(numbers of steps, a generator each) to what stands in the place of their pictures, by camera."""


class StepDataset(Protocol):
    """Recorded steps that rows of a batch are drawn from."""

    def rows(self, generators: Sequence[np.random.Generator], update: int) -> tuple[ModelInput, ModelTarget]:
        """Return one row a generator: which step it is and everything random about it comes from that generator."""
        ...


def draw_steps(
    generators: Sequence[np.random.Generator], count: int, among: NDArray[np.int64] | None
) -> NDArray[np.int64]:
    """Return the number of one step a generator, of `count` steps, or of those in `among`."""
    drawn = np.array([int(rng.integers(count if among is None else len(among))) for rng in generators], np.int64)
    return drawn if among is None else among[drawn]


class SeededBatches:
    """Every row of every batch has a generator of its own, seeded by (seed, update, row)."""

    def __init__(self, dataset: StepDataset, size: int, seed: int) -> None:
        """Draw batches of `size` rows."""
        if size < 1:
            raise VlaError(f"the batch is {size}, expected at least one row")
        self.dataset, self.size, self.seed = dataset, size, seed

    def batch(self, update: int, part: int, parts: int) -> tuple[ModelInput, ModelTarget]:
        """Return rows part * size / parts up to (part + 1) * size / parts of the batch.

        Raises:
            VlaError: when the batch is no multiple of `parts`.
        """
        if self.size % parts:
            raise VlaError(f"a batch of {self.size} rows cannot be shared by {parts}; choose a multiple")
        share = self.size // parts
        rows = range(part * share, (part + 1) * share)
        return self.dataset.rows([np.random.default_rng([self.seed, update, row]) for row in rows], update)
