"""Commands as messages: what a reader gets back is what was planned, gaps and lost messages included."""

from __future__ import annotations

import time

import numpy as np
import pytest

from vla_ros.robot.contract import load_contract
from vla_ros.ros.messages.commands import CommandClock, CommandMessages, commanded_point, commanded_rows, due
from vla_ros.ros.messages.conversions import stamp_to_seconds
from vla_ros.safety.motion.command_trajectory import lead
from vla_ros.safety.motion.joint_motion import HISTORY, JointMotion

JOINTS = load_contract("panda").joints
PERIOD = 0.01
LEAD = lead(PERIOD, 0.005)


def messages(clock=CommandClock.SYSTEM, steps=12, missed=()):
    """Return the steps of a motion and their messages; in the ticks `missed` the stop was followed and nothing sent."""
    motion, made, sent = JointMotion(JOINTS, PERIOD), [], []
    motion.schedule(time.monotonic() + 1.0)
    writer = CommandMessages(JOINTS.names, PERIOD, clock)
    for number in range(steps):
        if number in missed:
            made.append(motion.brake())
            continue
        step = motion.accept(motion.propose(0.4 * JOINTS.velocity))
        made.append(step)
        tick = step.due - LEAD
        sent.append(writer.trajectory(step, tick, tick))
    return made, sent


def test_the_step_is_the_point_that_readers_take_for_it():
    steps, sent = messages()
    for step, message in zip(steps, sent, strict=True):
        assert message.joint_names == list(JOINTS.names)
        point = commanded_point(message)
        np.testing.assert_array_equal(point.positions, step.positions)
        np.testing.assert_array_equal(point.velocities, step.velocities)
        np.testing.assert_array_equal(point.accelerations, step.accelerations)
        assert len(message.points) == HISTORY + 2 + step.stop.rows


def test_steps_are_due_a_period_apart_by_the_system_clock():
    steps, sent = messages()
    ahead = time.time() - time.monotonic()
    np.testing.assert_allclose([due(message) for message in sent], [step.due + ahead for step in steps], atol=1e-3)
    np.testing.assert_allclose(np.diff([due(message) for message in sent]), PERIOD, atol=1e-6)
    times = [point.time_from_start.sec + 1e-9 * point.time_from_start.nanosec for point in sent[-1].points]
    assert times[0] < 0.0
    assert (np.diff(times) > 0.0).all()


@pytest.mark.parametrize("missed", [(), (5,), (4, 5, 6), tuple(range(3, 11))])
def test_rows_of_ticks_that_did_not_come_are_told_by_the_messages(missed):
    steps, sent = messages(missed=missed)
    np.testing.assert_array_equal(commanded_rows(sent, PERIOD), [step.positions for step in steps])


def test_messages_that_were_not_heard_leave_no_gap():
    steps, sent = messages()
    np.testing.assert_array_equal(commanded_rows([*sent[:4], *sent[7:]], PERIOD), [step.positions for step in steps])


@pytest.mark.parametrize(("clock", "horizon"), [(CommandClock.ARRIVAL, 0.015), (CommandClock.LOCKSTEP, 0.01)])
def test_for_a_simulator_with_a_time_of_its_own_a_command_is_one_point(clock, horizon):
    steps, sent = messages(clock)
    assert all(len(message.points) == 1 for message in sent)
    point = commanded_point(sent[-1])
    np.testing.assert_array_equal(point.positions, steps[-1].positions)
    assert point.time_from_start.nanosec == round(1e9 * horizon)
    stamp = stamp_to_seconds(sent[-1].header.stamp)
    assert stamp == pytest.approx(0.0 if clock is CommandClock.ARRIVAL else steps[-1].due - LEAD, abs=1e-6)
