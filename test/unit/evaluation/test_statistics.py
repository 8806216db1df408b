"""The Wilson interval against values worked out by hand."""

from __future__ import annotations

import math

import pytest

from vla_ros.evaluation.statistics import Z95, wilson_interval


def test_a_known_value() -> None:
    """50 of 100: centre 0.5, half-width z sqrt(0.25/100 + z^2/40000) / (1 + z^2/100)."""
    z = Z95
    half = z * math.sqrt(0.0025 + z * z / 40000) / (1 + z * z / 100)
    assert wilson_interval(50, 100) == pytest.approx((0.5 - half, 0.5 + half))
    assert wilson_interval(50, 100) == pytest.approx((0.4038, 0.5962), abs=1e-4)


def test_certainty_is_never_claimed() -> None:
    low, high = wilson_interval(10, 10)
    assert high == pytest.approx(1.0) and low == pytest.approx(0.7225, abs=1e-4)
    low, high = wilson_interval(0, 10)
    assert low == pytest.approx(0.0) and high == pytest.approx(0.2775, abs=1e-4)


@pytest.mark.parametrize(("successes", "trials"), [(1, 0), (-1, 5), (6, 5)])
def test_counts_that_make_no_sense_are_refused(successes: int, trials: int) -> None:
    with pytest.raises(ValueError, match="expected 0 <= successes"):
        wilson_interval(successes, trials)
