from __future__ import annotations

import pytest

from vla_ros.errors import ContractError
from vla_ros.safety.watch.estop import DISCOVERY, MOST_BUTTONS, OVERRUN_MEMORY, EstopSignal

LEFT, RIGHT = b"left", b"right"
NAMES = {LEFT: "/left", RIGHT: "/right"}


def test_nothing_heard_and_nobody_there_is_not_pressed():
    signal = EstopSignal()
    signal.publishers([], 0.0)
    assert not signal.take(0.0)
    assert signal.missing(0.0) == ""


def test_pressed_and_released():
    signal = EstopSignal()
    signal.receive(True, 0.0)
    assert signal.take(0.1)
    assert signal.take(0.2)
    signal.receive(False, 0.3)
    assert not signal.take(0.4)


def test_false_releases_only_its_own_press():
    signal = EstopSignal()
    signal.receive(True, 0.0, LEFT)
    for i in range(50):
        signal.receive(False, 0.01 * i, RIGHT)
        assert signal.take(0.01 * i)
    signal.receive(False, 1.0, LEFT)
    assert not signal.take(1.0)


def test_a_tap_in_a_flood_is_not_lost():
    signal = EstopSignal()
    for i in range(100):
        signal.receive(i == 50, 1e-4 * i, LEFT)
    assert signal.take(0.01)
    assert not signal.take(0.02)


@pytest.mark.parametrize("heard", [False, True])
def test_a_gone_publisher_is_pressed_until_a_reset(heard):
    signal = EstopSignal()
    signal.publishers([LEFT, RIGHT], 0.0, NAMES)
    if heard:
        signal.receive(False, 0.0, LEFT)
    assert not signal.take(0.0)
    signal.publishers([RIGHT], 0.1)  # one of two is missed as well
    assert signal.take(0.1)
    assert "gone" in signal.why(0.1)
    signal.forget_gone()
    signal.publishers([RIGHT], 0.2)
    assert not signal.take(0.2)


def test_a_one_shot_press_can_be_reset():
    """`ros2 topic pub --once` presses, goes away, and never says false."""
    signal = EstopSignal()
    signal.receive(True, 0.0, LEFT)
    signal.publishers([], 0.1)  # it may have gone before it was discovered
    signal.forget_gone()
    assert signal.take(0.2)
    signal.publishers([], 0.1 + DISCOVERY)
    assert signal.take(1.2)
    signal.forget_gone()
    assert not signal.take(1.3)


def test_a_present_button_that_is_down_stays_down_through_a_reset():
    signal = EstopSignal()
    signal.receive(True, 0.0, LEFT)
    signal.publishers([LEFT], 0.1)
    signal.forget_gone()
    assert signal.take(10.0)


def test_a_silent_button_of_two_is_pressed():
    signal = EstopSignal(timeout=0.25)
    for i in range(10):
        signal.receive(False, 0.1 * i, LEFT)
        signal.receive(False, 0.1 * i, RIGHT)
    assert not signal.take(0.9)
    signal.receive(False, 1.1, RIGHT)
    assert not signal.take(1.14)
    signal.receive(False, 1.2, RIGHT)
    assert signal.take(1.2)  # left was heard last at 0.9 s
    assert "silent" in signal.why(1.2)


def test_a_button_that_never_speaks_beside_one_that_does_is_pressed():
    signal, timeout = EstopSignal(), 0.25
    signal.set_timeout(timeout)
    listed = 10.0
    for i in range(100):
        now = listed + 0.05 * i
        signal.receive(False, now, LEFT)
        signal.publishers([LEFT, RIGHT], now, NAMES)
        late = now - listed > DISCOVERY + timeout
        assert signal.take(now) is late, now
        assert signal.why(now) == ("the button of /right has been silent for more than 0.25 s" if late else "")
    signal.receive(False, now, RIGHT)
    assert not signal.take(now)


def test_a_button_that_speaks_only_when_used_may_be_silent():
    signal = EstopSignal()
    signal.publishers([LEFT, RIGHT], 0.0, NAMES)
    assert not signal.take(1e6)


def test_a_button_that_never_spoke_and_went_and_came_is_not_given_its_time_again():
    signal = EstopSignal(timeout=0.25)
    signal.publishers([LEFT, RIGHT], 0.0, NAMES)
    signal.publishers([], 2.0)
    signal.publishers([LEFT, RIGHT], 2.1, NAMES)
    assert signal.take(2.1)


def test_another_timeout_forgets_nothing():
    signal = EstopSignal()
    signal.receive(True, 0.0, LEFT)
    signal.set_timeout(0.25)
    assert signal.take(0.1)
    with pytest.raises(ContractError, match="estop_timeout is 11"):
        signal.set_timeout(11.0)
    signal.receive(False, 0.2, LEFT)
    assert signal.take(0.46)  # as before the refused one


def test_what_is_pressed_gone_or_silent_is_named():
    signal = EstopSignal(timeout=0.25)
    signal.receive(True, 0.0, LEFT)
    assert signal.why(0.0) == "a button is pressed"  # nobody knows yet whose
    signal.publishers([LEFT, RIGHT], 0.1, NAMES)
    assert signal.why(0.1) == "the button of /left is pressed"
    signal.receive(False, 0.2, LEFT)
    signal.receive(False, 0.2, RIGHT)
    assert signal.why(0.5) == "the button of /left and /right has been silent for more than 0.25 s"
    signal.publishers([LEFT], 0.5)
    assert signal.why(0.5) == "the publisher of the button of /right has gone"


def test_a_heartbeat_that_is_asked_for_must_be_there():
    signal = EstopSignal(timeout=0.25)
    signal.publishers([LEFT], 100.0)
    assert "no emergency stop has been heard" in signal.missing(100.0)
    signal.receive(False, 100.1, LEFT)
    assert signal.missing(100.2) == ""


def test_an_unhearable_publisher_is_pressed():
    signal = EstopSignal()
    signal.cannot_hear("/vla/estop is another type")
    assert signal.take(0.0)
    signal.cannot_hear("")
    assert not signal.take(0.1)


def test_more_publishers_than_can_be_told_apart_are_pressed():
    signal = EstopSignal()
    for i in range(MOST_BUTTONS + 1):
        signal.receive(False, 0.0, bytes([i]))
    assert signal.take(0.0)


@pytest.mark.parametrize("timeout", [float("nan"), float("inf"), -1.0, -1e-9, 10.1, 1e6])
def test_a_silence_that_would_never_count_is_refused(timeout):
    with pytest.raises(ContractError, match=r"estop_timeout is .* expected 0 to 10 s"):
        EstopSignal(timeout=timeout)


def test_a_queue_that_ran_over_may_have_lost_a_press():
    signal = EstopSignal()
    signal.receive(False, 0.0, LEFT)
    signal.overrun(0.0)
    assert signal.take(0.0)
    assert "lost" in signal.why(0.5)
    signal.forget_gone()
    assert signal.take(0.5)
    assert not signal.take(OVERRUN_MEMORY)
    assert signal.why(OVERRUN_MEMORY) == ""


def test_a_press_that_comes_late_counts_once_and_holds_nothing_down():
    signal = EstopSignal()
    signal.receive(False, 0.0, LEFT)
    signal.tap()
    assert signal.take(0.1)
    assert not signal.take(0.2)
