"""Turns recorded episodes into batches: pictures once, and several sentences about each of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vla_ros.actions.normaliser import Normaliser
from vla_ros.actions.space import ActionSpace
from vla_ros.data.episodes import read_episodes, read_specification
from vla_ros.errors import VlaError
from vla_ros.language.commands import Act, Command
from vla_ros.language.tokenizer import WordTokenizer, split_words
from vla_ros.models.contract import ModelInput, ModelTarget
from vla_ros.policies.local import proprioception
from vla_ros.training.concepts import concept_columns
from vla_ros.training.pictures import varied
from vla_ros.types import Pose

SENTENCE_LENGTH = 10
"""Words a sentence is padded to."""


STATE_FLOOR = 1e-2
"""Smallest deviation of a measurement that is divided by, m or a share of a quaternion."""


@dataclass(frozen=True)
class Statistics:
    """How the numbers of a data set are normalised."""

    position: Normaliser
    rotation: Normaliser
    state: Normaliser


class PickDataset:
    """All steps of one or more folders in memory, as uint8 pictures and small tables.

    Attributes:
        count: How many steps there are.
        specification: Convention of the actions.
        taught: The words of every template and every object.
        tokenizer: Vocabulary: these words.
        statistics: Normalisers fitted to these steps.
    """

    def __init__(self, folders: Iterable[Path], cameras: Iterable[str], templates: Iterable[str],
                 absent: Iterable[str]) -> None:  # fmt: skip
        """Read everything.

        Args:
            folders: Folders of episodes with one convention.
            cameras: Which cameras to read.
            templates: Sentences with one place for an object's name.
            absent: Names of objects that may be asked for although they are not there.

        Raises:
            VlaError: when folders disagree on the convention or hold no episode.
        """
        folders = list(folders)
        self.cameras = tuple(cameras)
        self.templates, self.kinds = tuple(templates), tuple(absent)
        self.sentence_length = SENTENCE_LENGTH
        self.specification = one_specification(folders)
        rows: dict[str, list[NDArray[np.generic]]] = {}
        names: list[tuple[str, ...]] = []
        keys = ["actions", "target", "asked", *(f"image_{c}" for c in self.cameras),
                *(f"pixel_{c}" for c in self.cameras)]  # fmt: skip
        self.episodes = 0
        for folder in folders:
            for episode in read_episodes(folder):
                for key in keys:
                    rows.setdefault(key, []).append(episode.arrays[key])
                rows.setdefault("state", []).append(recorded_states(episode.arrays))
                names += [tuple(str(n) for n in episode.arrays["names"])] * len(episode)
                self.episodes += 1
        if not names:
            raise VlaError(f"no episodes in {[str(f) for f in folders]}; collect some with 'vla-ros collect'")
        self._rows = {key: np.concatenate(parts) for key, parts in rows.items()}
        self._names = names
        self.count = len(names)
        vocabulary = {word for t in self.templates for word in split_words(t.format(""))}
        vocabulary |= {word for kind in self.kinds for word in split_words(kind)}
        self.taught = tuple(sorted(vocabulary))
        self.tokenizer = WordTokenizer(self.taught)
        actions = self._rows["actions"].reshape(-1, *self._rows["actions"].shape[2:])
        self.statistics = Statistics(
            position=Normaliser.fit(actions[..., :3], floor=1e-3),
            rotation=Normaliser.fit(actions[..., 3:6], floor=1e-2),
            state=state_statistics(self._rows["state"]),
        )

    def batch(self, index: NDArray[np.int64], rng: np.random.Generator) -> tuple[ModelInput, ModelTarget]:
        """Return the steps `index`, each with a sentence for every object on the table and one for an absent one."""
        return self._assemble(index, rng.spawn(len(index)))

    def rows(self, generators: Sequence[np.random.Generator]) -> tuple[ModelInput, ModelTarget]:
        """Return one step a generator, drawn by it; see `batch`."""
        return self._assemble(np.array([int(rng.integers(self.count)) for rng in generators]), generators)

    def _assemble(
        self, index: NDArray[np.int64], generators: Sequence[np.random.Generator]
    ) -> tuple[ModelInput, ModelTarget]:
        rows = self._rows
        names = [self._names[i] for i in index]
        asked = [[*n, self._absent(n, rng)] for n, rng in zip(names, generators, strict=True)]
        sentences = [[self._sentence(name, rng) for name in group]
                     for group, rng in zip(asked, generators, strict=True)]  # fmt: skip
        present = [[1.0] * len(n) + [0.0] for n in names]
        tokens = np.stack([[self.tokenizer.encode(s, SENTENCE_LENGTH) for s in group] for group in sentences])
        actions = _with_absent(rows["actions"][index])
        target = _with_absent(rows["target"][index])
        position, rotation = self.statistics.position, self.statistics.rotation
        place = Normaliser(self.statistics.state.mean[:3], self.statistics.state.deviation[:3])
        given = ModelInput(
            images={c: varied(rows[f"image_{c}"][index], generators) for c in self.cameras},
            state=_tensor(self.statistics.state.normalise(rows["state"][index])),
            tokens=torch.from_numpy(tokens),
        )
        wanted = ModelTarget(
            positions=_tensor(position.normalise(actions[..., :3])),
            rotations=_tensor(rotation.normalise(actions[..., 3:6])),
            gripper=_tensor(actions[..., 6]),
            target=_tensor(place.normalise(target)),
            pixels={c: _tensor(_with_absent(rows[f"pixel_{c}"][index])) for c in self.cameras},
            present=_tensor(np.array(present)),
            concepts={k: torch.from_numpy(v) for k, v in concept_columns(_picks(asked)).items()},
        )
        return given, wanted

    def _absent(self, names: tuple[str, ...], rng: np.random.Generator) -> str:
        elsewhere = [kind for kind in self.kinds if kind not in names]
        return elsewhere[int(rng.integers(len(elsewhere)))]

    def _sentence(self, name: str, rng: np.random.Generator) -> str:
        return self.templates[int(rng.integers(len(self.templates)))].format(name)


def _picks(names: Sequence[Sequence[str]]) -> list[list[Command]]:
    """Return the command that stands behind each "pick up ..."."""
    return [[Command(Act.PICK, (name.split(" ")[0], name.split(" ")[1])) for name in group] for group in names]


def state_statistics(states: NDArray[np.float64]) -> Normaliser:
    """Fit the normaliser of proprioception; tool and targets share one scale.

    So a difference of normalised places is a way in metres, times a constant.
    """
    return with_tool_scale(Normaliser.fit(states, floor=STATE_FLOOR))


def with_tool_scale(state: Normaliser) -> Normaliser:
    """Return the normalizer of proprioception with the one scale that places of the tool and of targets share."""
    deviation = state.deviation.copy()
    deviation[:3] = 0.1
    return Normaliser(state.mean.copy(), deviation)


def _with_absent(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Append a column for the absent object; its content is masked by `present`."""
    return np.concatenate([values, values[:, :1]], axis=1)


def _tensor(values: NDArray[np.generic]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))


def recorded_states(arrays: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
    """Return the proprioception (steps, 10) of an episode, as a policy will see it."""
    rows = zip(arrays["position"], arrays["quaternion"], arrays["opening"], strict=True)
    return np.stack([proprioception(Pose(p, q), float(o)) for p, q, o in rows])


def one_specification(folders: list[Path]) -> ActionSpace:
    """Return the convention of the actions that all folders share.

    Raises:
        VlaError: naming what differs.
    """
    specifications = [read_specification(folder) for folder in folders]
    for folder, other in zip(folders[1:], specifications[1:], strict=True):
        if differences := specifications[0].differences(other):
            raise VlaError(f"{folder} has another action convention than {folders[0]}: " + "; ".join(differences))
    return specifications[0]
