"""Demonstrations of the simulated workcell as a LeRobot v3 data set: steps plus labels that only a simulator has.

A label is a column `aux.<name>` of the data set. A label per object (or per instruction) has one row for each one that
the episode names, padded with zeros.

=================  ======================================  =============  =============================================
array              shape, dtype                            column         meaning
=================  ======================================  =============  =============================================
image_<camera>     (steps, height, width, 3) uint8         images, PNG    RGB at the policy's input size
position           (steps, 3) float32                      state          tool, m, base frame
quaternion         (steps, 4) float32                      state          tool, (x, y, z, w)
opening            (steps,) float32                        state          distance between the fingers, m
instruction        (steps,) str                            task           the user's instruction
actions            (steps, objects, horizon, width) f4     aux            chunk that pursues each object, in the action
                                                                          space of the data set
target             (steps, objects, 3) float32             aux            center of each object, m, base frame
pixel_<camera>     (steps, objects, 2) float32             aux            its position in the image, 0 to 1; NaN when
                                                                          not visible
asked              (steps,) int64                          aux            index of the object pursued at that step
names              (objects,) str                          aux            names of the objects
=================  ======================================  =============  =============================================

The tabletop has instructions in place of objects, `goal` and `pixel_goal_<camera>` beside their targets, and `things`,
the names of all objects in the scene. Where a policy drove, `driven` (steps, horizon, width) holds its chunks, and
`progress` (steps,) the progress of the task. The column `action` is the first row of the pursued chunk: of `driven`
where present, else of `actions`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.actions.space import ActionSpace
from vla_ros.data.episodes.durable import write_whole
from vla_ros.data.episodes.lines import setting_differences
from vla_ros.data.episodes.npz_episodes import holds_npz, read_npz, read_npz_specification
from vla_ros.data.errors import DataError, disk_full_errors
from vla_ros.data.reader import AuxColumn, DatasetDescription
from vla_ros.data.step import GRIPPER_NAME, POSE_NAMES, Step
from vla_ros.errors import VlaError
from vla_ros.extras import advice

if TYPE_CHECKING:  # these import pyarrow, which only reading and writing needs
    from vla_ros.data.lerobot.draft import Draft
    from vla_ros.data.lerobot.reader import LeRobotReader
    from vla_ros.data.lerobot.writer import LeRobotWriter

SOURCE = "meta/collection.json"
"""File with the source of the demonstrations and the action space of their chunks."""

MAX_LABELS = 8
"""Largest number of labeled objects or instructions per step."""

DATA_MB = 16
"""Size at which a new table file begins, MiB; small, because each episode rewrites the current file."""

NAMED = ("names", "things")
"""Per-episode lists of names; stored as a column, one name per line, because tables outlive per-episode lists."""

STATE = ("position", "quaternion", "opening")
SEPARATOR = "\n"


@dataclass(frozen=True)
class Episode:
    """One episode; `arrays` as in this module's table."""

    seed: int
    success: bool
    arrays: Mapping[str, NDArray[Any]]

    def __len__(self) -> int:
        """Number of steps."""
        return len(self.arrays["opening"])


@dataclass(frozen=True)
class EpisodeDraft:
    """An episode encoded and checked for a data set; may be made in any process, and is picklable."""

    seed: int
    success: bool
    description: DatasetDescription
    sizes: Mapping[str, tuple[int, int]]
    draft: Draft


