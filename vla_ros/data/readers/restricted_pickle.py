"""Unpickles nothing but what is on a list, because a pickle may name any code of the machine and have it run."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.data.errors import DamagedDataError, HostileDataError

LARGEST_PICKLE = 1 << 28
"""A larger file is no list of low-dimensional observations, B."""


def _empty_array(kind: type, shape: tuple[int, ...], code: bytes) -> NDArray[Any]:
    """Stand in for NumPy's `_reconstruct`, which would call any class that it is given."""
    if kind is not np.ndarray or shape != (0,):
        raise HostileDataError(f"an array of the class {kind!r} and the shape {shape!r} is not allowed")
    return np.ndarray.__new__(np.ndarray, (0,), code.decode() if isinstance(code, bytes) else code)


def _from_buffer(content: bytes, kind: np.dtype[Any], shape: tuple[int, ...], order: str) -> NDArray[Any]:
    """Stand in for NumPy's `_frombuffer`, by which protocol 5 writes arrays."""
    return np.frombuffer(content, kind).reshape(shape, order="F" if order == "F" else "C")


def _dtype(code: str, *flags: bool) -> np.dtype[Any]:
    """Stand in for `numpy.dtype`: plain numbers only, since an array of objects could hold anything."""
    kind = np.dtype(code, *flags)
    if kind.kind not in "biufSU":
        raise HostileDataError(f"an array of {kind} is not allowed, only numbers and text")
    return kind


def _scalar(kind: np.dtype[Any], content: bytes) -> Any:  # noqa: ANN401 (any number)
    """Stand in for NumPy's `scalar`."""
    return np.frombuffer(content, kind, 1)[0]


def _latin1(text: str, coding: str) -> bytes:
    """Stand in for `_codecs.encode`, by which old pickles write bytes."""
    if coding != "latin1":
        raise HostileDataError(f"the coding '{coding}' is not allowed")
    return text.encode("latin1")


NUMBERS: Mapping[tuple[str, str], Any] = {
    **{
        (f"numpy.{core}.multiarray", name): stand_in
        for core in ("core", "_core")
        for name, stand_in in (("_reconstruct", _empty_array), ("scalar", _scalar))
    },
    **{(f"numpy.{core}.numeric", "_frombuffer"): _from_buffer for core in ("core", "_core")},
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): _dtype,
    ("_codecs", "encode"): _latin1,
}
"""What NumPy's arrays are pickled with; each name leads to a function of this module, not to the one it names."""


class _Unpickler(pickle.Unpickler):
    def __init__(self, content: bytes, known: Mapping[tuple[str, str], Any], where: str) -> None:
        super().__init__(io.BytesIO(content))
        self._known, self._where = known, where

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401 (a class or a function)
        try:
            return self._known[module, name]
        except KeyError:
            raise HostileDataError(
                f"{self._where} asks for {module}.{name}, which is not among the known classes; nothing of it was run"
            ) from None

    def persistent_load(self, pid: Any) -> Any:  # noqa: ANN401 (whatever the file says)
        raise HostileDataError(f"{self._where} refers to something outside of it: {pid!r:.80}")


def load(path: Path, classes: Mapping[tuple[str, str], Callable[..., Any]]) -> Any:  # noqa: ANN401 (what is in it)
    """Return the content of a pickle that holds plain values, arrays of numbers, and `classes`.

    Args:
        path: The file.
        classes: (module, name) as the file says it, to the class that takes its place.

    Raises:
        HostileDataError: when it asks for anything else.
        DamagedDataError: when it cannot be read.
    """
    if path.stat().st_size > LARGEST_PICKLE:
        raise DamagedDataError(f"{path} has {path.stat().st_size} bytes, expected at most {LARGEST_PICKLE}")
    try:
        return _Unpickler(path.read_bytes(), {**NUMBERS, **classes}, str(path)).load()
    except HostileDataError:
        raise
    except Exception as error:  # whatever a broken pickle trips over
        raise DamagedDataError(f"{path} cannot be read: {error!r}") from error
