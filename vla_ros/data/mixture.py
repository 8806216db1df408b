"""Steps of several data sets, mixed by weight: the same seed gives the same steps, on however many machines.

Each data set's episodes are shuffled anew for every pass over it, and dealt out to the shards, one shard a worker of a
rank, so that no two shards see the same episode in one pass. Of each data set a few episodes are open at a time, and a
step is the next one of one of them: memory is bounded, and neighbours in a batch are strangers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np

from vla_ros.actions.space import ActionSpace
from vla_ros.data.conventions import convert
from vla_ros.data.errors import ConventionError, DataError
from vla_ros.data.normalisation import DatasetStatistics, pool_statistics
from vla_ros.data.reader import EpisodeReader
from vla_ros.data.step import Step
from vla_ros.types import FloatArray

OPEN_EPISODES = 8


@dataclass(frozen=True)
class Source:
    """One line of a mixture: a data set, its weight (any positive number), and the statistics of its numbers."""

    reader: EpisodeReader
    weight: float
    statistics: DatasetStatistics


@dataclass(frozen=True)
class Sample:
    """A step, which data set it is from, and its numbers normalized by the mixture's statistics."""

    step: Step
    dataset: str
    action: FloatArray
    proprioception: FloatArray


def shard_of(rank: int, ranks: int, worker: int, workers: int) -> tuple[int, int]:
    """Return (shard, shards) of a worker of a rank.

    Raises:
        DataError: when a number is not below its count.
    """
    if not (0 <= rank < ranks and 0 <= worker < workers):
        raise DataError(f"rank {rank} of {ranks}, worker {worker} of {workers}: numbers run from 0 to the count less 1")
    return rank * workers + worker, ranks * workers


def shares_of(names: Sequence[str], weights: Sequence[float]) -> FloatArray:
    """Return how often each data set is drawn, summing to 1.

    Raises:
        DataError: when there is none, a name stands twice, or a weight is not positive.
    """
    given = np.array(weights, dtype=np.float64)
    if not names or len(set(names)) != len(names):
        raise DataError(f"a mixture needs data sets, each name once; got {list(names)}")
    if not (np.isfinite(given).all() and (given > 0.0).all()):
        raise DataError(f"weights must be positive numbers, got {dict(zip(names, given.tolist(), strict=True))}")
    return np.asarray(given / given.sum())


