"""Recorded steps on disk: one `.npz` file an episode, whole or absent.

=================  ====================================  ==============================================
array              shape, dtype                          meaning
=================  ====================================  ==============================================
image_<camera>     (steps, height, width, 3) uint8       RGB at the size that the policy sees
position           (steps, 3) float32                    tool, m, base frame
quaternion         (steps, 4) float32                    tool, (x, y, z, w)
opening            (steps,) float32                      m between the fingers
actions            (steps, objects, horizon, width) f4   chunk that serves each object, as specified
target             (steps, objects, 3) float32           centre of each object, m, base frame
pixel_<camera>     (steps, objects, 2) float32           where it is in the image, 0 to 1; NaN out of sight
asked              (steps,) int64                        which object the episode pursued at that step
names              (objects,) str                        names of the objects
=================  ====================================  ==============================================
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.actions.space import ActionSpace
from vla_ros.data.durable import write_whole
from vla_ros.data.errors import DataError, naming_full_disk
from vla_ros.data.lines import differing_lines
from vla_ros.errors import VlaError

META_FILE = "meta.json"


@dataclass(frozen=True)
class Episode:
    """One recorded episode; `arrays` as in the table of this module."""

    seed: int
    success: bool
    arrays: Mapping[str, NDArray[Any]]

    def __len__(self) -> int:
        """Number of steps."""
        return len(self.arrays["opening"])


class EpisodeWriter:
    """Writes episodes into a folder; a file appears under its name only when it is complete."""

    def __init__(self, folder: Path, specification: ActionSpace, source: Mapping[str, Any]) -> None:
        """Make the folder and write down the convention of its actions and where they come from.

        A folder that there is already must hold episodes of the same convention and source, as far as it says.

        Raises:
            DataError: naming the lines that differ.
            DiskFullError: when no more fits.
        """
        self.folder = folder
        meta = {"specification": specification.to_dict(), "source": dict(source)}
        path = folder / META_FILE
        if path.exists():
            if differences := differing_lines(_read_meta(folder), meta):
                raise DataError(
                    f"{folder} holds episodes of another kind: {'; '.join(differences)}; give another folder, or ask "
                    "for what it holds"
                )
            return
        with naming_full_disk(str(path)):
            write_whole(path, json.dumps(meta, indent=2).encode())

    def write(self, episode: Episode) -> Path:
        """Store one episode and return its path.

        Raises:
            VlaError: when an array holds a value that is not finite (pixels out of sight apart).
            DiskFullError: when no more fits.
        """
        for name, array in episode.arrays.items():
            if array.dtype.kind == "f" and not name.startswith("pixel_") and not np.isfinite(array).all():
                raise VlaError(f"episode {episode.seed}: '{name}' holds values that are not finite")
        path = self.folder / f"episode_{episode.seed:09d}.npz"
        content = io.BytesIO()
        np.savez(content, success=episode.success, seed=episode.seed, **episode.arrays)
        with naming_full_disk(f"episode {episode.seed} in {self.folder}"):
            write_whole(path, content.getvalue())
        return path


def _read_meta(folder: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / META_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{folder} is no folder of episodes: {META_FILE}: {error}") from error


def read_specification(folder: Path) -> ActionSpace:
    """Return the convention of the actions in a folder.

    Raises:
        VlaError: when the folder has no description.
    """
    meta = _read_meta(folder)
    try:
        return ActionSpace.from_dict(meta["specification"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{folder} is no folder of episodes: {META_FILE}: {error}") from error


def read_episodes(folder: Path) -> Iterator[Episode]:
    """Yield the finished episodes of a folder in the order of their seeds.

    Raises:
        VlaError: naming a file that cannot be read.
    """
    for path in sorted(folder.glob("episode_*.npz")):
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files if name not in ("success", "seed")}
                yield Episode(int(file["seed"]), bool(file["success"]), arrays)
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise VlaError(f"{path} cannot be read: {error}") from error
