"""Recorded data sets, mixed by weight, as batches: one picture, the sentence that was asked for, what was commanded.

Which data set a row is from and which of its steps it is come from the row's own generator, as everything random about
it: see `source`. Each data set is normalised by its own statistics, as in `data.mixture`; those of the first one travel
in the checkpoint, and a policy says its actions by them. Nothing says where the named thing is, nor that one is absent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vla_ros.actions.normaliser import Normaliser
from vla_ros.data.augmentation.language import LanguageAugmentation
from vla_ros.data.mixture import shares_of
from vla_ros.errors import VlaError
from vla_ros.language.tokenizer import WordTokenizer, split_words
from vla_ros.models.build import MODELS, model_class
from vla_ros.models.contract import ModelInput, ModelTarget
from vla_ros.robot.contract import RobotContract
from vla_ros.training.dataset import Statistics, state_statistics
from vla_ros.training.pictures import StoredRows, varied
from vla_ros.training.recorded_pictures import PictureAugmentation
from vla_ros.training.stored_steps import StoredSteps


def check_network(model: str) -> None:
    """Raise when a network cannot be taught by recordings alone.

    Raises:
        VlaError: with the names of those that can.
    """
    if model_class(model).LEARNS_PLACES:
        able = [name for name in MODELS if not model_class(name).LEARNS_PLACES]
        raise VlaError(
            f"'{model}' is taught where the named thing is, in the room and in the pictures: only demonstrations of "
            f"the simulated cell (vla-ros collect) know that, recorded data do not. Choose --model among {able}"
        )


@dataclass(frozen=True)
class Augmentations:
    """What is changed in a row each time it is drawn.

    Attributes:
        pictures: In place of a little light, colour and noise, which every picture gets by default.
        words: None: sentences stay as they were recorded.
    """

    pictures: PictureAugmentation | None = None
    words: LanguageAugmentation | None = None


class RecordedDataset:
    """All steps of one or more data sets; numbers in memory, pictures on disk.

    Attributes:
        count: How many steps there are.
        episodes: How many episodes.
        specification: Convention of the actions.
        taught: Every word that a sentence can have, slips of the pen apart.
        tokenizer: Vocabulary: these words.
        sentence_length: Words a sentence is padded to.
    """

    def __init__(
        self, parts: Sequence[StoredSteps], contract: RobotContract, augmentations: Augmentations | None = None
    ) -> None:
        """Join data sets.

        Args:
            parts: Their rows.
            contract: The robot that the rows were made for.
            augmentations: See there.

        Raises:
            DataError: when a weight is not positive, or a data set stands there twice.
        """
        self.parts, self.augmentations = tuple(parts), augmentations or Augmentations()
        self.shares = shares_of([part.name for part in parts], [part.weight for part in parts])
        self.specification = contract.action
        sizes = {camera.name: (camera.policy_height, camera.policy_width) for camera in contract.cameras}
        self.cameras = tuple(sizes)
        self.count, self.episodes = sum(map(len, parts)), sum(part.episodes for part in parts)
        self._begins = np.cumsum([0, *(len(part) for part in parts)])
        self._sentences = [sentence for part in parts for sentence in part.sentences]
        first = np.cumsum([0, *(len(part.sentences) for part in parts)])
        self._sentence_of = np.concatenate([p.sentence_of + f for p, f in zip(parts, first[:-1], strict=True)])
        self._states = np.concatenate([part.states for part in parts])
        self._chunks = np.concatenate([part.chunks for part in parts])
        self._pictures = {
            name: StoredRows([(part.pictures(name), len(part)) for part in parts], (*size, 3), np.uint8)
            for name, size in sizes.items()
        }
        self.taught, self.sentence_length = _vocabulary(self._sentences, self.augmentations.words)
        self.tokenizer = WordTokenizer(self.taught)
        self._statistics = [_statistics(part) for part in parts]

    @property
    def statistics(self) -> Statistics:
        """How the numbers of the first data set are normalised; one that is set holds for all of them."""
        return self._statistics[0]

    @statistics.setter
    def statistics(self, statistics: Statistics) -> None:
        self._statistics = [statistics] * len(self.parts)

    def table(self) -> list[dict[str, Any]]:
        """Return what a checkpoint says about its data: one entry a data set."""
        return [
            {"path": part.name, "share": float(share), "episodes": part.episodes, "failed": part.failed,
             "steps": len(part)}
            for part, share in zip(self.parts, self.shares, strict=True)
        ]  # fmt: skip

    def draw(self, generators: Sequence[np.random.Generator]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return, for one row a generator, which data set it is from, and its number among the steps of all."""
        sets = np.array([int(rng.choice(len(self.parts), p=self.shares)) for rng in generators])
        steps = [int(rng.integers(len(self.parts[k]))) for k, rng in zip(sets, generators, strict=True)]
        return sets, self._begins[sets] + np.array(steps)

    def rows(self, generators: Sequence[np.random.Generator]) -> tuple[ModelInput, ModelTarget]:
        """Return one step a generator, drawn by it, with its one sentence."""
        return self.steps(self.draw(generators)[1], generators)

    def steps(
        self, index: NDArray[np.int64], generators: Sequence[np.random.Generator]
    ) -> tuple[ModelInput, ModelTarget]:
        """Return steps by their numbers among those of all data sets, changed as each one's generator says."""
        sets = np.searchsorted(self._begins, index, side="right") - 1
        change = self.augmentations.pictures or varied
        images = {name: change(store[index], generators) for name, store in self._pictures.items()}
        tokens = np.stack([
            self.tokenizer.encode(self._said(step, rng), self.sentence_length)
            for step, rng in zip(index, generators, strict=True)
        ])  # fmt: skip
        states, positions, rotations = [], [], []
        for number, step in zip(sets, index, strict=True):
            statistics, chunk = self._statistics[number], self._chunks[step]
            states.append(statistics.state.normalise(self._states[step]))
            positions.append(statistics.position.normalise(chunk[:, :3]))
            rotations.append(statistics.rotation.normalise(chunk[:, 3:6]))
        given = ModelInput(images, _tensor(states), torch.from_numpy(tokens)[:, None])
        wanted = ModelTarget(
            positions=_tensor(positions)[:, None],
            rotations=_tensor(rotations)[:, None],
            gripper=_tensor(self._chunks[index][..., 6])[:, None],
            present=torch.ones(len(index), 1),
        )
        return given, wanted

    def _said(self, step: int, rng: np.random.Generator) -> str:
        sentence, words = self._sentences[self._sentence_of[step]], self.augmentations.words
        return sentence if words is None else words(sentence, rng)


def _statistics(part: StoredSteps) -> Statistics:
    return Statistics(
        position=Normaliser.fit(part.chunks[..., :3], floor=1e-3),
        rotation=Normaliser.fit(part.chunks[..., 3:6], floor=1e-2),
        state=state_statistics(part.states.astype(np.float64)),
    )


def _vocabulary(sentences: Sequence[str], changes: LanguageAugmentation | None) -> tuple[tuple[str, ...], int]:
    """Return every word that may be said, sorted, and the words of the longest sentence."""
    words: set[str] = set()
    longest = 0
    for sentence in dict.fromkeys(sentences):
        texts, more = ({sentence}, 0) if changes is None else changes.reach(sentence)
        words |= {word for text in texts for word in split_words(text)}
        longest = max(longest, len(split_words(sentence)) + more)
    return tuple(sorted(words)), longest


def _tensor(values: Sequence[NDArray[Any]] | NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
