"""Reduces flags of joints to flags of arms: each arm may have its own driver."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Flags = NDArray[np.bool_]
Owners = NDArray[np.int64]
"""Number of the arm that each joint belongs to, (n,)."""


def any_in_arm(flags: Flags, owners: Owners) -> Flags:
    """Return (n,) whether any of the `flags` (n,) of each joint's arm is set."""
    return np.asarray((np.bincount(owners, weights=flags) > 0.0)[owners])
