"""Brings numbers to zero mean and unit deviation, and back exactly; its statistics travel in the checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from vla_ros.errors import ContractError
from vla_ros.types import FloatArray, frozen_array

SMALLEST_DEVIATION = 1e-8
"""Below this a column is constant, and dividing by its deviation would invent numbers."""


@dataclass(frozen=True)
class Normaliser:
    """Statistics of any trailing shape: `mean` and `deviation` broadcast against what they are applied to."""

    mean: FloatArray
    deviation: FloatArray

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", frozen_array(self.mean))
        object.__setattr__(self, "deviation", frozen_array(self.deviation))
        if self.mean.shape != self.deviation.shape:
            raise ContractError(f"normaliser: mean {self.mean.shape} and deviation {self.deviation.shape} differ")
        if not (np.isfinite(self.mean).all() and np.isfinite(self.deviation).all()):
            raise ContractError("normaliser: statistics hold values that are not finite")
        if not (self.deviation > SMALLEST_DEVIATION).all():
            raise ContractError("normaliser: a column is constant; give it a deviation of its own")

    @classmethod
    def fit(cls, samples: ArrayLike, floor: float) -> Normaliser:
        """Return the statistics over axis 0 of `samples`; deviations below `floor` (same unit) become `floor`."""
        array = np.asarray(samples, dtype=np.float64)
        return cls(array.mean(axis=0), np.maximum(array.std(axis=0), floor))

    @classmethod
    def pool(cls, parts: Sequence[Normaliser], fractions: ArrayLike, floor: float) -> Normaliser:
        """Return the statistics of a mixture that draws from `parts` in the given fractions, which sum to 1.

        Mean and variance of a mixture: mean = sum f_k mean_k, variance = sum f_k (variance_k + (mean_k - mean)^2).
        """
        weights = np.asarray(fractions, dtype=np.float64)
        means = np.stack([part.mean for part in parts])
        deviations = np.stack([part.deviation for part in parts])
        mean = np.tensordot(weights, means, 1)
        variance = np.tensordot(weights, deviations**2 + (means - mean) ** 2, 1)
        return cls(mean, np.maximum(np.sqrt(variance), floor))

    def normalise(self, values: ArrayLike) -> FloatArray:
        """Return (values - mean) / deviation."""
        return (np.asarray(values, dtype=np.float64) - self.mean) / self.deviation

    def unnormalise(self, values: ArrayLike) -> FloatArray:
        """Return the inverse of `normalise`."""
        return np.asarray(values, dtype=np.float64) * self.deviation + self.mean

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists, as they stand in a checkpoint."""
        return {"mean": self.mean.tolist(), "deviation": self.deviation.tolist()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Normaliser:
        """Read what `to_dict` wrote.

        Raises:
            ContractError: when a statistic is missing or invalid.
        """
        try:
            return cls(np.asarray(values["mean"], np.float64), np.asarray(values["deviation"], np.float64))
        except (KeyError, TypeError, ValueError) as error:
            raise ContractError(f"normaliser: {error}") from error
