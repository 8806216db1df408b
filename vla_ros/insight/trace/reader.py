"""Reads a trace, complete or truncated, using its embedded message definitions: ROS is not needed.

File contents are untrusted bytes: a definition or a message that does not parse ends the reading with an error of one
sentence, and texts are only ever displayed.
"""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mcap.exceptions import McapError
from mcap.records import Channel, Footer, Message, Metadata, Schema
from mcap.stream_reader import StreamReader
from mcap_ros2.decoder import DecoderFactory

from vla_ros.data.errors import DamagedDataError, DataError
from vla_ros.insight.trace.layout import KEPT, METADATA_RECORD, VERSION

LARGEST_RECORD = 64 << 20
"""Largest accepted record, B; a larger one counts as damage."""

LARGEST_TRACE = 1 << 30
"""Largest accepted trace, B."""

NS = 1_000_000_000
BROKEN = (McapError, EOFError, struct.error, ValueError, MemoryError, UnicodeDecodeError)
"""Exceptions that the MCAP library raises for a damaged or truncated file."""

Decode = Callable[[bytes], Any]


@dataclass(frozen=True)
class Record:
    """One message as received: time in ns of the recorder's clock, and its bytes."""

    received: int
    topic: str
    content: bytes
    schema: int


@dataclass
class Trace:
    """The content of one run's trace.

    Attributes:
        path: File or folder that was opened.
        origin: Metadata record: `version`, `robot`, `started`.
        cut_short: Names of unfinished files: their process was killed, or the file was truncated.
        records: Messages in order, by topic without its namespace ("vla/safety_status").
        start: Start of the recording, ns; a carried message may be older.
        end: End of the recording, ns.
    """

    path: Path
    origin: Mapping[str, str] = field(default_factory=dict)
    cut_short: list[str] = field(default_factory=list)
    records: dict[str, list[Record]] = field(default_factory=dict)
    start: int = 0
    end: int = 0
    _decoders: dict[int, Decode] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """Duration, s."""
        return (self.end - self.start) / NS

    def keys(self, tail: str) -> list[str]:
        """Return the keys with the suffix `tail`, such as image topics."""
        return sorted(key for key in self.records if key.endswith(tail))

    def last(self, key: str, at: int) -> tuple[int, Any] | None:
        """Return time and message of the newest one at or before `at`; None when there is none.

        Raises:
            DamagedDataError: when it cannot be decoded.
        """
        rows = self.records.get(key, [])
        index = bisect_right(rows, at, key=_received)
        return None if index == 0 else (rows[index - 1].received, self._decoded(rows[index - 1]))

    def between(self, key: str, first: int, last: int) -> Iterator[tuple[int, Any]]:
        """Yield time and message of each one within [first, last].

        Raises:
            DamagedDataError: when one cannot be decoded.
        """
        rows = self.records.get(key, [])
        for row in rows[bisect_left(rows, first, key=_received) : bisect_right(rows, last, key=_received)]:
            yield row.received, self._decoded(row)

    def all(self, key: str) -> Iterator[tuple[int, Any]]:
        """Yield time and message of each one."""
        for row in self.records.get(key, []):
            yield row.received, self._decoded(row)

    def _decoded(self, record: Record) -> Any:  # noqa: ANN401 (a message of any type)
        try:
            return self._decoders[record.schema](record.content)
        except Exception as error:  # any error that a damaged message causes in the parser
            raise DamagedDataError(
                f"{self.path}: a message on {record.topic} does not fit its definition ({error!r}): the trace is "
                "damaged"
            ) from error


def _received(record: Record) -> int:
    return record.received


def read_trace(path: Path) -> Trace:
    """Read a trace: a segment, a folder of segments, or the newest below a folder of traces.

    Raises:
        FileNotFoundError: when the path does not exist.
        DataError: when it is no trace, of another version, or too large.
        DamagedDataError: when no part of it can be read.
    """
    files = trace_files(path)
    if (size := sum(file.stat().st_size for file in files)) > LARGEST_TRACE:
        raise DataError(
            f"{path} takes {size >> 20} MiB, expected at most {LARGEST_TRACE >> 20}: give one segment of it"
        )
    reading = _Reading(Trace(files[0].parent if path.is_dir() else path))
    for file in files:
        reading.read(file)
    return reading.finish()


