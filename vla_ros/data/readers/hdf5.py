"""Demonstrations of LIBERO and robomimic: one HDF5 file a task, one group `data/demo_<i>` an episode.

Both drive robosuite's operational space controller: the first six columns of an action run from -1 to 1 and stand for
0.05 m and 0.5 rad a step at most (its default `output_max`), the last from -1, open, to 1, closed. They become metres,
a rotation vector and a share of closing here. LIBERO's writer pairs an action with what was seen after it; such pairs
are passed on as they stand there.

===========  ==================================================  ===================================================
             LIBERO                                              robomimic
===========  ==================================================  ===================================================
pictures     obs/agentview_rgb, obs/eye_in_hand_rgb              obs/agentview_image, obs/robot0_eye_in_hand_image
tool         obs/ee_pos, obs/ee_ori (rotation vector, rad)       obs/robot0_eef_pos, obs/robot0_eef_quat (x, y, z, w)
joints       obs/joint_states                                    obs/robot0_joint_pos
words        attribute problem_info of data                      none
their rows   upside down where macros_image_convention=opengl    upright
===========  ==================================================  ===================================================

Sources: LIBERO's `scripts/create_dataset.py`; robomimic's page on data set contents; robosuite's controllers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from vla_ros.actions.specification import ActionSpecification, GripperConvention, Reference, Rotation
from vla_ros.data.conventions import quaternion_from_rotation_vector
from vla_ros.data.errors import ConventionError, DamagedDataError, DataError, MissingColumnError, NotFiniteError
from vla_ros.data.reader import DatasetDescription
from vla_ros.data.step import POSE_NAMES, Step
from vla_ros.types import FloatArray, ImageArray

POSITION_SCALE, ROTATION_SCALE = 0.05, 0.5
"""Largest change a step of robosuite's controller, m and rad."""

CONTROLLER = "OSC_POSE"
RATE_HZ = 20.0
INPUT_TOLERANCE = 1e-6


@dataclass(frozen=True)
class _Form:
    cameras: dict[str, str]
    position: str
    orientation: str
    joints: str


_LIBERO = _Form({"agentview": "agentview_rgb", "eye_in_hand": "eye_in_hand_rgb"}, "ee_pos", "ee_ori", "joint_states")
_ROBOMIMIC = _Form(
    {"agentview": "agentview_image", "eye_in_hand": "robot0_eye_in_hand_image"},
    "robot0_eef_pos", "robot0_eef_quat", "robot0_joint_pos",
)  # fmt: skip


