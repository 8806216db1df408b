"""Resolves the path patterns of `info.json`, never to a path outside the data set."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from string import Formatter
from typing import Any

from vla_ros.data.errors import DataError, HostileDataError
from vla_ros.data.lerobot.layout import FILES_PER_CHUNK, Location

_NUMBER = re.compile(r"0?\d{0,2}d?")
_NAMES = ("chunk_index", "file_index", "video_key", "episode_chunk", "episode_index")


def pattern_path(
    root: Path, info: Mapping[str, Any], line: str, location: Location, episode: int, video_key: str = ""
) -> Path:
    """Return the file that a path pattern refers to.

    Args:
        root: Folder of the data set.
        info: Its `info.json`.
        line: Key of the pattern, "data_path" or "video_path".
        location: Chunk and file, for patterns of layout v3.
        episode: Number of the episode, for patterns of layout v2, which has one file per episode.
        video_key: Column of the video.

    Raises:
        DataError: when the pattern has an unknown or malformed field, naming its key.
        HostileDataError: when the path leaves the data set.
    """
    pattern = info[line]
    chunk = episode // int(info.get("chunks_size") or FILES_PER_CHUNK)
    values = dict(zip(_NAMES, (location.chunk, location.file, video_key, chunk, episode), strict=True))
    try:
        parts = list(Formatter().parse(str(pattern)))
    except ValueError as error:
        raise DataError(f"{root}: {line} is {pattern!r}: {error}") from error
    for _, name, form, conversion in parts:
        if name is not None and (name not in values or conversion or not _NUMBER.fullmatch(form or "")):
            raise DataError(
                f"{root}: {line} is {pattern!r}, expected a path with {{...}} of {list(_NAMES)} alone, numbers such as "
                "{chunk_index:03d}"
            )
    try:
        relative = str(pattern).format(**values)
    except ValueError as error:
        raise DataError(f"{root}: {line} is {pattern!r}: {error}") from error
    # Lexical: files of a data set from the hub are symlinks into a store beside it.
    normal = os.path.normpath(relative)
    if Path(normal).is_absolute() or Path(normal).parts[:1] == (os.pardir,):
        raise HostileDataError(
            f"{root}: {line} is {pattern!r}, which leaves the data set; expected a path inside of it"
        )
    return root / normal
