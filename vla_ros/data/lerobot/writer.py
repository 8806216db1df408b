"""Writes a LeRobot v3 data set; each episode is added completely or not at all.

An episode is built in a private folder. When it is finished, each file that it extends is rewritten beside the old one
and renamed atomically: instructions, videos, table, and last the episode index, which makes the episode exist. Earlier
episodes come first in every file, before the new one, so a reader that runs during this, or after a kill, finds them
where the index says. `info.json` and `stats.json` follow.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from vla_ros.data.episodes.durable import publish, synchronise, write_whole
from vla_ros.data.errors import ConventionError, DataError, DatasetBusyError, disk_full_errors
from vla_ros.data.lerobot import layout, video
from vla_ros.data.lerobot.draft import Draft
from vla_ros.data.lerobot.episode import EpisodeInProgress
from vla_ros.data.lerobot.index import (
    EPISODE_NAME,
    OUTCOME,
    TASK_NAME,
    EpisodeRow,
    append_table,
    check_contiguous,
    read_episodes,
    read_table,
    read_tasks,
    write_tasks,
)
from vla_ros.data.lerobot.layout import Location
from vla_ros.data.lerobot.statistics import Statistics, aggregate, column_statistics
from vla_ros.data.reader import DatasetDescription
from vla_ros.data.step import Step

DRAFTS = ".drafts"

ROWS_PER_LIST = 200
"""Episodes per file of the episode index; the current file is rewritten with each episode."""

_MIB = 1 << 20


class LeRobotWriter:
    """Writes one data set, held exclusively by one process; use it as a context manager.

    with LeRobotWriter(folder, description, sizes) as writer:
        with writer.episode("000001", "pick") as episode:
            episode.add(step)
            episode.commit(success=True)

    An episode that is left without `commit`, or with an exception, is dropped.
    """

    def __init__(
        self,
        root: Path,
        description: DatasetDescription,
        sizes: Mapping[str, tuple[int, int]],
        *,
        robot: str = "unknown",
        video_files: bool = True,
        data_mb: int = 100,
        video_mb: int = 200,
    ) -> None:
        """Create a data set, or continue an existing one.

        Args:
            root: Folder of the data set.
            description: Properties common to all steps.
            sizes: (height, width) of every camera's images, px.
            robot: Name of the robot.
            video_files: Store images as MP4; otherwise as PNG in the table.
            data_mb: Size at which a new Parquet file begins, MiB.
            video_mb: The same for MP4 files.

        Raises:
            ConventionError: when the data set exists with another action space.
            DataError: when it exists with other cameras, image sizes or measurements.
            DatasetBusyError: when another process writes to it.
            DiskFullError: when the disk cannot hold even the empty data set.
        """
        if set(sizes) != set(description.cameras):
            raise DataError(f"{description.name}: sizes of {sorted(sizes)}, cameras {sorted(description.cameras)}")
        self.root, self.description, self._sizes = Path(root), description, dict(sizes)
        self._lock = self._locked()
        try:
            self._info = layout.new_info(
                description, sizes, robot, video=video_files, data_mb=data_mb, video_mb=video_mb
            )
            self._video_keys = [layout.IMAGE_PREFIX + c for c in description.cameras] if video_files else []
            self.rows: list[EpisodeRow] = []
            self._sentences: list[str] = []
            self._figures: dict[str, Statistics] | None = None
            self._listed: tuple[Location, int] | None = None
            if (self.root / layout.INFO).exists():
                self._go_on()
            else:
                self._begin()
        except BaseException:
            self.close()
            raise

    def _locked(self) -> IO[bytes]:
        self.root.mkdir(parents=True, exist_ok=True)
        lock = (self.root / ".lock").open("wb")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.close()
            raise DatasetBusyError(f"another process writes to {self.root}; wait for it, or choose a folder") from error
        return lock

    def _begin(self) -> None:
        with disk_full_errors(str(self.root)):
            write_whole(self.root / layout.CONVENTION, _json(layout.convention_lines(self.description)))
            write_whole(self.root / layout.INFO, _json(self._info))

    def _go_on(self) -> None:
        """Continue the existing data set, and remove files left by a killed writer."""
        present = layout.read_info(self.root)
        if not str(present["codebase_version"]).startswith("v3."):
            raise DataError(
                f"{self.root} is of layout {present['codebase_version']}, which is read and not written; write to "
                "another folder"
            )
        self._check_convention()
        for line in ("fps", "video_path", "data_path"):
            if present.get(line) != self._info[line]:
                raise DataError(f"{self.root}: {line} is {present.get(line)!r} there, {self._info[line]!r} here")
        for key, feature in self._info["features"].items():
            there = {k: present["features"].get(key, {}).get(k) for k in ("dtype", "shape", "names")}
            if there != {k: feature[k] for k in there}:
                raise DataError(f"{self.root}: column {key} is {there} there, {feature} here")
        self._info = present
        self.rows = read_episodes(self.root, self._video_keys)
        check_contiguous(self.rows, self.root)
        if (self.root / layout.TASKS).exists():
            self._sentences = [sentence for _, sentence in sorted(read_tasks(self.root).items())]
        shutil.rmtree(self.root / DRAFTS, ignore_errors=True)
        self._remove_strays("data", {row.data for row in self.rows})
        for key in self._video_keys:
            self._remove_strays(f"videos/{key}", {row.videos[key][0] for row in self.rows})
        if present.get("total_episodes") != len(self.rows):
            self._write_totals()

    def _check_convention(self) -> None:
        found = layout.read_convention(self.root)
        if found is None:
            raise ConventionError(f"{self.root} does not say the convention of its actions; write to another folder")
        here = (self.description.convention, self.description.max_opening)
        if found != here:
            lines = here[0].differences(found[0]) or [f"max_opening: {here[1]} here, {found[1]} there"]
            raise ConventionError(f"{self.root} has another action convention: " + "; ".join(lines))

    def _remove_strays(self, folder: str, known: set[Location]) -> None:
        for path in (self.root / folder).glob("chunk-*/file-*"):
            location = Location(int(path.parent.name.split("-")[1]), int(path.stem.split("-")[1]))
            if location not in known:
                path.unlink()

    # One episode

    def episode(self, name: str, task: str) -> EpisodeInProgress:
        """Start an episode, to be used as a context manager; `name` must be new in the data set.

        Raises:
            DataError: when an episode of that name exists.
        """
        if any(row.name == name for row in self.rows):
            raise DataError(f"{self.root} has an episode '{name}' already")
        return EpisodeInProgress(self, name, task)

    def write(self, steps: Iterable[Step]) -> EpisodeRow:
        """Write the steps of one finished episode, with the name, task and success that they carry.

        Raises:
            DataError: when there are no steps, or steps of several episodes.
        """
        episode: EpisodeInProgress | None = None
        last: Step | None = None
        try:
            for step in steps:
                episode = episode or self.episode(step.episode, step.task)
                if step.episode != episode.name:
                    raise DataError(f"steps of the episodes '{episode.name}' and '{step.episode}' were mixed")
                episode.add(step)
                last = step
            if episode is None or last is None:
                raise DataError(f"no step to write to {self.root}")
            return episode.commit(last.success)
        finally:
            if episode is not None:
                episode.abort()

    def new_draft(self) -> Draft:
        """Return an empty draft."""
        folder = self._draft_folder()
        with disk_full_errors(str(self.root)):
            return Draft(folder, self.description, self._sizes, video=bool(self._video_keys))

    def _draft_folder(self) -> Path:
        folder = self.root / DRAFTS / str(os.getpid())
        shutil.rmtree(folder, ignore_errors=True)
        return folder

    def add(self, draft: Draft, name: str, task: str, success: bool | None) -> EpisodeRow:
        """Add a draft that was made elsewhere, without a folder; see `commit`.

        Raises:
            DataError: when it was made for another data set, or an episode of that name exists.
        """
        if any(row.name == name for row in self.rows):
            raise DataError(f"{self.root} has an episode '{name}' already")
        if not draft.fits(self.description, self._sizes):
            raise DataError(f"{self.root}: episode '{name}' has other cameras, sizes, measurements or labels")
        draft.folder = self._draft_folder()
        try:
            with disk_full_errors(str(self.root)):
                draft.folder.mkdir(parents=True)
            return self.commit(draft, name, task, success)
        finally:
            shutil.rmtree(draft.folder, ignore_errors=True)

    def commit(self, draft: Draft, name: str, task: str, success: bool | None) -> EpisodeRow:
        """Add a draft to the data set.

        Raises:
            DiskFullError: when the disk is full; the data set is unchanged.
        """
        columns, figures = draft.finish(success)
        count, index = len(draft), len(self.rows)
        first = self.rows[-1].first + self.rows[-1].length if self.rows else 0
        sentences = [*self._sentences, *(s for s in dict.fromkeys(draft.sentences) if s not in self._sentences)]
        columns["episode_index"] = np.full(count, index)
        columns["index"] = np.arange(first, first + count)
        columns["task_index"] = np.array([sentences.index(sentence) for sentence in draft.sentences])
        figures |= {key: column_statistics(columns[key]) for key in ("episode_index", "index", "task_index")}
        with disk_full_errors(f"episode '{name}' of {self.root}"):
            pending: list[tuple[Path, str]] = []
            tasks = draft.path("tasks.parquet")
            write_tasks(tasks, sentences)
            pending.append((tasks, layout.TASKS))
            videos = {key: self._video(draft, key, pending) for key in self._video_keys}
            data = self._table(draft, columns, pending)
            row = EpisodeRow(
                index, name, task, success, tuple(dict.fromkeys(draft.sentences)), count, first, data, videos
            )
            self._list(draft, row, figures, pending)
            for partial, _ in pending:
                synchronise(partial)  # a full disk shows here at the latest, before any file is renamed
            for partial, target in pending:
                publish(partial, self.root / target)
        location, keep = self._list_place()
        self._listed = (location, keep + 1)
        self.rows.append(row)
        self._sentences = sentences
        if self._figures is not None:  # otherwise they are read from the index, including this episode
            self._figures = aggregate([self._figures, figures])
        self._describe_videos()
        with disk_full_errors(f"the figures of {self.root} (episode '{name}' is in it)"):
            self._write_totals()
        return row

    def _video(self, draft: Draft, key: str, pending: list[tuple[Path, str]]) -> tuple[Location, float]:
        new, rate = draft.videos[key], self._info["fps"]
        location, frames = Location(), 0
        if self.rows:
            location, start = self.rows[-1].videos[key]
            frames = round(start * rate) + self.rows[-1].length
            present = self.root / location.path(layout.VIDEO_PATTERN, key)
            size = present.stat().st_size + new.stat().st_size
            if size >= self._info["video_files_size_in_mb"] * _MIB or not video.fits_behind(present, new):
                location, frames = location.following(), 0
            else:
                joined = new.with_suffix(".joined.mp4")
                video.concatenate(present, frames, new, joined, rate)
                new = joined
        pending.append((new, location.path(layout.VIDEO_PATTERN, key)))
        return location, frames / rate

    def _table(self, draft: Draft, columns: Mapping[str, NDArray[Any]], pending: list[tuple[Path, str]]) -> Location:
        table = self._arrow(draft, columns)
        location, keep = Location(), 0
        if self.rows:
            location = self.rows[-1].data
            present = self.root / location.path(layout.DATA_PATTERN)
            if present.stat().st_size + table.nbytes >= self._info["data_files_size_in_mb"] * _MIB:
                location = location.following()
            else:
                keep = sum(row.length for row in self.rows if row.data == location)
        partial = draft.path("data.parquet")
        append_table(self.root / location.path(layout.DATA_PATTERN), keep, table, partial)
        pending.append((partial, location.path(layout.DATA_PATTERN)))
        return location

    def _arrow(self, draft: Draft, columns: Mapping[str, NDArray[Any]]) -> pa.Table:
        arrays = {}
        for key, feature in self._info["features"].items():
            if feature["dtype"] == "image":
                rows = [{"bytes": png, "path": None} for png in draft.images[key]]
                arrays[key] = pa.array(rows, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
            elif feature["dtype"] != "video":
                kind, values = pa.type_for_alias(feature["dtype"]), columns[key]
                flat = pa.array(values.ravel(), kind)
                arrays[key] = flat if values.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
        return pa.table(arrays)

    def _list(
        self, draft: Draft, row: EpisodeRow, figures: Mapping[str, Statistics], pending: list[tuple[Path, str]]
    ) -> None:
        place, keep = self._list_place()
        line: dict[str, Any] = {
            "episode_index": row.index,
            "tasks": list(row.sentences),
            "length": row.length,
            "data/chunk_index": row.data.chunk,
            "data/file_index": row.data.file,
            "dataset_from_index": row.first,
            "dataset_to_index": row.first + row.length,
        }
        for key, (location, start) in row.videos.items():
            line |= {
                f"videos/{key}/chunk_index": location.chunk,
                f"videos/{key}/file_index": location.file,
                f"videos/{key}/from_timestamp": start,
                f"videos/{key}/to_timestamp": start + row.length / self._info["fps"],
            }
        for column, values in figures.items():
            line |= {f"stats/{column}/{name}": value.tolist() for name, value in values.items()}
        line |= {EPISODE_NAME: row.name, TASK_NAME: row.task, OUTCOME: row.success}
        line |= {"meta/episodes/chunk_index": place.chunk, "meta/episodes/file_index": place.file}
        arrays = {key: pa.array([value], pa.bool_() if key == OUTCOME else None) for key, value in line.items()}
        partial, target = draft.path("episodes.parquet"), place.path(layout.EPISODES_PATTERN)
        append_table(self.root / target, keep, pa.table(arrays), partial)
        pending.append((partial, target))

    def _list_place(self) -> tuple[Location, int]:
        """Return the index file that the next episode is appended to, and its number of rows."""
        if not self.rows:
            return Location(), 0
        if self._listed is None:
            last = max((self.root / layout.EPISODES).glob("chunk-*/file-*.parquet"))
            place = Location(int(last.parent.name.split("-")[1]), int(last.stem.split("-")[1]))
            self._listed = (place, pq.ParquetFile(last).metadata.num_rows)
        location, count = self._listed
        return (location, count) if count < ROWS_PER_LIST else (location.following(), 0)

    # Metadata derived from the episode index

    def _describe_videos(self) -> None:
        for key in self._video_keys:
            location = self.rows[0].videos[key][0]
            if "info" not in self._info["features"][key]:
                path = self.root / location.path(layout.VIDEO_PATTERN, key)
                self._info["features"][key]["info"] = video.describe(path)

    def _write_totals(self) -> None:
        count = len(self.rows)
        self._info |= {
            "total_episodes": count,
            "total_frames": sum(row.length for row in self.rows),
            "total_tasks": len(self._sentences),
            "splits": {"train": f"0:{count}"} if count else {},
        }
        if count:
            if self._figures is None:
                files = sorted((self.root / layout.EPISODES).glob("*/*.parquet"))
                self._figures = aggregate([_together(read_table(path)) for path in files])
            lines = {column: {k: v.tolist() for k, v in one.items()} for column, one in self._figures.items()}
            write_whole(self.root / layout.STATS, _json(lines))
        write_whole(self.root / layout.INFO, _json(self._info))

    def close(self) -> None:
        """Release the data set for other writers; discard drafts."""
        shutil.rmtree(self.root / DRAFTS, ignore_errors=True)
        self._lock.close()

    def __enter__(self) -> LeRobotWriter:
        """Return the writer."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()


def _together(episodes: pa.Table) -> dict[str, Statistics]:
    """Combine the per-episode statistics of an index file."""
    names = [name.split("/") for name in episodes.column_names if name.startswith("stats/")]
    parts = []
    for row in episodes.select([n for n in episodes.column_names if n.startswith("stats/")]).to_pylist():
        part: dict[str, Statistics] = {}
        for _, column, figure in names:
            part.setdefault(column, {})[figure] = np.array(row[f"stats/{column}/{figure}"])
        parts.append(part)
    return aggregate(parts)


def _json(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, indent=4, ensure_ascii=False).encode()
