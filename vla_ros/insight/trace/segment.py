"""Writes one MCAP file that stays readable if the process is killed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from mcap.writer import Writer

from vla_ros.insight.trace.layout import METADATA_RECORD, Channel, Segment

END_MAGIC = b"\x89MCAP0\r\n"
"""Last bytes of a finished file (https://mcap.dev/spec)."""

CHUNK_BYTES = 1 << 18
"""Chunk size before compression, B; `flush` ends a chunk earlier."""


class SegmentWriter:
    """A growing MCAP file. Everything written before `flush` survives the end of the process."""

    def __init__(self, path: Path, origin: Mapping[str, str], now: int) -> None:
        """Create the file with its metadata record.

        Args:
            path: Must not exist.
            origin: Content of the metadata record.
            now: ns.

        Raises:
            OSError: when it cannot be created.
        """
        self.segment = Segment(path.name, now, now)
        self._file: IO[bytes] = path.open("xb")
        self._writer = Writer(self._file, chunk_size=CHUNK_BYTES)
        self._ids: dict[str, int] = {}
        self._writer.start(profile="ros2", library="vla_ros")
        self._writer.add_metadata(METADATA_RECORD, dict(origin))
        self.flush()

    def write(self, channel: Channel, content: bytes, received: int, logged: int) -> None:
        """Append a serialized message: `received` is its time of receipt, `logged` its time in this file, ns.

        Raises:
            OSError: when the disk is full.
        """
        if channel.topic not in self._ids:
            schema = self._writer.register_schema(channel.type_name, "ros2msg", channel.definition.encode())
            self._ids[channel.topic] = int(self._writer.register_channel(channel.topic, "cdr", schema))
        self._writer.add_message(self._ids[channel.topic], logged, content, received)
        segment = self.segment
        segment.counts[channel.topic] = segment.counts.get(channel.topic, 0) + 1
        segment.end = max(segment.end, logged)

    def flush(self) -> None:
        """Pass everything to the operating system.

        Raises:
            OSError: when the disk is full.
        """
        self._writer.flush()
        self.segment.size = self._file.tell()

    def finish(self) -> None:
        """Write the index, sync the file to the disk and close it.

        Raises:
            OSError: when the disk is full; data flushed before stays readable.
        """
        try:
            self._writer.finish()
            self._file.flush()
            os.fsync(self._file.fileno())
            self.segment.size, self.segment.finished = self._file.tell(), True
        finally:
            self._file.close()


def is_finished(path: Path) -> bool:
    """Return whether a file has its index, so that its writer was not killed."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - len(END_MAGIC), 0))
        return size > 2 * len(END_MAGIC) and file.read() == END_MAGIC
