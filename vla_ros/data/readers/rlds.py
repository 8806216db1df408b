"""Reads RLDS data sets stored by TensorFlow Datasets: one record per episode, encoded images, per-field step lists.

Field names differ between data sets; `LAYOUTS` describes the known ones. Any other data set needs its own layout.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vla_ros.actions.gripper_convention import GripperConvention
from vla_ros.actions.groups import Reference
from vla_ros.actions.rotations import Rotation
from vla_ros.actions.space import ActionSpace
from vla_ros.data.conventions import absolute_gripper, quaternion_from_euler, rotation_vector_from_euler
from vla_ros.data.episodes.images import decode_image
from vla_ros.data.errors import DamagedDataError, DataError, MissingColumnError, NotFiniteError
from vla_ros.data.reader import DatasetDescription
from vla_ros.data.readers.tfrecord import Feature, parse_example, read_record, record_offsets
from vla_ros.data.step import GRIPPER_FRACTION, POSE_NAMES, Step
from vla_ros.types import FloatArray

Columns = Callable[["RldsEpisode"], FloatArray]


class RldsEpisode:
    """Fields of one record; raises on missing and ragged ones."""

    def __init__(self, where: str, features: Mapping[str, Feature]) -> None:
        """Wrap the parsed features."""
        self._where, self._features = where, features
        self.count = len(self._field("steps/is_last"))
        if self.count == 0:
            raise DamagedDataError(f"{where} has no steps")

    def _field(self, name: str) -> Feature:
        if name not in self._features:
            raise MissingColumnError(f"{self._where} has no field '{name}'; it has {sorted(self._features)}")
        return self._features[name]

    def numbers(self, name: str, width: int) -> FloatArray:
        """Return a field as (steps, width)."""
        values = self._field("steps/" + name)
        if isinstance(values, list) or len(values) != self.count * width:
            raise DamagedDataError(
                f"{self._where}: '{name}' has {len(values)} values, expected {self.count} steps of {width} numbers"
            )
        table = np.asarray(values, dtype=np.float64).reshape(self.count, width)
        if not np.isfinite(table).all():
            step = int(np.flatnonzero(~np.isfinite(table).all(axis=1))[0])
            raise NotFiniteError(f"{self._where}, step {step}: '{name}' holds {table[step].tolist()}")
        return table

    def contents(self, name: str) -> list[bytes]:
        """Return a field with one text or image per step."""
        values = self._field("steps/" + name)
        if not isinstance(values, list) or len(values) != self.count:
            raise DamagedDataError(f"{self._where}: '{name}' has {len(values)} entries, expected {self.count}")
        return values


@dataclass(frozen=True)
class RldsLayout:
    """Mapping of a data set's fields to steps.

    Attributes:
        images: Camera to the field with its encoded images.
        instruction: Field with the instruction.
        names: Names of the measurements returned by `proprioception`.
        proprioception: Returns (steps, n).
        convention: Action space of the values returned by `action`.
        action: Returns (steps, width).
        first_step: First step with an action; earlier ones are skipped.
        source: Where this layout is documented.
    """

    images: Mapping[str, str]
    instruction: str
    names: tuple[str, ...]
    proprioception: Columns
    convention: ActionSpace
    action: Columns
    first_step: int
    source: str


def _delta(rate_hz: float) -> ActionSpace:
    return ActionSpace.of_one_tool(
        "base", Reference.DELTA, Rotation.ROTATION_VECTOR, GripperConvention.OPEN_IS_ONE, rate_hz, 1
    )


def _by_euler(position: FloatArray, angles: FloatArray, gripper: FloatArray) -> FloatArray:
    vectors = np.stack([rotation_vector_from_euler(row) for row in angles])
    return np.concatenate([position, vectors, gripper.reshape(-1, 1)], axis=1)


def _pose_by_euler(state: FloatArray) -> FloatArray:
    quaternions = np.stack([quaternion_from_euler(row) for row in state[:, 3:6]])
    return np.concatenate([state[:, :3], quaternions, state[:, 6:7]], axis=1)


def _bridge_action(episode: RldsEpisode) -> FloatArray:
    action = episode.numbers("action", 7)
    return _by_euler(action[:, :3], action[:, 3:6], np.clip(action[:, 6], 0.0, 1.0))


def _bridge_oxe_action(episode: RldsEpisode) -> FloatArray:
    position, angles = episode.numbers("action/world_vector", 3), episode.numbers("action/rotation_delta", 3)
    return _by_euler(position, angles, episode.numbers("action/open_gripper", 1))


def _rt1_action(episode: RldsEpisode) -> FloatArray:
    position, angles = episode.numbers("action/world_vector", 3), episode.numbers("action/rotation_delta", 3)
    return _by_euler(position, angles, absolute_gripper(episode.numbers("action/gripper_closedness_action", 1)[:, 0]))


def _rt1_state(episode: RldsEpisode) -> FloatArray:
    pose = episode.numbers("observation/base_pose_tool_reached", 7)
    return np.concatenate([pose, 1.0 - episode.numbers("observation/gripper_closed", 1)], axis=1)


_BRIDGE_NAMES = (*POSE_NAMES, GRIPPER_FRACTION)
LAYOUTS: Mapping[str, RldsLayout] = {
    "bridge_dataset": RldsLayout(
        images={"image_0": "observation/image_0"},
        instruction="language_instruction",
        names=_BRIDGE_NAMES,
        proprioception=lambda episode: _pose_by_euler(episode.numbers("observation/state", 7)),
        convention=_delta(5.0),
        action=_bridge_action,
        first_step=1,
        source="BridgeData V2, RLDS 1.0.0; 5 Hz; the first action is all zero (OpenVLA's notes on the set)",
    ),
    "bridge": RldsLayout(
        images={"image": "observation/image"},
        instruction="observation/natural_language_instruction",
        names=_BRIDGE_NAMES,
        proprioception=lambda episode: _pose_by_euler(episode.numbers("observation/state", 7)),
        convention=_delta(5.0),
        action=_bridge_oxe_action,
        first_step=1,
        source="Open X-Embodiment's bridge 0.1.0; 5 Hz; the first action is all zero",
    ),
    "fractal20220817_data": RldsLayout(
        images={"image": "observation/image"},
        instruction="observation/natural_language_instruction",
        names=_BRIDGE_NAMES,
        proprioception=_rt1_state,
        convention=_delta(3.0),
        action=_rt1_action,
        first_step=0,
        source="Open X-Embodiment's RT-1 set 0.1.0; 3 Hz; the gripper column is a change, made absolute here",
    ),
}


class RldsReader:
    """See `EpisodeReader`. Holds one encoded episode and one decoded image per camera."""

    def __init__(self, folder: Path, *, layout: RldsLayout | None = None, split: str = "train") -> None:
        """Find the records; only their headers are read.

        Args:
            folder: Folder of the files `<name>-<split>.tfrecord-00000-of-00001`.
            layout: Field mapping; if None, the one in `LAYOUTS` for the name in the file names.
            split: Split to read.

        Raises:
            DataError: when there are no such files, or no layout is known for them.
            DamagedDataError: when a file is truncated, or fewer files exist than their names announce.
        """
        files = sorted(Path(folder).glob(f"*-{split}.tfrecord*"))
        if not files:
            raise DataError(f"{folder} has no files '*-{split}.tfrecord*'")
        name = files[0].name.split(f"-{split}.tfrecord")[0]
        if layout is None and name not in LAYOUTS:
            raise DataError(f"no layout is known for '{name}' (known: {sorted(LAYOUTS)}); give one")
        self._layout = layout or LAYOUTS[name]
        _, counted, total = files[0].name.rpartition("-of-")
        if counted and int(total) != len(files):
            raise DamagedDataError(f"{folder}: {len(files)} of the {int(total)} files of '{name}' are there")
        self._records = {
            f"{path.name.rpartition('.tfrecord')[2].strip('-') or '0'}/{number:06d}": (path, offset, length)
            for path in files
            for number, (offset, length) in enumerate(record_offsets(path))
        }
        layout = self._layout
        self._description = DatasetDescription(name, layout.convention, tuple(layout.images), layout.names)

    @property
    def description(self) -> DatasetDescription:
        """Properties common to all steps."""
        return self._description

    @property
    def episodes(self) -> Sequence[str]:
        """File and number of every episode."""
        return list(self._records)

    def read(self, episode: str, *, images: bool = True) -> Iterator[Step]:
        """Yield the steps of an episode; success is unknown, these data sets do not record it."""
        if episode not in self._records:
            raise DataError(f"{self._description.name} has no episode '{episode}'; it has {len(self._records)}")
        path, offset, length = self._records[episode]
        with path.open("rb") as file:
            content = read_record(file, offset, length)
        where, layout = f"{path.name}, episode '{episode}'", self._layout
        fields = RldsEpisode(where, parse_example(content))
        coded = {camera: fields.contents(name) for camera, name in layout.images.items() if images}
        words = fields.contents(layout.instruction)
        states, actions = layout.proprioception(fields), layout.action(fields)
        for index in range(layout.first_step, fields.count):
            number = index - layout.first_step
            yield Step(
                images={camera: decode_image(content[index], where) for camera, content in coded.items()},
                instruction=words[index].decode("utf-8", "replace").strip(),
                proprioception=states[index],
                action=actions[index],
                convention=self._description.convention,
                task=self._description.name,
                episode=episode,
                index=number,
                timestamp=number * self._description.convention.period,
                last=index == fields.count - 1,
                success=None,
                proprioception_names=layout.names,
            )
