"""On-disk cache of decoded episode images: each episode is decoded on first use and read step by step.

One file per episode and camera, `episode_000012.front.rgb`, (steps, height, width, 3) uint8. A file gets its name only
once it is complete, so that several processes may share a folder.
"""

from __future__ import annotations

import math
import os
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vla_ros.data.episodes.durable import synchronise
from vla_ros.data.errors import DamagedDataError, disk_full_errors
from vla_ros.types import ImageArray

OPEN_FILES = 256
"""Largest number of files memory-mapped at a time."""

Decode = Callable[[int], Iterator[Mapping[str, ImageArray]]]
"""Yields the images of each step of an episode, by camera, at the stored size."""


class EpisodeImages:
    """Cached images of one data set's episodes.

    Attributes:
        folder: Folder of the cache files.
    """

    def __init__(
        self, folder: Path, name: str, lengths: Sequence[int], sizes: Mapping[str, tuple[int, int]], decode: Decode
    ) -> None:
        """Store the configuration; nothing is decoded yet.

        Args:
            folder: Folder of the cache files.
            name: Name of the data set, for error messages.
            lengths: Number of steps of each episode.
            sizes: Camera to (height, width), px.
            decode: Decodes one episode; see `Decode`.
        """
        self.folder, self._name, self._sizes = folder, name, dict(sizes)
        self._lengths, self._firsts, self._decode = tuple(lengths), np.cumsum([0, *lengths]), decode
        self._open: OrderedDict[tuple[int, str], NDArray[np.uint8]] = OrderedDict()

    def bytes_per_step(self) -> int:
        """Return the disk space of one step's images, bytes."""
        return sum(height * width * 3 for height, width in self._sizes.values())

    def read(self, camera: str, steps: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return images (len(steps), height, width, 3), indexed by step number within the data set.

        Raises:
            DataError: when an episode cannot be decoded.
        """
        out = np.empty((len(steps), *self._sizes[camera], 3), np.uint8)
        for row, step in enumerate(steps):
            episode = int(np.searchsorted(self._firsts, step, side="right")) - 1
            out[row] = self._mapped(episode, camera)[step - self._firsts[episode]]
        return out

    def prepare(self, episode: int) -> None:
        """Decode an episode unless it is cached."""
        if all(self._is_whole(episode, camera) for camera in self._sizes):
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = {c: self.folder / f".{self._path(episode, c).name}.{os.getpid()}" for c in self._sizes}
        try:
            with disk_full_errors(f"the images of {self._name} in {self.folder}"):
                self._write(episode, partial)
                for camera, path in partial.items():
                    synchronise(path)
                    path.replace(self._path(episode, camera))
        finally:
            for path in partial.values():
                path.unlink(missing_ok=True)

    def keep_only(self, episodes: Collection[int]) -> None:
        """Remove the files of all other episodes; a process that reads one keeps its mapping or decodes it again."""
        kept = {self._path(episode, camera).name for episode in episodes for camera in self._sizes}
        for path in self.folder.glob("episode_*.rgb"):
            if path.name not in kept:
                path.unlink(missing_ok=True)
        for key in [key for key in self._open if key[0] not in episodes]:
            del self._open[key]

    def _write(self, episode: int, paths: Mapping[str, Path]) -> None:
        count = 0
        files = {camera: path.open("wb") for camera, path in paths.items()}
        try:
            for images in self._decode(episode):
                count += 1
                for camera, file in files.items():
                    file.write(np.ascontiguousarray(images[camera]).tobytes())
        finally:
            for file in files.values():
                file.close()
        if count != self._lengths[episode]:
            raise DamagedDataError(
                f"{self._name}, episode number {episode}, has images of {count} steps, and numbers of "
                f"{self._lengths[episode]}"
            )

    def _mapped(self, episode: int, camera: str) -> NDArray[np.uint8]:
        key = (episode, camera)
        if key not in self._open:
            self.prepare(episode)
            shape = (self._lengths[episode], *self._sizes[camera], 3)
            self._open[key] = np.memmap(self._path(episode, camera), np.uint8, "r", shape=shape)
            if len(self._open) > OPEN_FILES:
                self._open.popitem(last=False)
        self._open.move_to_end(key)
        return self._open[key]

    def _path(self, episode: int, camera: str) -> Path:
        return self.folder / f"episode_{episode:06d}.{camera}.rgb"

    def _is_whole(self, episode: int, camera: str) -> bool:
        try:
            size = self._path(episode, camera).stat().st_size
        except FileNotFoundError:
            return False
        return size == math.prod((self._lengths[episode], *self._sizes[camera], 3))
