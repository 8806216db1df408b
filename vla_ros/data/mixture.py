"""Mixture of data sets: determines the data set and the step of each row of a batch.

A draw depends only on the row's own generator, seeded by (seed, update, row), and on the update's number. So an
interrupted training resumes with the very next row, each of several processes draws its own rows and no others, and no
sampler state has to be saved.

Decoded images of large data sets do not fit on a disk. Rows then come from a window of each data set: some of its
episodes, of which half are replaced every `WINDOW_UPDATES` updates, in an order that is reshuffled in each pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_ros.data.errors import DataError
from vla_ros.types import FloatArray

WINDOW_UPDATES = 100
"""Number of updates after which a window advances."""


@dataclass(frozen=True)
class Member:
    """One data set of a mixture.

    Attributes:
        name: Display name, unique in the mixture.
        weight: Sampling weight relative to the others; any positive number.
        lengths: Number of steps of each episode.
        window: Number of episodes that rows are drawn from at a time; None: all.
        left_out: Indices of episodes that no row is drawn from.
    """

    name: str
    weight: float
    lengths: tuple[int, ...]
    window: int | None = None
    left_out: frozenset[int] = frozenset()


def fractions_of(names: Sequence[str], weights: Sequence[float]) -> FloatArray:
    """Return the sampling fraction of each data set, summing to 1.

    Raises:
        DataError: when there is none, a name occurs twice, or a weight is not positive.
    """
    given = np.array(weights, dtype=np.float64)
    if not names or len(set(names)) != len(names):
        raise DataError(f"a mixture needs data sets, each name once; got {list(names)}")
    if not (np.isfinite(given).all() and (given > 0.0).all()):
        raise DataError(f"weights must be positive numbers, got {dict(zip(names, given.tolist(), strict=True))}")
    return np.asarray(given / given.sum())


class Mixture:
    """Samples the steps of several data sets by weight.

    Attributes:
        members: The data sets.
        fractions: Sampling fraction of each.
    """

    def __init__(self, members: Sequence[Member]) -> None:
        """Validate the data sets.

        Raises:
            DataError: when a weight is not positive, a name occurs twice, an episode has no step, a window is empty, or
                all episodes of a data set are left out.
        """
        self.members = tuple(members)
        self.fractions = fractions_of([one.name for one in members], [one.weight for one in members])
        self._firsts = [np.cumsum([0, *one.lengths]) for one in members]
        self._kept = [[e for e in range(len(one.lengths)) if e not in one.left_out] for one in members]
        for one in members:
            if not one.lengths or min(one.lengths) < 1 or (one.window is not None and one.window < 1):
                raise DataError(
                    f"{one.name}: episodes of {list(one.lengths)[:8]} steps and a window of {one.window} episodes, "
                    "expected at least one of each"
                )
            if len(one.left_out) >= len(one.lengths):
                raise DataError(f"{one.name}: all {len(one.lengths)} episodes are left out, none is to learn from")

    @property
    def windowed(self) -> bool:
        """Whether any data set is sampled from only some of its episodes at a time."""
        return any(self._size(number) < len(kept) for number, kept in enumerate(self._kept))

    def draw(
        self, generators: Sequence[np.random.Generator], update: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Draw one row per generator; return the indices of their data sets, and of their steps within these."""
        sets = np.array([int(rng.choice(len(self.members), p=self.fractions)) for rng in generators], np.int64)
        windows = {number: self.window(number, update) for number in dict.fromkeys(sets.tolist())}
        steps = [self._step(k, windows[k], rng) for k, rng in zip(sets.tolist(), generators, strict=True)]
        return sets, np.array(steps, np.int64)

    def window(self, number: int, update: int) -> tuple[int, ...]:
        """Return the episodes of a data set that an update's rows are drawn from, in ascending order."""
        kept, size = self._kept[number], self._size(number)
        if size == len(kept):
            return tuple(kept)
        first = update // WINDOW_UPDATES * max(1, size // 2)
        # If one pass ends within the window, an episode may occur on both sides of that end: it counts once.
        return tuple(sorted({self._episode(number, place) for place in range(first, first + size)}))

    def _size(self, number: int) -> int:
        window, count = self.members[number].window, len(self._kept[number])
        return count if window is None else min(window, count)

    def _episode(self, number: int, place: int) -> int:
        """Return the episode at a position in the endless sequence of shuffled passes over a data set."""
        kept = self._kept[number]
        turn, rest = divmod(place, len(kept))
        return kept[int(np.random.default_rng([number, turn]).permutation(len(kept))[rest])]

    def _step(self, number: int, window: tuple[int, ...], rng: np.random.Generator) -> int:
        lengths = self.members[number].lengths
        ends = np.cumsum([lengths[episode] for episode in window])
        drawn = int(rng.integers(ends[-1]))
        place = int(np.searchsorted(ends, drawn, side="right"))
        within = drawn - (int(ends[place - 1]) if place else 0)
        return int(self._firsts[number][window[place]]) + within
