"""Weighted mixture of recorded datasets as batches: one image, the recorded instruction, and the commanded actions.

`Mixture` chooses the dataset and the step of each row. All datasets are normalized with the same statistics, those of
the mixture as it is drawn, which are stored in the checkpoint: a motion has the same value in every dataset. There are
no labels for the position of the named object, nor for absent ones.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vla_ros.data.augmentation.language import LanguageAugmentation
from vla_ros.data.mixture import WINDOW_UPDATES, Member, Mixture
from vla_ros.errors import VlaError
from vla_ros.language.tokenizer import WordTokenizer, split_words
from vla_ros.models.build import MODELS, model_class
from vla_ros.models.contract import ModelInput, ModelTarget
from vla_ros.processing.normalizer import Normalizer
from vla_ros.processing.processor import Processor, Statistics
from vla_ros.robot.contract import RobotContract
from vla_ros.training.datasets.image_store import varied
from vla_ros.training.datasets.pick import action_floors, policy_features, state_floors, with_tool_scale
from vla_ros.training.datasets.recorded_images import PerImageAugmentation
from vla_ros.training.datasets.source import ReadImages
from vla_ros.training.datasets.stored_steps import StoredSteps


def check_network(model: str) -> None:
    """Check that a network can be trained on recordings alone.

    Raises:
        VlaError: if not, naming the networks that can.
    """
    if model_class(model).LEARNS_PLACES:
        able = [name for name in MODELS if not model_class(name).LEARNS_PLACES]
        raise VlaError(
            f"'{model}' needs labels of the named object's position, in space and in the images: only demonstrations "
            f"of the simulated workcell (vla-ros collect) know that, recorded data do not. Choose --model among {able}"
        )


@dataclass(frozen=True)
class Augmentations:
    """Augmentations applied to a row each time it is drawn.

    Attributes:
        images: Image augmentation, in place of the default slight light, color and noise.
        language: Instruction augmentation; None: instructions stay as recorded.
    """

    images: PerImageAugmentation | None = None
    language: LanguageAugmentation | None = None


class RecordedDataset:
    """All steps of one or more datasets; numbers in memory, images on disk.

    Attributes:
        count: Number of steps.
        episodes: Number of episodes.
        episode_of: (count,) index of each step's episode, counted over all datasets.
        specification: Action space.
        taught: Every word that an instruction can contain, except typos.
        processor: Processor with common statistics for all datasets; its vocabulary is `taught`.
    """

    def __init__(
        self,
        parts: Sequence[StoredSteps],
        contract: RobotContract,
        augmentations: Augmentations | None = None,
        cache_bytes: float | None = None,
    ) -> None:
        """Concatenate datasets.

        Args:
            parts: Rows of each dataset.
            contract: Contract of the robot for which the rows were made.
            augmentations: Augmentations of the rows; by default those of `Augmentations()`.
            cache_bytes: Approximate limit on the decoded images on disk, bytes; None: no limit.

        Raises:
            DataError: when a weight is not positive, or a dataset is listed twice.
        """
        self.parts, self.augmentations = tuple(parts), augmentations or Augmentations()
        self.mixture = Mixture([_member(part, parts, cache_bytes) for part in parts])
        self._kept = -1
        self._read_images: ReadImages | None = None
        self.specification = contract.action
        sizes = {camera.name: (camera.policy_height, camera.policy_width) for camera in contract.cameras}
        self.cameras = tuple(sizes)
        self.count, self.episodes = sum(map(len, parts)), sum(len(part.lengths) for part in parts)
        lengths = [length for part in parts for length in part.lengths]
        self.episode_of = np.repeat(np.arange(len(lengths)), lengths)
        self._held: list[set[int]] = [set() for _ in parts]
        self._begins = np.cumsum([0, *(len(part) for part in parts)])
        self._sentences = [sentence for part in parts for sentence in part.sentences]
        first = np.cumsum([0, *(len(part.sentences) for part in parts)])
        self._sentence_of = np.concatenate([p.sentence_of + f for p, f in zip(parts, first[:-1], strict=True)])
        self._states = np.concatenate([part.states for part in parts])
        self._chunks = np.concatenate([part.chunks for part in parts])
        self._past = np.concatenate([part.past + first for part, first in zip(parts, self._begins[:-1], strict=True)])
        self.taught, words = _vocabulary(self._sentences, self.augmentations.language)
        features = policy_features(sizes, contract.action, words, self._past.shape[1])
        columns = list(features.continuous_columns)
        statistics = Statistics(
            Normalizer.fit([part.states for part in parts], state_floors(features), fractions=self.mixture.fractions),
            Normalizer.fit(
                [part.chunks[..., columns] for part in parts], action_floors(features), fractions=self.mixture.fractions
            ),
        )
        self.processor = Processor(features, with_tool_scale(statistics, features), WordTokenizer(self.taught))

    def with_processor(self, processor: Processor) -> RecordedDataset:
        """Return the same steps, converted to tensors by another processor.

        Raises:
            VlaError: when its history has another number of frames.
        """
        if (history := processor.features.history) != self._past.shape[1]:
            raise VlaError(
                f"the policy sees {history} frames at once, the data were prepared for {self._past.shape[1]}: set "
                f"data.history to {history}"
            )
        other = copy.copy(self)
        other.processor = processor
        return other

    @property
    def groups(self) -> tuple[int, ...]:
        """Number of episodes of each dataset."""
        return tuple(len(part.lengths) for part in self.parts)

    def without(self, episodes: Collection[int]) -> RecordedDataset:
        """Return the same steps, with `rows` drawing only from the other episodes.

        Raises:
            DataError: when that leaves no episode of a dataset.
        """
        other = copy.copy(self)
        firsts = np.cumsum([0, *self.groups])
        other._held = [
            {one - int(first) for one in episodes if first <= one < last} for first, last in pairwise(firsts.tolist())
        ]
        members = zip(self.mixture.members, other._held, strict=True)
        other.mixture = Mixture([replace(member, left_out=frozenset(held)) for member, held in members])
        return other

    def table(self) -> list[dict[str, Any]]:
        """Return the data description stored in the checkpoint: one entry per dataset."""
        return [
            {
                "path": part.name,
                "share": float(fraction),  # the key of earlier checkpoints
                "episodes": len(part.lengths),
                "failed": part.failed,
                "odd": len(part.odd),
                "steps": len(part),
            }
            for part, fraction in zip(self.parts, self.mixture.fractions, strict=True)
        ]

    def left_out(self) -> list[str]:
        """Return one message per dataset with excluded episodes: how many, and why."""
        return [
            f"{part.name}: left out {part.failed} episodes that are marked as failures and {len(part.odd)} that cannot "
            "be learned from" + (f", the first: {part.odd[0]}" if part.odd else "")
            for part in self.parts
            if part.failed or part.odd
        ]

    def decode(self, progress: Callable[[Iterable[int], str], Iterable[int]]) -> None:
        """Decode the images needed by the first updates, or all of them if the cache can hold them.

        Raises:
            DataError: naming what cannot be decoded.
        """
        for number, part in enumerate(self.parts):
            for episode in progress(self.mixture.window(number, 0), f"decode {part.name}"):
                part.images.prepare(episode)

    def rows(self, generators: Sequence[np.random.Generator], update: int) -> tuple[ModelInput, ModelTarget]:
        """Return one step per generator, drawn by it, with its one instruction."""
        self._forget(update)
        sets, steps = self.mixture.draw(generators, update)
        return self.steps(self._begins[sets] + steps, generators)

    def _forget(self, update: int) -> None:
        """Remove the images that no nearby update needs."""
        block = update // WINDOW_UPDATES
        if block == self._kept or not self.mixture.windowed:
            return
        self._kept = block
        # Neighbors too: other processes may be ahead or behind.
        near = [WINDOW_UPDATES * other for other in (max(block - 1, 0), block, block + 1)]
        for number, part in enumerate(self.parts):
            drawn = {one for other in near for one in self.mixture.window(number, other)}
            part.images.keep_only(drawn | self._held[number])

    def steps(
        self, index: NDArray[np.int64], generators: Sequence[np.random.Generator]
    ) -> tuple[ModelInput, ModelTarget]:
        """Return steps by their indices over all datasets, each augmented by its own generator."""
        read, processor, past = self._read_images or self.images, self.processor, self._past[index]
        frames = [(read(seen, generators), processor.state(self._states[seen])) for seen in past.T]
        images, state = processor.stack(frames)
        output = [self._said(step, rng) for step, rng in zip(index, generators, strict=True)]
        continuous, binary = processor.targets(self._chunks[index])
        inputs = ModelInput(images, state, processor.tokens(output)[:, None])
        target = ModelTarget(
            continuous=continuous[:, None],
            binary=binary[:, None],
            target_visible=torch.ones(len(index), 1),
        )
        return inputs, target

    @property
    def key(self) -> str | None:
        """Identifies the images, for caches of what is computed from them; None if the cache cannot hold them all."""
        return None if self.mixture.windowed else "_".join(part.images.folder.name for part in self.parts)

    def images(self, index: NDArray[np.int64], generators: Sequence[np.random.Generator]) -> dict[str, torch.Tensor]:
        """Return the images (B, 3, h, w) of steps, 0 to 1, each augmented by its own generator."""
        change = self.augmentations.images or varied
        return {name: change(self._images(name, index), generators) for name in self.cameras}

    def with_images(self, read: ReadImages) -> RecordedDataset:
        """Return the same steps with other tensors in place of their images."""
        other = copy.copy(self)
        other._read_images = read
        return other

    def _images(self, camera: str, index: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the images (len(index), height, width, 3) of a camera."""
        sets = np.searchsorted(self._begins, index, side="right") - 1
        feature = next(one for one in self.processor.features.cameras if one.name == camera)
        out = np.empty((len(index), feature.height, feature.width, 3), np.uint8)
        for number in np.unique(sets):
            mine = sets == number
            out[mine] = self.parts[number].images.read(camera, index[mine] - self._begins[number])
        return out

    def _said(self, step: int, rng: np.random.Generator) -> str:
        sentence, words = self._sentences[self._sentence_of[step]], self.augmentations.language
        return sentence if words is None else words(sentence, rng)


def _member(part: StoredSteps, parts: Sequence[StoredSteps], cache_bytes: float | None) -> Member:
    """Return a dataset as a member of a mixture, with a window that fits into its fraction of the cache."""
    window = None
    if cache_bytes is not None:
        # Three windows that overlap by half need the space of two; datasets share the cache in proportion to steps.
        steps = sum(map(len, parts))
        mine = cache_bytes * len(part) / steps / 2.0
        window = max(1, int(mine / (part.images.bytes_per_step() * len(part) / len(part.lengths))))
        if cache_bytes >= part.images.bytes_per_step() * steps:
            window = None
    return Member(part.name, part.weight, part.lengths, window)


def _vocabulary(sentences: Sequence[str], changes: LanguageAugmentation | None) -> tuple[tuple[str, ...], int]:
    """Return every word that instructions can contain, sorted, and the word count of the longest instruction."""
    words: set[str] = set()
    longest = 0
    for sentence in dict.fromkeys(sentences):
        texts, more = ({sentence}, 0) if changes is None else changes.reach(sentence)
        words |= {word for text in texts for word in split_words(text)}
        longest = max(longest, len(split_words(sentence)) + more)
    return tuple(sorted(words)), longest
