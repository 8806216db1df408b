"""Reduces flags and values of joints to those of arms: each arm may have its own driver."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vla_ros.types import FloatArray

Flags = NDArray[np.bool_]
Owners = NDArray[np.int64]
"""Number of the arm that each joint belongs to, (n,)."""


def any_in_arm(flags: Flags, owners: Owners) -> Flags:
    """Return (n,) whether any of the `flags` (n,) of each joint's arm is set."""
    return np.asarray((np.bincount(owners, weights=flags) > 0.0)[owners])


def most_in_arm(values: FloatArray, owners: Owners) -> FloatArray:
    """Return (n,) the largest of the non-negative `values` (n,) of each joint's arm."""
    most = np.zeros(int(owners.max()) + 1)
    np.maximum.at(most, owners, values)
    return np.asarray(most[owners])
