"""Bundles hold parts of one instant, in order and never twice, and what keeps them from forming is said."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_ros.perception.sensor_buffer import BACKWARD_RESTART
from vla_ros.perception.synchronizer import PICTURES_KEPT, STATES_KEPT, Bundle, Synchronizer

TOLERANCE, PATIENCE = 0.05, 0.02
Sync = Synchronizer[str, float, float]


def blend(before: float, after: float, share: float) -> float:
    """States in these tests are numbers that equal their stamps, so that a blended one shows where it was taken."""
    return before + share * (after - before)


def make(**rates: float) -> Sync:
    return Synchronizer(rates or {"front": 10.0, "wrist": 10.0}, TOLERANCE, blend, PATIENCE)


def feed(sync: Sync, now: float = 0.0, **stamps: float) -> None:
    """Add a picture a camera, or a state, with the given stamps."""
    for name, stamp in stamps.items():
        if name == "state":
            sync.add_state(stamp, stamp, now)
        else:
            sync.add_image(name, stamp, f"{name}@{stamp}", now)


def shown(bundle: Bundle[str, float] | None) -> tuple[dict[str, str], float] | None:
    """Return what is in a bundle."""
    if bundle is None:
        return None
    return {name: item.value for name, item in bundle.pictures.items()}, pytest.approx(bundle.state.value)


def test_no_camera_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one camera"):
        Synchronizer({}, TOLERANCE, blend)


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


def test_the_blend_leans_towards_the_nearer_state() -> None:
    sync: Synchronizer[str, str, str] = Synchronizer(
        {"front": 10.0}, TOLERANCE, lambda before, after, share: f"{before} {after} {share:.2f}", PATIENCE
    )
    sync.add_state(1.000, "before", 0.0)
    sync.add_state(1.010, "after", 0.0)
    sync.add_image("front", 1.002, "picture", 0.0)
    bundle = sync.take(0.0)
    assert bundle is not None
    assert bundle.state.value == "before after 0.20"


def test_a_state_is_wanted_only_while_it_would_help() -> None:
    sync = make()
    assert not sync.wants_state(), "there is no picture to help"
    feed(sync, front=1.0)
    assert sync.wants_state()
    feed(sync, state=0.99)
    assert sync.wants_state()
    feed(sync, state=1.0)
    assert not sync.wants_state(), "only a picture is missing now"


def test_patience_that_is_over_is_not_waited_for_again() -> None:
    sync = make()
    feed(sync, now=10.0, front=1.0)
    assert sync.take(10.0) is None
    assert sync.expires(10.0) == pytest.approx(PATIENCE)
    assert sync.expires(10.0 + 2 * PATIENCE) is None


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


@pytest.mark.parametrize(("state", "apart"), [(0.9, "-0.100"), (1.2, "+0.200")])
def test_a_state_of_another_time_is_no_partner(state: float, apart: str) -> None:
    sync = make()
    feed(sync, front=1.0, wrist=1.0, state=state)
    assert sync.take(99.0) is None
    assert apart in sync.sentence()
    assert "look at the clocks" in sync.sentence()


def test_pictures_too_far_apart_do_not_meet_and_are_named() -> None:
    sync = make()
    feed(sync, front=1.0, wrist=1.06)
    feed(sync, state=0.9)
    feed(sync, state=1.1)
    assert sync.take(99.0) is None
    assert "front and wrist are 0.060 s apart" in sync.sentence()


def test_the_slowest_camera_decides_and_the_nearest_pictures_of_the_others_come_with_it() -> None:
    sync = make(front=30.0, wrist=10.0)
    for stamp in (0.90, 0.93, 0.97, 1.00):
        feed(sync, state=stamp, front=stamp)
    feed(sync, wrist=0.98)
    assert shown(sync.take(0.0)) == ({"wrist": "wrist@0.98", "front": "front@0.97"}, 0.97)


def test_a_picture_waits_for_a_better_partner_that_is_on_its_way() -> None:
    sync = make(front=30.0, wrist=10.0)
    feed(sync, state=1.0)
    feed(sync, front=0.967, wrist=1.0)
    assert sync.take(0.0) is None
    feed(sync, front=1.0)
    assert shown(sync.take(0.001)) == ({"wrist": "wrist@1.0", "front": "front@1.0"}, 1.0)


def test_the_newest_wins_and_what_it_overtakes_is_counted() -> None:
    sync = make()
    for stamp in (1.0, 1.1, 1.2):
        feed(sync, state=stamp, front=stamp, wrist=stamp)
    bundle = sync.take(0.0)
    assert bundle is not None
    assert bundle.stamp == 1.2
    assert sync.unmatched == 2
    assert sync.take(0.0) is None


def test_a_picture_that_nothing_can_fit_any_more_is_dropped_and_an_older_one_used() -> None:
    sync = make()
    feed(sync, state=1.0)
    feed(sync, state=1.1)
    feed(sync, state=1.2, front=1.0, wrist=1.0)
    feed(sync, front=1.1)
    feed(sync, wrist=1.2)  # and none at 1.1
    bundle = sync.take(0.0)
    assert bundle is not None
    assert bundle.stamp == 1.0
    assert sync.unmatched == 1


def test_a_late_or_repeated_picture_is_dropped_and_counted() -> None:
    sync = make()
    feed(sync, state=1.0, front=1.0, wrist=1.0)
    assert sync.take(0.0) is not None
    feed(sync, front=1.0, wrist=0.9)
    assert sync.dropped == 2
    assert sync.take(99.0) is None


def test_what_blending_raises_comes_out_and_the_next_picture_gets_its_chance() -> None:
    def refuse_first(before: float, after: float, share: float) -> float:
        if before < 1.0:
            raise ArithmeticError("poisoned")
        return blend(before, after, share)

    sync: Sync = Synchronizer({"front": 10.0}, TOLERANCE, refuse_first, PATIENCE)
    feed(sync, front=0.9, state=0.9)
    with pytest.raises(ArithmeticError):
        sync.take(0.0)
    assert sync.take(99.0) is None
    feed(sync, front=1.0, state=1.0)
    assert sync.take(0.0) is not None


@pytest.mark.parametrize("jump", [-3600.0, 3600.0])
def test_a_clock_that_jumps_is_followed_by_itself(jump: float) -> None:
    sync = make()
    stamps = [100.0 + 0.1 * count for count in range(5)]
    stamps += [stamp + jump for stamp in stamps + [stamps[-1] + 0.1 * count for count in range(1, 8)]]
    bundles = []
    for stamp in stamps:
        feed(sync, state=stamp, front=stamp, wrist=stamp)
        if (bundle := sync.take(0.0)) is not None:
            bundles.append(bundle.stamp)
    after = [stamp for stamp in bundles if abs(stamp - 100.0) > 1000.0]
    assert len(bundles) - len(after) == 5
    assert len(after) >= 12 - BACKWARD_RESTART
    assert after == sorted(after)


def test_pictures_follow_at_once_when_the_clock_of_the_states_went_back() -> None:
    sync = make()
    feed(sync, state=100.0, front=100.0, wrist=100.0)
    for count in range(BACKWARD_RESTART):
        feed(sync, state=0.01 * count)
    feed(sync, front=0.04, wrist=0.04)
    bundle = sync.take(0.0)
    assert bundle is not None
    assert bundle.stamp == 0.04


def test_one_picture_from_the_future_does_not_blind_for_long() -> None:
    sync = make()
    feed(sync, state=1.0, front=1.0, wrist=9999.0)
    bundles = 0
    for count in range(1, BACKWARD_RESTART + 2):
        stamp = 1.0 + 0.1 * count
        feed(sync, state=stamp, front=stamp, wrist=stamp)
        bundles += sync.take(0.0) is not None
    assert bundles >= 1


PARTS = st.lists(
    st.tuples(st.sampled_from(["front", "wrist", "state"]), st.floats(0.0, 3.0), st.floats(0.0, 0.1)), max_size=200
)


@given(PARTS)
def test_whatever_comes_bundles_keep_their_promise_and_buffers_are_bounded(parts) -> None:
    sync, now, given_out = make(), 0.0, set()
    for kind, stamp, pause in parts:
        now += pause
        feed(sync, now, **{kind: stamp})
        bundle = sync.take(now)
        if bundle is not None:
            stamps = [bundle.state.stamp, *(picture.stamp for picture in bundle.pictures.values())]
            assert max(stamps) - min(stamps) == bundle.skew <= TOLERANCE
            assert bundle.stamp == min(stamps)
            assert bundle.state.value == pytest.approx(bundle.state.stamp)
            pivot = id(bundle.pictures["front"])
            assert pivot not in given_out
            given_out.add(pivot)
    assert all(len(source.items) <= PICTURES_KEPT for source in sync._pictures.values())
    assert len(sync._states.items) <= STATES_KEPT


@given(st.floats(5.0, 30.0), st.floats(0.0, 0.03), st.floats(50.0, 500.0), st.randoms(use_true_random=False))
def test_steady_streams_lose_no_picture_of_the_slowest_camera(rate, shift, state_rate, rng) -> None:
    """Two cameras of one rate, shifted by less than the tolerance, with jitter of transport: every picture is used."""
    sync = make(front=rate, wrist=rate)
    events = [(count / state_rate, "state", count / state_rate) for count in range(int(2.0 * state_rate))]
    for count in range(1, int(1.5 * rate)):
        events.append((count / rate + rng.uniform(0.0, 0.01), "front", count / rate))
        events.append((count / rate + shift + rng.uniform(0.0, 0.01), "wrist", count / rate + shift))
    bundles = []
    for now, kind, stamp in sorted(events):
        feed(sync, now, **{kind: stamp})
        bundles += [bundle] if (bundle := sync.take(now)) is not None else []
    assert len(bundles) == int(1.5 * rate) - 1
    assert sync.unmatched == sync.dropped == 0
