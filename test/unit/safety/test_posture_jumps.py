"""A joint that is measured to jump at rest is not armed where it seems to be, and one that is moved by hand is."""

from __future__ import annotations

import numpy as np
import pytest

from vla_ros.evaluation.plants import Lie, Plant, PlantShadow
from vla_ros.robot.contract import load_contract
from vla_ros.safety.measured_motion import SILENCE
from vla_ros.safety.parameters import load_parameters
from vla_ros.safety.posture_jumps import PostureJumps
from vla_ros.safety.reasons import Reason
from vla_ros.sim.simulator import RESET_SILENCE
from vla_ros.types import SafetyState

RATES = (20.0, 50.0, 100.0, 500.0)


@pytest.fixture
def shadow() -> PlantShadow:
    made = PlantShadow(load_contract("panda"), load_parameters(), Plant(lag=0.03))
    made.wait(made.parameters.timing.resume_states + 1)
    return made


def wait_for_the_controller(shadow: PlantShadow) -> None:
    for _ in range(round(shadow.contract.controllers.command_timeout / shadow.period) + 40):
        shadow.tick()


def disarmed_after_motion(shadow: PlantShadow) -> np.ndarray:
    """Move, disarm; returns the last command, (n,) rad."""
    shadow.move(40)
    shadow.supervisor.disarm(shadow.now)
    while shadow.supervisor.commanding:
        shadow.tick()
    wait_for_the_controller(shadow)
    assert shadow.supervisor.state is SafetyState.DISARMED
    return shadow.commands[-1]


def offset(shadow: PlantShadow, size: float) -> None:
    shadow.plant.offset = np.zeros(len(shadow.q))
    shadow.plant.offset[1] = size
    shadow.plant.lie = Lie.OFFSET


def swapped(shadow: PlantShadow, _: float) -> None:
    shadow.plant.lie = Lie.SWAPPED


@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize(("lie", "size"), [(offset, 0.05), (offset, -0.4), (offset, 2.0), (swapped, 0.0)])
def test_a_lie_that_begins_at_rest_is_not_armed_until_it_ends(shadow, moved, lie, size):
    if moved:
        disarmed_after_motion(shadow)
    truth = shadow.q.copy()
    lie(shadow, size)
    for _ in range(3):
        wait_for_the_controller(shadow)
        assert shadow.supervisor.arm(shadow.now) is Reason.POSTURE_JUMPED
    shadow.plant.lie = Lie.NONE
    wait_for_the_controller(shadow)
    assert shadow.supervisor.arm(shadow.now) is Reason.OK
    np.testing.assert_allclose(shadow.tick().joint_positions, truth, atol=1e-6)


def test_a_lie_that_becomes_another_one_is_not_armed(shadow):
    offset(shadow, 0.4)
    wait_for_the_controller(shadow)
    offset(shadow, -0.4)
    wait_for_the_controller(shadow)
    assert shadow.supervisor.arm(shadow.now) is Reason.POSTURE_JUMPED


def test_a_lie_that_begins_among_states_that_are_not_sound_is_not_armed(shadow):
    shadow.move(40)
    shadow.supervisor.disarm(shadow.now)
    shadow.plant.lie = Lie.SPEEDLESS
    for _ in range(60):
        shadow.tick()
    offset(shadow, 0.05)
    wait_for_the_controller(shadow)
    assert shadow.supervisor.arm(shadow.now) is Reason.POSTURE_JUMPED


def test_a_driver_that_was_silent_is_believed(shadow):
    """It was started again, as far as anybody can know; so it is where the safety node is activated again."""
    offset(shadow, 0.4)
    wait_for_the_controller(shadow)
    assert shadow.supervisor.arm(shadow.now) is Reason.POSTURE_JUMPED
    shadow.supervisor.restart_measuring()
    wait_for_the_controller(shadow)
    assert shadow.supervisor.arm(shadow.now) is Reason.OK


def test_a_lie_that_ends_in_motion_at_the_last_command_is_forgotten(shadow):
    """A frozen driver that wakes up jumps as well, and then measures the arm where it was commanded to."""
    shadow.move(40)
    shadow.plant.lie = Lie.FROZEN
    for _ in range(60):
        shadow.tick()
    shadow.supervisor.disarm(shadow.now)
    while shadow.supervisor.commanding:
        shadow.tick()
    shadow.plant.lie = Lie.NONE
    wait_for_the_controller(shadow)
    assert shadow.supervisor.arm(shadow.now) is Reason.OK


@pytest.mark.parametrize("rate", RATES)
def test_what_a_hand_can_do_is_no_jump(rate):
    """0.7 rad out and back within a second, as fast as 4.4 rad/s, and a shaking of 0.1 rad five times a second."""
    jumps, times = PostureJumps(np.full(2, 0.02)), np.arange(0.0, 3.0, 1.0 / rate)
    for now in times:
        out = 0.35 * (1.0 - np.cos(4.0 * np.pi * min(now, 1.0)))
        jumps.measure(np.array([out, 0.1 * np.cos(10.0 * np.pi * now)]), 100.0 + now, now, None)
        assert not jumps.standing.any()


@pytest.mark.parametrize("rate", RATES)
def test_lost_and_late_states_are_no_jumps(rate):
    """States come in bunches, and some not at all, of an arm that moves at 2 rad/s."""
    rng, jumps = np.random.default_rng(0), PostureJumps(np.full(1, 0.02))
    for k in np.flatnonzero(rng.random(600) > 0.3):
        stamp = k / rate
        jumps.measure(np.array([2.0 * stamp]), stamp, stamp + rng.uniform(0.0, 0.02), None)
        assert not jumps.standing.any()


@pytest.mark.parametrize("rate", [50.0, 100.0, 500.0])
def test_a_jump_stands_until_it_is_taken_back(rate):
    jumps = PostureJumps(np.full(3, 0.02))
    now = 0.0
    for place, standing in (
        (0.0, False),
        (0.1, True),
        (0.2, True),
        (0.08, True),
        (0.0, False),
        (-0.3, True),
        (0.0, False),
    ):
        for _ in range(5):
            jumps.measure(np.array([0.0, place, 1.0]), now, now, None)
            now += 1.0 / rate
        assert jumps.standing.tolist() == [False, standing, False]


def test_a_reset_of_the_simulation_counts_as_a_silence():
    assert RESET_SILENCE > SILENCE
