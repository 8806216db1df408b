"""Normalization of columns by mean and standard deviation, by range, or by quantiles, and its inverse.

    normalized = (value - offset) / scale

==========  ==============  =========================  =======================
method      statistics      offset                     scale
==========  ==============  =========================  =======================
mean_std    mean, std       mean                       std
min_max     min, max        (min + max) / 2            (max - min) / 2
quantile    q01, q99        (q01 + q99) / 2            (q99 - q01) / 2
==========  ==============  =========================  =======================

Nothing is clipped, so normalizing is invertible for every value. With min_max and quantile, -1 and 1 correspond to the
two statistics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vla_ros.errors import ContractError
from vla_ros.types import FloatArray, frozen_array

MIN_SCALE = 1e-8
"""Scale below which a column counts as constant: dividing by it would invent values."""

QUANTILES = (0.01, 0.99)


class Method(str, Enum):
    """Statistics that determine the offset and scale of a column."""

    MEAN_STD = "mean_std"
    MIN_MAX = "min_max"
    QUANTILE = "quantile"


STATISTICS = {Method.MEAN_STD: ("mean", "std"), Method.MIN_MAX: ("min", "max"), Method.QUANTILE: ("q01", "q99")}
"""Names of the two statistics of each method, as stored in a checkpoint."""


@dataclass(frozen=True)
class Normalizer:
    """Offset and scale per column.

    Attributes:
        method: Normalization method, see the table of the module.
        first: Mean, minimum or lower quantile, of any shape; broadcasts against the trailing axes of the values.
        second: Standard deviation, maximum or upper quantile, of the same shape.
    """

    method: Method
    first: FloatArray
    second: FloatArray
    offset: FloatArray = field(init=False, repr=False)
    scale: FloatArray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        first, second = frozen_array(self.first), frozen_array(self.second)
        names = STATISTICS[self.method]
        if first.shape != second.shape:
            raise ContractError(f"normalizer: {names[0]} {first.shape} and {names[1]} {second.shape} differ in shape")
        if not (np.isfinite(first).all() and np.isfinite(second).all()):
            raise ContractError(f"normalizer: {names[0]} or {names[1]} holds values that are not finite")
        by_range = self.method is not Method.MEAN_STD
        offset, scale = ((first + second) / 2.0, (second - first) / 2.0) if by_range else (first, second)
        if not (scale > MIN_SCALE).all():
            raise ContractError(
                f"normalizer: a column is constant ({names[1]} is {second.min()} at the least); give it a smallest "
                "scale of its own"
            )
        for name, value in (("first", first), ("second", second), ("offset", offset), ("scale", scale)):
            object.__setattr__(self, name, frozen_array(value))

    @classmethod
    def by_mean(cls, mean: ArrayLike, std: ArrayLike) -> Normalizer:
        """Create from a mean and a standard deviation."""
        return cls(Method.MEAN_STD, np.asarray(mean, np.float64), np.asarray(std, np.float64))

    @classmethod
    def fit(
        cls,
        samples: ArrayLike | Sequence[NDArray[Any]],
        floor: ArrayLike,
        method: Method = Method.MEAN_STD,
        fractions: ArrayLike | None = None,
    ) -> Normalizer:
        """Create from the statistics over axis 0 of `samples`.

        Args:
            samples: (n, ...), or with `fractions` a sequence of such arrays.
            floor: Smallest scale, in the unit of the column; broadcasts.
            method: Normalization method, see the table of the module.
            fractions: Sampling fraction of each array in a mixture; they sum to 1.
        """
        parts: Any = [samples] if fractions is None else samples
        arrays = [np.asarray(part, dtype=np.float64) for part in parts]
        if method is Method.MEAN_STD:
            each = [cls._floored(method, a.mean(axis=0), a.std(axis=0), floor) for a in arrays]
            return each[0] if fractions is None else cls.pool(each, fractions, floor)
        if method is Method.MIN_MAX:
            low = np.min([array.min(axis=0) for array in arrays], axis=0)
            return cls._floored(method, low, np.max([array.max(axis=0) for array in arrays], axis=0), floor)
        counts = [len(array) for array in arrays]
        each_draws = np.ones(1) if fractions is None else np.asarray(fractions, dtype=np.float64)
        weights = np.concatenate([np.full(n, draw / n) for n, draw in zip(counts, each_draws, strict=True)])
        return cls._floored(method, *_quantiles(np.concatenate(arrays), weights), floor)

    @classmethod
    def pool(cls, parts: Sequence[Normalizer], fractions: ArrayLike, floor: ArrayLike) -> Normalizer:
        """Return the statistics of a mixture that samples `parts` with the given fractions, which sum to 1.

        mean_std: mean = sum f_k mean_k, variance = sum f_k (variance_k + (mean_k - mean)^2). min_max: those of the
        union. quantile: the smallest and largest of the parts, which enclose those of the mixture; `fit` with
        `fractions` has the exact ones.

        Raises:
            ContractError: when the methods or the columns of the parts differ.
        """
        methods, shapes = {part.method for part in parts}, {part.first.shape for part in parts}
        if len(methods) != 1 or len(shapes) != 1:
            raise ContractError(
                f"normalizers by {sorted(method.value for method in methods)} of columns {sorted(shapes)} cannot be "
                "pooled: expected one method and the same columns"
            )
        method = methods.pop()
        first, second = np.stack([part.first for part in parts]), np.stack([part.second for part in parts])
        if method is not Method.MEAN_STD:
            return cls._floored(method, first.min(axis=0), second.max(axis=0), floor)
        weights = np.asarray(fractions, dtype=np.float64)
        mean = np.tensordot(weights, first, 1)
        variance = np.tensordot(weights, second**2 + (first - mean) ** 2, 1)
        return cls._floored(method, mean, np.sqrt(variance), floor)

    @classmethod
    def _floored(cls, method: Method, first: FloatArray, second: FloatArray, smallest: ArrayLike) -> Normalizer:
        floor = np.asarray(smallest, dtype=np.float64)
        if method is Method.MEAN_STD:
            return cls(method, first, np.maximum(second, floor))
        middle, half = (first + second) / 2.0, (second - first) / 2.0
        narrow = half < floor
        return cls(method, np.where(narrow, middle - floor, first), np.where(narrow, middle + floor, second))

    def normalize(self, values: ArrayLike) -> FloatArray:
        """Return (values - offset) / scale."""
        return (np.asarray(values, dtype=np.float64) - self.offset) / self.scale

    def unnormalize(self, values: ArrayLike) -> FloatArray:
        """Return values * scale + offset: the inverse of `normalize`."""
        return np.asarray(values, dtype=np.float64) * self.scale + self.offset

    def columns(self, which: slice | Sequence[int]) -> Normalizer:
        """Return the normalizer of selected columns of the last axis."""
        index = which if isinstance(which, slice) else list(which)
        return Normalizer(self.method, self.first[..., index], self.second[..., index])

    def joined(self, other: Normalizer) -> Normalizer:
        """Return the normalizer of these columns followed by those of `other`."""
        if self.method is not other.method:
            raise ContractError(f"normalizers by {self.method.value} and {other.method.value} cannot be joined")
        first, second = (self.first, other.first), (self.second, other.second)
        return Normalizer(self.method, np.concatenate(first, axis=-1), np.concatenate(second, axis=-1))

    def with_scale(self, which: slice, scale: float) -> Normalizer:
        """Return a copy with another scale for some columns of the last axis, and the same offset."""
        first, second = self.first.copy(), self.second.copy()
        by_range = self.method is not Method.MEAN_STD
        second[..., which] = self.offset[..., which] + scale if by_range else scale
        if by_range:
            first[..., which] = self.offset[..., which] - scale
        return Normalizer(self.method, first, second)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for a checkpoint."""
        names = STATISTICS[self.method]
        return {"method": self.method.value, names[0]: self.first.tolist(), names[1]: self.second.tolist()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Normalizer:
        """Create from the output of `to_dict`, or from the mean and deviation of checkpoints before 0.5.

        Raises:
            ContractError: when a statistic is missing or invalid.
        """
        try:
            if "method" not in values:
                return cls.by_mean(values["mean"], values["deviation"])
            method = Method(values["method"])
            first, second = (np.asarray(values[name], np.float64) for name in STATISTICS[method])
            return cls(method, first, second)
        except (KeyError, TypeError, ValueError) as error:
            raise ContractError(f"normalizer: {error}") from error


def _quantiles(values: FloatArray, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the two quantiles over axis 0 of `values`, with row weights (n,) that sum to 1."""
    order = np.argsort(values, axis=0, kind="stable")
    reached = np.cumsum(weights[order], axis=0)
    ordered = np.take_along_axis(values, order, axis=0)
    found = []
    for level in QUANTILES:
        # The first value at which the level is reached; rounding must not push the index past the last one.
        index = np.minimum((reached < level - 1e-12).sum(axis=0), len(values) - 1)
        found.append(np.take_along_axis(ordered, index[None], axis=0)[0])
    return found[0], found[1]
