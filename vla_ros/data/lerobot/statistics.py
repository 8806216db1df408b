"""Statistics of every column: min, max, mean, standard deviation, quantiles; per episode, and over many episodes.

Images count as numbers from 0 to 1 per channel, shape (3, 1, 1), as in LeRobot. Statistics of one episode are exact,
including quantiles of images: a byte has 256 values, so a histogram loses nothing. Over several episodes everything
is exact except the quantiles, which are means weighted by the number of steps, as in LeRobot.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.types import FloatArray, ImageArray

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
MAX_SIDE = 150
"""Largest number of rows and of columns used, evenly spaced, of a larger image."""

Statistics = dict[str, NDArray[Any]]
"""min, max, mean, std, the quantiles, and count (1,), the number of steps."""


def column_statistics(values: NDArray[Any]) -> Statistics:
    """Return statistics over axis 0 of (steps,) or (steps, n) numbers; a scalar column gives shape (1,)."""
    table = np.asarray(values, dtype=np.float64).reshape(len(values), -1)
    figures = {
        "min": table.min(axis=0),
        "max": table.max(axis=0),
        "mean": table.mean(axis=0),
        "std": table.std(axis=0),
        "count": np.array([len(table)]),
    }
    return figures | {name: np.quantile(table, fraction, axis=0) for name, fraction in QUANTILES.items()}


class ImageStatistics:
    """Accumulates a histogram of image bytes; no image is kept."""

    def __init__(self) -> None:
        """Start without images."""
        self._counts = np.zeros((3, 256), dtype=np.int64)
        self._images = 0

    def add(self, image: ImageArray) -> None:
        """Add one image (height, width, 3)."""
        stride = [max(1, -(-side // MAX_SIDE)) for side in image.shape[:2]]
        seen = image[:: stride[0], :: stride[1]]
        for channel in range(3):
            self._counts[channel] += np.bincount(seen[..., channel].ravel(), minlength=256)
        self._images += 1

    def result(self) -> Statistics:
        """Return the statistics of all images; there must be at least one."""
        levels = np.arange(256) / 255.0
        total = self._counts.sum(axis=1)
        mean = (self._counts * levels).sum(axis=1) / total
        variance = (self._counts * (levels - mean[:, None]) ** 2).sum(axis=1) / total
        present = self._counts > 0
        figures = {
            "min": levels[present.argmax(axis=1)],
            "max": levels[255 - present[:, ::-1].argmax(axis=1)],
            "mean": mean,
            "std": np.sqrt(variance),
        }
        cumulative = np.cumsum(self._counts, axis=1) / total[:, None]
        for name, fraction in QUANTILES.items():
            figures[name] = levels[(cumulative >= fraction).argmax(axis=1)]
        shaped = {name: value.reshape(3, 1, 1) for name, value in figures.items()}
        return {**shaped, "count": np.array([self._images])}


def aggregate(parts: Iterable[Mapping[str, Statistics]]) -> dict[str, Statistics]:
    """Return the combined statistics of all parts, column by column; every part has the same columns."""
    parts = list(parts)
    return {column: _aggregate_one([part[column] for part in parts]) for column in parts[0]}


def _aggregate_one(parts: list[Statistics]) -> Statistics:
    counts = np.array([float(part["count"][0]) for part in parts])

    def weighted(values: list[FloatArray]) -> FloatArray:
        return np.tensordot(counts / counts.sum(), np.stack(values), axes=1)

    mean = weighted([part["mean"] for part in parts])
    variance = weighted([part["std"] ** 2 + (part["mean"] - mean) ** 2 for part in parts])
    figures = {
        "min": np.min([part["min"] for part in parts], axis=0),
        "max": np.max([part["max"] for part in parts], axis=0),
        "mean": mean,
        "std": np.sqrt(variance),
        "count": np.array([int(counts.sum())]),
    }
    return figures | {name: weighted([part[name] for part in parts]) for name in QUANTILES}
