"""Batches as a function of the update's index: identical for resumed runs and for several processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vla_ros.errors import VlaError

ReadImages = Callable[[NDArray[np.int64], Sequence[np.random.Generator]], Mapping[str, Tensor]]
"""Maps (step indices, one generator each) to the tensors in place of their images, by camera."""


_Rows = TypeVar("_Rows")
_Rows_co = TypeVar("_Rows_co", covariant=True)


class StepDataset(Protocol[_Rows_co]):
    """Recorded steps from which the rows of a batch are drawn."""

    def rows(self, generators: Sequence[np.random.Generator], update: int) -> _Rows_co:
        """Return one row per generator, which determines the choice of the step and all its randomization."""
        ...


def draw_steps(
    generators: Sequence[np.random.Generator], count: int, among: NDArray[np.int64] | None
) -> NDArray[np.int64]:
    """Draw one step index per generator, out of `count` steps, or out of those in `among`."""
    drawn = np.array([int(rng.integers(count if among is None else len(among))) for rng in generators], np.int64)
    return drawn if among is None else among[drawn]


class SeededBatches(Generic[_Rows]):
    """Batches whose rows each have their own generator, seeded by (seed, update, row)."""

    def __init__(self, dataset: StepDataset[_Rows], size: int, seed: int) -> None:
        """Draw batches of `size` rows."""
        if size < 1:
            raise VlaError(f"the batch is {size}, expected at least one row")
        self.dataset, self.size, self.seed = dataset, size, seed

    def batch(self, update: int, part: int, parts: int) -> _Rows:
        """Return rows part * size / parts up to (part + 1) * size / parts of the batch.

        Raises:
            VlaError: when the batch is not a multiple of `parts`.
        """
        if self.size % parts:
            raise VlaError(f"a batch of {self.size} rows cannot be shared by {parts}; choose a multiple")
        rows_per_part = self.size // parts
        rows = range(part * rows_per_part, (part + 1) * rows_per_part)
        return self.dataset.rows([np.random.default_rng([self.seed, update, row]) for row in rows], update)
