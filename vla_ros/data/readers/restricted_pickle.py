"""Unpickles only allowed classes, because a pickle may name and run any code on the machine."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.data.errors import DamagedDataError, HostileDataError

MAX_PICKLE_SIZE = 1 << 28
"""Largest accepted file, B; larger files are no low-dimensional observations."""


def _empty_array(kind: type, shape: tuple[int, ...], code: bytes) -> NDArray[Any]:
    """Replace NumPy's `_reconstruct`, which would call any class passed to it."""
    if kind is not np.ndarray or shape != (0,):
        raise HostileDataError(f"an array of the class {kind!r} and the shape {shape!r} is not allowed")
    return np.ndarray.__new__(np.ndarray, (0,), code.decode() if isinstance(code, bytes) else code)


def _from_buffer(content: bytes, kind: np.dtype[Any], shape: tuple[int, ...], order: str) -> NDArray[Any]:
    """Replace NumPy's `_frombuffer`, which pickle protocol 5 uses for arrays."""
    return np.frombuffer(content, kind).reshape(shape, order="F" if order == "F" else "C")


def _dtype(code: str, *flags: bool) -> np.dtype[Any]:
    """Replace `numpy.dtype`: plain numbers and text only, since an object array could hold anything."""
    kind = np.dtype(code, *flags)
    if kind.kind not in "biufSU":
        raise HostileDataError(f"an array of {kind} is not allowed, only numbers and text")
    return kind


def _scalar(kind: np.dtype[Any], content: bytes) -> Any:  # noqa: ANN401 (any number)
    """Replace NumPy's `scalar`."""
    return np.frombuffer(content, kind, 1)[0]


def _latin1(text: str, coding: str) -> bytes:
    """Replace `_codecs.encode`, which old pickles use for bytes."""
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
"""Names used in pickles of NumPy arrays; each maps to a safe function of this module, not to the one it names."""


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
    """Load a pickle that holds plain values, numeric arrays, and `classes`.

    Args:
        path: The file.
        classes: (module, name) as in the file, to the class that replaces it.

    Raises:
        HostileDataError: when it asks for anything else.
        DamagedDataError: when it cannot be read.
    """
    if path.stat().st_size > MAX_PICKLE_SIZE:
        raise DamagedDataError(f"{path} has {path.stat().st_size} bytes, expected at most {MAX_PICKLE_SIZE}")
    try:
        return _Unpickler(path.read_bytes(), {**NUMBERS, **classes}, str(path)).load()
    except HostileDataError:
        raise
    except Exception as error:  # any error that a broken pickle can cause
        raise DamagedDataError(f"{path} cannot be read: {error!r}") from error
