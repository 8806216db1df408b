"""File layout of a LeRobot v3 data set, and the content of its `info.json`.

    meta/info.json                                columns, frame rate, path patterns
    meta/stats.json                               statistics of every column over all episodes
    meta/tasks.parquet                            task_index of every instruction
    meta/episodes/chunk-000/file-000.parquet      one row per episode: its rows, videos and statistics
    data/chunk-000/file-000.parquet               one row per step; several episodes per file
    videos/<column>/chunk-000/file-000.mp4        one frame per step; several episodes per file

Source: the `lerobot` package 0.4.4, `lerobot/datasets/utils.py` and `lerobot_dataset.py`. `meta/vla_ros.json` is an
addition of this package: the action space, for which the layout has no field. It is also stored in the action column's
entry in `info.json`. LeRobot ignores both.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vla_ros.actions.groups import Quantity
from vla_ros.actions.rotations import Rotation
from vla_ros.actions.space import ActionSpace
from vla_ros.data.errors import ConventionError, DamagedDataError, DataError, MissingColumnError
from vla_ros.data.reader import AuxColumn, DatasetDescription
from vla_ros.errors import ContractError

VERSION = "v3.0"
INFO, STATS, TASKS, EPISODES = "meta/info.json", "meta/stats.json", "meta/tasks.parquet", "meta/episodes"
CONVENTION = "meta/vla_ros.json"
CONVENTION_LINE = "vla_ros"
"""Key of the same content in the action column of `info.json`: it survives LeRobot's delete, split and merge."""

DATA_PATTERN = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATTERN = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES_PATTERN = EPISODES + "/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
FILES_PER_CHUNK = 1000

IMAGE_PREFIX = "observation.images."
STATE, ACTION, SUCCESS, DONE = "observation.state", "action", "next.success", "next.done"
AUX_PREFIX = "aux."
"""Prefix of label columns that only a simulator can provide; LeRobot's own policies use none of them."""

ACTION_NAMES, STATE_NAMES = (ACTION, "actions"), (STATE, "state")
STAMP = "observation.stamp"
"""Column of measured time since the first step, s; the layout defines `timestamp` as step number over rate."""

_NUMBERS = {
    "timestamp": {"dtype": "float32", "shape": [1], "names": None},
    "frame_index": {"dtype": "int64", "shape": [1], "names": None},
    "episode_index": {"dtype": "int64", "shape": [1], "names": None},
    "index": {"dtype": "int64", "shape": [1], "names": None},
    "task_index": {"dtype": "int64", "shape": [1], "names": None},
}
_ROTATION_NAMES = {
    Rotation.NONE: (),
    Rotation.ROTATION_VECTOR: ("rx", "ry", "rz"),
    Rotation.EULER: ("angle_1", "angle_2", "angle_3"),
    Rotation.QUATERNION: ("qx", "qy", "qz", "qw"),
    Rotation.QUATERNION_WXYZ: ("qw", "qx", "qy", "qz"),
    Rotation.SIX_D: ("r11", "r21", "r31", "r12", "r22", "r32"),
}


@dataclass(frozen=True, order=True)
class Location:
    """Chunk and file number of a file."""

    chunk: int = 0
    file: int = 0

    def following(self) -> Location:
        """Return the location of the next file."""
        return Location(self.chunk + 1, 0) if self.file + 1 >= FILES_PER_CHUNK else Location(self.chunk, self.file + 1)

    def path(self, pattern: str, video_key: str = "") -> str:
        """Format a path pattern with this location."""
        return pattern.format(chunk_index=self.chunk, file_index=self.file, video_key=video_key)


def action_names(convention: ActionSpace) -> tuple[str, ...]:
    """Return the names of an action's columns; with several arms each starts with its arm's name."""
    several, names = len(convention.arms) > 1, list[str]()
    for group in convention.groups:
        if group.quantity is Quantity.GRIPPER:
            own: tuple[str, ...] = ("gripper",)
        elif group.quantity.of_joints:
            own = tuple(f"joint_{index + 1}" for index in range(group.joints))
        else:
            own = ("x", "y", "z", *_ROTATION_NAMES[group.rotation])
        names += [f"{group.arm}_{name}" if several else name for name in own]
    return tuple(names)


