"""Reads LIBERO and robomimic demonstrations: one HDF5 file per task, one group `data/demo_<i>` per episode.

Both drive robosuite's operational space controller: the first six columns of an action run from -1 to 1, where 1 means
`output_max` per step, 0.05 m and 0.5 rad unless the file says otherwise; the last runs from -1, open, to 1, closed.
They are converted to meters, a rotation vector and a fraction of closing. Since robosuite 1.5 a robot has one
controller per body part; the one of the single arm is used. LIBERO's writer pairs an action with the observation after
it; such pairs are passed on unchanged. Success is the attribute `success` of a demonstration, and unknown where there
is none: rewards mean nothing for demonstrations that were selected because they succeeded.

===========  ==================================================  ===================================================
             LIBERO                                              robomimic
===========  ==================================================  ===================================================
images       obs/agentview_rgb, obs/eye_in_hand_rgb              obs/agentview_image, obs/robot0_eye_in_hand_image
tool         obs/ee_pos, obs/ee_ori (rotation vector, rad)       obs/robot0_eef_pos, obs/robot0_eef_quat (x, y, z, w)
joints       obs/joint_states, if present                        obs/robot0_joint_pos, if present
gripper      obs/gripper_states (two fingers, m)                 obs/robot0_gripper_qpos (two fingers, m)
instruction  attribute problem_info of data                      none
image rows   upside down where macros_image_convention=opengl    upright
===========  ==================================================  ===================================================

Sources: LIBERO's `scripts/create_dataset.py`; robomimic's page on data set contents; robosuite's controllers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from vla_ros.actions.gripper_convention import GripperConvention
from vla_ros.actions.groups import Reference
from vla_ros.actions.rotations import Rotation
from vla_ros.actions.space import ActionSpace
from vla_ros.data.conventions import quaternion_from_rotation_vector
from vla_ros.data.errors import ConventionError, DamagedDataError, DataError, MissingColumnError, NotFiniteError
from vla_ros.data.reader import DatasetDescription
from vla_ros.data.step import GRIPPER_NAME, POSE_NAMES, Step
from vla_ros.types import FloatArray, ImageArray

POSITION_SCALE, ROTATION_SCALE = 0.05, 0.5
"""Default largest change per step of robosuite's controller, m and rad."""

ARM_PARTS = ("right", "left")
"""Names of arms among robosuite's body parts."""

FINGERS = 2
"""Number of gripper columns for which the opening is the distance between two fingers."""

CONTROLLER = "OSC_POSE"
RATE_HZ = 20.0
INPUT_TOLERANCE = 1e-6

SUCCESS = "success"
"""Attribute of a demonstration with its success."""


@dataclass(frozen=True)
class _Form:
    cameras: dict[str, str]
    position: str
    orientation: str
    joints: str
    fingers: str


_LIBERO = _Form(
    {"agentview": "agentview_rgb", "eye_in_hand": "eye_in_hand_rgb"},
    "ee_pos",
    "ee_ori",
    "joint_states",
    "gripper_states",
)
_ROBOMIMIC = _Form(
    {"agentview": "agentview_image", "eye_in_hand": "robot0_eye_in_hand_image"},
    "robot0_eef_pos",
    "robot0_eef_quat",
    "robot0_joint_pos",
    "robot0_gripper_qpos",
)


