"""Index of the finished episodes of a LeRobot v3 data set: `meta/episodes` and `meta/tasks.parquet`.

An episode exists once it has a row here. The totals in `info.json` are derived from these rows, and may lag behind by
one episode if a writer was killed.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vla_ros.data.errors import DamagedDataError, DataError, MissingColumnError
from vla_ros.data.lerobot.layout import EPISODES, TASKS, Location

EPISODE_NAME, TASK_NAME, OUTCOME = "vla_ros.episode", "vla_ros.task", "vla_ros.success"
"""Columns of this package: episode name, task name, and success as true, false or null."""

SENTENCE_INDEX = "__index_level_0__"
ROWS_AT_ONCE = 256
"""Rows copied at a time: bounds how much of earlier episodes a writer holds in memory."""


@dataclass(frozen=True)
class EpisodeRow:
    """Location and metadata of one episode.

    Attributes:
        index: Number of the episode.
        name: Its name, with the number appended where several share a name.
        task: Name of its task.
        success: Outcome recorded in the data set; None if it is not recorded.
        sentences: Its instructions, as far as the episode index records them.
        length: Number of steps.
        first: Number of its first step within the whole data set.
        data: Its Parquet file.
        videos: Video column to the file and the time, s, at which the episode begins in it.
        step_column: Column that numbers the steps, starting at `first`.
        video_seconds: Video column to the episode's duration in its video, s, where the data set records it.
    """

    index: int
    name: str
    task: str
    success: bool | None
    sentences: tuple[str, ...]
    length: int
    first: int
    data: Location
    videos: Mapping[str, tuple[Location, float]] = field(default_factory=dict)
    step_column: str = "index"
    video_seconds: Mapping[str, float] = field(default_factory=dict)


def read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a Parquet file.

    Raises:
        DamagedDataError: when it cannot be read.
        MissingColumnError: naming the missing columns.
    """
    try:
        present = pq.read_schema(path).names
        if missing := [name for name in columns or () if name not in present]:
            raise MissingColumnError(f"{path} has no column {missing}; it has {present}")
        return pq.ParquetFile(path).read(columns=None if columns is None else list(columns))
    except (OSError, pa.ArrowException) as error:
        raise DamagedDataError(f"{path} cannot be read: {error}") from error


def read_tasks(root: Path) -> dict[int, str]:
    """Return task number to instruction.

    Raises:
        MissingColumnError: when the column with the instructions cannot be identified.
        DamagedDataError: when two instructions share a number.
    """
    path = root / TASKS
    table = read_table(path)
    column = _instruction_column(table.schema, path)
    numbers = [scalar(number) for number in table["task_index"].to_pylist()]
    if len(set(numbers)) != len(numbers):
        raise DamagedDataError(f"{path} gives one number to two instructions: {numbers}")
    return {int(number): str(text or "") for number, text in zip(numbers, table[column].to_pylist(), strict=True)}


def _instruction_column(schema: pa.Schema, path: Path) -> str:
    """Return the instruction column: the pandas index, as LeRobot writes it, else `task`, else the only text column."""
    texts = [field.name for field in schema if _is_text(field.type)]
    if "task_index" in schema.names:
        for name in (*_pandas_index(schema), "task", SENTENCE_INDEX):
            if name in texts:
                return name
        if len(texts) == 1:
            return str(texts[0])
    raise MissingColumnError(
        f"{path} has the columns {schema.names}, expected task_index and the instructions as pandas' index or as 'task'"
    )


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _pandas_index(schema: pa.Schema) -> list[str]:
    try:
        found = json.loads((schema.metadata or {})[b"pandas"])["index_columns"]
        return [name for name in found if isinstance(name, str)]
    except (KeyError, ValueError, TypeError):
        return []


def scalar(value: Any) -> Any:  # noqa: ANN401 (whatever a table holds)
    """Unwrap a number from single-element lists: writers store columns of shape [1] either way."""
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value


def write_tasks(path: Path, sentences: Sequence[str]) -> None:
    """Write the instructions as a table that pandas reads with the instruction as index, as LeRobot expects."""
    numbers = {
        "name": "task_index",
        "field_name": "task_index",
        "pandas_type": "int64",
        "numpy_type": "int64",
        "metadata": None,
    }
    texts = {
        "name": None,
        "field_name": SENTENCE_INDEX,
        "pandas_type": "unicode",
        "numpy_type": "object",
        "metadata": None,
    }
    header = {
        "index_columns": [SENTENCE_INDEX],
        "column_indexes": [],
        "columns": [numbers, texts],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.0.0",
    }
    table = pa.table(
        {"task_index": pa.array(range(len(sentences)), pa.int64()), SENTENCE_INDEX: pa.array(sentences, pa.string())}
    )
    pq.write_table(table.replace_schema_metadata({"pandas": json.dumps(header)}), path)


