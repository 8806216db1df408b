"""Detects a data set's format from the files in its folder."""

from __future__ import annotations

from pathlib import Path

from vla_ros.data.episodes.demonstrations import holds_demonstrations
from vla_ros.data.errors import DataError
from vla_ros.data.lerobot.layout import INFO

TABLES = (".yaml", ".yml")
"""File extensions of a mixture table."""

BAG_FILES = ("*.mcap", "*.db3", "*.mcap.zstd", "*.db3.zstd")
"""Files of `vla-ros record` and of `ros2 bag record`."""

BAG_METADATA = "metadata.yaml"

MCAP = "mcap"
"""Recordings of the graph; the only format whose reader, `vla_ros.recording.bag`, needs ROS."""


def recognize(path: Path) -> str | None:
    """Return the format of a data set, or None if it is none of the formats that yield steps.

    A folder of `vla-ros collect` returns None as well: it holds simulator labels besides steps.

    Raises:
        DataError: when the folder contains several data sets.
    """
    if path.is_file():
        return "hdf5" if path.suffix in (".hdf5", ".h5") else None
    if not path.is_dir() or holds_demonstrations(path):
        return None
    if (found := _here(path)) is not None:
        return found
    below = [folder for folder in sorted(path.iterdir()) if folder.is_dir() and _here(folder) is not None]
    if below and all((folder / BAG_METADATA).exists() and _here(folder) == MCAP for folder in below):
        return MCAP  # one recording of 'ros2 bag record' per episode
    if below:
        raise DataError(f"{path} is the folder above {[folder.name for folder in below]}; name one or several of them")
    if files := sorted(path.glob("*.hdf5")):
        raise DataError(f"{path} holds {len(files)} files of demonstrations, one a task; name one or several of them")
    return "rlbench" if next(path.rglob("low_dim_obs.pkl"), None) is not None else None


def _here(folder: Path) -> str | None:
    if (folder / INFO).exists():
        return "lerobot"
    for pattern, kind in (*((pattern, MCAP) for pattern in BAG_FILES), ("*.tfrecord*", "rlds")):
        if next(folder.glob(pattern), None) is not None:
            return kind
    return None
