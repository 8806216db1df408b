"""Continuous action space of named parts, with an exact linear map to [-1, 1]."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from vla_ros.errors import ChunkError, ContractError
from vla_ros.types import FloatArray, frozen_array

UNIT_TOLERANCE = 1e-6
"""Largest deviation of the norm of a unit quaternion from 1."""

SMALLEST_RANGE = 1e-9
"""Smallest range of a column, absolute and as a fraction of its magnitude; dividing by less would invent values."""


@dataclass(frozen=True)
class Bounds:
    """Lower and upper bound of each column of a part, in the unit of the part."""

    low: FloatArray
    high: FloatArray

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "low", frozen_array(self.low))
            object.__setattr__(self, "high", frozen_array(self.high))
        except (TypeError, ValueError) as error:
            raise ContractError(f"bounds are not numbers: {error}") from error
        if self.low.ndim != 1 or self.low.shape != self.high.shape or self.low.size == 0:
            raise ContractError(
                f"bounds have shapes {self.low.shape} and {self.high.shape}, expected the same (n >= 1,)"
            )
        if not (np.isfinite(self.low).all() and np.isfinite(self.high).all()):
            raise ContractError("bounds hold values that are not finite")
        size = np.maximum(1.0, np.maximum(abs(self.low), abs(self.high)))
        if not (self.high - self.low > SMALLEST_RANGE * size).all():
            raise ContractError(
                f"bounds are degenerate: low {self.low.tolist()}, high {self.high.tolist()}; expected low < high"
            )


@dataclass(frozen=True)
class ContinuousActionSpace:
    """Named columns of an action, in order.

    Every part maps linearly from its bounds to [-1, 1]; values outside the bounds map outside, so no information is
    lost. Parts listed in `quaternions` are unit quaternions with bounds -1 and 1: normalizing leaves them unchanged,
    unnormalizing rescales them to unit length, since a network's output is only approximately unit.

    Attributes:
        parts: Name to bounds, e.g. position, orientation, gripper.
        quaternions: Names of the parts that are unit quaternions, 4 columns each.
    """

    parts: Mapping[str, Bounds]
    quaternions: frozenset[str] = frozenset()
    low: FloatArray = field(init=False, repr=False)
    high: FloatArray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", dict(self.parts))
        object.__setattr__(self, "quaternions", frozenset(self.quaternions))
        if not self.parts:
            raise ContractError("an action space needs at least one part")
        if strange := sorted(self.quaternions - set(self.parts)):
            raise ContractError(f"quaternions names {strange}, the parts are {[*self.parts]}")
        for name in self.quaternions:
            bounds = self.parts[name]
            if bounds.low.shape != (4,) or (bounds.low != -1.0).any() or (bounds.high != 1.0).any():
                raise ContractError(f"'{name}' is a unit quaternion: expected 4 columns with bounds -1 and 1")
        object.__setattr__(self, "low", frozen_array(np.concatenate([b.low for b in self.parts.values()])))
        object.__setattr__(self, "high", frozen_array(np.concatenate([b.high for b in self.parts.values()])))

    @classmethod
    def from_bounds(
        cls, bounds: Mapping[str, Mapping[str, ArrayLike]], quaternions: Iterable[str] = ()
    ) -> ContinuousActionSpace:
        """Read `{"position": {"low": [...], "high": [...]}, ...}`.

        Raises:
            ContractError: naming the part whose bounds are missing or degenerate.
        """
        parts = {}
        for name, values in bounds.items():
            try:
                parts[name] = Bounds(np.asarray(values["low"], float), np.asarray(values["high"], float))
            except (KeyError, TypeError, ValueError) as error:
                raise ContractError(f"'{name}': expected 'low' and 'high', each a list of numbers; {error}") from error
            except ContractError as error:
                raise ContractError(f"'{name}': {error}") from error
        return cls(parts, frozenset(quaternions))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for `from_dict`."""
        bounds = {name: {"low": b.low.tolist(), "high": b.high.tolist()} for name, b in self.parts.items()}
        return {"bounds": bounds, "quaternions": sorted(self.quaternions)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ContinuousActionSpace:
        """Create from the output of `to_dict`."""
        return cls.from_bounds(values["bounds"], values["quaternions"])

    @property
    def width(self) -> int:
        """Number of columns."""
        return int(self.low.size)

    @property
    def columns(self) -> dict[str, slice]:
        """Columns of each part."""
        found, start = {}, 0
        for name, bounds in self.parts.items():
            found[name] = slice(start, start + bounds.low.size)
            start += bounds.low.size
        return found

    def normalize(self, actions: ArrayLike) -> FloatArray:
        """Map actions (..., width) from their bounds to [-1, 1].

        Raises:
            ChunkError: when the width differs, a value is not finite, or a quaternion is not unit.
        """
        raw = self._checked(actions)
        for name in self.quaternions:
            norms = np.linalg.norm(raw[..., self.columns[name]], axis=-1)
            if (abs(norms - 1.0) > UNIT_TOLERANCE).any():
                worst = float(norms.flat[int(abs(norms - 1.0).argmax())])
                raise ChunkError(f"'{name}' has a quaternion of norm {worst:.9g}, expected 1")
        return 2.0 * ((raw - self.low) / (self.high - self.low)) - 1.0

    def unnormalize(self, normalized: ArrayLike) -> FloatArray:
        """Invert `normalize`; quaternions are rescaled to unit length.

        Raises:
            ChunkError: when the width differs, a value is not finite, or a quaternion has zero norm.
        """
        raw = (self._checked(normalized) + 1.0) / 2.0 * (self.high - self.low) + self.low
        for name in self.quaternions:
            part = raw[..., self.columns[name]]
            norms = np.linalg.norm(part, axis=-1, keepdims=True)
            if (norms < UNIT_TOLERANCE).any():
                raise ChunkError(f"'{name}' has a quaternion of norm {float(norms.min()):.3g}, which has no direction")
            raw[..., self.columns[name]] = part / norms
        return raw

    def contains(self, actions: ArrayLike) -> bool:
        """Return whether every value lies within the bounds."""
        raw = self._checked(actions)
        return bool(((raw >= self.low) & (raw <= self.high)).all())

    def split(self, actions: ArrayLike) -> dict[str, FloatArray]:
        """Return the columns of each part by name."""
        raw = self._checked(actions)
        return {name: raw[..., columns] for name, columns in self.columns.items()}

    def join(self, parts: Mapping[str, ArrayLike]) -> FloatArray:
        """Concatenate parts: the inverse of `split`.

        Raises:
            ChunkError: when a part is missing, unknown, or of another width.
        """
        if set(parts) != set(self.parts):
            raise ChunkError(f"got the parts {sorted(parts)}, expected {[*self.parts]}")
        arrays = {name: np.asarray(parts[name], dtype=np.float64) for name in self.parts}
        for name, array in arrays.items():
            if array.shape[-1:] != self.parts[name].low.shape:
                raise ChunkError(f"'{name}' has shape {array.shape}, expected {self.parts[name].low.size} columns")
        return self._checked(np.concatenate([*arrays.values()], axis=-1))

    def _checked(self, actions: ArrayLike) -> FloatArray:
        array = np.asarray(actions, dtype=np.float64)
        if array.ndim < 1 or array.shape[-1] != self.width:
            raise ChunkError(f"actions have shape {array.shape}, expected {self.width} columns: {[*self.parts]}")
        if not np.isfinite(array).all():
            raise ChunkError(f"{int((~np.isfinite(array)).sum())} of {array.size} action values are not finite")
        return array
