"""On-disk store of recorded images, read on demand: memory use is constant, however many there are."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vla_ros.data.episodes.durable import synchronise, write_whole
from vla_ros.errors import VlaError
from vla_ros.processing.images import image_tensor

NOISE = 0.01
"""Standard deviation of the noise on images in training."""

FOLDER_NOTE = "folder.txt"
"""Cache file that names the episode folder from which the cached images come."""

_BANK = np.random.default_rng(0).standard_normal(1_000_003, dtype=np.float32)
"""Noise drawn once; each image uses a slice of it, at a thousandth of the cost of drawing new noise."""


class ImageStore:
    """Images of one camera, stored consecutively in one file for memory mapping."""

    def __init__(self, path: Path) -> None:
        """Create the file at `path`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._file = path, path.open("wb")
        self.size: tuple[int, int] | None = None

    def append(self, images: NDArray[np.uint8]) -> None:
        """Append images (steps, height, width, 3); all must have one size.

        Raises:
            VlaError: when the size differs.
        """
        size = (images.shape[1], images.shape[2])
        if self.size not in (None, size):
            raise VlaError(f"images of {size} among images of {self.size}: one camera has one size")
        self.size = size
        self._file.write(np.ascontiguousarray(images).tobytes())

    def close(self) -> None:
        """Close the file and sync it to the disk, so that it may then be recorded as complete."""
        self._file.close()
        synchronise(self._path)


class StoredRows:
    """Rows of one shape in several files, with consecutive indices, read on demand."""

    def __init__(self, files: Sequence[tuple[Path, int]], shape: tuple[int, ...], kind: type[np.generic]) -> None:
        """Open (path, row count) files, whose rows are arrays of `shape` and dtype `kind`.

        Raises:
            VlaError: when the size of a file does not match its row count.
        """
        size = math.prod(shape) * np.dtype(kind).itemsize
        for path, count in files:
            if path.stat().st_size != count * size:
                raise VlaError(f"{path} has {path.stat().st_size} bytes, expected {count} rows of {size}; remove it")
        self.shape = shape
        self._files = [np.memmap(path, kind, "r", shape=(count, *shape)) for path, count in files]
        self._starts = np.cumsum([0, *(count for _, count in files)])

    def __getitem__(self, index: NDArray[np.int64]) -> NDArray[Any]:
        """Return the rows at these indices, (rows, *shape)."""
        where = np.searchsorted(self._starts, index, side="right") - 1
        out = np.empty((len(index), *self._files[0].shape[1:]), self._files[0].dtype)
        for number in np.unique(where):
            mine = where == number
            out[mine] = self._files[number][index[mine] - self._starts[number]]
        return out


def fingerprint(folder: Path) -> str:
    """Return a short fingerprint of a folder of episodes: its files, their sizes and times."""
    files = [
        (str(f), f.stat().st_size, f.stat().st_mtime_ns)
        for f in sorted([*folder.rglob("*.parquet"), *folder.glob("*.npz")])
    ]
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()[:16]


def drop_outdated(folder: Path, place: Path) -> None:
    """Remove cached images of earlier states of an episode folder, now that `place` holds the current ones.

    Cache folders that do not name their episode folder are kept: earlier versions did not record it.
    """
    name = str(folder.resolve())
    for note in place.parent.glob(f"*/{FOLDER_NOTE}"):
        if note.parent != place and note.read_text(encoding="utf-8") == name:
            shutil.rmtree(note.parent, ignore_errors=True)
    write_whole(place / FOLDER_NOTE, name.encode())


def varied(images: NDArray[np.uint8], generators: Sequence[np.random.Generator]) -> Tensor:
    """Return (B, 3, h, w) float 0 to 1, each image with brightness, color and noise drawn by its own generator."""
    tensor = image_tensor(images)
    size = tensor[0].numel()
    for row, rng in enumerate(generators):
        gain = rng.uniform(0.85, 1.15) * rng.uniform(0.94, 1.06, (3, 1, 1))
        offset = int(rng.integers(len(_BANK) - size))
        noise = torch.from_numpy(_BANK[offset : offset + size]).view(tensor[0].shape)
        tensor[row].mul_(torch.from_numpy(gain.astype(np.float32))).add_(noise, alpha=NOISE)
    return tensor.clamp_(0.0, 1.0)