class Hdf5Reader:
    """See `EpisodeReader`. Reads one file, a row at a time."""

    def __init__(self, path: Path, *, instruction: str | None = None) -> None:
        """Read the file's metadata.

        Args:
            path: The file.
            instruction: Instruction, replacing that of the file if any.

        Raises:
            ConventionError: when the actions are for another controller than OSC_POSE, or are absolute.
            MissingColumnError: when the file has neither layout.
            DamagedDataError: when it cannot be opened, or its attributes cannot be read.
        """
        self.path = Path(path)
        with self._opened() as file:
            data = self._group(file, "data")
            self._demos = sorted((name for name in data if isinstance(data[name], h5py.Group)), key=_by_number)
            if not self._demos:
                raise DataError(f"{self.path} holds no demonstration")
            observed = self._group(file, f"data/{self._demos[0]}/obs")
            self._form = _LIBERO if _LIBERO.position in observed else _ROBOMIMIC
            attributes = {name: _text(value) for name, value in data.attrs.items()}
            self._cameras = {c: f for c, f in self._form.cameras.items() if f in observed}
            joints = self._width(observed, self._form.joints)
            self._has_fingers = self._width(observed, self._form.fingers) == FINGERS
        self._scale, self._rate = self._controller(attributes)
        self._instruction = instruction if instruction is not None else self._words(attributes)
        self._upside_down = attributes.get("macros_image_convention") == "opengl"
        fingers = (GRIPPER_NAME,) if self._has_fingers else ()
        names = (*(f"joint_{i + 1}" for i in range(joints)), *POSE_NAMES, *fingers)
        self._measured = (
            *([self._form.joints] if joints else []),
            self._form.position,
            self._form.orientation,
            *([self._form.fingers] if fingers else []),
        )
        convention = ActionSpace.of_one_tool(
            "base", Reference.DELTA, Rotation.ROTATION_VECTOR, GripperConvention.CLOSED_IS_ONE, self._rate, 1
        )
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

    @staticmethod
    def _width(observed: h5py.Group, name: str) -> int:
        """Return the number of columns of a measurement; 0 if it is missing."""
        found = observed.get(name)
        return int(found.shape[1]) if isinstance(found, h5py.Dataset) and found.ndim == 2 else 0

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

    def _controller(self, attributes: dict[str, str]) -> tuple[FloatArray, float]:
        """Return the scale of an input of 1, (6,) m and rad per step, and the rate, Hz.

        Raises:
            ConventionError: when the controller does not take changes of the tool's pose.
        """
        settings = self._parsed(attributes, "env_args").get("env_kwargs", {})
        settings = settings if isinstance(settings, dict) else {}
        controller = self._arm_controller(settings.get("controller_configs"))
        kind, rate = controller.get("type"), settings.get("control_freq", RATE_HZ)
        delta = controller.get("input_type", "delta") == "delta" and controller.get("control_delta", True)
        if kind != CONTROLLER or not delta or not isinstance(rate, (int, float)) or not 0.0 < rate <= 1000.0:
            raise ConventionError(
                f"{self.path}: the controller is {kind!r} with control_delta={controller.get('control_delta')}, "
                f"input_type={controller.get('input_type')!r} at {rate!r} Hz, expected {CONTROLLER} with changes of "
                "the pose"
            )
        return self._output_scale(controller), float(rate)

    def _arm_controller(self, controllers: object) -> dict[str, Any]:
        """Return the settings of the arm's controller: the only one, or since robosuite 1.5 that of a body part."""
        if not isinstance(controllers, dict):
            raise MissingColumnError(f"{self.path}: env_args has no controller_configs in env_kwargs")
        parts = controllers.get("body_parts")
        if not isinstance(parts, dict):
            return controllers
        arms = {name: part for name, part in parts.items() if name in ARM_PARTS and isinstance(part, dict)}
        if len(arms) != 1:
            raise ConventionError(
                f"{self.path}: robosuite's body parts are {sorted(parts)}, expected one arm ('right' or 'left'): two "
                "arms are not supported"
            )
        return next(iter(arms.values()))

    def _output_scale(self, controller: dict[str, Any]) -> FloatArray:
        default = [POSITION_SCALE] * 3 + [ROTATION_SCALE] * 3
        outputs = np.ravel(controller.get("output_max", default))
        ends = [outputs, np.ravel(controller.get("output_min", -outputs))]
        inputs = [np.ravel(controller.get(name, sign)) for name, sign in (("input_max", 1.0), ("input_min", -1.0))]
        largest = np.asarray(ends[0], dtype=np.float64)
        fits = largest.shape == (6,) and np.allclose(ends[1], -largest) and (largest > 0.0).all()
        if not fits or not np.allclose(inputs[0], 1.0) or not np.allclose(inputs[1], -1.0):
            raise ConventionError(
                f"{self.path}: the controller maps inputs {inputs[1].tolist()} to {inputs[0].tolist()} onto output_min "
                f"{ends[1].tolist()} to output_max {ends[0].tolist()}, expected -1 to 1 onto six pairs of -x to x"
            )
        return largest

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
        """Properties common to all steps."""
        return self._description

    @property
    def episodes(self) -> Sequence[str]:
        """Names of the demonstrations."""
        return list(self._demos)

    def read(self, episode: str, *, images: bool = True) -> Iterator[Step]:
        """Yield the steps of a demonstration."""
        if episode not in self._demos:
            raise DataError(f"{self.path} has no demonstration '{episode}'; it has {len(self._demos)}")
        with self._opened() as file:
            base = f"data/{episode}"
            actions = self._dataset(file, f"{base}/actions")
            columns = {
                name: self._dataset(file, f"{base}/obs/{name}") for name in (*self._measured, *self._cameras.values())
            }
            count = len(actions)
            for name, column in columns.items():
                if len(column) != count:
                    raise DamagedDataError(f"{self.path}, {episode}: {count} actions, but {len(column)} rows of {name}")
            success = self._success(file, base)
            cameras = self._cameras if images else {}
            for index in range(count):
                where = f"{self.path}, '{episode}', step {index}"
                yield Step(
                    images={camera: self._image(columns[name][index]) for camera, name in cameras.items()},
                    instruction=self._instruction,
                    proprioception=self._state(columns, index),
                    action=_action(np.asarray(actions[index], dtype=np.float64), self._scale, where),
                    convention=self._description.convention,
                    task=self._description.name,
                    episode=episode,
                    index=index,
                    timestamp=index / self._rate,
                    last=index == count - 1,
                    success=success,
                    proprioception_names=self._description.proprioception_names,
                )

    @staticmethod
    def _success(file: h5py.File, base: str) -> bool | None:
        """Return the recorded success; rewards are not used: some writers leave them at 0."""
        said = file[base].attrs.get(SUCCESS)
        return None if said is None else bool(np.asarray(said).all())

    def _image(self, image: ImageArray) -> ImageArray:
        return np.ascontiguousarray(image[::-1] if self._upside_down else image)

    def _state(self, columns: dict[str, h5py.Dataset], index: int) -> FloatArray:
        parts = []
        for name in self._measured:
            part = np.asarray(columns[name][index], dtype=np.float64)
            if name == self._form.orientation and self._form is _LIBERO:
                part = quaternion_from_rotation_vector(part)
            if name == self._form.fingers:  # finger positions are symmetric about the middle
                part = np.array([abs(part[0] - part[1])])
            parts.append(part)
        return np.concatenate(parts)


def _by_number(name: str) -> list[tuple[int, int, str]]:
    """Return a natural sort key: `demo_10` after `demo_9`, `demo_0_copy` after `demo_0`."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", name) if part]


def _text(value: object) -> str:
    """Return an attribute as text; h5py returns bytes for fixed-length strings."""
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(-1)[0]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _action(action: FloatArray, scale: FloatArray, where: str) -> FloatArray:
    if action.shape != (7,):
        raise ConventionError(f"{where}: the action has shape {action.shape}, expected (7,)")
    if not np.isfinite(action).all():
        raise NotFiniteError(f"{where}: the action is {action.tolist()}")
    if not (np.abs(action) <= 1.0 + INPUT_TOLERANCE).all():
        raise ConventionError(f"{where}: the action is {action.tolist()}, expected inputs from -1 to 1")
    return np.concatenate([action[:6] * scale, [(action[6] + 1.0) / 2.0]])
