"""A continuous space: its map by hand, its inverse, its unit quaternions, its refusals."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vla_ros.actions.continuous import Bounds, ContinuousActionSpace
from vla_ros.errors import ChunkError, ContractError

BOUNDS = {
    "position": {"low": [0.2, -0.5, 0.0], "high": [0.8, 0.5, 0.6]},
    "orientation": {"low": [-1.0] * 4, "high": [1.0] * 4},
    "gripper": {"low": [0.0], "high": [0.08]},
}
SPACE = ContinuousActionSpace.from_bounds(BOUNDS, quaternions=["orientation"])
UNIT = st.floats(-1.0, 1.0)


def test_the_map_by_hand():
    action = [0.5, 0.25, 0.6, 0.0, 0.6, 0.0, 0.8, 0.02]
    expected = [0.0, 0.5, 1.0, 0.0, 0.6, 0.0, 0.8, -0.5]
    np.testing.assert_allclose(SPACE.normalize(action), expected, atol=1e-15)
    assert SPACE.width == 8
    assert SPACE.columns == {"position": slice(0, 3), "orientation": slice(3, 7), "gripper": slice(7, 8)}


def unit(array):
    norms = np.linalg.norm(array, axis=-1, keepdims=True)
    return np.where(norms > 0.1, array / np.where(norms > 0.1, norms, 1.0), [0.0, 0.0, 0.0, 1.0])


@given(arrays(np.float64, (6, 8), elements=st.floats(-3.0, 3.0)))
def test_both_ways_are_inverse(values):
    """Outside the bounds too; a few units in the last place of the numbers in between."""
    values[:, 3:7] = unit(values[:, 3:7])
    raw = values.copy()
    np.testing.assert_allclose(SPACE.unnormalize(SPACE.normalize(raw)), raw, rtol=0, atol=1e-14)
    np.testing.assert_allclose(SPACE.normalize(SPACE.unnormalize(values)), values, rtol=0, atol=1e-13)


@given(arrays(np.float64, (4,), elements=st.floats(-1e3, 1e3)), st.floats(0.3, 3.0))
def test_a_quaternion_leaves_with_unit_length(quaternion, scale):
    quaternion = unit(quaternion)
    out = SPACE.unnormalize([0.0, 0.0, 0.0, *(scale * quaternion), 0.0])[3:7]
    assert np.linalg.norm(out) == pytest.approx(1.0, abs=1e-12)
    np.testing.assert_allclose(out, quaternion, atol=1e-12)


@given(st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(1e-3, 1e3)), min_size=1, max_size=6), st.data())
def test_the_bounds_map_to_one_and_the_inside_between(ranges, data):
    low = np.array([a for a, _ in ranges])
    high = low + np.array([b for _, b in ranges])
    space = ContinuousActionSpace({"any_name": Bounds(low, high)})
    np.testing.assert_allclose(space.normalize(low), -1.0, atol=1e-12)
    np.testing.assert_allclose(space.normalize(high), 1.0, atol=1e-12)
    share = data.draw(arrays(np.float64, len(ranges), elements=st.floats(0.0, 1.0)))
    inside = np.clip(low + share * (high - low), low, high)
    assert (abs(space.normalize(inside)) <= 1.0 + 1e-12).all()
    assert space.contains(inside)
    assert not space.contains(high + 1.0)


def test_parts_come_apart_and_together():
    actions = np.arange(16.0).reshape(2, 8)
    parts = SPACE.split(actions)
    assert parts["gripper"].tolist() == [[7.0], [15.0]]
    np.testing.assert_array_equal(SPACE.join(dict(reversed(parts.items()))), actions)
    with pytest.raises(ChunkError, match="got the parts"):
        SPACE.join({"position": parts["position"]})
    with pytest.raises(ChunkError, match=r"'gripper' has shape \(2, 3\)"):
        SPACE.join({**parts, "gripper": parts["position"]})


def test_it_survives_plain_values():
    assert ContinuousActionSpace.from_dict(SPACE.to_dict()).to_dict() == SPACE.to_dict()


@pytest.mark.parametrize(
    ("low", "high"),
    [
        ([0.0], [0.0]),
        ([1.0], [0.0]),
        ([0.0], [1e-12]),
        ([1e9], [1e9 + 1e-3]),
        ([0.0, 0.0], [1.0]),
        ([], []),
        ([-np.inf], [1.0]),
        ([0.0], [np.nan]),
        ([[0.0]], [[1.0]]),
        (["a"], [1.0]),
    ],
)
def test_degenerate_bounds_are_refused_by_name(low, high):
    with pytest.raises(ContractError, match="'lift'"):
        ContinuousActionSpace.from_bounds({"lift": {"low": low, "high": high}})


def test_spaces_that_cannot_be_are_refused():
    with pytest.raises(ContractError, match="at least one part"):
        ContinuousActionSpace({})
    with pytest.raises(ContractError, match="'a': expected 'low' and 'high'"):
        ContinuousActionSpace.from_bounds({"a": {"low": [0.0]}})
    with pytest.raises(ContractError, match=r"quaternions names \['spin'\]"):
        ContinuousActionSpace.from_bounds(BOUNDS, quaternions=["spin"])
    with pytest.raises(ContractError, match="'position' is a unit quaternion"):
        ContinuousActionSpace.from_bounds(BOUNDS, quaternions=["position"])


@pytest.mark.parametrize("turn", ["normalize", "unnormalize"])
def test_bad_actions_are_refused(turn):
    with pytest.raises(ChunkError, match=r"shape \(7,\), expected 8 columns"):
        getattr(SPACE, turn)(np.zeros(7))
    with pytest.raises(ChunkError, match="1 of 8 action values"):
        getattr(SPACE, turn)([np.nan, 0, 0, 0, 0, 0, 1, 0])


def test_quaternions_that_are_none_are_refused():
    with pytest.raises(ChunkError, match=r"'orientation' has a quaternion of norm 1\.1, expected 1"):
        SPACE.normalize([0.5, 0, 0, 0, 0, 0, 1.1, 0])
    with pytest.raises(ChunkError, match="no direction"):
        SPACE.unnormalize([0.5, 0, 0, 0, 0, 0, 0, 0])
