"""Episode and instruction lists of layout v2, which has one file per episode, and JSON lines.

    meta/episodes.jsonl                                 {"episode_index": 0, "tasks": ["..."], "length": 120}
    meta/tasks.jsonl                                    {"task_index": 0, "task": "..."}
    data/chunk-000/episode_000000.parquet               one row per step
    videos/chunk-000/<column>/episode_000000.mp4        one frame per step

Source: the `lerobot` package 0.3, `lerobot/datasets/utils.py`. `info.json` holds the path patterns, as in v3.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vla_ros.data.errors import DamagedDataError, MissingColumnError
from vla_ros.data.lerobot.index import EpisodeRow, distinct, scalar
from vla_ros.data.lerobot.layout import Location

VERSION = "v2."
EPISODES, TASKS = "meta/episodes.jsonl", "meta/tasks.jsonl"
DATA_PATTERN = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
VIDEO_PATTERN = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
STEP_COLUMN = "frame_index"
"""Index of a frame within its episode; `index` counts over the whole set, and some writers reset it per episode."""


def read_tasks(root: Path) -> dict[int, str]:
    """Return task number to instruction.

    Raises:
        DamagedDataError: when a line cannot be read, or two instructions share a number.
        MissingColumnError: when a line lacks the number or the text.
    """
    found: dict[int, str] = {}
    for line in _lines(root / TASKS, ("task_index", "task")):
        number = int(line["task_index"])
        if number in found:
            raise DamagedDataError(f"{root / TASKS} gives one number to two instructions: {number}")
        found[number] = str(line["task"] or "")
    return found


def read_episodes(root: Path, video_keys: Sequence[str]) -> list[EpisodeRow]:
    """Return every episode, sorted by number.

    Raises:
        DamagedDataError: when a line cannot be read, or a number appears twice.
        MissingColumnError: when a line lacks the number or the length.
    """
    rows = []
    for line in _lines(root / EPISODES, ("episode_index", "length")):
        index, length = int(scalar(line["episode_index"])), int(scalar(line["length"]))
        if length < 1:
            raise DamagedDataError(f"{root / EPISODES}: episode {index} has {length} steps, expected at least 1")
        tasks = line.get("tasks") or ()
        sentences = (tasks,) if isinstance(tasks, str) else tuple(str(one or "") for one in tasks)
        rows.append(
            EpisodeRow(
                index=index,
                name=f"{index:06d}",
                task=sentences[0] if sentences else "",
                success=None,
                sentences=sentences,
                length=length,
                first=0,
                data=Location(),
                videos={key: (Location(), 0.0) for key in video_keys},
                step_column=STEP_COLUMN,
            )
        )
    if len({row.index for row in rows}) != len(rows):
        raise DamagedDataError(f"{root / EPISODES} names an episode twice")
    return distinct(sorted(rows, key=lambda row: row.index))


def _lines(path: Path, needed: Sequence[str]) -> Iterator[dict[str, Any]]:
    try:
        content = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise DamagedDataError(f"{path} cannot be read: {error}") from error
    for number, text in enumerate(content, start=1):
        if not text.strip():
            continue
        try:
            line = json.loads(text)
        except ValueError as error:
            raise DamagedDataError(f"{path}, line {number} cannot be read: {error}") from error
        if not isinstance(line, dict) or any(line.get(name) is None for name in needed):
            raise MissingColumnError(f"{path}, line {number} is {text!r:.100}, expected {list(needed)}")
        yield line
