"""Encodes and decodes openpi messages: msgpack, NumPy arrays as mappings; nothing is unpickled, all sizes are bounded.

An array is `{b"__ndarray__": True, b"data": bytes, b"dtype": "<f4", b"shape": [...]}`, a scalar of NumPy's
`{b"__npgeneric__": True, b"data": number, b"dtype": "<f4"}`, in C order. Source: `msgpack_numpy.py` of
`openpi-client` 0.1.2, against which the tests compare.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import msgpack
import numpy as np

from vla_ros.errors import WireError

_DTYPE = re.compile(r"\|b1|\|[iu]1|[<>][iu][248]|[<>]f[248]")
"""Accepted dtypes: booleans, integers, floating point. Objects, structures, text and dates are never created."""

MAX_AXES = 8
MAX_TEXT_LENGTH = 1 << 16
MAX_ITEMS = 1 << 14
"""Largest number of items in a list or mapping; arrays are sent as bytes, so messages have a few dozen."""

_PICKLE_PROTOCOLS = range(2, 6)


def pack(values: Mapping[str, Any]) -> bytes:
    """Encode a message of plain values, NumPy arrays (numeric or boolean) and NumPy scalars.

    Raises:
        WireError: for a value of any other type.
    """
    try:
        return bytes(msgpack.packb(dict(values), default=_packed))
    except (TypeError, ValueError, OverflowError) as error:
        raise WireError(f"the message cannot be packed: {error}") from error


def _packed(value: object) -> dict[bytes, Any]:
    if isinstance(value, np.ndarray | np.generic) and not _DTYPE.fullmatch(value.dtype.str):
        raise TypeError(f"an array of {value.dtype}, expected booleans or numbers")
    if isinstance(value, np.ndarray):
        return {b"__ndarray__": True, b"data": value.tobytes(), b"dtype": value.dtype.str, b"shape": value.shape}
    if isinstance(value, np.generic):
        return {b"__npgeneric__": True, b"data": value.item(), b"dtype": value.dtype.str}
    raise TypeError(f"a {type(value).__name__}, expected plain values and NumPy arrays")


def unpack(message: bytes) -> dict[str, Any]:
    """Decode a message; arrays are read-only views of it.

    The caller bounds the length of the message; lists, texts and nesting are bounded here.

    Raises:
        WireError: when it is not msgpack, not a mapping, or has an array that is damaged or of a rejected dtype.
    """
    try:
        values = msgpack.unpackb(
            message,
            object_hook=_unpacked,
            strict_map_key=True,
            max_str_len=MAX_TEXT_LENGTH,
            max_array_len=MAX_ITEMS,
            max_map_len=MAX_ITEMS,
            max_ext_len=0,
        )
    except WireError:
        raise
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        if len(message) > 1 and message[0] == 0x80 and message[1] in _PICKLE_PROTOCOLS:
            raise WireError("got a pickle, which is never opened: it can run any code; expected msgpack") from error
        detail = str(error) or type(error).__name__
        raise WireError(f"got {len(message)} bytes that are not msgpack within bounds ({detail})") from error
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise WireError(f"got a {type(values).__name__}, expected a mapping with names as keys")
    return values


def _unpacked(value: dict[Any, Any]) -> Any:  # noqa: ANN401 (whatever msgpack holds)
    if b"__ndarray__" in value:
        return _array(value)
    if b"__npgeneric__" in value:
        data, kind = value.get(b"data"), _dtype(value)
        if not isinstance(data, bool | int | float):
            raise WireError(f"a NumPy scalar holds a {type(data).__name__}, expected a number")
        try:
            return kind.type(data)
        except OverflowError as error:
            raise WireError(f"a NumPy scalar: {error}") from error
    return value


def _array(value: dict[Any, Any]) -> np.ndarray[Any, Any]:
    data, shape, kind = value.get(b"data"), value.get(b"shape"), _dtype(value)
    if not isinstance(shape, list) or len(shape) > MAX_AXES or not all(type(n) is int and n >= 0 for n in shape):
        raise WireError(f"an array has the shape {str(shape)[:80]}, expected at most {MAX_AXES} whole numbers")
    length = math.prod(shape) * kind.itemsize
    if not isinstance(data, bytes) or len(data) != length:
        got = f"{len(data)} bytes" if isinstance(data, bytes) else type(data).__name__
        raise WireError(f"an array {tuple(shape)} of {kind} has {got}, expected {length} bytes")
    return np.frombuffer(data, dtype=kind).reshape(shape)


def _dtype(value: dict[Any, Any]) -> np.dtype[Any]:
    name = value.get(b"dtype")
    if not isinstance(name, str) or not _DTYPE.fullmatch(name):
        raise WireError(f"an array is of dtype {str(name)[:40]!r}, expected booleans or numbers, such as '<f4'")
    return np.dtype(name)
