"""Bundles hold parts of one instant, never twice, and say what is missing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_ros.perception.synchroniser import BACKWARD_RESTART, Synchroniser


def _ready(tolerance: float = 0.05) -> Synchroniser[str, str]:
    return Synchroniser(["front", "wrist"], tolerance)


def test_it_says_what_is_missing() -> None:
    sync = _ready()
    assert sync.missing() == ["front", "wrist", "joint states"] and sync.take() is None
    sync.add_picture("front", 1.0, "f")
    sync.add_state(1.0, "s")
    assert sync.missing() == ["wrist"] and sync.take() is None


def test_the_nearest_parts_meet() -> None:
    sync = _ready()
    for stamp in (0.98, 0.99, 1.00, 1.01):
        sync.add_state(stamp, f"s{stamp}")
    sync.add_picture("front", 1.000, "f")
    sync.add_picture("wrist", 1.004, "w")
    bundle = sync.take()
    assert bundle is not None
    assert bundle.state.value == "s1.0" and bundle.stamp == 1.0
    assert bundle.skew == pytest.approx(0.004)
    assert sync.take() is None, "the same pictures came twice"


def test_parts_too_far_apart_do_not_meet() -> None:
    sync = _ready(tolerance=0.05)
    sync.add_picture("front", 1.0, "f")
    sync.add_picture("wrist", 1.0, "w")
    sync.add_state(0.94, "old")
    assert sync.take() is None and sync.unmatched == 1
    sync.add_state(1.01, "new")
    bundle = sync.take()
    assert bundle is not None and bundle.state.value == "new"


def test_a_camera_that_lags_decides_the_instant() -> None:
    sync = _ready()
    sync.add_state(1.0, "s")
    sync.add_picture("front", 1.0, "f1")
    sync.add_picture("front", 1.1, "f2")
    sync.add_picture("wrist", 1.0, "w1")
    bundle = sync.take()
    assert bundle is not None and bundle.pictures["front"].value == "f1"


def test_a_clock_that_jumps_back_is_followed_after_a_few_pictures() -> None:
    sync = _ready()
    sync.add_state(100.0, "s")
    sync.add_picture("front", 100.0, "f")
    sync.add_picture("wrist", 100.0, "w")
    assert sync.take() is not None
    for count in range(BACKWARD_RESTART):
        stamp = 1.0 + 0.1 * count
        sync.add_state(stamp, f"s{count}")
        sync.add_picture("front", stamp, "f")
        sync.add_picture("wrist", stamp, "w")
    bundle = sync.take()
    assert bundle is not None and bundle.stamp < 2.0


@given(st.lists(st.tuples(st.sampled_from(["front", "wrist", "state"]), st.floats(0.0, 10.0)), max_size=200))
def test_whatever_comes_bundles_keep_their_promise_and_buffers_stay_bounded(parts: list[tuple[str, float]]) -> None:
    sync = _ready()
    for kind, stamp in parts:
        if kind == "state":
            sync.add_state(stamp, "s")
        else:
            sync.add_picture(kind, stamp, kind)
        if (bundle := sync.take()) is not None:
            stamps = [bundle.state.stamp, *(p.stamp for p in bundle.pictures.values())]
            assert max(stamps) - min(stamps) <= sync.tolerance
            assert bundle.stamp == min(stamps)
    assert all(len(queue) <= 4 for queue in sync._pictures.values()) and len(sync._states) <= 50
