"""Three measurements decide where a contact holds the arm."""

from __future__ import annotations

import numpy as np
import pytest

from vla_ros.safety.measurement.held_posture import PATIENCE, VOTES, HeldPosture

HELD = np.array([0.1, 0.2, 0.3])
PERIOD = 0.01


def filled(period=PERIOD):
    """What has taken as many measurements of a held arm as decide, the last of them now."""
    held, now = HeldPosture(period), 100.0
    for _ in range(VOTES):
        now += period
        held.look(now)
        held.measure(HELD, True)
    return held, now


@pytest.mark.parametrize("count", range(VOTES))
def test_too_few_measurements_are_waited_for(count):
    held = HeldPosture(PERIOD)
    for i in range(count):
        held.look(PERIOD * i)
        held.measure(HELD, True)
    assert held.positions is None


@pytest.mark.parametrize("offset", [-0.1, 0.1])
@pytest.mark.parametrize("later", range(VOTES))
def test_one_false_measurement_has_no_effect(offset, later):
    held, _ = filled()
    held.measure(HELD + offset, False)
    for _ in range(later):
        held.measure(HELD, True)
    np.testing.assert_array_equal(held.positions, HELD)
    assert held.touching


def test_one_false_measurement_is_no_contact():
    held = HeldPosture(PERIOD)
    for touching in (False, False, True):
        held.measure(HELD, touching)
    assert not held.touching


def test_each_joint_may_be_false_once():
    held = HeldPosture(PERIOD)
    for joint in range(VOTES):
        held.measure(HELD + 0.1 * np.eye(VOTES)[joint], True)
    np.testing.assert_array_equal(held.positions, HELD)


def test_what_was_measured_before_a_silence_is_forgotten():
    held, now = filled()
    held.look(now + 0.9 * PATIENCE)
    assert held.positions is not None
    held.look(now + 2.0 * PATIENCE)
    assert held.positions is None


@pytest.mark.parametrize("period", [0.001, 0.1])
def test_at_any_rate_there_are_enough_measurements_soon(period):
    held, _ = filled(1.5 * period)  # each tick is late
    assert held.positions is not None
