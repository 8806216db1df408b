"""Reads RLBench demonstrations as saved by its data set generator.

    <task>/variation0/episodes/episode0/low_dim_obs.pkl             a Demo: one Observation per step, without images
    <task>/variation0/episodes/episode0/front_rgb/0.png             one image per step and camera
    <task>/variation0/episodes/episode0/variation_descriptions.pkl  equivalent instructions of the episode
    <task>/variation0/variation_descriptions.pkl                    the same, in older sets

RLBench saves measurements, not commands. The action of a step is the measured pose and gripper state of the next step,
absolute, in the robot's world frame; the last observation has none. The generator keeps successful demonstrations only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vla_ros.actions.gripper_convention import GripperConvention
from vla_ros.actions.groups import Reference
from vla_ros.actions.rotations import Rotation
from vla_ros.actions.space import ActionSpace
from vla_ros.data.episodes.images import decode_image
from vla_ros.data.errors import DamagedDataError, DataError, MissingColumnError, NotFiniteError
from vla_ros.data.reader import DatasetDescription
from vla_ros.data.readers.restricted_pickle import load
from vla_ros.data.step import GRIPPER_FRACTION, POSE_NAMES, Step
from vla_ros.types import FloatArray, ImageArray

RATE_HZ = 20.0
"""Recording rate, Hz: RLBench records at CoppeliaSim's step of 50 ms."""

CAMERAS = ("front", "left_shoulder", "right_shoulder", "overhead", "wrist")
JOINTS = 7


class _Shell:
    """Replaces RLBench's Demo and Observation: attributes only, no code."""

    def __setstate__(self, state: Any) -> None:  # noqa: ANN401 (whatever the file says)
        if not isinstance(state, dict):
            raise DamagedDataError(f"an object with the state {type(state).__name__}, expected names and values")
        self.__dict__.update(state)


_CLASSES = {
    ("rlbench.demo", "Demo"): _Shell,
    ("rlbench.backend.observation", "Observation"): _Shell,
}


class RlbenchReader:
    """See `EpisodeReader`. Holds one episode's numbers and one image per camera."""

    def __init__(self, root: Path, *, cameras: Sequence[str] = ("front", "wrist")) -> None:
        """Find the episodes below `root`: the folder of one task, or one above several.

        Raises:
            DataError: when there are none, or a camera is not one of RLBench's.
        """
        if unknown := set(cameras) - set(CAMERAS):
            raise DataError(f"RLBench has no cameras {sorted(unknown)}; it has {CAMERAS}")
        self._root = Path(root)
        folders = [path.parent for path in self._root.rglob("low_dim_obs.pkl")]
        if not folders:
            raise DataError(f"{root} holds no RLBench demonstration (low_dim_obs.pkl)")
        ordered = sorted(folders, key=lambda folder: [_number(part) for part in folder.relative_to(self._root).parts])
        self._folders = {folder.relative_to(self._root).as_posix(): folder for folder in ordered}
        names = (*(f"joint_{i + 1}" for i in range(JOINTS)), *POSE_NAMES, GRIPPER_FRACTION)
        convention = ActionSpace.of_one_tool(
            "world", Reference.ABSOLUTE, Rotation.QUATERNION, GripperConvention.OPEN_IS_ONE, RATE_HZ, 1
        )
        self._description = DatasetDescription(self._root.name, convention, tuple(cameras), names)

    @property
    def description(self) -> DatasetDescription:
        """Properties common to all steps."""
        return self._description

    @property
    def episodes(self) -> Sequence[str]:
        """Folders of the episodes, relative to the root."""
        return list(self._folders)

    def read(self, episode: str, *, images: bool = True) -> Iterator[Step]:
        """Yield the steps of an episode."""
        if episode not in self._folders:
            raise DataError(f"{self._root} has no episode '{episode}'; it has {len(self._folders)}")
        folder = self._folders[episode]
        demo = load(folder / "low_dim_obs.pkl", _CLASSES)
        observations = demo if isinstance(demo, list) else getattr(demo, "_observations", None)
        if not isinstance(observations, list) or len(observations) < 2:
            raise DamagedDataError(f"{folder / 'low_dim_obs.pkl'} holds no demonstration of at least two observations")
        states = np.stack([_state(observation, folder, i) for i, observation in enumerate(observations)])
        instruction, task = _instruction(folder), folder.relative_to(self._root).parts
        cameras = self._description.cameras if images else ()
        for index in range(len(states) - 1):
            yield Step(
                images={camera: self._image(folder, camera, index) for camera in cameras},
                instruction=instruction,
                proprioception=states[index],
                action=states[index + 1, JOINTS:],
                convention=self._description.convention,
                task=self._root.name if task[0].startswith(("variation", "all_variations", "episode")) else task[0],
                episode=episode,
                index=index,
                timestamp=index / RATE_HZ,
                last=index == len(states) - 2,
                success=True,
                proprioception_names=self._description.proprioception_names,
            )

    @staticmethod
    def _image(folder: Path, camera: str, index: int) -> ImageArray:
        path = folder / f"{camera}_rgb" / f"{index}.png"
        if not path.parent.is_dir():
            raise MissingColumnError(f"{folder} has no images of the camera '{camera}'")
        if not path.exists():
            raise DamagedDataError(f"{path} is missing")
        return decode_image(path.read_bytes(), str(path))


def _state(observation: Any, folder: Path, index: int) -> FloatArray:  # noqa: ANN401 (whatever the file says)
    where = f"{folder / 'low_dim_obs.pkl'}, observation {index}"
    parts = []
    for name, width in (("joint_positions", JOINTS), ("gripper_pose", 7), ("gripper_open", 1)):
        value = getattr(observation, name, None)
        if value is None:
            raise MissingColumnError(f"{where} has no '{name}'")
        part = np.atleast_1d(np.asarray(value, dtype=np.float64))
        if part.shape != (width,):
            raise DamagedDataError(f"{where}: '{name}' has shape {part.shape}, expected ({width},)")
        if not np.isfinite(part).all():
            raise NotFiniteError(f"{where}: '{name}' holds {part.tolist()}")
        parts.append(part)
    return np.concatenate(parts)


def _instruction(folder: Path) -> str:
    """Return the first of an episode's instructions."""
    for place in (folder, folder.parent.parent):
        path = place / "variation_descriptions.pkl"
        if path.exists():
            sentences = load(path, {})
            if isinstance(sentences, list) and sentences and all(isinstance(text, str) for text in sentences):
                return str(sentences[0])
            raise DamagedDataError(f"{path} holds no list of sentences")
    raise MissingColumnError(f"{folder} has no variation_descriptions.pkl, nor has its variation")


def _number(part: str) -> tuple[str, int]:
    """Return a natural sort key: `episode10` after `episode9`."""
    stem = part.rstrip("0123456789")
    return stem, int(part[len(stem) :] or 0)
