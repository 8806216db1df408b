"""Turns recorded episodes into batches: pictures once, and several sentences about each of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from vla_ros.actions.normaliser import Normaliser
from vla_ros.actions.specification import ActionSpecification
from vla_ros.data.episodes import read_episodes, read_specification
from vla_ros.errors import VlaError
from vla_ros.language.tokenizer import WordTokenizer, split_words
from vla_ros.models.contract import ModelInput, ModelTarget
from vla_ros.policies.local import proprioception
from vla_ros.types import Pose

SENTENCE_LENGTH = 10
"""Words a sentence is padded to."""


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
        tokenizer: Vocabulary: the words of every template and every object.
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
        self.specification = _one_specification(folders)
        rows: dict[str, list[NDArray[np.generic]]] = {}
        names: list[tuple[str, ...]] = []
        keys = ["actions", "target", "asked", *(f"image_{c}" for c in self.cameras),
                *(f"pixel_{c}" for c in self.cameras)]  # fmt: skip
        self.episodes = 0
        for folder in folders:
            for episode in read_episodes(folder):
                for key in keys:
                    rows.setdefault(key, []).append(episode.arrays[key])
                rows.setdefault("state", []).append(_states(episode.arrays))
                names += [tuple(str(n) for n in episode.arrays["names"])] * len(episode)
                self.episodes += 1
        if not names:
            raise VlaError(f"no episodes in {[str(f) for f in folders]}; collect some with 'vla-ros collect'")
        self._rows = {key: np.concatenate(parts) for key, parts in rows.items()}
        self._names = names
        self.count = len(names)
        vocabulary = {word for t in self.templates for word in split_words(t.format(""))}
        vocabulary |= {word for kind in self.kinds for word in split_words(kind)}
        self.tokenizer = WordTokenizer(tuple(sorted(vocabulary)))
        actions = self._rows["actions"].reshape(-1, *self._rows["actions"].shape[2:])
        self.statistics = Statistics(
            position=Normaliser.fit(actions[..., :3], floor=1e-3),
            rotation=Normaliser.fit(actions[..., 3:6], floor=1e-2),
            state=self._fit_state(),
        )

    def _fit_state(self) -> Normaliser:
        state = Normaliser.fit(self._rows["state"], floor=1e-2)
        # Tool and target share one scale, so that a difference of normalised places is a way in metres.
        mean, deviation = state.mean.copy(), state.deviation.copy()
        deviation[:3] = 0.1
        return Normaliser(mean, deviation)

    def batches(self, size: int, rng: np.random.Generator) -> Iterator[tuple[ModelInput, ModelTarget]]:
        """Yield batches of `size` steps without end; one state of `rng` always gives the same batches."""
        while True:
            yield self.batch(rng.integers(0, self.count, size), rng)

    def batch(self, index: NDArray[np.int64], rng: np.random.Generator) -> tuple[ModelInput, ModelTarget]:
        """Return the steps `index`, each with a sentence for every object on the table and one for an absent one."""
        rows = self._rows
        names = [self._names[i] for i in index]
        sentences, present = zip(*(self._sentences(n, rng) for n in names), strict=True)
        tokens = np.stack([[self.tokenizer.encode(s, SENTENCE_LENGTH) for s in group] for group in sentences])
        actions = _with_absent(rows["actions"][index])
        target = _with_absent(rows["target"][index])
        position, rotation = self.statistics.position, self.statistics.rotation
        place = Normaliser(self.statistics.state.mean[:3], self.statistics.state.deviation[:3])
        given = ModelInput(
            images={c: self._pictures(rows[f"image_{c}"][index], rng) for c in self.cameras},
            state=_tensor(self.statistics.state.normalise(rows["state"][index])),
            tokens=torch.from_numpy(tokens),
        )
        wanted = ModelTarget(
            positions=_tensor(position.normalise(actions[..., :3])),
            rotations=_tensor(rotation.normalise(actions[..., 3:6])),
            gripper=_tensor(actions[..., 6]),
            target=_tensor(place.normalise(target)),
            pixels={c: _tensor(_with_absent(rows[f"pixel_{c}"][index])) for c in self.cameras},
            present=_tensor(np.stack(present)),
        )
        return given, wanted

    def _sentences(self, names: tuple[str, ...], rng: np.random.Generator) -> tuple[list[str], NDArray[np.float64]]:
        elsewhere = [kind for kind in self.kinds if kind not in names]
        asked = [*names, elsewhere[int(rng.integers(len(elsewhere)))]]
        sentences = [self.templates[int(rng.integers(len(self.templates)))].format(name) for name in asked]
        return sentences, np.array([1.0] * len(names) + [0.0])

    @staticmethod
    def _pictures(pictures: NDArray[np.uint8], rng: np.random.Generator) -> torch.Tensor:
        """Return (B, 3, h, w) float 0 to 1, each picture with light, colour and noise of its own."""
        tensor = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255.0
        light = rng.uniform(0.85, 1.15, (len(pictures), 1, 1, 1))
        gain = _tensor(light * rng.uniform(0.94, 1.06, (len(pictures), 3, 1, 1)))
        return (tensor * gain + 0.01 * torch.randn_like(tensor)).clamp_(0.0, 1.0)


def _with_absent(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Append a column for the absent object; its content is masked by `present`."""
    return np.concatenate([values, values[:, :1]], axis=1)


def _tensor(values: NDArray[np.generic]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))


def _states(arrays: object) -> NDArray[np.float64]:
    rows = zip(arrays["position"], arrays["quaternion"], arrays["opening"], strict=True)  # type: ignore[index]
    return np.stack([proprioception(Pose(p, q), float(o)) for p, q, o in rows])


def _one_specification(folders: list[Path]) -> ActionSpecification:
    specifications = [read_specification(folder) for folder in folders]
    for folder, other in zip(folders[1:], specifications[1:], strict=True):
        if differences := specifications[0].differences(other):
            raise VlaError(f"{folder} has another action convention than {folders[0]}: " + "; ".join(differences))
    return specifications[0]
