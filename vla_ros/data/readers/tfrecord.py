"""Reads TFRecord files and the `Example` messages in them, without TensorFlow.

A record: length (8 bytes, little endian), masked CRC-32C of these 8 bytes (4), content, masked CRC-32C of the content
(4); masked is ((crc >> 15) | (crc << 17)) + 0xa282ead8. An `Example` is a protocol buffer: a map from a name to a list
of bytes, of floats or of integers. Sources: TensorFlow's `core/lib/io/record_writer.h`, `core/example/feature.proto`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from vla_ros.data.errors import DamagedDataError

MAX_RECORD_SIZE = 1 << 30
"""Largest accepted record, B; a larger length means that it was misread."""

_HEADER, _FOOTER = 12, 4
_MASK = 0xA282EAD8

Feature = list[bytes] | NDArray[np.float32] | NDArray[np.int64]


def record_offsets(path: Path) -> Iterator[tuple[int, int]]:
    """Yield (offset, length) of the content of every record; only their headers are read.

    Raises:
        DamagedDataError: when a length does not match its checksum, or the file ends within a record.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        position = 0
        while position < size:
            file.seek(position)
            header = file.read(_HEADER)
            if len(header) < _HEADER:
                raise DamagedDataError(f"{path} ends within a record at byte {position}: it was cut short")
            length, checksum = struct.unpack("<QI", header)
            if _masked(header[:8]) != checksum or length > MAX_RECORD_SIZE:
                raise DamagedDataError(f"{path}: the length at byte {position} does not match its checksum")
            if position + _HEADER + length + _FOOTER > size:
                raise DamagedDataError(f"{path} ends within the record at byte {position}: it was cut short")
            yield position + _HEADER, length
            position += _HEADER + length + _FOOTER


def read_record(file: BinaryIO, offset: int, length: int) -> bytes:
    """Return the content of one record.

    Raises:
        DamagedDataError: when it does not match its checksum.
    """
    file.seek(offset)
    content, checksum = file.read(length), file.read(_FOOTER)
    if len(content) < length or checksum != struct.pack("<I", _masked(content)):
        raise DamagedDataError(f"{file.name}: the record at byte {offset} does not match its checksum")
    return content


def _masked(content: bytes) -> int:
    checksum = int(google_crc32c.value(content))
    return (((checksum >> 15) | (checksum << 17)) + _MASK) & 0xFFFFFFFF


def parse_example(content: bytes) -> dict[str, Feature]:
    """Parse an `Example` into name and values.

    Raises:
        DamagedDataError: when it is not one.
    """
    try:
        features: dict[str, Feature] = {}
        for number, part in _fields(memoryview(content)):
            if number != 1:
                continue
            for entry_number, entry in _fields(_bytes(part)):
                if entry_number == 1:
                    name, value = _entry(_bytes(entry))
                    features[name] = value
        return features
    except (IndexError, ValueError, struct.error) as error:
        raise DamagedDataError(f"a record holds no Example: {error}") from error


def _entry(entry: memoryview) -> tuple[str, Feature]:
    name, value = "", memoryview(b"")
    for number, part in _fields(entry):
        if number == 1:
            name = bytes(_bytes(part)).decode()
        elif number == 2:
            value = _bytes(part)
    for kind, part in _fields(value):
        return name, _list(kind, _bytes(part))
    return name, []


def _list(kind: int, content: memoryview) -> Feature:
    if kind == 1:
        return [bytes(_bytes(part)) for number, part in _fields(content) if number == 1]
    if kind == 2:
        chunks = [bytes(part) for number, part in _fields(content) if number == 1 and isinstance(part, memoryview)]
        return np.frombuffer(b"".join(chunks), "<f4")
    if kind == 3:
        return np.array(list(_integers(content)), dtype=np.int64)
    raise ValueError(f"a feature of kind {kind}")


def _integers(content: memoryview) -> Iterator[int]:
    for number, part in _fields(content):
        if number != 1:
            continue
        if isinstance(part, int):
            yield _signed(part)
            continue
        position = 0
        while position < len(part):
            value, position = _varint(part, position)
            yield _signed(value)


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def _bytes(part: int | memoryview) -> memoryview:
    if isinstance(part, int):
        raise ValueError("a number where bytes were expected")
    return part


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield the number and value of every protocol buffer field: varints as int, all others as bytes."""
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value, position = _varint(message, position)
            yield number, value
            continue
        if kind == 2:
            length, position = _varint(message, position)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError(f"wire type {kind}")
        if position + length > len(message):
            raise ValueError("a field that is longer than its message")
        yield number, message[position : position + length]
        position += length


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")
