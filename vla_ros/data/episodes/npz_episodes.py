"""Reads workcell episodes written before version 0.5: one `.npz` file each, and `meta.json`."""

from __future__ import annotations

import json
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.actions.space import ActionSpace
from vla_ros.data.errors import DataError
from vla_ros.errors import VlaError

META_FILE = "meta.json"


def holds_npz(folder: Path) -> bool:
    """Return whether a folder has this format."""
    return (folder / META_FILE).exists()


def read_npz_specification(folder: Path) -> ActionSpace:
    """Return the action space of the chunks in a folder.

    Raises:
        DataError: when the folder has no description.
    """
    try:
        meta = json.loads((folder / META_FILE).read_text(encoding="utf-8"))
        return ActionSpace.from_dict(meta["specification"])
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{folder} is no folder of episodes: {META_FILE}: {error}") from error


def read_npz(folder: Path) -> Iterator[tuple[int, bool, dict[str, NDArray[Any]]]]:
    """Yield seed, success and arrays of each episode, sorted by seed; see `data.demonstrations`.

    Raises:
        VlaError: naming a file that cannot be read.
    """
    warnings.warn(
        f"{folder} holds .npz episodes of an earlier version, which a later one will not read; collect them again",
        DeprecationWarning,
        stacklevel=3,
    )
    for path in sorted(folder.glob("episode_*.npz")):
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files if name not in ("success", "seed")}
                yield int(file["seed"]), bool(file["success"]), arrays
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise VlaError(f"{path} cannot be read: {error}") from error
