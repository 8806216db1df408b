"""One episode being recorded: images are encoded as they arrive, numbers are kept until it is finished."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vla_ros.data.errors import ConventionError, DataError, disk_full_errors
from vla_ros.data.lerobot.layout import ACTION, AUX_PREFIX, DONE, IMAGE_PREFIX, STAMP, STATE, SUCCESS
from vla_ros.data.lerobot.statistics import ImageStatistics, Statistics, column_statistics
from vla_ros.data.lerobot.video import VideoEncoder
from vla_ros.data.reader import DatasetDescription
from vla_ros.data.step import Step
from vla_ros.types import ImageArray

MAX_EPISODE_LENGTH = 1_000_000
"""Largest number of steps per episode; more means that a recorder was never stopped."""


class Draft:
    """Collects the steps of one episode in a private folder, which no reader looks at.

    Attributes:
        videos: Column to finished video, after `finish`.
        images: Column to PNG files, where images are not encoded as video.
        sentences: Instruction of every step.
    """

    def __init__(
        self, folder: Path | None, description: DatasetDescription, sizes: Mapping[str, tuple[int, int]], *, video: bool
    ) -> None:
        """Start without steps.

        Args:
            folder: Private folder; None without video: the draft is then entirely in memory, and picklable.
            description: Properties common to all steps.
            sizes: Camera to (height, width), px.
            video: Whether images are encoded as video.
        """
        if folder is not None:
            folder.mkdir(parents=True)
        self.folder = folder
        self._description, self._sizes = description, dict(sizes)
        self._rate = int(description.convention.rate_hz)
        self._encoders: dict[str, VideoEncoder] = {}
        self._statistics = {IMAGE_PREFIX + camera: ImageStatistics() for camera in description.cameras}
        self.videos: dict[str, Path] = {}
        self.images: dict[str, list[bytes]] = {} if video else {IMAGE_PREFIX + c: [] for c in description.cameras}
        self._video = video
        self.sentences: list[str] = []
        self._states: list[NDArray[np.float64]] = []
        self._actions: list[NDArray[np.float64]] = []
        self._stamps: list[float] = []
        self._aux: dict[str, list[Any]] = {name: [] for name in description.aux}

    def fits(self, description: DatasetDescription, sizes: Mapping[str, tuple[int, int]]) -> bool:
        """Return whether it was made for this description and these image sizes."""
        return (self._description, self._sizes) == (description, dict(sizes))

    def __len__(self) -> int:
        """Number of steps so far."""
        return len(self._actions)

    def path(self, name: str) -> Path:
        """Return the path of a file in the private folder, which exists."""
        assert self.folder is not None
        return self.folder / name

    def add(self, step: Step) -> None:
        """Append a step; its episode, task, success and `last` are set when the episode is finished.

        Raises:
            ConventionError: when its action space differs from the data set's.
            DataError: when its cameras, image sizes, names or time order do not fit.
            DiskFullError: when the disk is full.
        """
        self._check(step)
        with disk_full_errors(f"an episode of {self._description.name}"):
            for camera, image in step.images.items():
                self._add_image(IMAGE_PREFIX + camera, image)
        self.sentences.append(step.instruction)
        self._states.append(step.proprioception)
        self._actions.append(step.action)
        self._stamps.append(step.timestamp)
        for name, values in self._aux.items():
            values.append(step.aux[name])

    def _check(self, step: Step) -> None:
        description, where = self._description, f"{self._description.name}, step {len(self)}"
        if step.convention != description.convention:
            raise ConventionError(
                f"{where} has another action convention: "
                + "; ".join(description.convention.differences(step.convention))
            )
        if step.proprioception_names != description.proprioception_names:
            raise DataError(
                f"{where} measures {step.proprioception_names}, expected {description.proprioception_names}"
            )
        sizes = {camera: image.shape[:2] for camera, image in step.images.items()}
        if sizes != self._sizes:
            raise DataError(f"{where} has images {sizes}, expected {self._sizes} (height, width)")
        for name, column in description.aux.items():
            if name not in step.aux or np.shape(step.aux[name]) != column.shape:
                raise DataError(
                    f"{where} has labels { ({key: np.shape(value) for key, value in step.aux.items()}) }, expected "
                    f"'{name}' of shape {column.shape}"
                )
        if self._stamps and not step.timestamp > self._stamps[-1]:
            raise DataError(f"{where} is at {step.timestamp} s, the one before at {self._stamps[-1]} s")
        if len(self) >= MAX_EPISODE_LENGTH:
            raise DataError(f"{where}: an episode has at most {MAX_EPISODE_LENGTH} steps")

    def _add_image(self, key: str, image: ImageArray) -> None:
        self._statistics[key].add(image)
        if not self._video:
            done, content = cv2.imencode(".png", image[..., ::-1])
            if not done:
                raise DataError(f"an image of {key} could not be coded as PNG")
            self.images[key].append(content.tobytes())
            return
        if key not in self._encoders:
            height, width = image.shape[:2]
            self._encoders[key] = VideoEncoder(self.path(f"{key}.mp4"), self._rate, height, width)
        self._encoders[key].add(image)

    def finish(self, success: bool | None) -> tuple[dict[str, NDArray[Any]], dict[str, Statistics]]:
        """Close the videos; return the numeric columns, and the statistics of every column.

        Raises:
            DataError: when there are no steps.
            DiskFullError: when the disk is full.
        """
        count = len(self)
        if count == 0:
            raise DataError(f"an episode of {self._description.name} has no step")
        with disk_full_errors(f"an episode of {self._description.name}"):
            for key, encoder in self._encoders.items():
                encoder.finish()
                self.videos[key] = encoder.path
        last = np.arange(count) == count - 1
        columns: dict[str, NDArray[Any]] = {
            STATE: np.stack(self._states).astype(np.float32),
            ACTION: np.stack(self._actions).astype(np.float32),
            STAMP: np.array(self._stamps, dtype=np.float64),
            DONE: last,
            SUCCESS: last & bool(success),
            "timestamp": (np.arange(count) / self._rate).astype(np.float32),
            "frame_index": np.arange(count),
        }
        labels = {AUX_PREFIX + name: self._labels(name) for name in self._aux}
        figures = {key: statistics.result() for key, statistics in self._statistics.items()}
        figures |= {key: column_statistics(values) for key, values in columns.items()}
        return columns | labels, figures  # no statistics of labels, which may be NaN or text

    def _labels(self, name: str) -> NDArray[Any]:
        """Return a label's column: (steps,) or (steps, n)."""
        column, values = self._description.aux[name], self._aux[name]
        if column.dtype == "string":
            return np.array(values, dtype=object)
        table = np.asarray(values, dtype=column.dtype).reshape(len(values), -1)
        return table[:, 0] if table.shape[1] == 1 else table

    def abort(self) -> None:
        """Close open video encoders."""
        for encoder in self._encoders.values():
            encoder.abort()
