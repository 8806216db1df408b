"""Dataset of the tabletop tasks: one image with several instructions about it, each phrased at random."""

from __future__ import annotations

import copy
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from vla_ros.data.episodes.demonstrations import Episode, read_episodes
from vla_ros.data.episodes.durable import write_whole
from vla_ros.errors import VlaError
from vla_ros.language.commands import Command
from vla_ros.language.lexicon import ALL_WORDS, COLOURS, OBJECTS, RECEPTACLES
from vla_ros.language.phrasing import Wording, held_out_words, say, taught_words
from vla_ros.language.tokenizer import WordTokenizer, split_words
from vla_ros.models.contract import ModelInput, ModelTarget
from vla_ros.processing.processor import Processor, float_tensor
from vla_ros.training.datasets.concepts import concept_columns
from vla_ros.training.datasets.image_store import ImageStore, StoredRows, drop_outdated, fingerprint, varied
from vla_ros.training.datasets.pick import fit_statistics, one_specification, policy_features, recorded_states
from vla_ros.training.datasets.source import ReadImages, draw_steps
from vla_ros.training.datasets.word_vectors import colour_of

SENTENCE_LENGTH = 16
"""Number of words that an instruction is padded to."""


FILLERS = 300
"""Number of filler words without meaning here, drawn once from the vocabulary."""

NOTE = "complete.json"
"""File written once a folder's images are complete."""

MAX_INSTRUCTIONS = 8
"""Maximum number of instructions with which a recorded state is labeled."""


@dataclass(frozen=True)
class Wordiness:
    """Random corruption of instructions, so that a text encoder learns to ignore meaningless words.

    Attributes:
        other_verb: Probability that the verb is replaced by a filler word; the rest still determines the task.
        filler: Probability that filler words are inserted.
    """

    other_verb: float = 0.3
    filler: float = 0.3