def trace_files(path: Path) -> Sequence[Path]:
    """Return the segments of a trace, oldest first.

    Raises:
        FileNotFoundError: when the path does not exist.
        DataError: when the folder holds no trace.
    """
    if not path.exists():
        raise FileNotFoundError(2, "there is no such trace", str(path))
    if path.is_file():
        return [path]
    if own := sorted(path.glob("*.mcap")):
        return own
    folders = {file.parent for pattern in ("*/*.mcap", f"{KEPT}/*/*.mcap") for file in path.glob(pattern)}
    if not folders:
        raise DataError(f"{path} holds no trace (*.mcap): give a file, or a folder such as runs/trace")
    newest = max(folders, key=lambda one: max(file.stat().st_mtime for file in one.glob("*.mcap")))
    return sorted(newest.glob("*.mcap"))


class _Reading:
    """Collects the records of several files into one trace."""

    def __init__(self, trace: Trace) -> None:
        self._trace, self._versions = trace, set[str]()
        self._seen: set[tuple[str, int]] = set()
        self._schemas: dict[tuple[str, bytes], int] = {}

    def read(self, file: Path) -> None:
        schemas: dict[int, int] = {}
        channels: dict[int, Channel] = {}
        footer = False
        try:
            with file.open("rb") as stream:
                for record in StreamReader(stream, validate_crcs=True, record_size_limit=LARGEST_RECORD).records:
                    footer = footer or isinstance(record, Footer)
                    if isinstance(record, Metadata) and record.name == METADATA_RECORD:
                        self._check_version(file, record)
                    elif isinstance(record, Schema):
                        schemas[record.id] = self._add_schema(file, record)
                    elif isinstance(record, Channel):
                        channels[record.id] = record
                    elif isinstance(record, Message):
                        self._add(channels[record.channel_id], record, schemas)
        except BROKEN + _zstd_errors() + (KeyError,):
            pass
        if not footer:
            self._trace.cut_short.append(file.name)

    def _check_version(self, file: Path, record: Metadata) -> None:
        version = record.metadata.get("version", "")
        if version != VERSION:
            raise DataError(
                f"{file} is a trace of version '{version[:20]}', expected {VERSION}: read it with the vla_ros that "
                "wrote it"
            )
        self._versions.add(version)
        self._trace.origin = self._trace.origin or dict(record.metadata)

    def _add_schema(self, file: Path, schema: Schema) -> int:
        known = self._schemas.setdefault((schema.name, schema.data), len(self._schemas))
        if known in self._trace._decoders:
            return known
        try:
            decode = DecoderFactory().decoder_for("cdr", schema)
        except Exception as error:  # any error that a damaged definition causes in the parser
            raise DamagedDataError(f"{file}: the definition of {schema.name[:80]} cannot be read: {error!r}") from error
        if decode is None:
            raise DataError(f"{file}: {schema.name[:80]} is defined as '{schema.encoding[:20]}', expected 'ros2msg'")
        self._trace._decoders[known] = decode
        return known

    def _add(self, channel: Channel, message: Message, schemas: Mapping[int, int]) -> None:
        key, trace = _key(channel.topic), self._trace
        trace.start = min(trace.start or message.log_time, message.log_time)
        trace.end = max(trace.end, message.log_time)
        if message.publish_time != message.log_time and (key, message.publish_time) in self._seen:
            return  # carried over from the previous segment
        self._seen.add((key, message.publish_time))
        record = Record(message.publish_time, channel.topic, message.data, schemas[channel.schema_id])
        trace.records.setdefault(key, []).append(record)

    def finish(self) -> Trace:
        trace = self._trace
        if not self._versions:
            raise DataError(
                f"{trace.path} is no decision trace: it has no record '{METADATA_RECORD}'; give a file or folder that "
                "trace_node wrote, such as runs/trace"
            )
        if not trace.records:
            raise DamagedDataError(f"{trace.path} was cut short before its first message: nothing can be read")
        for rows in trace.records.values():
            rows.sort(key=_received)
        return trace


def _key(topic: str) -> str:
    """Strip the leading slash and the namespace from a topic."""
    bare = topic.lstrip("/")
    at = bare.find("vla/")
    return bare[at:] if at >= 0 else bare


def _zstd_errors() -> tuple[type[Exception], ...]:
    from zstandard import ZstdError

    return (ZstdError,)
