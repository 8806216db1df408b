"""Messages of openpi's protocol: what goes through, and what is refused before anything is made of it."""

from __future__ import annotations

import contextlib
import io
import pickle

import msgpack
import numpy as np
import pytest

from vla_ros.errors import WireError
from vla_ros.policies.remote.wire import MAX_ITEMS, pack, unpack

ARRAYS = [
    np.arange(6, dtype=np.uint8).reshape(1, 2, 3),
    np.array([[1.5, -2.0]], dtype=np.float32),
    np.array([True, False]),
    np.array(3.0),
    np.zeros((0, 7)),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.arange(3, dtype=">i4"),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype.str}{array.shape}")
def test_array_survives_the_wire(array):
    found = unpack(pack({"a": {"b": array}}))["a"]["b"]
    np.testing.assert_array_equal(found, array)
    assert found.dtype == array.dtype
    assert not found.flags.writeable


def test_plain_values_and_scalars_survive():
    values = {"prompt": "heb den roten Würfel", "n": 3, "none": None, "list": [1, 2.5], "scalar": np.float32(0.5)}
    found = unpack(pack(values))
    assert found == values
    assert type(found["scalar"]) is np.float32


def test_object_array_is_not_packed():
    with pytest.raises(WireError, match="array of object"):
        pack({"a": np.array([{}])})


def ndarray(**lines):
    values = {b"__ndarray__": True, b"data": b"\0" * 8, b"dtype": "<f8", b"shape": [1]}
    return msgpack.packb({"a": {**values, **{name.encode(): value for name, value in lines.items()}}})


class Bomb:
    opened = False

    def __reduce__(self):
        return setattr, (Bomb, "opened", True)


def saved(array):
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


REFUSED = {
    "pickle": (pickle.dumps(Bomb()), "a pickle, which is never opened"),
    "pickle as array": (ndarray(dtype="|O", data=pickle.dumps(Bomb())), "dtype '|O'"),
    "npy": (saved(np.array([Bomb()])), "not msgpack|expected a mapping"),
    "structure": (ndarray(dtype="|V8"), "dtype '|V8'"),
    "text array": (ndarray(dtype="<U2"), "dtype '<U2'"),
    "subarray": (ndarray(dtype="(2,)<f4"), "dtype"),
    "dtype is no text": (ndarray(dtype=3), "dtype '3'"),
    "too little data": (ndarray(shape=[2]), "has 8 bytes, expected 16"),
    "too much data": (ndarray(shape=[0]), "has 8 bytes, expected 0"),
    "data is no bytes": (ndarray(data=[0] * 8), "has list, expected 8 bytes"),
    "huge shape": (ndarray(shape=[1 << 40, 1 << 40]), "has 8 bytes"),
    "negative shape": (ndarray(shape=[-1]), "whole numbers"),
    "float shape": (ndarray(shape=[1.0]), "whole numbers"),
    "true as shape": (ndarray(shape=[True]), "whole numbers"),
    "many axes": (ndarray(shape=[1] * 9), "at most 8"),
    "scalar of text": (msgpack.packb({"a": {b"__npgeneric__": True, b"data": "x", b"dtype": "<f4"}}), "holds a str"),
    "scalar beyond its type": (msgpack.packb({"a": {b"__npgeneric__": True, b"data": 999, b"dtype": "|u1"}}), "scalar"),
    "extension type": (msgpack.packb({"a": msgpack.ExtType(5, b"x")}), "not msgpack within bounds"),
    "long list": (msgpack.packb({"a": [0] * (MAX_ITEMS + 1)}), "not msgpack within bounds"),
    "claims a long list": (b"\x81\xa1a\xdd\xff\xff\xff\xff", "not msgpack within bounds"),
    "deep": (b"\x91" * 100_000, "not msgpack within bounds"),
    "cut off": (pack({"a": np.zeros(9)})[:-1], "not msgpack within bounds"),
    "two messages": (pack({}) * 2, "not msgpack within bounds"),
    "empty": (b"", "not msgpack within bounds"),
    "text that is not UTF-8": (b"\x81\xa1a\xa1\xff", "not msgpack within bounds"),
    "list": (msgpack.packb([1]), "a list, expected a mapping"),
    "number as key": (msgpack.packb({1: 2}), "not msgpack within bounds"),
    "bytes as key": (msgpack.packb({b"a": 2}), "names as keys"),
}


@pytest.mark.parametrize(("message", "says"), REFUSED.values(), ids=REFUSED)
def test_refuses(message, says):
    with pytest.raises(WireError, match=says):
        unpack(message)
    assert not Bomb.opened


def test_random_bytes_raise_nothing_else():
    rng = np.random.default_rng(0)
    good = pack({"actions": np.zeros((4, 7)), "server_timing": {"infer_ms": 1.0}})
    for _ in range(3000):
        message = bytearray(good)
        for place in rng.integers(0, len(good), 3):
            message[place] = rng.integers(256)
        with contextlib.suppress(WireError):
            unpack(bytes(message))
