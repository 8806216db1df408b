"""Dataset of the pick task: each image once, with several instructions."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vla_ros.actions.gripper_convention import GripperConvention, column_from_openings
from vla_ros.actions.groups import ActionGroup, Quantity
from vla_ros.actions.legacy_specification import ONLY_ARM
from vla_ros.actions.rotations import Rotation
from vla_ros.actions.space import ActionSpace
from vla_ros.data.episodes.demonstrations import read_episodes, read_specification
from vla_ros.errors import VlaError
from vla_ros.language.commands import Act, Command
from vla_ros.language.tokenizer import WordTokenizer, split_words
from vla_ros.models.contract import ModelInput, ModelTarget
from vla_ros.processing.features import CameraFeature, PolicyFeatures, default_state
from vla_ros.processing.normalizer import Normalizer
from vla_ros.processing.processor import Processor, Statistics, float_tensor
from vla_ros.processing.state import ArmState, state_values
from vla_ros.training.datasets.concepts import concept_columns
from vla_ros.training.datasets.image_store import fingerprint, varied
from vla_ros.training.datasets.source import ReadImages, draw_steps
from vla_ros.types import Pose

SENTENCE_LENGTH = 10
"""Number of words that an instruction is padded to."""


STATE_FLOOR = 1e-2
"""Lower bound of the standard deviation of a measurement: m, rad, or an entry of a rotation matrix."""

POSITION_FLOOR, ROTATION_FLOOR = 1e-3, 1e-2
"""Lower bounds of the standard deviation of action columns, m and rad."""

GRIPPER_FLOOR = 1e-2
"""Lower bound of the standard deviation of a gripper that is not in meters, as a fraction of its range."""

TOOL_SCALE = 0.1
"""Common scale of tool and target positions, m: their normalized difference is a scaled displacement in meters."""


TOOL_STATE = (
    ActionGroup(ONLY_ARM, Quantity.EE_POSE, frame="base", rotation=Rotation.SIX_D),
    ActionGroup(ONLY_ARM, Quantity.GRIPPER, gripper=GripperConvention.OPENING),
)
"""State groups that the demonstrations of the simulated workcell measure."""


class PickDataset:
    """All steps of one or more folders in memory, as uint8 images and small tables.

    Attributes:
        count: Number of steps.
        episode_of: (count,) index of each step's episode.
        specification: Action space.
        key: Identifies the images, for caches of what is computed from them.
        taught: Words of all templates and all objects.
        processor: Processor fitted to these steps; its vocabulary is `taught`.
    """

    def __init__(
        self, folders: Iterable[Path], cameras: Iterable[str], templates: Iterable[str], absent: Iterable[str]
    ) -> None:
        """Read all episodes.

        Args:
            folders: Folders of episodes with the same action space.
            cameras: Cameras to read.
            templates: Instructions with a placeholder for an object's name.
            absent: Names of objects that instructions may ask for although they are absent.

        Raises:
            VlaError: when folders have different action spaces or contain no episode.
        """
        folders = list(folders)
        self.key: str | None = "_".join(fingerprint(folder) for folder in folders)
        self.cameras = tuple(cameras)
        self.templates, self.kinds = tuple(templates), tuple(absent)
        self.specification = one_specification(folders)
        rows: dict[str, list[NDArray[np.generic]]] = {}
        names: list[tuple[str, ...]] = []
        keys = [
            "actions",
            "target",
            "asked",
            *(f"image_{c}" for c in self.cameras),
            *(f"pixel_{c}" for c in self.cameras),
        ]
        self.episodes = 0
        self._drawn: NDArray[np.int64] | None = None
        self._read_images: ReadImages | None = None
        episode_of: list[int] = []
        for folder in folders:
            for episode in read_episodes(folder):
                for key in keys:
                    rows.setdefault(key, []).append(episode.arrays[key])
                rows.setdefault("state", []).append(recorded_states(episode.arrays))
                names += [tuple(str(n) for n in episode.arrays["names"])] * len(episode)
                episode_of += [self.episodes] * len(episode)
                self.episodes += 1
        if not names:
            raise VlaError(f"no episodes in {[str(f) for f in folders]}; collect some with 'vla-ros collect'")
        self._rows = {key: np.concatenate(parts) for key, parts in rows.items()}
        self._names, self.episode_of = names, np.array(episode_of, np.int64)
        self.count = len(names)
        vocabulary = {word for t in self.templates for word in split_words(t.format(""))}
        vocabulary |= {word for kind in self.kinds for word in split_words(kind)}
        self.taught = tuple(sorted(vocabulary))
        actions = self._rows["actions"].reshape(-1, *self._rows["actions"].shape[2:])
        sizes = {camera: self._rows[f"image_{camera}"].shape[1:3] for camera in self.cameras}
        features = policy_features(sizes, self.specification, SENTENCE_LENGTH)
        statistics = fit_statistics(features, self._rows["state"], actions)
        self.processor = Processor(features, statistics, WordTokenizer(self.taught))

    def with_processor(self, processor: Processor) -> PickDataset:
        """Return the same steps, converted to tensors by another processor."""
        other = copy.copy(self)
        other.processor = processor
        return other

    def batch(self, index: NDArray[np.int64], rng: np.random.Generator) -> tuple[ModelInput, ModelTarget]:
        """Return the steps `index`, each with an instruction per object on the table and one for an absent object."""
        return self.steps(index, rng.spawn(len(index)))

    @property
    def groups(self) -> tuple[int, ...]:
        """Number of episodes of each dataset; all folders together are one."""
        return (self.episodes,)

    def without(self, episodes: Collection[int]) -> PickDataset:
        """Return the same steps, with `rows` drawing only from the other episodes."""
        other = copy.copy(self)
        other._drawn = np.flatnonzero(~np.isin(self.episode_of, list(episodes)))
        return other

    def images(self, index: NDArray[np.int64], generators: Sequence[np.random.Generator]) -> dict[str, torch.Tensor]:
        """Return the images (B, 3, h, w) of steps, 0 to 1, each in a light drawn by its generator."""
        return {c: varied(self._rows[f"image_{c}"][index], generators) for c in self.cameras}

    def with_images(self, read: ReadImages) -> PickDataset:
        """Return the same steps with other tensors in place of their images."""
        other = copy.copy(self)
        other._read_images = read
        return other

    def rows(self, generators: Sequence[np.random.Generator], update: int) -> tuple[ModelInput, ModelTarget]:
        """Return one step per generator, drawn by it; see `batch`."""
        return self.steps(draw_steps(generators, self.count, self._drawn), generators)

    def steps(
        self, index: NDArray[np.int64], generators: Sequence[np.random.Generator]
    ) -> tuple[ModelInput, ModelTarget]:
        """Return the steps `index`, each randomized by its own generator; see `batch`."""
        rows = self._rows
        names = [self._names[i] for i in index]
        asked = [[*n, self._absent(n, rng)] for n, rng in zip(names, generators, strict=True)]
        sentences = [
            [self._sentence(name, rng) for name in group] for group, rng in zip(asked, generators, strict=True)
        ]
        visible = [[1.0] * len(n) + [0.0] for n in names]
        processor = self.processor
        actions = _with_absent(rows["actions"][index])
        position = _with_absent(rows["target"][index])
        continuous, binary = processor.targets(actions)
        inputs = ModelInput(
            images=(self._read_images or self.images)(index, generators),
            state=processor.state(rows["state"][index]),
            tokens=torch.stack([processor.tokens(group) for group in sentences]),
        )
        target = ModelTarget(
            continuous=continuous,
            binary=binary,
            target=processor.places(position),
            pixels={c: float_tensor(_with_absent(rows[f"pixel_{c}"][index])) for c in self.cameras},
            target_visible=float_tensor(np.array(visible)),
            concepts={k: torch.from_numpy(v) for k, v in concept_columns(_picks(asked)).items()},
        )
        return inputs, target

    def _absent(self, names: tuple[str, ...], rng: np.random.Generator) -> str:
        elsewhere = [kind for kind in self.kinds if kind not in names]
        return elsewhere[int(rng.integers(len(elsewhere)))]

    def _sentence(self, name: str, rng: np.random.Generator) -> str:
        return self.templates[int(rng.integers(len(self.templates)))].format(name)


def _picks(names: Sequence[Sequence[str]]) -> list[list[Command]]:
    """Return the structured form of each "pick up ..." instruction."""
    return [[Command(Act.PICK, (name.split(" ")[0], name.split(" ")[1])) for name in group] for group in names]


def policy_features(
    sizes: Mapping[str, tuple[int, int]], action: ActionSpace, words: int, history: int = 1
) -> PolicyFeatures:
    """Return the inputs and outputs of a policy with this action space; `sizes` are (height, width) by camera."""
    cameras = tuple(CameraFeature(name, int(height), int(width)) for name, (height, width) in sizes.items())
    return PolicyFeatures(cameras, default_state(action), action, words, history)


def column_floors(group: ActionGroup, position: float, angle: float) -> NDArray[np.float64]:
    """Return the minimum scale of each column of a group, in its unit; `position` in m and `angle` in rad."""
    if group.quantity is Quantity.GRIPPER:
        if group.gripper is GripperConvention.OPENING:
            return np.array([position])
        column = column_from_openings(np.array([0.0, GRIPPER_FLOOR]), group.gripper, 1.0)
        return np.abs(np.diff(column))
    floors = np.full(group.width, angle)
    if group.quantity.of_tool:
        floors[:3] = position
    return np.abs(group.from_si(floors) - group.from_si(np.zeros(group.width)))


def action_floors(features: PolicyFeatures) -> NDArray[np.float64]:
    """Return the minimum scale of each continuous column of the actions."""
    floors = [column_floors(group, POSITION_FLOOR, ROTATION_FLOOR) for group in features.action.groups]
    return np.concatenate(floors)[list(features.continuous_columns)]


def state_floors(features: PolicyFeatures) -> NDArray[np.float64]:
    """Return the minimum scale of each column of the state."""
    return np.concatenate([column_floors(group, STATE_FLOOR, STATE_FLOOR) for group in features.state])


def fit_statistics(features: PolicyFeatures, states: NDArray[Any], chunks: NDArray[Any]) -> Statistics:
    """Fit the statistics of states (n, state width) and chunks (n, horizon, width)."""
    actions = np.asarray(chunks)[..., list(features.continuous_columns)]
    statistics = Statistics(
        Normalizer.fit(states, floor=state_floors(features)), Normalizer.fit(actions, floor=action_floors(features))
    )
    return with_tool_scale(statistics, features)


def with_tool_scale(statistics: Statistics, features: PolicyFeatures) -> Statistics:
    """Return the statistics with the common scale of tool and target positions."""
    if features.tool_columns is None:
        return statistics
    return Statistics(statistics.state.with_scale(features.tool_columns, TOOL_SCALE), statistics.action)


def _with_absent(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Append a column for the absent object; `target_visible` masks its content."""
    return np.concatenate([values, values[:, :1]], axis=1)


def recorded_states(arrays: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
    """Return the proprioception (steps, 10) of an episode, as seen by a policy."""
    rows = zip(arrays["position"], arrays["quaternion"], arrays["opening"], strict=True)
    arms = (ArmState(pose=Pose(p, q), opening=float(o)) for p, q, o in rows)
    return np.stack([state_values(TOOL_STATE, {ONLY_ARM: arm}) for arm in arms])


def one_specification(folders: list[Path]) -> ActionSpace:
    """Return the action space shared by all folders.

    Raises:
        VlaError: naming the differences.
    """
    specifications = [read_specification(folder) for folder in folders]
    for folder, other in zip(folders[1:], specifications[1:], strict=True):
        if differences := specifications[0].differences(other):
            raise VlaError(f"{folder} has another action convention than {folders[0]}: " + "; ".join(differences))
    return specifications[0]
