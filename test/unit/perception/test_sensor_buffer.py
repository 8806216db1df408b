"""Stamps in a buffer rise strictly, whatever the sensor's clock does."""

from __future__ import annotations

import math
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from vla_ros.perception.sensor_buffer import BACKWARD_RESTART, SensorBuffer, Stamped


def stamps(buffer: SensorBuffer[int]) -> list[float]:
    return [item.stamp for item in buffer.items]


def test_late_repeated_and_invalid_items_are_dropped_and_counted() -> None:
    buffer: SensorBuffer[int] = SensorBuffer(4)
    for stamp in (1.0, 2.0, 1.5, 2.0, math.nan, 3.0):
        assert not buffer.add(Stamped(stamp, 0))
    assert stamps(buffer) == [1.0, 2.0, 3.0]
    assert buffer.dropped == 3


def test_the_oldest_give_way() -> None:
    buffer: SensorBuffer[int] = SensorBuffer(2)
    for stamp in (1.0, 2.0, 3.0):
        buffer.add(Stamped(stamp, 0))
    assert stamps(buffer) == [2.0, 3.0]


def test_a_clock_that_was_set_back_is_followed_after_a_few_items() -> None:
    buffer: SensorBuffer[int] = SensorBuffer(4)
    buffer.add(Stamped(3600.0, 0))
    voids = [buffer.add(Stamped(0.1 * count, 0)) for count in range(BACKWARD_RESTART + 1)]
    assert voids == [False] * (BACKWARD_RESTART - 1) + [True, False]
    assert stamps(buffer) == [0.1 * (BACKWARD_RESTART - 1), 0.1 * BACKWARD_RESTART]


def test_late_items_among_good_ones_do_not_add_up_to_a_jump() -> None:
    buffer: SensorBuffer[int] = SensorBuffer(4)
    for count in range(3 * BACKWARD_RESTART):
        assert not buffer.add(Stamped(float(count), 0))
        assert not buffer.add(Stamped(count - 0.5, 0))


def test_a_paused_clock_is_no_jump() -> None:
    buffer: SensorBuffer[int] = SensorBuffer(4)
    assert not any(buffer.add(Stamped(7.0, 0)) for _ in range(10 * BACKWARD_RESTART))
    assert stamps(buffer) == [7.0]


def test_nearest() -> None:
    buffer: SensorBuffer[str] = SensorBuffer(4)
    for stamp, value in ((1.0, "a"), (2.0, "b"), (3.0, "c")):
        buffer.add(Stamped(stamp, value))
    assert buffer.nearest(2.4).value == "b"
    assert buffer.nearest(2.6).value == "c"
    assert buffer.nearest(-9.0).value == "a"


@given(st.lists(st.floats(), max_size=100), st.integers(1, 8))
def test_whatever_comes_stamps_rise_and_memory_is_bounded(incoming: list[float], kept: int) -> None:
    buffer: SensorBuffer[int] = SensorBuffer(kept)
    for stamp in incoming:
        buffer.add(Stamped(stamp, 0))
        assert len(buffer.items) <= kept
        assert all(earlier < later for earlier, later in pairwise(stamps(buffer)))