class DemonstrationWriter:
    """Writes episodes into a folder, each completely or not at all."""

    def __init__(
        self, folder: Path, specification: ActionSpace, source: Mapping[str, Any], max_opening: float | None = None
    ) -> None:
        """Create the folder and record the action space of its chunks and their source.

        An existing folder must hold episodes of the same action space and source, as far as it records them.

        Raises:
            DataError: naming the differing lines.
            DiskFullError: when the disk is full.
        """
        self.folder, self._specification, self._opening = folder, specification, max_opening
        self._robot = str(source.get("robot", "unknown"))
        self._writer: LeRobotWriter | None = None
        _writer_class()  # fail on a missing package before anything is collected
        if holds_npz(folder):
            raise DataError(f"{folder} holds .npz episodes of an earlier version; give another folder")
        meta = {"specification": specification.to_dict(), "source": dict(source)}
        path = folder / SOURCE
        if path.exists():
            if differences := setting_differences(_read_json(path), meta):
                raise DataError(
                    f"{folder} holds episodes of another kind: {'; '.join(differences)}; give another folder, or ask "
                    "for what it holds"
                )
            return
        with disk_full_errors(str(path)):
            write_whole(path, json.dumps(meta, indent=2).encode())

    def draft(self, episode: Episode) -> EpisodeDraft:
        """Encode an episode; nothing is written yet.

        Raises:
            VlaError: when an array holds non-finite values (except pixels of objects not visible).
        """
        from vla_ros.data.lerobot.draft import Draft

        for name, array in episode.arrays.items():
            if array.dtype.kind == "f" and not name.startswith("pixel_") and not np.isfinite(array).all():
                raise VlaError(f"episode {episode.seed}: '{name}' holds values that are not finite")
        cameras = [name.removeprefix("image_") for name in episode.arrays if name.startswith("image_")]
        sizes = {camera: episode.arrays[f"image_{camera}"].shape[1:3] for camera in cameras}
        description = DatasetDescription(
            self.folder.name,
            self._specification,
            tuple(cameras),
            (*POSE_NAMES, GRIPPER_NAME),
            self._opening,
            aux=_aux_columns(episode),
        )
        draft = Draft(None, description, sizes, video=False)
        for step in _steps(episode, description):
            draft.add(step)
        return EpisodeDraft(episode.seed, episode.success, description, sizes, draft)

    def commit(self, episode: EpisodeDraft) -> None:
        """Add an encoded episode to the data set.

        Raises:
            DataError: when the data set has other labels or images, or already an episode of that seed.
            DiskFullError: when the disk is full.
        """
        if self._writer is None:
            self._writer = _writer_class()(
                self.folder, episode.description, episode.sizes, robot=self._robot, video_files=False, data_mb=DATA_MB
            )
        self._writer.add(episode.draft, f"{episode.seed:09d}", "", episode.success)

    def write(self, episode: Episode) -> None:
        """Store one episode; see `draft` and `commit`."""
        try:
            self.commit(self.draft(episode))
        finally:
            self.close()

    def close(self) -> None:
        """Release the data set for other writers."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def __enter__(self) -> DemonstrationWriter:
        """Return the writer."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()


def holds_demonstrations(folder: Path) -> bool:
    """Return whether a folder holds simulator labels, in this version's format or an earlier one."""
    if holds_npz(folder) or (folder / SOURCE).exists():
        return True
    info = folder / "meta/info.json"
    return info.exists() and '"aux.actions"' in info.read_text(encoding="utf-8")


def read_specification(folder: Path) -> ActionSpace:
    """Return the action space of the chunks in a folder.

    Raises:
        VlaError: when the folder does not record it.
    """
    if holds_npz(folder):
        return read_npz_specification(folder)
    if (folder / SOURCE).exists():
        meta = _read_json(folder / SOURCE)
        try:
            return ActionSpace.from_dict(meta["specification"])
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{folder} is no folder of demonstrations: {SOURCE}: {error}") from error
    if not (folder / "meta/info.json").exists():
        raise DataError(
            f"{folder} is not there"
            if not folder.exists()
            else f"{folder} is no data set that is known: expected a folder of 'vla-ros collect', LeRobot "
            "(meta/info.json), 'ros2 bag record', RLDS or RLBench, an HDF5 file, or a table of data sets (YAML)"
        )
    description = _reader(folder).description  # LeRobot's own tools keep only the table
    if "actions" not in description.aux:
        raise DataError(f"{folder} has no labels of the simulated cell: it has {[*description.aux]}")
    return replace(description.convention, horizon=description.aux["actions"].shape[1])


def read_episodes(folder: Path, *, images: bool = True) -> Iterator[Episode]:
    """Yield the finished episodes of a folder, sorted by seed.

    Args:
        folder: Written by this version, or (with a warning) by an earlier one.
        images: Whether to decode the images.

    Raises:
        VlaError: naming a file that cannot be read.
    """
    if holds_npz(folder):
        yield from (Episode(*parts) for parts in read_npz(folder))
        return
    if not (folder / "meta/info.json").exists():
        return  # a collection without a finished episode yet
    reader = _reader(folder)
    for name in sorted(reader.episodes):
        yield _episode(reader, name, images)


