"""Uniform binning of continuous actions into integer tokens, per column (Brohan et al. 2023)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vla_ros.errors import ChunkError, ContractError
from vla_ros.types import FloatArray, frozen_array


@dataclass(frozen=True)
class ActionBins:
    """Uniform bins per column: bin 0 starts at `low`, bin `count - 1` ends at `high`.

    Values outside the range are clamped to the outermost bins. A bin decodes to its center, so the round-trip error of
    a value within the range is at most half a bin.

    Attributes:
        low: (columns,) lower bounds.
        high: (columns,) upper bounds.
        count: Bins per column.
    """

    low: FloatArray
    high: FloatArray
    count: int = 256

    def __post_init__(self) -> None:
        object.__setattr__(self, "low", frozen_array(self.low))
        object.__setattr__(self, "high", frozen_array(self.high))
        if self.low.ndim != 1 or self.low.shape != self.high.shape or self.low.size == 0:
            raise ContractError(f"bins: low {self.low.shape} and high {self.high.shape}, expected the same (columns,)")
        if self.count < 2:
            raise ContractError(f"bins: count is {self.count}, expected at least 2")
        finite = np.isfinite(self.low).all() and np.isfinite(self.high).all()
        if not (finite and (self.high > self.low).all()):
            raise ContractError(
                f"bins: low {self.low.tolist()}, high {self.high.tolist()}; expected finite, low < high"
            )

    @property
    def size(self) -> FloatArray:
        """Bin width, (columns,)."""
        return (self.high - self.low) / self.count

    @property
    def edges(self) -> FloatArray:
        """Inner bin edges, (columns, count - 1)."""
        return self.low[:, None] + np.arange(1, self.count) * self.size[:, None]

    @property
    def centres(self) -> FloatArray:
        """Bin centers, (columns, count)."""
        return self.low[:, None] + (np.arange(self.count) + 0.5) * self.size[:, None]

    def encode(self, values: ArrayLike) -> NDArray[np.int64]:
        """Return the bin indices (..., columns) of values of that shape.

        Raises:
            ChunkError: when the width differs or a value is not finite.
        """
        array = np.asarray(values, dtype=np.float64)
        self._check_width(array.shape)
        if not np.isfinite(array).all():
            raise ChunkError(f"{int((~np.isfinite(array)).sum())} of {array.size} values are not finite")
        found = [np.searchsorted(edges, array[..., i], side="right") for i, edges in enumerate(self.edges)]
        return np.stack(found, axis=-1).astype(np.int64)

    def decode(self, bins: ArrayLike) -> FloatArray:
        """Return the bin centers of bin indices (..., columns).

        Raises:
            ChunkError: when the width differs, the dtype is not integer, or an index is out of range.
        """
        array = np.asarray(bins)
        self._check_width(array.shape)
        if array.dtype.kind not in "iu":
            raise ChunkError(f"bins are {array.dtype}, expected whole numbers")
        if array.size and not (array.min() >= 0 and array.max() < self.count):
            raise ChunkError(f"bins {array.min()} to {array.max()}, expected 0 to {self.count - 1}")
        found: FloatArray = self.centres[np.arange(self.low.size), array]
        return found

    def _check_width(self, shape: tuple[int, ...]) -> None:
        if len(shape) < 1 or shape[-1] != self.low.size:
            raise ChunkError(f"got shape {shape}, expected {self.low.size} columns")
