"""Bundles hold parts of one instant, in order and never twice, and what keeps them from forming is said."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_ros.perception.sensor_buffer import BACKWARD_RESTART
from vla_ros.perception.synchroniser import PICTURES_KEPT, STATES_KEPT, Bundle, Synchroniser

TOLERANCE, PATIENCE = 0.05, 0.02
Sync = Synchroniser[str, float, float]


def blend(before: float, after: float, share: float) -> float:
    """States in these tests are numbers that equal their stamps, so that a blended one shows where it was taken."""
    return before + share * (after - before)


def make(**rates: float) -> Sync:
    return Synchroniser(rates or {"front": 10.0, "wrist": 10.0}, TOLERANCE, blend, PATIENCE)


def feed(sync: Sync, now: float = 0.0, **stamps: float) -> None:
    """Add a picture a camera, or a state, with the given stamps."""
    for name, stamp in stamps.items():
        if name == "state":
            sync.add_state(stamp, stamp, now)
        else:
            sync.add_picture(name, stamp, f"{name}@{stamp}", now)


def shown(bundle: Bundle[str, float] | None) -> tuple[dict[str, str], float] | None:
    """Return what is in a bundle."""
    if bundle is None:
        return None
    return {name: item.value for name, item in bundle.pictures.items()}, pytest.approx(bundle.state.value)


def test_no_camera_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one camera"):
        Synchroniser({}, TOLERANCE, blend)


def test_it_says_what_is_missing() -> None:
    sync = make()
    assert sync.missing() == ["front", "wrist", "joint states"]
    feed(sync, front=1.0, state=1.0)
    assert sync.missing() == ["wrist"]
    assert sync.take(99.0) is None
    assert sync.sentence() == "waiting for wrist"


def test_parts_of_one_stamp_meet_at_once_and_once() -> None:
    sync = make()
    feed(sync, front=1.0, wrist=1.0, state=1.0)
    bundle = sync.take(0.0)
    assert shown(bundle) == ({"front": "front@1.0", "wrist": "wrist@1.0"}, 1.0)
    assert bundle is not None
    assert bundle.skew == 0.0
    assert bundle.stamp == 1.0
    assert sync.take(99.0) is None, "the same pictures came twice"


def test_the_state_is_blended_at_the_oldest_picture() -> None:
    sync = make()
    feed(sync, state=0.99)
    feed(sync, front=1.000, wrist=1.004, state=1.01)
    bundle = sync.take(0.0)
    assert bundle is not None
    assert bundle.state.value == pytest.approx(1.0)
    assert bundle.state.stamp == bundle.stamp == 1.0
    assert bundle.skew == pytest.approx(0.004)


def test_a_picture_waits_for_the_state_behind_it_but_not_for_ever() -> None:
    sync = make()
    feed(sync, now=10.0, front=1.0, wrist=1.0, state=0.99)
    assert sync.take(10.0) is None
    assert sync.expires(10.005) == pytest.approx(0.015)
    bundle = sync.take(10.0 + PATIENCE)
    assert bundle is not None
    assert bundle.state.value == 0.99, "the nearest one"
    assert bundle.skew == pytest.approx(0.01)
    assert bundle.stamp == 0.99
    assert sync.expires(10.03) is None


def test_states_too_far_apart_are_not_blended() -> None:
    sync = make()
    feed(sync, state=0.96)
    feed(sync, front=1.0, wrist=1.0, state=1.03)
    bundle = sync.take(0.0)
    assert bundle is not None
    assert bundle.state.value == 1.03


@pytest.mark.parametrize(("state", "sign"), [(0.9, "-0.100"), (1.2, r"\+0.200")])
def test_a_state_of_another_time_is_no_partner(state: float, sign: str) -> None:
    sync = make()
    feed(sync, front=1.0, wrist=1.0, state=state)
    assert sync.take(99.0) is None
    assert pytest.raises(AssertionError, match=sign, check=None) if False else sign.strip("\\") in sync.sentence()