def new_info(
    description: DatasetDescription,
    sizes: Mapping[str, tuple[int, int]],
    robot: str,
    *,
    video: bool,
    data_mb: int,
    video_mb: int,
) -> dict[str, Any]:
    """Return the `info.json` of an empty data set.

    Args:
        description: Properties common to all steps.
        sizes: (height, width) of every camera, px.
        robot: Name of the robot.
        video: Store images as MP4; otherwise as PNG in the table, lossless and ten times as large.
        data_mb: Size at which a new Parquet file begins, MiB.
        video_mb: The same for MP4 files.

    Raises:
        ConventionError: when the rate is not an integer: the layout cannot express another.
    """
    rate = description.convention.rate_hz
    if rate != int(rate):
        raise ConventionError(f"{description.name}: the layout holds whole rates, this one is {rate} Hz")
    features: dict[str, Any] = {}
    for camera in description.cameras:
        height, width = sizes[camera]
        features[IMAGE_PREFIX + camera] = {
            "dtype": "video" if video else "image",
            "shape": [height, width, 3],
            "names": ["height", "width", "channels"],
        }
    names = list(description.proprioception_names)
    features[STATE] = {"dtype": "float32", "shape": [len(names)], "names": names}
    columns = list(action_names(description.convention))
    features[ACTION] = {
        "dtype": "float32",
        "shape": [len(columns)],
        "names": columns,
        CONVENTION_LINE: convention_lines(description),
    }
    features |= {AUX_PREFIX + name: _aux_feature(column) for name, column in description.aux.items()}
    features[STAMP] = {"dtype": "float64", "shape": [1], "names": None}
    features[DONE] = {"dtype": "bool", "shape": [1], "names": None}
    features[SUCCESS] = {"dtype": "bool", "shape": [1], "names": None}
    return {
        "codebase_version": VERSION,
        "robot_type": robot,
        "total_episodes": 0,
        "total_frames": 0,
        "total_tasks": 0,
        "chunks_size": FILES_PER_CHUNK,
        "data_files_size_in_mb": data_mb,
        "video_files_size_in_mb": video_mb,
        "fps": int(rate),
        "splits": {},
        "data_path": DATA_PATTERN,
        "video_path": VIDEO_PATTERN if video else None,
        "features": {**features, **_NUMBERS},
    }


def _aux_feature(column: AuxColumn) -> dict[str, Any]:
    """Return the feature of a label: flattened, with its shape beside it, because not every tool keeps other shapes."""
    flat = [math.prod(column.shape)]
    return {"dtype": column.dtype, "shape": flat, "names": None, CONVENTION_LINE: {"shape": list(column.shape)}}


def aux_columns(features: Mapping[str, Any]) -> dict[str, AuxColumn]:
    """Return the label columns of a data set by name.

    Raises:
        DamagedDataError: when a label's shape does not match its vector's.
    """
    found = {}
    for key, feature in features.items():
        if not key.startswith(AUX_PREFIX):
            continue
        flat = tuple(feature["shape"])
        own = feature.get(CONVENTION_LINE) or {"shape": [] if flat == (1,) else flat}
        shape = tuple(int(n) for n in own["shape"])
        if math.prod(shape) != math.prod(flat):
            raise DamagedDataError(f"column '{key}' has shape {flat}, and labels of {shape}")
        found[key.removeprefix(AUX_PREFIX)] = AuxColumn(str(feature["dtype"]), shape)
    return found


def convention_lines(description: DatasetDescription) -> dict[str, Any]:
    """Return a data set's description of its actions, as plain values."""
    return {
        "name": description.name,
        "action": description.convention.to_dict(),
        "max_opening": description.max_opening,
    }


