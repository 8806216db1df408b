"""Arming where the measurement contradicts the last command: a frozen driver against an arm that was moved by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vla_ros.robot.contract import load_contract
from vla_ros.safety.measurement.measured_motion import SHOWN_AFTER, SILENCE, MeasuredMotion
from vla_ros.safety.motion.command_trajectory import TAIL
from vla_ros.safety.parameters import load_parameters
from vla_ros.safety.reasons import Reason
from vla_ros.safety_bench.plants import Lie, Plant, PlantShadow
from vla_ros.types import SafetyState

REACH = np.full(2, 0.02)
ALL, FIRST, SECOND = np.array([True, True]), np.array([True, False]), np.array([False, True])


def rested(place=0.1):
    """Commanded to go 0.3 rad until 10 s, and measured elsewhere, always at one place."""
    motion = MeasuredMotion(REACH, 0.3, 0.0)
    motion.restart(np.zeros(2))
    motion.command(np.array([0.3, 0.3]), 10.0)
    for tick in range(1, 40):
        motion.measure(np.array([place, place]), 10.0 + 0.01 * tick)
    return motion


def test_what_is_measured_while_the_arm_answers_is_no_motion_of_its_own():
    motion = MeasuredMotion(REACH, 0.3, 0.0)
    motion.restart(np.zeros(2))
    motion.command(np.array([0.5, 0.0]), 10.0)
    for tick in range(31):
        motion.measure(np.array([0.01 * tick, 0.0]), 10.0 + 0.01 * tick)
    assert not motion.shows(FIRST)
    for tick in range(SHOWN_AFTER):
        motion.measure(np.array([0.31, 0.0]), 10.31 + 0.01 * tick)
    assert motion.shows(FIRST)


@pytest.mark.parametrize(("place", "shown"), [(0.281, True), (0.319, True), (0.279, False), (0.321, False)])
def test_a_joint_that_was_measured_at_its_command_has_been_seen_there(place, shown):
    assert rested(place).shows(ALL) is shown


def test_a_joint_is_seen_at_the_last_command_and_at_none_before():
    """The command goes through the frozen place, and on by less than what counts as a motion."""
    motion = rested(0.281)
    motion.command(np.array([0.31, 0.31]), 11.0)
    for tick in range(50):
        motion.measure(np.array([0.281, 0.281]), 11.0 + 0.01 * tick)
    assert not motion.shows(ALL)


def test_each_joint_has_to_be_seen():
    motion, (_, now) = rested(), rested()._last
    for tick in range(SHOWN_AFTER):
        motion.measure(np.array([0.1, 0.5]), now + 0.01 * (tick + 1))
    assert motion.shows(SECOND)
    assert not motion.shows(FIRST)
    assert not motion.shows(ALL)


@pytest.mark.parametrize("false", [7.0, 0.3])
def test_false_states_among_frozen_ones_show_nothing(false):
    motion = rested()
    for _ in range(20):
        for _ in range(2):
            motion.measure(np.array([false, false]), 11.0)
        motion.measure(np.array([0.1, 0.1]), 11.0)
    assert not motion.shows(FIRST)
    assert not motion.shows(SECOND)


@pytest.mark.parametrize(("near", "far", "shown"), [(0.25, 0.9, True), (0.25, 0.235, False), (0.1, 0.1, False)])
def test_a_joint_that_goes_away_while_the_arm_answers_has_been_seen_to_leave(near, far, shown):
    """As where the arm is put elsewhere, by a simulator for one, before it has come to rest."""
    motion = MeasuredMotion(REACH, 0.3, 0.0)
    motion.restart(np.zeros(2))
    motion.command(np.array([0.3, 0.3]), 10.0)
    for tick in range(40):
        place = near if tick < 10 else far
        motion.measure(np.array([place, place]), 10.0 + 0.005 * tick)
    for tick in range(200):
        motion.measure(np.array([far, far]), 10.2 + 0.005 * tick)
    assert motion.shows(ALL) is shown


def test_after_a_silence_one_joint_shows_that_the_driver_has_not_frozen():
    """It repeats the whole posture or none: an arm that was stopped early is where it was in some joints."""
    motion = MeasuredMotion(REACH, 9.0, 0.0)
    motion.restart(np.zeros(2))
    motion.command(np.array([0.3, 0.3]), 10.0)
    motion.measure(np.array([0.1, 0.05]), 10.0)
    for tick in range(SHOWN_AFTER):
        assert not motion.shows(SECOND)
        motion.measure(np.array([0.0, 0.05]), 11.0 + 0.01 * tick)
    assert motion.shows(ALL)


@pytest.mark.parametrize(
    ("silence", "place", "shown"),
    [(0.21, 0.5, True), (0.19, 0.5, False), (5.0, 0.1, False)],
    ids=["new", "short", "same"],
)
def test_a_driver_that_says_something_else_after_a_silence_was_started_again(silence, place, shown):
    motion = MeasuredMotion(REACH, 9.0, 0.0)
    motion.restart(np.zeros(2))
    motion.command(np.array([0.3, 0.3]), 10.0)
    for tick in range(10):
        motion.measure(np.array([0.1, 0.1]), 10.0 + 0.01 * tick)
    for tick in range(SHOWN_AFTER):
        assert not motion.shows(ALL)
        motion.measure(np.array([place, place]), 10.09 + silence + 0.01 * tick)
    assert motion.shows(ALL) is shown
    motion.command(np.array([0.4, 0.4]), 11.0)
    assert not motion.shows(ALL)


@pytest.mark.parametrize(("place", "shown"), [(0.5, True), (0.1, False)])
def test_what_comes_after_an_interruption_is_like_what_comes_after_a_silence(place, shown):
    motion = MeasuredMotion(REACH, 9.0, 0.0)
    motion.restart(np.zeros(2))
    motion.command(np.array([0.3, 0.3]), 10.0)
    motion.measure(np.array([0.1, 0.1]), 10.0)
    motion.interrupt()
    for tick in range(SHOWN_AFTER):
        motion.measure(np.array([place, place]), 10.01 + 0.01 * tick)
    assert motion.shows(ALL) is shown


def test_a_joint_that_moved_and_came_back_has_moved():
    motion = rested()
    for place in (0.12, 0.13, 0.12, 0.1):
        motion.measure(np.array([place, 0.1]), 11.0)
    assert motion.shows(FIRST)


@pytest.mark.parametrize(("way", "shown"), [(0.019, True), (0.021, False)])
def test_only_a_new_motion_makes_forget_what_was_shown(way, shown):
    motion = rested()
    for _ in range(SHOWN_AFTER):
        motion.measure(np.array([0.6, 0.6]), 11.0)
    motion.command(np.array([0.3 + way, 0.3]), 11.1)
    assert motion.shows(FIRST) is shown


def test_an_armed_arm_is_where_it_was_armed():
    motion = rested()
    assert not motion.shows(ALL)
    motion.restart(np.array([0.1, 0.1]))
    motion.command(np.array([0.1, 0.1]), 11.0)
    assert motion.shows(ALL)
    motion.command(np.array([0.3, 0.1]), 11.1)
    assert not motion.shows(ALL)


# The whole layer.


@pytest.fixture(params=[(0.0, 0), (0.06, 4)], ids=["ideal", "lagging"])
def shadow(request, contract, parameters):
    return PlantShadow(contract, parameters, Plant(*request.param))


def wait_for_the_controller(shadow):
    """Let states come until the controller has let go of the last command, and the arm counts as at rest."""
    shadow.tick()
    shadow.wait(round((TAIL + shadow.contract.controllers.command_timeout) / shadow.period) + 3)


def frozen_in_motion(shadow):
    """The driver freezes in motion, the layer finds out and brakes; returns the last command.

    The arm is given up, or disarmed by hand where it has gone on for less than the tracking tolerance.
    """
    shadow.move(40)
    shadow.plant.lie = Lie.FROZEN
    for _ in range(100):
        shadow.tick()
    shadow.supervisor.disarm(shadow.now)
    while shadow.supervisor.commanding:
        shadow.tick()
    assert shadow.supervisor.state is SafetyState.DISARMED
    last = shadow.commands[-1]
    assert (np.abs(shadow.state().joint_positions - last) > shadow.contract.joints.velocity * shadow.period).any()
    return last


def test_a_driver_that_froze_in_motion_is_not_armed(shadow):
    last = frozen_in_motion(shadow)
    for _ in range(3):
        wait_for_the_controller(shadow)
        assert shadow.supervisor.arm(shadow.now) is Reason.POSTURE_UNSEEN
    shadow.plant.lie = Lie.NONE
    wait_for_the_controller(shadow)
    assert shadow.supervisor.arm(shadow.now) is Reason.OK
    np.testing.assert_array_equal(shadow.tick().joint_positions, last)


def test_a_driver_that_froze_in_motion_and_tells_one_lie_is_not_armed(shadow):
    frozen_in_motion(shadow)
    for _ in range(3):
        shadow.pass_time()
        lie = shadow.state(positions=shadow.state().joint_positions + 0.5)
        for _ in range(SHOWN_AFTER):  # the same one again, and it counts once
            shadow.sense(lie)
        wait_for_the_controller(shadow)
        assert shadow.supervisor.arm(shadow.now) is Reason.POSTURE_UNSEEN


def test_where_a_driver_froze_in_a_stop_the_arm_is_not_commanded_back(shadow):
    """It freezes when the last command stands; an arm that lags has 0.06 s of its way before it."""
    shadow.move(60)
    shadow.supervisor.disarm(shadow.now)
    while not shadow.supervisor.resting:
        shadow.tick()
    shadow.plant.lie = Lie.FROZEN
    while shadow.supervisor.commanding:
        shadow.tick()
    last = shadow.commands[-1]
    wait_for_the_controller(shadow)
    away = np.abs(shadow.state().joint_positions - last) > shadow.parameters.motion.follow_tolerance
    assert shadow.supervisor.arm(shadow.now) is (Reason.POSTURE_UNSEEN if away.any() else Reason.OK)
    if not away.any():
        np.testing.assert_array_equal(shadow.tick().joint_positions, last)


def test_a_frozen_driver_that_wakes_up_at_a_guided_arm_arms_it_there(shadow):
    last = frozen_in_motion(shadow)
    shadow.plant.lie = Lie.NONE
    for _ in range(30):
        shadow.plant.q = shadow.plant.q + 0.02
        shadow.plant.velocities = np.zeros_like(last)
        shadow.q = shadow.plant.q
        shadow.wait(1)
    shadow.wait(round((TAIL + shadow.contract.controllers.command_timeout) / shadow.period) + 3)
    guided = shadow.q.copy()
    assert np.abs(guided - last).min() > 0.05
    assert shadow.supervisor.arm(shadow.now) is Reason.OK
    np.testing.assert_array_equal(shadow.tick().joint_positions, guided)


def test_an_arm_that_was_put_elsewhere_right_after_its_stop_is_armed_there(shadow):
    """A simulator does so when its scene is reset, and says nothing for a while then."""
    shadow.move(40)
    shadow.supervisor.disarm(shadow.now)
    while shadow.supervisor.commanding:
        shadow.tick()
    for _ in range(22):  # the lagging one arrives
        shadow.tick()
    shadow.plant.place(shadow.contract.joints.home)
    shadow.plant.velocities = np.zeros(shadow.contract.joints.count)
    shadow.q = shadow.plant.q
    shadow.now += 1.1 * SILENCE
    shadow.wait(round((TAIL + shadow.contract.controllers.command_timeout) / shadow.period) + 3)
    assert shadow.supervisor.arm(shadow.now) is Reason.OK
    np.testing.assert_array_equal(shadow.tick().joint_positions, shadow.contract.joints.home)


def test_an_arm_that_is_guided_on_right_after_its_arming_is_armed_there(shadow):
    shadow.start()
    for _ in range(2):
        shadow.supervisor.disarm(shadow.now)
        while shadow.supervisor.commanding:
            shadow.tick()
        for _ in range(20):
            shadow.plant.place(shadow.plant.q + 0.01)
            shadow.q = shadow.plant.q
            shadow.wait(1)
        shadow.wait(round((TAIL + shadow.contract.controllers.command_timeout) / shadow.period) + 3)
        guided = shadow.q.copy()
        assert shadow.supervisor.arm(shadow.now) is Reason.OK
        np.testing.assert_array_equal(shadow.tick().joint_positions, guided)


@pytest.mark.parametrize("rate_hz", [100.0, 500.0, 1000.0])
def test_an_arm_that_stops_short_by_its_position_error_is_armed_where_it_was_commanded(contract, parameters, rate_hz):
    """Gravity and friction leave 10 mrad, and the encoder has steps of 1.5 mrad: it reads the same again and again."""
    timing = replace(parameters.timing, rate_hz=rate_hz, tick_budget=min(parameters.timing.tick_budget, 0.5 / rate_hz))
    shadow = PlantShadow(contract, replace(parameters, timing=timing), Plant())
    shadow.move(round(0.4 * rate_hz))
    error = np.where(np.arange(contract.joints.count) % 2, 0.010, -0.010)

    def measured():
        return shadow.state(positions=np.round((shadow.plant.q + error) / 1.5e-3) * 1.5e-3)

    shadow.supervisor.disarm(shadow.now)
    while shadow.supervisor.commanding:
        shadow.tick()
    last = shadow.commands[-1]
    for _ in range(round((TAIL + contract.controllers.command_timeout + 0.3) * rate_hz)):
        shadow.sense(measured())
        shadow.pass_time()
    shadow.sense(measured())
    assert shadow.supervisor.arm(shadow.now) is Reason.OK
    np.testing.assert_array_equal(shadow.supervisor.tick(shadow.now).joint_positions, last)


class Sagging(Plant):
    """One joint stands beside its command, by an encoder of 12 bits without noise."""

    beside, joint = 0.0, 1

    def report(self):
        positions, velocities = super().report()
        positions = positions.copy()
        positions[self.joint] += self.beside
        quantum = 2.0 * np.pi / 4096
        return np.round(positions / quantum) * quantum, velocities


@pytest.mark.parametrize("beside", [0.012, 0.024, 0.028])
@pytest.mark.parametrize("robot", ["so101", "panda"])
def test_an_arm_that_rests_beside_its_command_is_armed_again(robot, beside):
    plant = Sagging()
    shadow = PlantShadow(load_contract(robot), load_parameters(), plant)
    plant.beside = beside
    shadow.move(60)
    shadow.supervisor.disarm(shadow.now)
    for _ in range(160):
        shadow.tick()
    last = shadow.commands[-1]
    assert shadow.supervisor.arm(shadow.now) is Reason.OK
    np.testing.assert_array_equal(shadow.tick().joint_positions, last)
    shadow.supervisor.disarm(shadow.now)
    for _ in range(160):
        shadow.tick()
    plant.beside += 0.015  # moved by hand, a little
    for _ in range(160):
        shadow.tick()
    assert shadow.supervisor.arm(shadow.now) is Reason.OK


@pytest.mark.parametrize("lag", [0.0, 0.08])
def test_after_a_gap_in_motion_arming_begins_where_the_stop_ended(lag):
    shadow = PlantShadow(load_contract("panda"), load_parameters(), Plant(lag=lag))
    shadow.move(40)
    last = shadow.commands[-1]
    shadow.supervisor.let_go()
    shadow.now += 2.0
    shadow.coast()
    end = shadow.commands[-1]
    assert np.abs(end - last).max() > 1e-3
    for _ in range(40):
        shadow.tick()
    assert shadow.supervisor.arm(shadow.now) is Reason.OK
    np.testing.assert_allclose(shadow.tick().joint_positions, end, rtol=0.0, atol=1e-9)


def test_after_a_silence_the_joints_of_one_arm_say_nothing_of_the_driver_of_another():
    motion = MeasuredMotion(REACH, 9.0, 0.0, np.array([0, 1]))
    motion.restart(np.zeros(2))
    motion.command(np.array([0.3, 0.3]), 10.0)
    motion.measure(np.array([0.1, 0.05]), 10.0)
    for tick in range(SHOWN_AFTER):
        motion.measure(np.array([0.0, 0.05]), 11.0 + 0.01 * tick)
    assert motion.shows(FIRST) and not motion.shows(SECOND)