def stored_episodes(folder: Path, besides: Collection[int]) -> dict[int, tuple[int, bool, str]]:
    """Map seed to (steps, success, name of the first pursued object) for every episode not in `besides`."""
    if holds_npz(folder) or not (folder / "meta/info.json").exists():
        return {}
    reader, found = _reader(folder), {}
    for name in reader.episodes:
        if _seed(name) not in besides:
            first = next(iter(reader.read(name, images=False)))
            labels = reader.labels(name)
            found[_seed(name)] = (len(labels["asked"]), first.success is True, _names(labels["names"])[0])
    return found


def _writer_class() -> type[LeRobotWriter]:
    try:
        from vla_ros.data.lerobot.writer import LeRobotWriter
    except ModuleNotFoundError as error:
        raise DataError(f"writing demonstrations needs {error.name}: {advice('pyarrow')}") from error
    return LeRobotWriter


def _reader(folder: Path) -> LeRobotReader:
    try:
        from vla_ros.data.lerobot.reader import LeRobotReader
    except ModuleNotFoundError as error:
        raise DataError(f"reading demonstrations needs {error.name}: {advice('pyarrow')}") from error
    return LeRobotReader(folder)


def _seed(name: str) -> int:
    return int(name.partition("#")[0])


def _names(column: NDArray[Any]) -> list[str]:
    return str(column[0]).split(SEPARATOR)


def _episode(reader: LeRobotReader, name: str, images: bool) -> Episode:
    steps, labels = list(reader.read(name, images=images)), reader.labels(name)
    state = np.stack([step.proprioception for step in steps]).astype(np.float32)
    arrays: dict[str, NDArray[Any]] = {
        "position": state[:, :3],
        "quaternion": state[:, 3:7],
        "opening": state[:, 7],
        "instruction": np.array([step.instruction for step in steps]),
    }
    for camera in reader.description.cameras if images else ():
        arrays[f"image_{camera}"] = np.stack([step.images[camera] for step in steps])
    arrays |= {key: np.array(_names(labels.pop(key))) for key in NAMED if key in labels}
    count = len(arrays["names"])
    arrays |= {key: values[:, :count] if _is_of_objects(key) else values for key, values in labels.items()}
    return Episode(_seed(name), steps[-1].success is True, arrays)


def _is_of_objects(name: str) -> bool:
    return name in ("actions", "target", "goal") or name.startswith("pixel_")


def _labels(episode: Episode) -> dict[str, NDArray[Any]]:
    """Return the labels of an episode, (steps, ...); labels per object are padded to `MAX_LABELS`."""
    found = {}
    for name, values in episode.arrays.items():
        if name in STATE or name == "instruction" or name.startswith("image_") or name in NAMED:
            continue
        if _is_of_objects(name):
            missing = MAX_LABELS - values.shape[1]
            if missing < 0:
                raise DataError(f"episode {episode.seed} is labelled for {values.shape[1]}, at most {MAX_LABELS} fit")
            values = np.pad(values, [(0, 0), (0, missing), *[(0, 0)] * (values.ndim - 2)])
        found[name] = values.astype("int64" if values.dtype.kind in "iu" else "float32")
    return found


def _aux_columns(episode: Episode) -> dict[str, AuxColumn]:
    numbers = {name: AuxColumn(str(values.dtype), values.shape[1:]) for name, values in _labels(episode).items()}
    return numbers | {name: AuxColumn("string") for name in NAMED if name in episode.arrays}


def _steps(episode: Episode, description: DatasetDescription) -> Iterator[Step]:
    arrays, labels, count = episode.arrays, _labels(episode), len(episode)
    texts = {name: SEPARATOR.join(map(str, arrays[name])) for name in NAMED if name in arrays}
    state = np.concatenate([arrays["position"], arrays["quaternion"], arrays["opening"][:, None]], axis=1)
    pursued = arrays["driven"] if "driven" in arrays else arrays["actions"][np.arange(count), arrays["asked"]]
    instructions: Sequence[str] = arrays.get("instruction", np.array([""] * count)).tolist()
    for index in range(count):
        yield Step(
            images={camera: arrays[f"image_{camera}"][index] for camera in description.cameras},
            instruction=instructions[index],
            proprioception=state[index],
            action=pursued[index, 0],
            convention=description.convention,
            task="",
            episode=f"{episode.seed:09d}",
            index=index,
            timestamp=index * description.convention.period,
            last=index == count - 1,
            success=episode.success,
            proprioception_names=description.proprioception_names,
            aux={**{name: values[index] for name, values in labels.items()}, **texts},
        )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
