"""Normalizing and back is exact by every method, and statistics that would invent numbers are refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_ros.errors import ContractError
from vla_ros.processing.normalizer import Method, Normalizer

NUMBERS = st.floats(-1e3, 1e3)
WIDTHS = st.floats(1e-3, 1e3)


@pytest.mark.parametrize("method", list(Method))
@given(
    st.lists(NUMBERS, min_size=3, max_size=3),
    st.lists(WIDTHS, min_size=3, max_size=3),
    st.lists(NUMBERS, min_size=3, max_size=3),
)
def test_round_trip(method: Method, first: list[float], width: list[float], values: list[float]) -> None:
    second = np.array(width) if method is Method.MEAN_STD else np.array(first) + width
    normalizer = Normalizer(method, np.array(first), second)
    there = normalizer.unnormalize(normalizer.normalize(values))
    np.testing.assert_allclose(there, values, rtol=1e-9, atol=1e-9)
    again = Normalizer.from_dict(json.loads(json.dumps(normalizer.to_dict())))
    assert again.method is method
    np.testing.assert_array_equal(again.normalize(values), normalizer.normalize(values))


def test_fit_by_hand() -> None:
    samples = [[1.0, 5.0], [3.0, 5.0]]
    by_mean = Normalizer.fit(samples, floor=0.01)
    assert by_mean.to_dict() == {"method": "mean_std", "mean": [2.0, 5.0], "std": [1.0, 0.01]}
    np.testing.assert_allclose(by_mean.normalize([3.0, 5.0]), [1.0, 0.0])
    by_range = Normalizer.fit(samples, 0.01, Method.MIN_MAX)
    assert by_range.to_dict() == {"method": "min_max", "min": [1.0, 4.99], "max": [3.0, 5.01]}
    np.testing.assert_allclose(by_range.normalize([[1.0, 5.01], [3.0, 5.0]]), [[-1.0, 1.0], [1.0, 0.0]])


def test_quantiles_leave_out_a_hundredth_at_each_end() -> None:
    samples = np.arange(1001.0)
    samples[-1] = 1e6  # what no range should be stretched by
    normalizer = Normalizer.fit(samples[:, None], 1e-3, Method.QUANTILE)
    assert normalizer.to_dict() == {"method": "quantile", "q01": [10.0], "q99": [990.0]}
    assert normalizer.normalize([500.0]) == pytest.approx([0.0]) and normalizer.normalize([1e6])[0] > 1000.0


@pytest.mark.parametrize("method", list(Method))
def test_mixture_of_a_set_with_itself_is_normalized_alike(method: Method) -> None:
    samples = np.random.default_rng(0).normal(size=(500, 4, 2)) * [1.0, 20.0] + [0.0, 3.0]
    alone = Normalizer.fit(samples, 1e-3, method)
    twice = Normalizer.fit([samples, samples], 1e-3, method, fractions=[0.3, 0.7])
    pooled = Normalizer.pool([alone, alone], [0.3, 0.7], 1e-3)
    for other in (twice, pooled):
        np.testing.assert_allclose(other.first, alone.first, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(other.second, alone.second, rtol=1e-12, atol=1e-12)


def test_mixture_weighs_its_parts_by_hand() -> None:
    low, high = np.full((1000, 1), -1.0), np.full((10, 1), 5.0)  # few rows, drawn more often
    by_mean = Normalizer.fit([low, high], 1e-3, fractions=[0.25, 0.75])
    assert by_mean.first == pytest.approx([0.25 * -1.0 + 0.75 * 5.0])
    assert by_mean.second == pytest.approx([np.sqrt(0.25 * 0.75) * 6.0])
    rare = Normalizer.fit([low, high], 1e-3, Method.QUANTILE, fractions=[0.995, 0.005])
    assert rare.to_dict() == {"method": "quantile", "q01": [-1.001], "q99": [-0.999]}  # less than a hundredth is high
    often = Normalizer.fit([low, high], 1e-3, Method.QUANTILE, fractions=[0.98, 0.02])
    assert (often.first, often.second) == (-1.0, 5.0)


def test_pooled_ranges_hold_every_part() -> None:
    parts = [
        Normalizer(Method.QUANTILE, np.array([-1.0, 0.0]), np.array([1.0, 2.0])),
        Normalizer(Method.QUANTILE, np.array([-3.0, 1.0]), np.array([0.0, 9.0])),
    ]
    pooled = Normalizer.pool(parts, [0.9, 0.1], 1e-3)
    assert (pooled.first.tolist(), pooled.second.tolist()) == ([-3.0, 0.0], [1.0, 9.0])
    with pytest.raises(ContractError, match="one method and the same columns"):
        Normalizer.pool([parts[0], Normalizer.by_mean([0.0, 0.0], [1.0, 1.0])], [0.5, 0.5], 1e-3)


@pytest.mark.parametrize("method", list(Method))
def test_scale_of_some_columns_is_set_about_the_same_offset(method: Method) -> None:
    normalizer = Normalizer(method, np.array([1.0, 2.0, 3.0]), np.array([4.0, 6.0, 8.0])).with_scale(slice(0, 2), 0.1)
    before = Normalizer(method, np.array([1.0, 2.0, 3.0]), np.array([4.0, 6.0, 8.0]))
    np.testing.assert_allclose(normalizer.scale, [0.1, 0.1, before.scale[2]])
    np.testing.assert_allclose(normalizer.offset, before.offset)


@pytest.mark.parametrize(
    ("mean", "std", "says"),
    [
        ([0.0], [0.0], "constant"),
        ([np.nan], [1.0], "not finite"),
        ([0.0, 1.0], [1.0], "differ"),
        ([0.0], [-1.0], "constant"),
    ],
)
def test_bad_statistics_are_refused(mean: list[float], std: list[float], says: str) -> None:
    with pytest.raises(ContractError, match=says):
        Normalizer.by_mean(mean, std)


def test_range_without_width_is_refused() -> None:
    with pytest.raises(ContractError, match="constant"):
        Normalizer(Method.MIN_MAX, np.array([1.0]), np.array([1.0]))


@pytest.mark.parametrize("values", [{"mean": [0.0]}, {"method": "mean_std", "mean": [0.0]}, {"method": "median"}])
def test_statistic_that_is_missing_is_named(values: dict[str, object]) -> None:
    with pytest.raises(ContractError, match=r"deviation|std|median"):
        Normalizer.from_dict(values)


def test_statistics_of_earlier_checkpoints_are_read() -> None:
    normalizer = Normalizer.from_dict({"mean": [1.0], "deviation": [2.0]})
    assert normalizer.normalize([5.0]) == [2.0]