def read_info(root: Path) -> dict[str, Any]:
    """Read and check `info.json`.

    Raises:
        DataError: when it is missing, or of another layout version.
        DamagedDataError: when it cannot be read.
        MissingColumnError: when a key is missing.
    """
    path = root / INFO
    if not path.exists():
        raise DataError(f"{root} is no LeRobot data set: it has no {INFO}")
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
        version = str(info["codebase_version"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedDataError(f"{path} cannot be read: {error!r}") from error
    if not version.startswith(("v2.", "v3.")):
        raise DataError(
            f"{path} is of layout {version}, expected v2 or v3; convert it with the tools of the lerobot version that "
            "wrote it"
        )
    if missing := [line for line in ("fps", "features") if line not in info]:
        raise MissingColumnError(f"{path} has no {missing}")
    found = dict(info)
    _check_info(found, path)
    return found


def _check_info(info: dict[str, Any], path: Path) -> None:
    """Raise when a value does not have the type that readers expect."""
    rate, features = info["fps"], info["features"]
    if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0.0 < rate <= 1000.0:
        raise DamagedDataError(f"{path}: fps is {rate!r}, expected a number above 0 and at most 1000")
    if not isinstance(features, dict):
        raise DamagedDataError(f"{path}: features is {features!r:.80}, expected names and columns")
    for key, feature in features.items():
        shape = feature.get("shape") if isinstance(feature, dict) else None
        whole = isinstance(shape, list) and all(
            isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in shape
        )
        if not whole or not isinstance(feature.get("dtype"), str):
            raise DamagedDataError(f"{path}: column '{key}' is {feature!r:.80}, expected dtype and shape")
        # a scalar's shape is [1]; some writers use []
        feature["shape"] = shape or [1]


def depth_columns(features: Mapping[str, Any]) -> list[str]:
    """Return the image columns without color: marked as depth, gray of more than 8 bits, or single-channel."""
    return [
        key
        for key, feature in features.items()
        if feature["dtype"] in ("video", "image") and (_is_depth(feature) or _channels(feature) == 1)
    ]


def _is_depth(feature: Mapping[str, Any]) -> bool:
    notes = [one for one in (feature, feature.get("info"), feature.get("video_info")) if isinstance(one, Mapping)]
    marked = any(note.get(key) is True for note in notes for key in ("is_depth_map", "video.is_depth_map"))
    formats = [str(note.get(key, "")) for note in notes for key in ("pix_fmt", "video.pix_fmt")]
    return marked or any(is_depth_format(one) for one in formats)


def is_depth_format(pixel_format: str) -> bool:
    """Return whether a pixel format holds one channel of more than 8 bits, as depth does."""
    return pixel_format.startswith("gray") and pixel_format not in ("gray", "gray8", "gray8a")


def _channels(feature: Mapping[str, Any]) -> int | None:
    shape, names = feature["shape"], feature.get("names")
    if len(shape) != 3:
        return None
    if isinstance(names, list) and "channels" in names:
        return int(shape[names.index("channels")])
    return 1 if shape[2] == 1 or (shape[0] == 1 and shape[2] != 3) else None


def action_column(features: Mapping[str, Any]) -> str:
    """Return the name of the action column, as in LeRobot or openpi."""
    return next((name for name in ACTION_NAMES if name in features), ACTION)


def state_column(features: Mapping[str, Any]) -> str:
    """Return the name of the state column, as in LeRobot or openpi."""
    return next((name for name in STATE_NAMES if name in features), STATE)


def read_convention(root: Path) -> tuple[ActionSpace, float | None] | None:
    """Return the action space and the gripper's full opening, m; None where the data set does not declare them.

    Raises:
        DamagedDataError: when they are declared but unusable.
    """
    path = root / CONVENTION
    try:
        if path.exists():
            content = json.loads(path.read_text(encoding="utf-8"))
        else:
            # LeRobot's own tools keep the columns of info.json when they derive one set from another, no other file.
            path = root / INFO
            features = json.loads(path.read_text(encoding="utf-8"))["features"]
            content = features[action_column(features)].get(CONVENTION_LINE)
            if content is None:
                return None
        opening = content["max_opening"]
        return ActionSpace.from_dict(content["action"]), None if opening is None else float(opening)
    except (OSError, ValueError, KeyError, TypeError, ContractError) as error:
        raise DamagedDataError(f"{path} cannot be read: {error}") from error


def flat_names(feature: Mapping[str, Any], prefix: str) -> tuple[str, ...]:
    """Return the names of a vector's elements, from a flat or grouped list; numbered names where there are none."""
    names, width = feature.get("names"), int(feature["shape"][0])
    flat = list(_flatten(names))
    return tuple(flat) if len(flat) == width else tuple(f"{prefix}_{i}" for i in range(width))


def _flatten(names: object) -> Iterator[str]:
    if isinstance(names, str):
        yield names
    elif isinstance(names, Mapping):
        for group in names.values():
            yield from _flatten(group)
    elif isinstance(names, Sequence):
        for name in names:
            yield from _flatten(name)
