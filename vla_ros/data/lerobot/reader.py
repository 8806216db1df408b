"""Reads a LeRobot v3 data set, this package's or anybody's, one step at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vla_ros.actions.specification import ActionSpecification
from vla_ros.data.errors import ConventionError, DamagedDataError, DataError, MissingColumnError, NotFiniteError
from vla_ros.data.lerobot import layout
from vla_ros.data.lerobot.index import EpisodeRow, read_episodes, read_tasks
from vla_ros.data.lerobot.layout import IMAGE_PREFIX
from vla_ros.data.lerobot.video import read_frames
from vla_ros.data.reader import DatasetDescription
from vla_ros.data.step import Step
from vla_ros.types import ImageArray

ROWS_AT_ONCE = 64


class LeRobotReader:
    """See `EpisodeReader`. Holds the list of episodes, a few rows, and one decoded picture a camera."""

    def __init__(self, root: Path, *, convention: ActionSpecification | None = None, max_opening: float | None = None,
                 proprioception_names: Sequence[str] | None = None) -> None:  # fmt: skip
        """Read what the data set says of itself.

        Args:
            root: Its folder.
            convention: What its actions mean, where it does not say so itself; where it does, it must agree.
            max_opening: Opening of the gripper that counts as fully open, m, where it does not say so itself.
            proprioception_names: Names of the measurements, in place of those of the data set.

        Raises:
            ConventionError: when nothing says what the actions mean, or two say different things.
            DataError: when the data set cannot be read, naming what is wrong.
        """
        self.root = Path(root)
        self._info = layout.read_info(self.root)
        features = self._info["features"]
        for column in (layout.ACTION, "timestamp", "index", "episode_index", "task_index"):
            if column not in features:
                raise MissingColumnError(f"{self.root / layout.INFO} names no column '{column}'")
        self._videos = [key for key, feature in features.items() if feature["dtype"] == "video"]
        self._pictures = [key for key, feature in features.items() if feature["dtype"] == "image"]
        names: tuple[str, ...] = ()
        if layout.STATE in features:
            names = tuple(proprioception_names or layout.flat_names(features[layout.STATE], "state"))
        convention, max_opening = self._convention(convention, max_opening)
        cameras = tuple(sorted(key.removeprefix(IMAGE_PREFIX) for key in (*self._videos, *self._pictures)))
        self._description = DatasetDescription(self.root.name, convention, cameras, names, max_opening)
        self._rows = {row.name: row for row in read_episodes(self.root, self._videos)}
        self._sentences = read_tasks(self.root) if self._rows else {}

    def _convention(
        self, given: ActionSpecification | None, max_opening: float | None
    ) -> tuple[ActionSpecification, float | None]:
        found = layout.read_convention(self.root)
        if found is None and given is None:
            raise ConventionError(
                f"{self.root} does not say what the columns of its actions mean (LeRobot's layout cannot); "
                "look it up and give a convention"
            )
        convention = given if found is None else found[0]
        assert convention is not None
        if found is not None and given is not None:
            DatasetDescription(str(self.root), found[0], (), ()).require(given)
        rate = float(self._info["fps"])
        if convention.rate_hz != rate:
            raise ConventionError(f"{self.root} has {rate} steps a second, the convention says {convention.rate_hz}")
        width = int(self._info["features"][layout.ACTION]["shape"][0])
        if convention.width != width:
            raise ConventionError(f"{self.root} has actions of {width} columns, the convention says {convention.width}")
        return convention, found[1] if found is not None and found[1] is not None else max_opening

    @property
    def description(self) -> DatasetDescription:
        """What holds for every step."""
        return self._description

    @property
    def episodes(self) -> Sequence[str]:
        """Names of the finished episodes."""
        return list(self._rows)

    def read(self, episode: str, *, pictures: bool = True) -> Iterator[Step]:
        """Yield the steps of an episode.

        Raises:
            TruncatedVideoError, DamagedDataError, MissingColumnError, NotFiniteError: naming the file and the place.
            DataError: when there is no such episode.
        """
        if episode not in self._rows:
            raise DataError(f"{self.root} has no episode '{episode}'; it has {len(self._rows)}")
        row = self._rows[episode]
        path = self.root / row.data.path(self._info["data_path"])
        success = self._success(row, path)
        with ExitStack() as stack:
            frames = {}
            for key, (location, start) in row.videos.items() if pictures else ():
                video = self.root / location.path(self._info["video_path"], key)
                frames[key] = stack.enter_context(closing(read_frames(video, start, row.length, self._info["fps"])))
            for count, values in enumerate(self._table(row, path, self._columns(pictures))):
                images = {key.removeprefix(IMAGE_PREFIX): next(stream) for key, stream in frames.items()}
                images |= {
                    key.removeprefix(IMAGE_PREFIX): _png(values[key], path) for key in self._pictures if pictures
                }
                yield self._step(row, count, values, images, success)

    def _columns(self, pictures: bool) -> list[str]:
        optional = [key for key in (layout.STATE, layout.STAMP) if key in self._info["features"]]
        return [layout.ACTION, "timestamp", "task_index", *optional, *(self._pictures if pictures else ())]

    def _success(self, row: EpisodeRow, path: Path) -> bool | None:
        if row.success is not None or layout.SUCCESS not in self._info["features"]:
            return row.success
        if (layout.read_convention(self.root)) is not None:
            return None  # written here, by somebody who did not know
        return any(bool(values[layout.SUCCESS]) for values in self._table(row, path, [layout.SUCCESS]))

    def _table(self, row: EpisodeRow, path: Path, columns: list[str]) -> Iterator[dict[str, Any]]:
        """Yield the rows of an episode; they stand in order, and a file is read a few rows at a time."""
        found = 0
        try:
            with pq.ParquetFile(path) as file:
                if missing := [c for c in (*columns, "index") if c not in file.schema_arrow.names]:
                    raise MissingColumnError(f"{path} has no column {missing}; it has {file.schema_arrow.names}")
                groups = _groups(file, row)
                for batch in file.iter_batches(ROWS_AT_ONCE, row_groups=groups, columns=[*columns, "index"]):
                    for values in batch.to_pylist():
                        if not row.first <= values["index"] < row.first + row.length:
                            continue
                        if values["index"] != row.first + found:
                            raise DamagedDataError(f"{path}: step {values['index']} where {row.first + found} belongs")
                        found += 1
                        yield values
        except (OSError, pa.ArrowException) as error:
            raise DamagedDataError(f"{path} cannot be read: {error}") from error
        if found != row.length:
            raise DamagedDataError(f"{path} has {found} of the {row.length} steps of episode '{row.name}'")

    def _step(
        self, row: EpisodeRow, index: int, values: dict[str, Any], images: dict[str, ImageArray], success: bool | None
    ) -> Step:
        where = f"{self.root}, episode '{row.name}', step {index}"
        sentence = self._sentences.get(values["task_index"])
        if sentence is None:
            raise DamagedDataError(f"{where}: task {values['task_index']} is not in {layout.TASKS}")
        state = np.atleast_1d(values.get(layout.STATE, ())).astype(np.float64)
        action = np.atleast_1d(values[layout.ACTION]).astype(np.float64)
        for column, numbers in ((layout.ACTION, action), (layout.STATE, state)):
            if not np.isfinite(numbers).all():
                raise NotFiniteError(f"{where}: column '{column}' holds {numbers.tolist()}")
        return Step(
            images=images,
            instruction=sentence,
            proprioception=state,
            action=action,
            convention=self._description.convention,
            task=row.task,
            episode=row.name,
            index=index,
            timestamp=float(values.get(layout.STAMP, values["timestamp"])),
            last=index == row.length - 1,
            success=success,
            proprioception_names=self._description.proprioception_names,
        )


def _groups(file: pq.ParquetFile, row: EpisodeRow) -> list[int]:
    """Return the row groups that may hold an episode, by their figures where they have some."""
    schema = file.metadata.schema
    column = [schema.column(i).path for i in range(len(schema))].index("index")
    wanted = []
    for group in range(file.metadata.num_row_groups):
        figures = file.metadata.row_group(group).column(column).statistics
        known = figures is not None and figures.has_min_max
        if not known or (figures.max >= row.first and figures.min < row.first + row.length):
            wanted.append(group)
    return wanted


def _png(value: dict[str, Any], path: Path) -> ImageArray:
    content = value.get("bytes") if isinstance(value, dict) else None
    if content is None:
        raise DamagedDataError(f"{path} names a picture outside of it: {value!r:.100}")
    picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)
    if picture is None:
        raise DamagedDataError(f"{path} holds a picture that cannot be decoded")
    return picture.astype(np.uint8)