def read_episodes(root: Path, video_keys: Sequence[str]) -> list[EpisodeRow]:
    """Return every finished episode, sorted by number.

    Raises:
        DamagedDataError: when rows contradict each other.
        MissingColumnError: when a column is missing.
    """
    needed = ["episode_index", "length", "data/chunk_index", "data/file_index", "dataset_from_index"]
    for key in video_keys:
        needed += [f"videos/{key}/{part}" for part in ("chunk_index", "file_index", "from_timestamp")]
    rows: list[EpisodeRow] = []
    for path in sorted((root / EPISODES).glob("*/*.parquet")):
        optional = ("tasks", EPISODE_NAME, TASK_NAME, OUTCOME, *(f"videos/{key}/to_timestamp" for key in video_keys))
        own = [name for name in optional if name in _schema(path)]
        rows += [_row(values, video_keys) for values in read_table(path, [*needed, *own]).to_pylist()]
    rows.sort(key=lambda row: row.index)
    end = 0
    for before, row in zip([None, *rows], rows, strict=False):
        if (before is not None and row.index == before.index) or row.first < end or row.length < 1:
            raise DamagedDataError(
                f"{root / EPISODES}: episode {row.index} has {row.length} steps from {row.first} on; expected at least "
                f"1 step from {end} on, and each number once (gaps are allowed)"
            )
        end = row.first + row.length
    return distinct(rows)


def distinct(rows: list[EpisodeRow]) -> list[EpisodeRow]:
    """Return rows with unique names: duplicates, as in merged data sets, get their number appended."""
    names = Counter(row.name for row in rows)
    return [row if names[row.name] == 1 else replace(row, name=f"{row.name}#{row.index}") for row in rows]


def check_contiguous(rows: Sequence[EpisodeRow], root: Path) -> None:
    """Check that episodes have no gaps; a reader tolerates gaps, a writer that appends does not.

    Raises:
        DamagedDataError: naming the first row out of place.
    """
    expected = 0
    for number, row in enumerate(rows):
        if row.index != number or row.first != expected:
            raise DamagedDataError(
                f"{root / EPISODES}: row {number} is episode {row.index} from step {row.first} on; to go on with a "
                f"data set, episode {number} from {expected} on is expected: write to another folder"
            )
        expected += row.length


def _schema(path: Path) -> list[str]:
    try:
        return list(pq.read_schema(path).names)
    except (OSError, pa.ArrowException) as error:
        raise DamagedDataError(f"{path} cannot be read: {error}") from error


def _row(values: Mapping[str, Any], video_keys: Sequence[str]) -> EpisodeRow:
    index = int(scalar(values["episode_index"]))
    tasks = values.get("tasks") or ()
    sentences = (tasks,) if isinstance(tasks, str) else tuple(str(one or "") for one in tasks)
    videos = {
        key: (
            Location(int(scalar(values[f"videos/{key}/chunk_index"])), int(scalar(values[f"videos/{key}/file_index"]))),
            float(scalar(values[f"videos/{key}/from_timestamp"])),
        )
        for key in video_keys
    }
    ends = {key: scalar(values.get(f"videos/{key}/to_timestamp")) for key in video_keys}
    return EpisodeRow(
        index=index,
        name=values.get(EPISODE_NAME) or f"{index:06d}",
        task=values.get(TASK_NAME) or (sentences[0] if sentences else ""),
        success=values.get(OUTCOME),
        sentences=sentences,
        length=int(scalar(values["length"])),
        first=int(scalar(values["dataset_from_index"])),
        data=Location(int(scalar(values["data/chunk_index"])), int(scalar(values["data/file_index"]))),
        videos=videos,
        video_seconds={key: float(end) - videos[key][1] for key, end in ends.items() if end is not None},
    )


def append_table(present: Path, keep: int, table: pa.Table, target: Path) -> None:
    """Write the first `keep` rows of a file, then those of a table, to `target`."""
    with pq.ParquetWriter(target, table.schema, compression="snappy") as writer:
        left = keep
        if keep:
            for batch in pq.ParquetFile(present).iter_batches(batch_size=ROWS_AT_ONCE):
                if left <= 0:
                    break
                part = batch.slice(0, min(left, batch.num_rows))
                writer.write_table(pa.Table.from_batches([part]).cast(table.schema), row_group_size=ROWS_AT_ONCE)
                left -= part.num_rows
        if left > 0:
            raise DataError(f"{present} has {left} rows fewer than its list of episodes says")
        writer.write_table(table, row_group_size=ROWS_AT_ONCE)
