"""The form of a command: rows on one grid of time, those before the stamp included, with the known stop behind them."""

from __future__ import annotations

import numpy as np
import pytest

from vla_ros.robot.contract import load_contract
from vla_ros.safety.motion.command_trajectory import (
    CYCLE,
    TAIL,
    TRANSPORT,
    command_trajectory,
    lead,
)
from vla_ros.safety.motion.joint_motion import HISTORY, JointMotion

JOINTS = load_contract("panda").joints
FR3 = load_contract("fr3").joints


def moving(joints=JOINTS, period=0.01, steps=12):
    motion = JointMotion(joints, period)
    motion.schedule(2.0)
    made = [motion.current]
    for _ in range(steps):
        made.append(motion.accept(motion.propose(0.4 * joints.velocity)))
    return motion, made


@pytest.mark.parametrize("late", [0.0, 3e-4, 0.0049])
def test_rows_are_at_their_times_whenever_it_is_published(late):
    _, steps = moving()
    step = steps[-1]
    sent = command_trajectory(step, 0.01, step.due - lead(0.01, 0.005) + late)
    absolute = sent.stamp + sent.times
    np.testing.assert_allclose(absolute[: HISTORY + 1], [one.due for one in steps[-HISTORY - 1 :]], atol=1e-9)
    np.testing.assert_array_equal(sent.positions[: HISTORY + 1], [one.positions for one in steps[-HISTORY - 1 :]])
    assert sent.step == HISTORY
    rows = step.stop.rows
    np.testing.assert_array_equal(sent.positions[HISTORY + 1 : -1], step.stop.positions)
    np.testing.assert_array_equal(sent.velocities[HISTORY + 1 : -1], step.stop.velocities)
    np.testing.assert_array_equal(sent.accelerations[HISTORY + 1 : -1], step.stop.accelerations)
    np.testing.assert_allclose(absolute[HISTORY + 1 : -1], step.due + 0.01 * np.arange(1, rows + 1), atol=1e-9)
    np.testing.assert_array_equal(sent.positions[-1], step.stop.positions[-1])
    assert not sent.velocities[-1].any() and not sent.accelerations[-1].any()
    assert sent.times[-1] - sent.times[-2] == pytest.approx(TAIL)
    assert (np.diff(sent.times) > 0.0).all()


@pytest.mark.parametrize(("late", "ahead"), [(0.0, 0.006), (3e-4, 0.0057), (0.002, 0.004), (0.0049, CYCLE + TRANSPORT)])
def test_the_stamp_is_a_cycle_before_the_rows_part_or_as_soon_as_possible(late, ahead):
    """The rows part 8 ms after the tick; a controller that waits for the stamp begins in the cycle after it."""
    _, steps = moving()
    published = steps[-1].due - lead(0.01, 0.005) + late
    sent = command_trajectory(steps[-1], 0.01, published)
    assert sent.stamp - published == pytest.approx(ahead)
    assert sent.times[0] < 0.0


@pytest.mark.parametrize("late", [0.006, 0.03])
def test_a_late_row_of_the_known_stop_still_has_a_stamp_to_come(late):
    motion, _ = moving()
    step = motion.brake()
    published = step.due - lead(0.01, 0.005) + late
    sent = command_trajectory(step, 0.01, published)
    assert sent.stamp == pytest.approx(published + CYCLE + TRANSPORT)
    np.testing.assert_allclose(sent.stamp + sent.times[sent.step], step.due, atol=1e-9)


def test_a_trajectory_that_may_still_wait_is_begun_when_it_was_to_begin():
    """The next tick comes 4 ms early: a controller that waits for the stamp of the last one forgets it."""
    motion, _ = moving()
    first = motion.current
    begun = command_trajectory(first, 0.01, first.due - lead(0.01, 0.005) + 0.004)
    step = motion.brake()
    published = begun.stamp - 0.002
    assert command_trajectory(step, 0.01, published).stamp > begun.stamp + 0.005
    sent = command_trajectory(step, 0.01, published, begun.stamp)
    assert sent.stamp == begun.stamp
    np.testing.assert_allclose(sent.stamp + sent.times[sent.step], step.due, atol=1e-9)
    assert (
        command_trajectory(step, 0.01, published, begun.stamp + 0.5).stamp
        == command_trajectory(step, 0.01, published).stamp
    )
    late = begun.stamp + CYCLE  # the controller's next update may be still to come: it begins on arrival
    assert command_trajectory(step, 0.01, late, begun.stamp).stamp == begun.stamp
    late += 0.001
    assert command_trajectory(step, 0.01, late, begun.stamp).stamp == command_trajectory(step, 0.01, late).stamp


def test_while_braking_what_has_been_braked_is_past_and_the_rest_is_ahead():
    motion, _ = moving()
    motion.brake()
    step = motion.brake()
    sent = command_trajectory(step, 0.01, step.due - 0.018)
    np.testing.assert_array_equal(sent.positions[HISTORY + 1 : -1], step.stop.positions[2:])
    np.testing.assert_array_equal(sent.positions[HISTORY - 1 : HISTORY + 1], step.stop.positions[:2])


def test_the_longest_stop_of_a_fast_clock_is_a_message_of_bounded_size():
    """FR3, second joint, 1 kHz: 1664 rows of stop; every one of the first 20 ms, then one every 10 ms, and the last."""
    motion = JointMotion(FR3, 1e-3)
    wish = np.zeros(7)
    wish[1] = FR3.velocity[1]
    while motion.current.velocities[1] < wish[1] - 1e-6:
        motion.accept(motion.propose(wish))
    sent = command_trajectory(motion.current, 1e-3, 0.0)
    rows = motion.current.stop.rows
    assert rows > 1600
    assert len(sent.times) <= HISTORY + 1 + 20 + (rows - 20) // 10 + 3
    np.testing.assert_array_equal(sent.positions[-2], motion.current.stop.positions[-1])
    assert not sent.velocities[-2].any()
    gaps = np.diff(sent.times[:-1])
    assert gaps.max() == pytest.approx(0.01)
    np.testing.assert_allclose(gaps[: HISTORY + 20], 1e-3, atol=1e-12)


def test_an_arm_at_rest_is_told_to_stay():
    motion = JointMotion(JOINTS, 0.01)
    motion.schedule(2.0)
    step = motion.brake()
    sent = command_trajectory(step, 0.01, step.due - 0.018)
    assert len(sent.times) == HISTORY + 3
    np.testing.assert_array_equal(sent.positions, np.tile(JOINTS.home, (HISTORY + 3, 1)))
    assert not sent.velocities.any()
