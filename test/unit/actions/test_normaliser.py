"""Normalising and back is exact, and statistics that would invent numbers are refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_ros.actions.normaliser import Normaliser
from vla_ros.errors import ContractError

NUMBERS = st.floats(-1e3, 1e3)


@given(st.lists(NUMBERS, min_size=3, max_size=3), st.lists(st.floats(1e-3, 1e3), min_size=3, max_size=3),
       st.lists(NUMBERS, min_size=3, max_size=3))  # fmt: skip
def test_round_trip(mean: list[float], deviation: list[float], values: list[float]) -> None:
    normaliser = Normaliser(np.array(mean), np.array(deviation))
    there = normaliser.unnormalise(normaliser.normalise(values))
    np.testing.assert_allclose(there, values, rtol=1e-12, atol=1e-9)
    again = Normaliser.from_dict(json.loads(json.dumps(normaliser.to_dict())))
    np.testing.assert_array_equal(again.normalise(values), normaliser.normalise(values))


def test_fit_by_hand() -> None:
    normaliser = Normaliser.fit([[1.0, 5.0], [3.0, 5.0]], floor=0.01)
    np.testing.assert_allclose(normaliser.mean, [2.0, 5.0])
    np.testing.assert_allclose(normaliser.deviation, [1.0, 0.01])
    np.testing.assert_allclose(normaliser.normalise([3.0, 5.0]), [1.0, 0.0])


@pytest.mark.parametrize(
    ("mean", "deviation", "says"),
    [
        ([0.0], [0.0], "constant"),
        ([np.nan], [1.0], "not finite"),
        ([0.0, 1.0], [1.0], "differ"),
        ([0.0], [-1.0], "constant"),
    ],
)
def test_bad_statistics_are_refused(mean: list[float], deviation: list[float], says: str) -> None:
    with pytest.raises(ContractError, match=says):
        Normaliser(np.array(mean), np.array(deviation))


def test_a_missing_statistic_is_named() -> None:
    with pytest.raises(ContractError, match="deviation"):
        Normaliser.from_dict({"mean": [0.0]})
