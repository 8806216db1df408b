"""Statistics with their uncertainty."""

from __future__ import annotations

import math

Z95 = 1.959963984540054
"""97.5 % point of the standard normal distribution."""


def wilson_interval(successes: int, trials: int, z: float = Z95) -> tuple[float, float]:
    """Return the Wilson score interval of a rate (Wilson 1927), valid near 0 and 1 as well.

    Raises:
        ValueError: when the counts are invalid.
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(f"got {successes} successes in {trials} trials, expected 0 <= successes <= trials >= 1")
    rate = successes / trials
    denominator = 1.0 + z * z / trials
    centre = (rate + z * z / (2 * trials)) / denominator
    half = z * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials)) / denominator
    return max(0.0, centre - half), min(1.0, centre + half)
