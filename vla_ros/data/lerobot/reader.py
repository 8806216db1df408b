"""Reads a LeRobot data set of layout v3 or v2, by this package or others, one step at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from vla_ros.actions.space import ActionSpace
from vla_ros.data.episodes.images import decode_image
from vla_ros.data.errors import (
    ConventionError,
    DamagedDataError,
    DataError,
    MissingColumnError,
    NotFiniteError,
    UnusableEpisodeError,
)
from vla_ros.data.lerobot import index, layout, layout_2
from vla_ros.data.lerobot.advice import suggest_table_entry
from vla_ros.data.lerobot.index import EpisodeRow, scalar
from vla_ros.data.lerobot.layout import IMAGE_PREFIX
from vla_ros.data.lerobot.paths import pattern_path
from vla_ros.data.lerobot.video import read_frames
from vla_ros.data.reader import DatasetDescription
from vla_ros.data.step import Step
from vla_ros.types import ImageArray

ROWS_AT_ONCE = 64

VIDEO_TOLERANCE = 0.5
"""Largest difference between an episode's duration in its video and that of its steps, periods."""


class LeRobotReader:
    """See `EpisodeReader`. Holds the episode index, a few rows, and one decoded image per camera."""

    def __init__(
        self,
        root: Path,
        *,
        convention: ActionSpace | None = None,
        max_opening: float | None = None,
        proprioception_names: Sequence[str] | None = None,
        columns: Mapping[str, str] | None = None,
        instruction: str | None = None,
        trust_timestamps: bool = True,
    ) -> None:
        """Read the metadata of the data set.

        Args:
            root: Folder of the data set.
            convention: Action space, where the data set does not declare it; where it does, the two must agree.
            max_opening: Opening of the gripper that counts as fully open, m, where the data set does not declare it.
            proprioception_names: Names of the measurements, replacing those of the data set.
            columns: Columns of the `action` and the `state`, where they have other names than LeRobot's or openpi's.
            instruction: Instruction of every step, replacing those of the data set.
            trust_timestamps: Whether the steps' timestamps are reliable; otherwise step number over rate is used.

        Raises:
            ConventionError: when the action space is not declared, or two declarations differ.
            DataError: when the data set cannot be read, naming the cause.
        """
        self.root = Path(root)
        self._info = layout.read_info(self.root)
        features = self._info["features"]
        is_2 = str(self._info["codebase_version"]).startswith(layout_2.VERSION)
        own: Any = layout_2 if is_2 else layout
        for line, pattern in (("data_path", own.DATA_PATTERN), ("video_path", own.VIDEO_PATTERN)):
            if self._info.get(line) is None:  # some writers omit it
                self._info[line] = pattern
        self._action, self._state = self._named(columns or {})
        for column in (self._action, "timestamp", "task_index"):
            if column not in features:
                raise MissingColumnError(
                    f"{self.root / layout.INFO} names no column '{column}'; it has {list(features)} (in a table of "
                    "data sets 'columns: {action: ..., state: ...}' says which are meant)"
                )
        depth = layout.depth_columns(features)
        self._videos = [key for key, feature in features.items() if feature["dtype"] == "video" and key not in depth]
        self._images = [key for key, feature in features.items() if feature["dtype"] == "image" and key not in depth]
        cameras = _camera_names(sorted([*self._videos, *self._images]))
        self._cameras = cameras
        names = self._names(proprioception_names)
        convention, max_opening = self._convention(convention, max_opening, names)
        self._instruction, self._trusts = instruction, trust_timestamps
        self._stamp = layout.STAMP if layout.STAMP in features else "timestamp"
        self._description = DatasetDescription(
            self.root.name,
            convention,
            tuple(cameras.values()),
            names,
            max_opening,
            f"column '{self._stamp}' ('trust_timestamps: false' in a table counts steps instead)",
            tuple(key.removeprefix(IMAGE_PREFIX) for key in depth),
            layout.aux_columns(features),
        )
        lists: Any = layout_2 if is_2 else index
        self._rows = {row.name: row for row in lists.read_episodes(self.root, self._videos)}
        self._sentences = lists.read_tasks(self.root) if self._rows else {}

    def _named(self, columns: Mapping[str, str]) -> tuple[str, str]:
        if unknown := set(columns) - {"action", "state"}:
            raise DataError(f"{self.root}: columns names {sorted(unknown)}, expected action and state")
        features = self._info["features"]
        return columns.get("action", layout.action_column(features)), columns.get(
            "state", layout.state_column(features)
        )

    def _names(self, given: Sequence[str] | None) -> tuple[str, ...]:
        feature = self._info["features"].get(self._state)
        if feature is None:
            return ()
        own = layout.flat_names(feature, "state")
        if given is None:
            return own
        if len(given) != len(own):
            raise DataError(f"{self.root}: {len(given)} proprioception_names are given, '{self._state}' has {len(own)}")
        ends = [(one.lower()[-2:], other.lower()[-2:]) for one, other in zip(own, given, strict=True)]
        if any(one != other and {one, other} <= {"qx", "qy", "qz", "qw"} for one, other in ends):
            raise ConventionError(
                f"{self.root}: proprioception_names give the quaternion in another order than '{self._state}' has it: "
                f"{list(own)}; name each number by what it is"
            )
        return tuple(given)

    def _convention(
        self, given: ActionSpace | None, max_opening: float | None, measured: tuple[str, ...]
    ) -> tuple[ActionSpace, float | None]:
        found = layout.read_convention(self.root)
        feature = self._info["features"][self._action]
        width = int(feature["shape"][0])
        if found is None and given is None:
            names = layout.flat_names(feature, "action")
            entry = suggest_table_entry(self.root, self._info, list(self._cameras.values()), names, measured)
            raise ConventionError(
                f"{self.root} does not say what the columns of its actions mean (LeRobot's layout cannot); look it up "
                f"and give a convention: complete this line, and give its file in place of the folder, as "
                f"--data table.yaml\n{entry}"
            )
        convention = given if found is None else found[0]
        assert convention is not None
        if found is not None and given is not None:
            DatasetDescription(str(self.root), found[0], (), ()).require(given)
        rate = float(self._info["fps"])
        if convention.rate_hz != rate:
            raise ConventionError(f"{self.root} has {rate} steps a second, the convention says {convention.rate_hz}")
        if convention.width != width:
            raise ConventionError(f"{self.root} has actions of {width} columns, the convention says {convention.width}")
        return convention, found[1] if found is not None and found[1] is not None else max_opening

    @property
    def description(self) -> DatasetDescription:
        """Properties common to all steps."""
        return self._description

    @property
    def episodes(self) -> Sequence[str]:
        """Names of the finished episodes."""
        return list(self._rows)

    def read(self, episode: str, *, images: bool = True) -> Iterator[Step]:
        """Yield the steps of an episode.

        Raises:
            TruncatedVideoError, DamagedDataError, MissingColumnError, NotFiniteError: naming the file and the place.
            UnusableEpisodeError: when the recorded duration of its video differs from that of its steps.
            DataError: when the episode does not exist.
        """
        if episode not in self._rows:
            raise DataError(f"{self.root} has no episode '{episode}'; it has {len(self._rows)}")
        row = self._rows[episode]
        path = pattern_path(self.root, self._info, "data_path", row.data, row.index)
        success = self._success(row, path)
        self._check_video_seconds(row)
        with ExitStack() as stack:
            frames = {}
            for key, (location, start) in row.videos.items() if images else ():
                video = pattern_path(self.root, self._info, "video_path", location, row.index, key)
                frames[key] = stack.enter_context(closing(read_frames(video, start, row.length, self._info["fps"])))
            first = 0.0
            for count, values in enumerate(self._table(row, path, self._columns(images))):
                decoded = {self._cameras[key]: next(stream) for key, stream in frames.items()}
                decoded |= {self._cameras[key]: _image(values[key], path) for key in self._images if images}
                time = float(scalar(values[self._stamp])) if self._trusts else count / self._info["fps"]
                first = time if count == 0 else first
                yield self._step(row, count, values, decoded, time - first, success)

    def labels(self, episode: str) -> dict[str, NDArray[Any]]:
        """Return the labels of an episode's steps by name, (steps, *shape), without decoding any images.

        Raises:
            DamagedDataError: naming the file and the place.
            DataError: when the episode does not exist.
        """
        if episode not in self._rows:
            raise DataError(f"{self.root} has no episode '{episode}'; it has {len(self._rows)}")
        row, columns = self._rows[episode], self._description.aux
        path = pattern_path(self.root, self._info, "data_path", row.data, row.index)
        keys = [layout.AUX_PREFIX + name for name in columns]
        try:
            with pq.ParquetFile(path) as file:
                table = file.read_row_groups(_groups(file, row), columns=[*keys, row.step_column])
            numbers = table[row.step_column].to_numpy()
            table = table.filter(pa.array((numbers >= row.first) & (numbers < row.first + row.length)))
            found = {name: table[key].combine_chunks() for name, key in zip(columns, keys, strict=True)}
            flat = {name: one.flatten() if pa.types.is_nested(one.type) else one for name, one in found.items()}
            return {
                name: flat[name].to_numpy(zero_copy_only=False).reshape(row.length, *column.shape)
                for name, column in columns.items()
            }
        except (OSError, ValueError, KeyError, pa.ArrowException) as error:
            raise DamagedDataError(f"{path}, labels of episode '{episode}', cannot be read: {error}") from error

    def _check_video_seconds(self, row: EpisodeRow) -> None:
        """Check that each video lasts as long as the steps; otherwise it would begin at another step's frame.

        Raises:
            UnusableEpisodeError: naming the video's column.
        """
        for key, seconds in row.video_seconds.items():
            if not abs(seconds * self._info["fps"] - row.length) <= VIDEO_TOLERANCE:
                raise UnusableEpisodeError(
                    f"{self.root}, episode '{row.name}': by from_timestamp and to_timestamp its video '{key}' lasts "
                    f"{seconds:.4g} s, expected {row.length / self._info['fps']:.4g} s for {row.length} steps; the "
                    "images would be those of other steps"
                )

    def _columns(self, images: bool) -> list[str]:
        state = [self._state] if self._state in self._info["features"] else []
        return [self._action, self._stamp, "task_index", *state, *(self._images if images else ())]

    def _success(self, row: EpisodeRow, path: Path) -> bool | None:
        if row.success is not None or layout.SUCCESS not in self._info["features"]:
            return row.success
        if (self.root / layout.CONVENTION).exists():
            return None  # written by this package, with the outcome unknown
        return any(bool(scalar(values[layout.SUCCESS])) for values in self._table(row, path, [layout.SUCCESS]))

    def _table(self, row: EpisodeRow, path: Path, columns: list[str]) -> Iterator[dict[str, Any]]:
        """Yield the rows of an episode; they are stored in order, and are read a few at a time."""
        found = 0
        try:
            if not path.exists():
                raise DamagedDataError(
                    f"{path} is not there, where data_path ({self._info['data_path']!r}) and the list of episodes put "
                    f"episode '{row.name}'; copy the data set again, or correct data_path in {layout.INFO}"
                )
            with pq.ParquetFile(path) as file:
                number = row.step_column
                if missing := [c for c in (*columns, number) if c not in file.schema_arrow.names]:
                    raise MissingColumnError(f"{path} has no column {missing}; it has {file.schema_arrow.names}")
                groups = _groups(file, row)
                for batch in file.iter_batches(ROWS_AT_ONCE, row_groups=groups, columns=[*columns, number]):
                    for values in batch.to_pylist():
                        index = scalar(values[number])
                        if not row.first <= index < row.first + row.length:
                            if number == layout_2.STEP_COLUMN:  # one file per episode
                                raise DamagedDataError(f"{path}: step {index} of an episode of {row.length}")
                            continue
                        if index != row.first + found:
                            raise DamagedDataError(f"{path}: step {index} where {row.first + found} belongs")
                        found += 1
                        yield values
        except (OSError, pa.ArrowException) as error:
            raise DamagedDataError(f"{path} cannot be read: {error}") from error
        if found != row.length:
            raise DamagedDataError(f"{path} has {found} of the {row.length} steps of episode '{row.name}'")

    def _step(
        self,
        row: EpisodeRow,
        index: int,
        values: dict[str, Any],
        images: dict[str, ImageArray],
        time: float,
        success: bool | None,
    ) -> Step:
        where = f"{self.root}, episode '{row.name}', step {index}"
        task = scalar(values["task_index"])
        sentence = self._instruction if self._instruction is not None else self._sentences.get(task)
        if sentence is None:
            raise DamagedDataError(f"{where}: task {task} is not in {layout.TASKS}")
        state = np.atleast_1d(values.get(self._state, ())).astype(np.float64).ravel()
        action = np.atleast_1d(values[self._action]).astype(np.float64).ravel()
        for column, numbers in ((self._action, action), (self._state, state)):
            if not np.isfinite(numbers).all():
                raise NotFiniteError(f"{where}: column '{column}' holds {numbers.tolist()}")
        return Step(
            images=images,
            instruction=sentence,
            proprioception=state,
            action=action,
            convention=self._description.convention,
            task=row.task or sentence,
            episode=row.name,
            index=index,
            timestamp=time,
            last=index == row.length - 1,
            success=success,
            proprioception_names=self._description.proprioception_names,
        )


def _groups(file: pq.ParquetFile, row: EpisodeRow) -> list[int]:
    """Return the row groups that may hold an episode, using their min/max statistics where available."""
    schema = file.metadata.schema
    paths = [schema.column(i).path.split(".")[0] for i in range(len(schema))]
    column = paths.index(row.step_column)
    wanted = []
    for group in range(file.metadata.num_row_groups):
        figures = file.metadata.row_group(group).column(column).statistics
        known = figures is not None and figures.has_min_max
        if not known or (figures.max >= row.first and figures.min < row.first + row.length):
            wanted.append(group)
    return wanted


def _image(value: dict[str, Any], path: Path) -> ImageArray:
    content = value.get("bytes") if isinstance(value, dict) else None
    if content is None:
        raise DamagedDataError(f"{path} names an image outside of it: {value!r:.100}")
    return decode_image(content, str(path))


def _camera_names(keys: Sequence[str]) -> dict[str, str]:
    """Return column to camera name; prefixes are dropped if the names stay distinct."""
    short = [key.removeprefix(IMAGE_PREFIX) for key in keys]
    return dict(zip(keys, short if len(set(short)) == len(short) else keys, strict=True))
