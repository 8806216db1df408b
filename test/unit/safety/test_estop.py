import pytest

from vla_ros.errors import ContractError
from vla_ros.safety.estop import EstopSignal


def test_nothing_heard_and_nobody_there_is_not_pressed():
    signal = EstopSignal()
    signal.publishers(0)
    assert not signal.take(0.0)


def test_pressed_and_released():
    signal = EstopSignal()
    signal.receive(True, 0.0)
    assert signal.take(0.1)
    assert signal.take(0.2)
    signal.receive(False, 0.3)
    assert not signal.take(0.4)


def test_a_tap_between_two_ticks_is_not_lost():
    signal = EstopSignal()
    signal.receive(True, 0.001)
    signal.receive(False, 0.002)
    assert signal.take(0.01)
    assert not signal.take(0.02)


@pytest.mark.parametrize("heard", [False, True])
def test_a_publisher_that_is_lost_is_pressed_until_it_is_back(heard):
    signal = EstopSignal()
    if heard:
        signal.receive(False, 0.0)
    else:
        signal.publishers(1)
    assert not signal.take(0.0)
    signal.publishers(0)
    assert signal.take(0.1)
    signal.publishers(1)
    assert not signal.take(0.2)


def test_a_button_that_speaks_and_falls_silent_is_pressed():
    signal = EstopSignal(timeout=0.5)
    assert not signal.take(100.0)
    signal.receive(False, 100.0)
    assert not signal.take(100.5)
    assert signal.take(100.6)
    signal.receive(False, 100.7)
    assert not signal.take(100.8)


@pytest.mark.parametrize("timeout", [float("nan"), float("inf"), -1.0, -1e-9, 10.1, 1e6])
def test_a_silence_that_would_never_count_is_refused(timeout):
    with pytest.raises(ContractError, match=r"estop_timeout is .* expected 0 to 10 s"):
        EstopSignal(timeout=timeout)
