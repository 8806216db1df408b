"""Two clocks by hand: what is read in between, what is followed, what is a jump."""

from __future__ import annotations

import pytest

from vla_ros.safety.watch.clock_offset import ATTEMPTS, JUMP, ClockOffset

MS = 1_000_000


class Clocks:
    """A steady clock that advances by `step` ns with every reading, and a system clock that is `ahead` of it, ns."""

    def __init__(self, ahead: int) -> None:
        self.now, self.ahead, self.step, self.readings = 5_000 * MS, ahead, 100, 0

    def steady(self) -> int:
        self.readings += 1
        self.now += self.step
        return self.now

    def system(self) -> int:
        return self.now + self.ahead


@pytest.fixture
def clocks():
    return Clocks(1_700_000_000_123_456_789)


@pytest.fixture
def offset(clocks):
    made = ClockOffset(clocks.steady, clocks.system)
    made.follow(free=True)
    return made


def test_a_stamp_is_the_same_moment_on_the_other_clock_to_the_microsecond(clocks, offset):
    sec, nanosec = offset.stamp(7.25)
    assert sec * 10**9 + nanosec == pytest.approx(7_250_000_000 + clocks.ahead, abs=1_000)


def test_in_motion_a_stamp_does_not_move_with_the_clock(clocks, offset):
    before = offset.stamp(7.25)
    clocks.ahead += 200_000  # 0.2 ms
    offset.follow(free=False)
    assert offset.stamp(7.25) == before
    assert offset.jumped == 0.0
    offset.follow(free=True)  # at rest it does
    assert offset.stamp(7.25) != before


@pytest.mark.parametrize("by", [2 * MS, -2 * MS, 3_600_000 * MS])
def test_a_clock_that_was_set_in_motion_is_said_until_the_arm_rests(clocks, offset, by):
    clocks.ahead += by
    for _ in range(3):
        offset.follow(free=False)
        assert offset.jumped == pytest.approx(1e-9 * by, abs=1e-6)
    assert abs(offset.jumped) > JUMP
    offset.follow(free=True)
    assert offset.jumped == 0.0


def test_a_reading_that_took_long_is_no_reading(clocks, offset):
    """The thread is put aside between the clocks: 1 ms passes with every reading."""
    clocks.step, clocks.readings = MS, 0
    clocks.ahead += 5 * MS
    offset.follow(free=False)
    assert offset.jumped == 0.0
    assert clocks.readings == 2 * ATTEMPTS


def test_without_a_quick_reading_there_is_one_at_all(clocks):
    clocks.step = MS
    made = ClockOffset(clocks.steady, clocks.system)
    assert made.stamp(7.25)[0] == pytest.approx(1_700_000_007, abs=1)
