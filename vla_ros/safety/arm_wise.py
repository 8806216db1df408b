"""What is true of an arm as soon as it is true of one of its joints: each arm may have a driver of its own."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Flags = NDArray[np.bool_]
Owners = NDArray[np.int64]
"""Number of the arm that each joint belongs to, (n,)."""


def any_in_arm(flags: Flags, owners: Owners) -> Flags:
    """Return, for each joint, whether one of the `flags` (n,) of its arm is set."""
    return np.asarray((np.bincount(owners, weights=flags) > 0.0)[owners])