class Hdf5Reader:
    """See `EpisodeReader`. One file; reads a row at a time."""

    def __init__(self, path: Path, *, instruction: str | None = None) -> None:
        """Look into a file.

        Args:
            path: The file.
            instruction: Words for a file that has none.

        Raises:
            ConventionError: when its actions go to another controller than operational space poses, or are absolute.
            MissingColumnError: when it is of neither form.
            DamagedDataError: when it cannot be opened, or its attributes cannot be read.
        """
        self.path = Path(path)
        with self._opened() as file:
            data = self._group(file, "data")
            self._demos = sorted(data, key=lambda name: int(name.rpartition("_")[2]) if "_" in name else 0)
            if not self._demos:
                raise DataError(f"{self.path} holds no demonstration")
            observed = self._group(file, f"data/{self._demos[0]}/obs")
            self._form = _LIBERO if _LIBERO.position in observed else _ROBOMIMIC
            attributes = {name: str(value) for name, value in data.attrs.items()}
            self._cameras = {c: f for c, f in self._form.cameras.items() if f in observed}
            joints = int(self._dataset(file, f"data/{self._demos[0]}/obs/{self._form.joints}").shape[1])
        self._check_controller(attributes)
        self._instruction = instruction if instruction is not None else self._words(attributes)
        self._upside_down = attributes.get("macros_image_convention") == "opengl"
        names = (*(f"joint_{i + 1}" for i in range(joints)), *POSE_NAMES)
        convention = ActionSpecification("base", Reference.DELTA, Rotation.ROTATION_VECTOR,
                                         GripperConvention.CLOSED_IS_ONE, RATE_HZ, 1)  # fmt: skip
        self._description = DatasetDescription(self.path.stem, convention, tuple(self._cameras), names)

    def _opened(self) -> h5py.File:
        try:
            return h5py.File(self.path, "r")
        except OSError as error:
            raise DamagedDataError(f"{self.path} cannot be opened: {error}") from error

    def _group(self, file: h5py.File, name: str) -> h5py.Group:
        found = file.get(name)
        if not isinstance(found, h5py.Group):
            raise MissingColumnError(f"{self.path} has no group '{name}'")
        return found

    def _dataset(self, file: h5py.File, name: str) -> h5py.Dataset:
        found = file.get(name)
        if not isinstance(found, h5py.Dataset):
            raise MissingColumnError(f"{self.path} has no '{name}'")
        return found

    def _parsed(self, attributes: dict[str, str], name: str) -> dict[str, Any]:
        try:
            content = json.loads(attributes[name])
        except KeyError:
            raise MissingColumnError(f"{self.path}: 'data' has no attribute '{name}'") from None
        except ValueError as error:
            raise DamagedDataError(f"{self.path}: attribute '{name}' cannot be read: {error}") from error
        if not isinstance(content, dict):
            raise DamagedDataError(f"{self.path}: attribute '{name}' holds {type(content).__name__}")
        return content

    def _check_controller(self, attributes: dict[str, str]) -> None:
        settings = self._parsed(attributes, "env_args").get("env_kwargs", {})
        controller = settings.get("controller_configs", {})
        kind, rate = controller.get("type"), settings.get("control_freq")
        if kind != CONTROLLER or not controller.get("control_delta", True) or rate != RATE_HZ:
            raise ConventionError(
                f"{self.path}: the controller is {kind!r} with control_delta={controller.get('control_delta')} at "
                f"{rate} Hz, expected {CONTROLLER} with changes of the pose at {RATE_HZ} Hz"
            )
        largest = np.ravel(controller.get("output_max", [POSITION_SCALE] * 3 + [ROTATION_SCALE] * 3))
        if not np.allclose(largest, [POSITION_SCALE] * 3 + [ROTATION_SCALE] * 3):
            raise ConventionError(f"{self.path}: the controller's output_max is {largest.tolist()}")

    def _words(self, attributes: dict[str, str]) -> str:
        if self._form is not _LIBERO:
            return ""
        words = self._parsed(attributes, "problem_info").get("language_instruction")
        if isinstance(words, list):
            words = "".join(words)
        if not isinstance(words, str):
            raise MissingColumnError(f"{self.path}: problem_info has no language_instruction")
        return words.strip().strip('"')

    @property
    def description(self) -> DatasetDescription:
        """What holds for every step."""
        return self._description

    @property
    def episodes(self) -> Sequence[str]:
        """Names of the demonstrations."""
        return list(self._demos)

    def read(self, episode: str, *, pictures: bool = True) -> Iterator[Step]:
        """Yield the steps of a demonstration."""
        if episode not in self._demos:
            raise DataError(f"{self.path} has no demonstration '{episode}'; it has {len(self._demos)}")
        with self._opened() as file:
            base, form = f"data/{episode}", self._form
            actions = self._dataset(file, f"{base}/actions")
            columns = {name: self._dataset(file, f"{base}/obs/{name}")
                       for name in (form.joints, form.position, form.orientation, *self._cameras.values())}  # fmt: skip
            count = len(actions)
            for name, column in columns.items():
                if len(column) != count:
                    raise DamagedDataError(f"{self.path}, {episode}: {count} actions, but {len(column)} rows of {name}")
            success = self._success(file, base)
            cameras = self._cameras if pictures else {}
            for index in range(count):
                where = f"{self.path}, '{episode}', step {index}"
                yield Step(
                    images={camera: self._picture(columns[name][index]) for camera, name in cameras.items()},
                    instruction=self._instruction,
                    proprioception=self._state(columns, index),
                    action=_action(np.asarray(actions[index], dtype=np.float64), where),
                    convention=self._description.convention,
                    task=self._description.name,
                    episode=episode,
                    index=index,
                    timestamp=index / RATE_HZ,
                    last=index == count - 1,
                    success=success,
                    proprioception_names=self._description.proprioception_names,
                )

    def _success(self, file: h5py.File, base: str) -> bool | None:
        rewards = file.get(f"{base}/rewards")
        return bool(np.max(rewards[()]) > 0) if isinstance(rewards, h5py.Dataset) and len(rewards) else None

    def _picture(self, image: ImageArray) -> ImageArray:
        return np.ascontiguousarray(image[::-1] if self._upside_down else image)

    def _state(self, columns: dict[str, h5py.Dataset], index: int) -> FloatArray:
        orientation = np.asarray(columns[self._form.orientation][index], dtype=np.float64)
        if self._form is _LIBERO:
            orientation = quaternion_from_rotation_vector(orientation)
        parts = (columns[self._form.joints][index], columns[self._form.position][index], orientation)
        return np.concatenate([np.asarray(part, dtype=np.float64) for part in parts])


def _action(action: FloatArray, where: str) -> FloatArray:
    if action.shape != (7,):
        raise ConventionError(f"{where}: the action has shape {action.shape}, expected (7,)")
    if not np.isfinite(action).all():
        raise NotFiniteError(f"{where}: the action is {action.tolist()}")
    if not (np.abs(action) <= 1.0 + INPUT_TOLERANCE).all():
        raise ConventionError(f"{where}: the action is {action.tolist()}, expected inputs from -1 to 1")
    return np.concatenate([action[:3] * POSITION_SCALE, action[3:6] * ROTATION_SCALE, [(action[6] + 1.0) / 2.0]])
