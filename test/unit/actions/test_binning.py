"""Bins against tokens computed by hand, and what a round trip may cost."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vla_ros.actions.binning import ActionBins
from vla_ros.errors import ChunkError, ContractError

QUARTERS = ActionBins([-1.0, 0.0], [1.0, 8.0], count=4)  # bins of 0.5 and of 2
FINE = ActionBins([-4.0, -1.0, 0.2], [4.0, 1.0, 0.3])


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([-1.0, 0.0], [0, 0]),
        ([-0.51, 1.99], [0, 0]),
        ([-0.5, 2.0], [1, 1]),
        ([0.0, 4.0], [2, 2]),
        ([0.49, 5.99], [2, 2]),
        ([0.5, 6.0], [3, 3]),
        ([1.0, 8.0], [3, 3]),
        ([-7.0, 99.0], [0, 3]),
    ],
)
def test_bins_by_hand(value, expected):
    assert QUARTERS.encode(value).tolist() == expected


def test_centres_by_hand():
    assert QUARTERS.centres.tolist() == [[-0.75, -0.25, 0.25, 0.75], [1.0, 3.0, 5.0, 7.0]]
    assert QUARTERS.edges.tolist() == [[-0.5, 0.0, 0.5], [2.0, 4.0, 6.0]]
    assert QUARTERS.decode([[0, 3], [2, 1]]).tolist() == [[-0.75, 7.0], [0.25, 3.0]]


def test_256_bins_by_hand():
    # x = 1.7 of -4 to 4: (1.7 + 4) * 32 = 182.4; 0.25 of -1 to 1: 1.25 * 128 = 160; 0.2205 of 0.2 to 0.3: 52.48
    assert FINE.encode([1.7, 0.25, 0.2205]).tolist() == [182, 160, 52]


@given(arrays(np.float64, (5, 3), elements=st.floats(0.0, 1.0)))
def test_a_value_comes_back_within_half_a_bin(share):
    values = FINE.low + share * (FINE.high - FINE.low)
    assert (abs(FINE.decode(FINE.encode(values)) - values) <= 0.5 * FINE.size * (1 + 1e-9)).all()


@given(arrays(np.int64, (4, 3), elements=st.integers(0, 255)))
def test_a_bin_comes_back_exactly(bins):
    assert (FINE.encode(FINE.decode(bins)) == bins).all()


@given(st.floats(-10, 10), st.floats(-10, 10))
def test_order_is_kept(a, b):
    low, high = sorted((a, b))
    assert FINE.encode([low] * 3)[0] <= FINE.encode([high] * 3)[0]


def test_what_has_no_bin_is_refused():
    with pytest.raises(ChunkError, match=r"shape \(2,\), expected 3 columns"):
        FINE.encode([0.0, 0.0])
    with pytest.raises(ChunkError, match="1 of 3 values are not finite"):
        FINE.encode([0.0, np.nan, 0.0])
    with pytest.raises(ChunkError, match="0 to 256, expected 0 to 255"):
        FINE.decode([0, 256, 3])
    with pytest.raises(ChunkError, match="-1 to 3, expected 0 to 255"):
        FINE.decode([0, -1, 3])
    with pytest.raises(ChunkError, match="whole numbers"):
        FINE.decode([0.0, 1.0, 2.0])


@pytest.mark.parametrize(
    ("low", "high", "count"),
    [
        ([0.0], [0.0], 4),
        ([1.0], [0.0], 4),
        ([0.0], [1.0], 1),
        ([0.0], [np.inf], 4),
        ([0.0], [1.0, 2.0], 4),
        ([], [], 4),
    ],
)
def test_bins_that_cannot_be_are_refused(low, high, count):
    with pytest.raises(ContractError, match="bins"):
        ActionBins(np.array(low), np.array(high), count)
