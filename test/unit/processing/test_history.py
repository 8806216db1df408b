"""Frames that are seen at once: one period apart, the first repeated, the same live as in training, and few kept."""

import numpy as np
import pytest

from vla_ros.processing.history import FrameHistory, past_steps


def test_steps_that_are_seen_lie_a_period_apart():
    np.testing.assert_array_equal(
        past_steps([0.0, 0.1, 0.2, 0.3], 3, 0.1), [[0, 0, 0], [0, 0, 1], [0, 1, 2], [1, 2, 3]]
    )
    faster = past_steps([k / 30.0 for k in range(9)], 3, 0.1)
    np.testing.assert_array_equal(faster[[0, 4, 8]], [[0, 0, 0], [0, 1, 4], [2, 5, 8]])
    np.testing.assert_array_equal(past_steps([0.0, 0.1, 0.2], 1, 0.1), [[0], [1], [2]])


@pytest.mark.parametrize("jitter", [0.0, 0.03])
def test_history_sees_what_training_saw(jitter):
    stamps = 5.0 + 0.1 * np.arange(12) + np.random.default_rng(0).uniform(-jitter, jitter, 12)
    history = FrameHistory(4, 0.1)
    seen = [history.add(stamp, step) for step, stamp in enumerate(stamps.tolist())]
    np.testing.assert_array_equal(seen, past_steps(stamps.tolist(), 4, 0.1))


def test_history_keeps_few_frames_that_come_fast():
    history = FrameHistory(3, 0.1)
    for step in range(200):
        frames = history.add(0.01 * step, 0.01 * step)
        assert len(history._frames) <= 7
    np.testing.assert_allclose(frames, [1.79, 1.89, 1.99], atol=0.05)


def test_history_begins_anew():
    history = FrameHistory(3, 0.1)
    for step in range(5):
        history.add(0.1 * step, step)
    assert history.peek(0.5, 5) == [3, 4, 5] and history.peek(0.4, 7) == [2, 3, 7]
    assert history.add(0.1, 9) == [9, 9, 9]  # the clock was set back
    history.add(0.2, 10)
    assert history.add(5.0, 11) == [11, 11, 11]  # nothing is known of the time between
    history.clear()
    assert history.add(5.1, 12) == [12, 12, 12]