class TabletopDataset:
    """All steps of one or more folders; tables in memory, images on disk.

    Attributes:
        count: Number of steps.
        episodes: Number of episodes.
        episode_of: (count,) index of each step's episode.
        specification: Action space.
        key: Identifies the images, for caches of what is computed from them.
        taught: Every word that an instruction can contain, except fillers.
        processor: Processor fitted to these steps.
    """

    def __init__(
        self,
        folders: Iterable[Path],
        cameras: Iterable[str],
        words: Sequence[str],
        pairs: Sequence[tuple[str, str]],
        cache: Path,
        *,
        sentences: int = 5,
        wordiness: Wordiness | None = None,
    ) -> None:
        """Read all episodes.

        Args:
            folders: Folders of episodes with the same action space.
            cameras: Cameras to read.
            words: Vocabulary, including words that are not taught; must contain all that are.
            pairs: (color, kind) of objects that instructions may ask for although they are absent: those that training
                may name.
            cache: Folder for the images, in a form that can be read one by one.
            sentences: Number of instructions per image, in addition to one about an absent object.
            wordiness: Corruption of the instructions.

        Raises:
            VlaError: when folders have different action spaces or contain no episode, or words are missing.
        """
        folders = list(folders)
        self.cameras, self.pairs, self.sentences = tuple(cameras), tuple(pairs), sentences
        self.wordiness = wordiness or Wordiness()
        self.specification = one_specification(folders)
        self.taught = taught_words()
        if missing := set(self.taught) - set(words):
            raise VlaError(f"the vocabulary lacks the taught words {sorted(missing)}")
        kept_back = {*ALL_WORDS, *taught_words(), *held_out_words()}
        free = [word for word in words if word not in kept_back and colour_of(word)[0] == 0.0]
        # A few hundred, not all: the vocabulary has near-synonyms of taught and held-out words.
        chosen = np.random.default_rng(0).permutation(len(free))[:FILLERS]
        self._fillers: list[str] = [free[i] for i in chosen]
        self._read(folders, cache)
        sizes = {camera: (store.shape[0], store.shape[1]) for camera, store in self.image_stores.items()}
        features = policy_features(sizes, self.specification, SENTENCE_LENGTH)
        chunks = self._rows["actions"].reshape(-1, *self._rows["actions"].shape[2:])
        statistics = fit_statistics(features, self._rows["state"], chunks)
        self.processor = Processor(features, statistics, WordTokenizer(tuple(words)))

    def with_processor(self, processor: Processor) -> TabletopDataset:
        """Return the same steps, converted to tensors by another processor."""
        other = copy.copy(self)
        other.processor = processor
        return other

    def _read(self, folders: list[Path], cache: Path) -> None:
        rows: dict[str, list[NDArray[np.generic]]] = {}
        tables: list[tuple[tuple[Command, ...], tuple[str, ...]]] = []
        episode_of: list[int] = []
        keys = [
            "actions",
            "target",
            "goal",
            "asked",
            *(f"pixel_{c}" for c in self.cameras),
            *(f"pixel_goal_{c}" for c in self.cameras),
        ]
        self.places, self.counts = [cache / fingerprint(folder) for folder in folders], []
        for folder, place in zip(folders, self.places, strict=True):
            before = len(episode_of)
            drop_outdated(folder, place)
            known = _sizes(place)  # images are cached per folder, since DAgger adds one per round
            stores = {c: ImageStore(place / f"{c}.rgb") for c in self.cameras if c not in known}
            for episode in read_episodes(folder, images=bool(stores)):
                for key in keys:
                    values = episode.arrays[key]
                    rows.setdefault(key, []).append(values if key == "asked" else _widened(values))
                rows.setdefault("state", []).append(recorded_states(episode.arrays))
                tables.append(_table(episode))
                episode_of += [len(tables) - 1] * len(episode)
                for camera, store in stores.items():
                    store.append(episode.arrays[f"image_{camera}"])
            self.counts.append(len(episode_of) - before)
            for store in stores.values():
                store.close()
            if stores:
                known |= {c: store.size for c, store in stores.items() if store.size is not None}
                write_whole(place / NOTE, json.dumps(known).encode())
        if not tables:
            raise VlaError(f"no episodes in {[str(f) for f in folders]}; collect some with 'vla-ros collect'")
        self.episodes, self.count = len(tables), len(episode_of)
        self._tables, self.episode_of = tables, np.array(episode_of, np.int64)
        self._drawn: NDArray[np.int64] | None = None
        self._read_images: ReadImages | None = None
        self.key: str | None = "_".join(place.name for place in self.places)
        self._goal_kinds = {command.goal[1] for commands, _ in tables for command in commands if command.goal}
        self._rows = {key: np.concatenate(parts) for key, parts in rows.items()}
        self.image_stores = {c: self._open(c) for c in self.cameras}

    def _open(self, camera: str) -> StoredRows:
        sizes = {_sizes(place)[camera] for place, count in zip(self.places, self.counts, strict=True) if count}
        if len(sizes) != 1:
            raise VlaError(f"images of '{camera}' have sizes {sorted(sizes)}: one camera has one size")
        files = [(p / f"{camera}.rgb", n) for p, n in zip(self.places, self.counts, strict=True) if n]
        return StoredRows(files, (*sizes.pop(), 3), np.uint8)

    def rows(self, generators: Sequence[np.random.Generator], update: int) -> tuple[ModelInput, ModelTarget]:
        """Return one step per generator, drawn by it; see `steps`."""
        return self.steps(self.draw(generators), generators)

    def draw(self, generators: Sequence[np.random.Generator]) -> NDArray[np.int64]:
        """Draw one step index per generator, among the steps that are not excluded."""
        return draw_steps(generators, self.count, self._drawn)

    @property
    def groups(self) -> tuple[int, ...]:
        """Number of episodes of each dataset; all folders together are one."""
        return (self.episodes,)

    def without(self, episodes: Collection[int]) -> TabletopDataset:
        """Return the same steps, drawing only from the other episodes."""
        other = copy.copy(self)
        other._drawn = np.flatnonzero(~np.isin(self.episode_of, list(episodes)))
        return other

    def steps(
        self, index: NDArray[np.int64], generators: Sequence[np.random.Generator]
    ) -> tuple[ModelInput, ModelTarget]:
        """Return steps, each with the executed instruction, others, and one about an absent object."""
        chosen = [self._choose(step, rng) for step, rng in zip(index, generators, strict=True)]
        commands = [
            [*(self.commands(step)[k] for k in columns), self.absent(step, rng)]
            for step, columns, rng in zip(index, chosen, generators, strict=True)
        ]
        sentences = [
            [self._sentence(command, rng) for command in scene] for scene, rng in zip(commands, generators, strict=True)
        ]
        inputs = ModelInput(
            images=(self._read_images or self.images)(index, generators),
            state=self.states(index),
            tokens=torch.stack([self.processor.tokens(group) for group in sentences]),
        )
        concepts = {name: torch.from_numpy(values) for name, values in concept_columns(commands).items()}
        return inputs, self.targets(index, np.array(chosen), concepts)

    def images(self, index: NDArray[np.int64], generators: Sequence[np.random.Generator]) -> dict[str, torch.Tensor]:
        """Return the images (B, 3, h, w) of steps, 0 to 1, each in a light drawn by its generator."""
        return {c: varied(self.image_stores[c][index], generators) for c in self.cameras}

    def with_images(self, read: ReadImages) -> TabletopDataset:
        """Return the same steps with other tensors in place of their images."""
        other = copy.copy(self)
        other._read_images = read
        return other

    def states(self, index: NDArray[np.int64]) -> torch.Tensor:
        """Return the normalized states (B, S) of steps."""
        return self.processor.state(self._rows["state"][index])

    def targets(
        self, index: NDArray[np.int64], columns: NDArray[np.int64], concepts: Mapping[str, torch.Tensor]
    ) -> ModelTarget:
        """Return the targets of steps (B,) for the instructions in `columns` (B, N), and one infeasible instruction.

        `concepts` (B, N + 1) are those of all these instructions.
        """

        def column(key: str) -> NDArray[np.float32]:
            """Return values (B, N + 1, ...); `target_visible` masks the last, of an infeasible instruction."""
            values = self._rows[key][index[:, None], columns]
            return np.concatenate([values, values[:, :1]], axis=1)

        processor = self.processor
        continuous, binary = processor.targets(column("actions"))
        visible = np.ones(binary.shape[:2], np.float32)
        visible[:, -1] = 0.0
        return ModelTarget(
            continuous=continuous,
            binary=binary,
            target_visible=float_tensor(visible),
            target=processor.places(column("target")),
            pixels={c: float_tensor(column(f"pixel_{c}")) for c in self.cameras},
            goal=processor.places(column("goal")),
            goal_pixels={c: float_tensor(column(f"pixel_goal_{c}")) for c in self.cameras},
            concepts=concepts,
        )

    def commands(self, step: int) -> tuple[Command, ...]:
        """Return the instructions with which a step is labeled, in the order of its columns."""
        return self._tables[int(self.episode_of[step])][0]

    def _choose(self, step: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return the columns of `sentences` different instructions, the executed one first."""
        count = len(self._tables[self.episode_of[step]][0])
        asked = int(self._rows["asked"][step])
        others = [k for k in rng.permutation(count) if k != asked]
        return np.array([asked, *others[: self.sentences - 1]])

    def absent(self, step: int, rng: np.random.Generator) -> Command:
        """Return an instruction of the episode with one of its objects replaced by one that is not on the table."""
        commands, things = self._tables[self.episode_of[step]]
        like = commands[int(rng.integers(len(commands)))]
        replace_goal = like.goal is not None and rng.random() < 0.5
        kinds: Collection[str] = OBJECTS
        if replace_goal and like.goal is not None:  # by a possible goal, or words would be taught a wrong meaning
            kinds = self._goal_kinds & set(RECEPTACLES if like.goal[1] in RECEPTACLES else OBJECTS)
        free = [p for p in self.pairs if p[1] in kinds and " ".join(p) not in things]
        other = free[int(rng.integers(len(free)))]
        if replace_goal:
            return Command(like.act, like.thing, other)
        return Command(like.act, other, like.goal, like.direction)

    def _sentence(self, command: Command, rng: np.random.Generator) -> str:
        words = split_words(say(command, Wording.TAUGHT, rng))
        if self._fillers and rng.random() < self.wordiness.other_verb:
            words[0] = self._filler(rng)
        if self._fillers and rng.random() < self.wordiness.filler:
            for _ in range(int(rng.integers(1, 4))):
                words.insert(int(rng.integers(len(words) + 1)), self._filler(rng))
        return " ".join(words[:SENTENCE_LENGTH])

    def _filler(self, rng: np.random.Generator) -> str:
        return self._fillers[int(rng.integers(len(self._fillers)))]


def _sizes(place: Path) -> dict[str, tuple[int, int]]:
    """Return (height, width) by camera of the complete images in a cache folder.

    If the note is unreadable, none counts as complete, and all are written again.
    """
    try:
        note = json.loads((place / NOTE).read_text(encoding="utf-8"))
        return {str(camera): (int(size[0]), int(size[1])) for camera, size in note.items()}
    except (FileNotFoundError, ValueError, TypeError, LookupError, AttributeError):
        return {}


def trainable_pairs(held_out: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return every (color, kind) that training may name."""
    kept_back = set(held_out)
    every = [(colour, kind) for colour in COLOURS for kind in (*OBJECTS, *RECEPTACLES)]
    return [pair for pair in every if pair not in kept_back]


def _table(episode: Episode) -> tuple[tuple[Command, ...], tuple[str, ...]]:
    commands = tuple(Command.from_key(str(key)) for key in episode.arrays["names"])
    return commands, tuple(str(name) for name in episode.arrays["things"])


def _widened(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Pad values (steps, instructions, ...) to `MAX_INSTRUCTIONS`: a table with few objects has fewer."""
    missing = MAX_INSTRUCTIONS - values.shape[1]
    return np.pad(values, [(0, 0), (0, missing), *[(0, 0)] * (values.ndim - 2)])
