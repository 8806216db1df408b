"""Read files of `ros2 bag record` in order: MCAP or sqlite3, compressed or not, split or whole."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from mcap.exceptions import McapError
from mcap.reader import make_reader

from vla_ros.data.errors import DamagedDataError, DataError

METADATA_FILE = "metadata.yaml"
"""Metadata file beside the files of one `ros2 bag record` recording; together they are one episode."""

ENDINGS = (".mcap", ".db3")
PACKED = ".zstd"
ROS_ENCODING = "cdr"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
"""First bytes of a compressed message; one in CDR begins with 0."""

LARGEST_MESSAGE = 1 << 28
"""Upper bound on the size of a robot's messages, bytes."""


@dataclass(frozen=True)
class RawMessage:
    """A message as recorded; `received` is the recorder's clock, ns."""

    topic: str
    kind: str
    received: int
    content: bytes


def bag_files(folder: Path) -> list[Path]:
    """Return the recording files in a folder, in order."""
    names = [path for path in folder.iterdir() if path.name.removesuffix(PACKED).endswith(ENDINGS)]
    return sorted(names, key=lambda path: _by_number(path.name.removesuffix(PACKED)))


def _by_number(name: str) -> tuple[str, int, str]:
    """Sort key for the files of a split recording: `bag_10.mcap` after `bag_9.mcap`."""
    stem, _, ending = name.rpartition(".")
    base, _, number = stem.rpartition("_")
    return (base, int(number), ending) if number.isdecimal() else (stem, -1, ending)


def episodes_in(folder: Path) -> dict[str, list[Path]]:
    """Map the episodes in a folder to their files: one per file, or one for all if there is a `metadata.yaml`.

    Subfolders that are recordings count as episodes, too.
    """
    files = bag_files(folder)
    if (folder / METADATA_FILE).exists() and files:
        return {folder.name: files}
    found = {path.name.removesuffix(PACKED).rpartition(".")[0]: [path] for path in files}
    if not found:
        for below in sorted(path for path in folder.iterdir() if path.is_dir()):
            if (below / METADATA_FILE).exists() and (parts := bag_files(below)):
                found[below.name] = parts
    return found


def topics_of(path: Path) -> dict[str, str]:
    """Map each topic to its message type, e.g. sensor_msgs/msg/Image.

    Raises:
        DamagedDataError: when the file cannot be read.
    """
    with _unpacked(path) as file, _naming(path):
        if file.suffix == ".db3":
            with closing(_connect(file)) as base:
                return {str(topic): str(kind) for topic, kind in base.execute("SELECT name, type FROM topics")}
        with file.open("rb") as stream:
            summary = make_reader(stream).get_summary()
            if summary is None:
                raise DamagedDataError(f"{path} has no summary: it was cut short; 'ros2 bag reindex' may help")
            return {
                channel.topic: summary.schemas[channel.schema_id].name
                for channel in summary.channels.values()
                if channel.schema_id in summary.schemas
            }


def read_messages(files: Sequence[Path], topics: Sequence[str]) -> Iterator[RawMessage]:
    """Yield the messages of the given topics in recorded order.

    Raises:
        DamagedDataError: when a file is truncated or damaged.
        DataError: when messages have an encoding other than CDR.
    """
    for path in files:
        with _unpacked(path) as file, _naming(path):
            yield from _sqlite(file, topics, path) if file.suffix == ".db3" else _mcap(file, topics, path)


def _mcap(file: Path, topics: Sequence[str], path: Path) -> Iterator[RawMessage]:
    with file.open("rb") as stream:
        for schema, channel, message in make_reader(stream, validate_crcs=True).iter_messages(topics):
            if channel.message_encoding != ROS_ENCODING:
                raise DataError(f"{path}: {channel.topic} is encoded as '{channel.message_encoding}', expected 'cdr'")
            yield RawMessage(channel.topic, schema.name if schema else "", message.log_time, _plain(message.data))


def _sqlite(file: Path, topics: Sequence[str], path: Path) -> Iterator[RawMessage]:
    with closing(_connect(file)) as base:
        known: Mapping[int, tuple[str, str]] = {
            int(number): (str(name), str(kind))
            for number, name, kind, encoding in base.execute("SELECT id, name, type, serialization_format FROM topics")
            if name in topics and _is_cdr(str(encoding), str(name), path)
        }
        if not known:
            return
        marks = ",".join("?" * len(known))
        rows = base.execute(
            f"SELECT topic_id, timestamp, data FROM messages WHERE topic_id IN ({marks}) ORDER BY timestamp, id",
            list(known),
        )
        for number, received, content in rows:
            topic, kind = known[int(number)]
            yield RawMessage(topic, kind, int(received), _plain(bytes(content)))


def _plain(content: bytes) -> bytes:
    """Return a message as CDR; `ros2 bag record --compression-mode message` compresses each message separately."""
    if not content.startswith(ZSTD_MAGIC):
        return content
    import zstandard

    try:
        with zstandard.ZstdDecompressor().stream_reader(content) as stream:
            plain = stream.read(LARGEST_MESSAGE + 1)
    except zstandard.ZstdError as error:
        raise DataError(f"a message of {len(content)} bytes cannot be unpacked: {error}") from error
    if len(plain) > LARGEST_MESSAGE:
        raise DataError(f"a message of {len(content)} bytes unpacks to more than {LARGEST_MESSAGE} bytes")
    return bytes(plain)


def _is_cdr(encoding: str, topic: str, path: Path) -> bool:
    if encoding != ROS_ENCODING:
        raise DataError(f"{path}: {topic} is encoded as '{encoding}', expected '{ROS_ENCODING}'")
    return True


def _connect(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except (McapError, OSError, EOFError, sqlite3.Error) as error:
        raise DamagedDataError(f"{path} cannot be read: {error!r}; it was cut short or damaged") from error


@contextmanager
def _unpacked(path: Path) -> Iterator[Path]:
    """Yield a readable file: the file itself, or a temporary decompressed copy of one that `ros2 bag` compressed."""
    if path.suffix != PACKED:
        yield path
        return
    import zstandard

    with tempfile.TemporaryDirectory(prefix="vla_ros_bag_") as folder:
        file = Path(folder) / path.name.removesuffix(PACKED)
        try:
            with path.open("rb") as packed, file.open("wb") as plain:
                shutil.copyfileobj(zstandard.ZstdDecompressor().stream_reader(packed), plain)
        except (zstandard.ZstdError, OSError) as error:
            raise DamagedDataError(f"{path} cannot be unpacked: {error}") from error
        yield file