class Mixture:
    """Iterates without end; `state` and `restore` go on in the middle of an epoch, exactly.

    Attributes:
        statistics: How every sample is normalized, whichever data set it is from; see `pool_statistics`.
    """

    def __init__(
        self, sources: Sequence[Source], *, seed: int, shard: int = 0, shards: int = 1,
        convention: ActionSpace | None = None, open_episodes: int = OPEN_EPISODES,
    ) -> None:  # fmt: skip
        """Prepare; the first step of every data set is read to see that it fits.

        Args:
            sources: Data sets and their weights; each name once.
            seed: Decides everything.
            shard: This one, from 0; see `shard_of`.
            shards: How many there are.
            convention: Convention that every action is brought to; the one that they all have when None.
            open_episodes: Episodes of a data set that are open at a time.

        Raises:
            ConventionError: when a data set's actions cannot be brought to `convention`.
            DataError: when a weight is not positive, a name stands twice, or a data set has fewer episodes than shards.
        """
        names = [source.reader.description.name for source in sources]
        weights = [float(source.weight) for source in sources]
        self._sources, self._shares = tuple(sources), shares_of(names, weights)
        if convention is None:
            for source in sources[1:]:
                source.reader.description.require(sources[0].reader.description.convention)
        if not 0 <= shard < shards or open_episodes < 1:
            raise DataError(
                f"shard {shard} of {shards}, {open_episodes} open episodes: expected 0 <= shard < shards, >= 1"
            )
        self.statistics = pool_statistics([source.statistics for source in sources], self._shares)
        self._convention = None if convention is None else replace(convention, horizon=1)
        self._identity = {"names": names, "weights": weights, "seed": seed, "shard": shard, "shards": shards,
                          "open_episodes": open_episodes}  # fmt: skip
        self._random = np.random.default_rng([seed, shard, 0])
        self._streams = [
            _Stream(source.reader, [seed, number, 1], shard, shards, open_episodes)
            for number, source in enumerate(sources)
        ]
        for source in sources:
            self._sample(source, next(iter(source.reader.read(source.reader.episodes[0], pictures=False))))

    def __iter__(self) -> Iterator[Sample]:
        """Return itself: there is one place in the data, and `state` is it."""
        return self

    def __next__(self) -> Sample:
        """Return the next step.

        Raises:
            DataError: naming what cannot be read.
        """
        number = int(self._random.choice(len(self._sources), p=self._shares))
        return self._sample(self._sources[number], self._streams[number].draw(self._random))

    def _sample(self, source: Source, step: Step) -> Sample:
        description = source.reader.description
        if self._convention is not None and step.convention != self._convention:
            try:
                action = convert(
                    step.action, step.convention, self._convention, step.end_effector, description.max_opening
                )
            except ConventionError as error:
                raise ConventionError(f"{description.name}: {error}") from error
            step = replace(step, action=action, convention=self._convention)
        statistics = self.statistics
        if statistics.action.first.shape != step.action.shape:
            raise ConventionError(
                f"{description.name}: statistics of {statistics.action.first.shape} columns, actions of "
                f"{step.action.shape}; fit them with the mixture's convention"
            )
        return Sample(
            step=step,
            dataset=description.name,
            action=statistics.action.normalize(step.action),
            proprioception=statistics.proprioception.normalize(step.proprioception),
        )

    def state(self) -> dict[str, Any]:
        """Return where the mixture is, as plain values for JSON: which episodes are open, and how far."""
        return {
            "identity": self._identity,
            "random": self._random.bit_generator.state,
            "streams": [stream.state() for stream in self._streams],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where another mixture of the same data sets, seed and shard was.

        Raises:
            DataError: when it was another mixture, naming the lines that differ.
        """
        there = state["identity"]
        if different := [key for key, value in self._identity.items() if there.get(key) != value]:
            lines = "; ".join(f"{key}: {self._identity[key]} here, {there.get(key)} there" for key in different)
            raise DataError(f"the state is of another mixture: {lines}")
        self._random.bit_generator.state = state["random"]
        for stream, saved in zip(self._streams, state["streams"], strict=True):
            stream.restore(saved)


class _Slot:
    """An open episode."""

    def __init__(self, reader: EpisodeReader, episode: str, position: int = 0) -> None:
        self.episode, self.position = episode, position
        self._steps = reader.read(episode)
        for _ in islice(self._steps, position):
            pass

    def next(self) -> Step | None:
        step = next(self._steps, None)
        self.position += step is not None
        return step


class _Stream:
    """One data set's episodes as one shard sees them, pass after pass."""

    def __init__(self, reader: EpisodeReader, key: list[int], shard: int, shards: int, open_episodes: int) -> None:
        self._reader, self._key, self._shard, self._shards = reader, key, shard, shards
        self._names = list(reader.episodes)
        if len(self._names) < shards:
            raise DataError(
                f"{reader.description.name} has {len(self._names)} episodes for {shards} shards; use fewer workers"
            )
        self._epoch, self._cursor = -1, 0
        self._order: list[str] = []
        self._slots: list[_Slot] = []
        self._wanted = open_episodes

    def draw(self, random: np.random.Generator) -> Step:
        if not self._slots:
            count = min(self._wanted, len(range(self._shard, len(self._names), self._shards)))
            self._slots = [_Slot(self._reader, self._following()) for _ in range(count)]
        index = int(random.integers(len(self._slots)))
        for _ in range(len(self._names) + 1):
            step = self._slots[index].next()
            if step is not None:
                return step
            self._slots[index] = _Slot(self._reader, self._following())
        raise DataError(f"{self._reader.description.name}: no episode has a step")

    def _following(self) -> str:
        if self._cursor >= len(self._order):
            self._epoch, self._cursor = self._epoch + 1, 0
            self._order = self._shuffled(self._epoch)
        self._cursor += 1
        return self._order[self._cursor - 1]

    def _shuffled(self, epoch: int) -> list[str]:
        order = np.random.default_rng([*self._key, epoch]).permutation(len(self._names))
        return [self._names[i] for i in order[self._shard :: self._shards]]

    def state(self) -> dict[str, Any]:
        slots = [[slot.episode, slot.position] for slot in self._slots]
        return {"epoch": self._epoch, "cursor": self._cursor, "slots": slots}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._epoch, self._cursor = int(state["epoch"]), int(state["cursor"])
        self._order = self._shuffled(self._epoch) if self._epoch >= 0 else []
        self._slots = [_Slot(self._reader, str(episode), int(position)) for episode, position in state["slots"]]
