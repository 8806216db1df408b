"""Paired comparison of two policies on the same scenes: wins, losses, and the exact sign test."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from vla_ros.errors import VlaError

Outcomes = dict[tuple[int, str], bool]
"""(seed of the scene, instruction) to success."""


def outcomes(rollouts: Iterable[Mapping[str, Any]]) -> Outcomes:
    """Return the outcome of each scene, from the `rollouts` of a report of `vla-ros eval`.

    Raises:
        VlaError: when they are not such rollouts.
    """
    found: Outcomes = {}
    try:
        for row in rollouts:
            result = row.get("result", row)
            found[int(result["seed"]), str(result["instruction"])] = bool(result["success"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise VlaError(f"not the rollouts of a report of `vla-ros eval`: {error!r}") from error
    return found


def sign_test(won: int, lost: int) -> float:
    """Return the p-value of the exact two-sided sign test: the probability of a split as uneven.

    This is McNemar's test (1947) with the exact binomial distribution. 1.0 when no scene separates the two policies.
    """
    if min(won, lost) < 0:
        raise ValueError(f"got {won} won and {lost} lost, expected counts")
    told_apart = won + lost
    tail: int = sum(math.comb(told_apart, k) for k in range(min(won, lost) + 1))
    return float(min(1.0, 2 * tail / 2**told_apart))


def compare(ours: Outcomes, theirs: Outcomes) -> dict[str, Any]:
    """Return `scenes`, `won`, `lost`, and `p` of the sign test, over the scenes common to both.

    Raises:
        VlaError: when they have no scenes in common.
    """
    common = ours.keys() & theirs.keys()
    if not common:
        raise VlaError("the two reports have no scene in common: play the same --seed and the same sentences")
    won = sum(ours[key] and not theirs[key] for key in common)
    lost = sum(theirs[key] and not ours[key] for key in common)
    return {
        "scenes": len(common),
        "success_rate": sum(theirs[key] for key in common) / len(common),
        "won": won,
        "lost": lost,
        "p": round(sign_test(won, lost), 4),
    }
