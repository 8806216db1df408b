from __future__ import annotations

import numpy as np
import pytest

from vla_ros.robot.joint_states.velocity_estimate import BACKWARD_RESTART, LONGEST_GAP, WINDOW, VelocityEstimator

SLOPES = np.array([0.5, -2.0, 0.0])


def fed(times, positions=lambda t: SLOPES * t):
    estimator = VelocityEstimator()
    return estimator, [estimator.update(positions(t), t) for t in times]


@pytest.mark.parametrize("rate", [4.5, 10.0, 30.0, 100.0, 1000.0])
def test_constant_motion_has_its_velocity(rate):
    _, velocities = fed(50.0 + np.arange(200) / rate)
    np.testing.assert_allclose(velocities[-1], SLOPES, atol=1e-9)
    unknown = next(i for i, one in enumerate(velocities) if one is not None)
    assert 0.0 <= unknown - max(1.0, 0.5 * WINDOW * rate) <= 1.0 + 1e-9
    assert all(one is not None for one in velocities[unknown:])


@pytest.mark.parametrize("rate", [10.0, 100.0, 1000.0])
def test_the_latency_is_half_of_the_window_or_of_the_interval(rate):
    _, velocities = fed(np.arange(300) / rate, positions=lambda t: np.array([0.5 * t**2]))  # q' = t
    lag = 299 / rate - float(velocities[-1][0])
    assert lag == pytest.approx(0.5 * max(WINDOW, 1.0 / rate), rel=0.2)


def test_an_encoder_step_is_no_jump_of_the_velocity():
    step = 1e-4
    _, velocities = fed(np.arange(1000) * 1e-3, positions=lambda t: np.array([step * np.floor(t / 0.0333)]))
    known = np.array([one[0] for one in velocities if one is not None])
    assert np.abs(known).max() <= 2.1 * step / WINDOW


def test_after_a_gap_the_velocity_is_not_known():
    estimator, _ = fed(np.arange(50) * 0.01)
    assert estimator.update(SLOPES * 9.0, 0.49 + 1.1 * LONGEST_GAP) is None
    later = 0.49 + 1.1 * LONGEST_GAP + 0.05
    np.testing.assert_allclose(estimator.update(SLOPES * 9.0 + 0.05, later), 1.0)


def test_a_clock_that_jumps_ahead_is_a_gap():
    estimator, _ = fed(np.arange(50) * 0.01)
    assert estimator.update(SLOPES, 3600.0) is None


def test_a_state_that_is_late_or_comes_twice_changes_nothing():
    estimator, velocities = fed(np.arange(50) * 0.01)
    for stamp in (0.49, 0.30, 0.49):
        np.testing.assert_array_equal(estimator.update(np.full(3, 7.0), stamp), velocities[-1])
    np.testing.assert_allclose(estimator.update(SLOPES * 0.5, 0.5), SLOPES, atol=1e-9)


def test_a_clock_that_was_set_back_begins_anew():
    estimator, _ = fed(100.0 + np.arange(50) * 0.01)
    answers = [estimator.update(SLOPES * 0.01 * i + 1.0, 5.0 + 0.01 * i) for i in range(BACKWARD_RESTART + 10)]
    assert answers[BACKWARD_RESTART - 1] is None
    np.testing.assert_allclose(answers[-1], SLOPES, atol=1e-9)


def test_memory_does_not_grow_with_the_rate():
    estimator, _ = fed(np.arange(20_000) * 1e-4)
    assert len(estimator._samples) < 20
