"""A joint that is measured to jump at rest is not armed where it seems to be, and one that is moved by hand is."""

from __future__ import annotations

import numpy as np
import pytest

from vla_ros.envs.mujoco.simulator import RESET_SILENCE
from vla_ros.robot.contract import load_contract
from vla_ros.safety.measurement.measured_motion import SILENCE
from vla_ros.safety.measurement.posture_jumps import BASELINE, PostureJumps
from vla_ros.safety.parameters import load_parameters
from vla_ros.safety.reasons import Reason
from vla_ros.safety_bench.plants import Lie, Plant, PlantShadow
from vla_ros.types import SafetyState

RATES = (20.0, 50.0, 100.0, 500.0)


@pytest.fixture
def shadow() -> PlantShadow:
    made = PlantShadow(load_contract("panda"), load_parameters(), Plant(lag=0.03))
    made.wait(round(1.1 * BASELINE / made.period))
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


@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize(("first", "second"), [(-0.4, 0.1), (0.5, 0.1), (0.1, -0.4), (0.1, 0.4)])
def test_a_lie_behind_one_true_state_is_not_armed(shadow, moved, first, second):
    """From one fault by way of the truth to another, each step reads as the beginning or the end of one motion."""
    if moved:
        disarmed_after_motion(shadow)
    offset(shadow, first)
    wait_for_the_controller(shadow)
    shadow.plant.lie = Lie.NONE
    shadow.tick()
    offset(shadow, second)
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


def test_a_lie_that_begins_right_after_states_that_were_not_sound_is_not_armed(shadow):
    shadow.move(40)
    shadow.supervisor.disarm(shadow.now)
    shadow.plant.lie = Lie.SPEEDLESS
    for _ in range(100):
        shadow.tick()
    shadow.plant.lie = Lie.NONE
    for _ in range(5):
        shadow.tick()
    offset(shadow, -0.05)
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
        jumps.measure(np.array([out, 0.1 * np.cos(10.0 * np.pi * now)]), 100.0 + now, now, None, arriving=False)
        assert not jumps.standing.any()


@pytest.mark.parametrize("rate", RATES)
def test_lost_and_late_states_are_no_jumps(rate):
    """States come in bunches, and some not at all, of an arm that moves at 2 rad/s."""
    rng, jumps = np.random.default_rng(0), PostureJumps(np.full(1, 0.02))
    for k in np.flatnonzero(rng.random(600) > 0.3):
        stamp = k / rate
        jumps.measure(np.array([2.0 * stamp]), stamp, stamp + rng.uniform(0.0, 0.02), None, arriving=False)
        assert not jumps.standing.any()


class Joint:
    """One joint that a driver reports `rate` times a second and reads `reads` times, with noise of `noise` rad."""

    def __init__(self, rate: float = 100.0, reads: float | None = None, noise: float = 0.0) -> None:
        self.rate, self.every = rate, round(rate / (reads or rate))
        self.jumps, self.place, self.now = PostureJumps(np.full(1, 0.02), 0.03), 0.0, 10.0
        self.commanded: np.ndarray | None = None
        self._noise, self._rng, self._count, self._read = noise, np.random.default_rng(3), 0, 0.0
        self.stay(0.5)

    def say(self, arriving: bool = False) -> None:
        self._count += 1
        self.now += 1.0 / self.rate
        if self._count % self.every == 0:
            self._read = self.place + self._noise * float(self._rng.uniform(-1.0, 1.0))
        self.jumps.measure(np.array([self._read]), self.now, self.now, self.commanded, arriving=arriving)

    def stay(self, seconds: float) -> None:
        for _ in range(max(round(seconds * self.rate), 2)):
            self.say()

    def go(self, distance: float, speed: float) -> None:
        """Move as a hand does: half a cosine, with `speed` rad/s at its fastest."""
        begin, duration = self.place, 0.5 * np.pi * abs(distance) / speed
        for t in np.arange(0.0, duration, 1.0 / self.rate):
            self.place = begin + 0.5 * distance * (1.0 - np.cos(np.pi * t / duration))
            self.say()
        self.place = begin + distance

    def lose(self, states: int) -> None:
        self.now += states / self.rate

    @property
    def jumped(self) -> bool:
        return bool(self.jumps.standing[0])


@pytest.mark.parametrize("noise", [0.0, 1e-6, 2e-3])
@pytest.mark.parametrize("rate", [20.0, 50.0, 100.0, 500.0])
def test_a_jump_stands_until_it_is_taken_back(rate, noise):
    joint = Joint(rate, noise=noise)
    for place, standing in ((0.1, True), (0.25, True), (0.1, True), (0.0, False), (-0.3, True), (0.0, False)):
        joint.place = place
        joint.stay(0.3)
        assert joint.jumped is standing, place


@pytest.mark.parametrize(("size", "lost"), [(0.09, 2), (0.3, 5), (0.9, 9), (1.9, 13)])
def test_states_that_are_lost_hide_no_jump_and_take_none_back(size, lost):
    for before, after in ((0, lost), (lost, 0), (lost, lost)):
        joint = Joint()
        joint.lose(before)
        joint.place = size
        joint.stay(0.3)
        assert joint.jumped
        joint.lose(after)
        joint.stay(0.3)
        joint.go(0.4, 2.0)
        joint.go(-0.4, 2.0)
        joint.stay(0.3)
        assert joint.jumped


@pytest.mark.parametrize("noise", [0.0, 1e-3])
@pytest.mark.parametrize("false", [0.05, 0.15, 0.4, -2.0])
@pytest.mark.parametrize("states", [1, 2, 3, 30])
def test_false_states_among_true_ones_leave_nothing_behind(noise, false, states):
    joint = Joint(noise=noise)
    joint.place = false
    for _ in range(states):
        joint.say()
    joint.place = 0.0
    joint.stay(0.3)
    assert not joint.jumped


@pytest.mark.parametrize(
    ("rate", "reads", "speed"),
    [
        (100.0, 25.0, 1.5),
        (100.0, 33.0, 2.0),
        (500.0, 50.0, 2.2),
        (1000.0, 100.0, 2.2),
        (50.0, 50.0, 4.0),
        (20.0, 20.0, 2.0),
    ],
)
def test_a_bus_that_is_read_less_often_than_published_is_no_jump(rate, reads, speed):
    joint = Joint(rate, reads)
    for distance in (0.6, -0.9, 0.3):
        joint.go(distance, speed)
        joint.stay(0.2)
        assert not joint.jumped


def test_an_arm_that_is_moved_until_it_reads_as_its_last_command_is_still_elsewhere():
    joint = Joint()
    joint.commanded = np.zeros(1)
    joint.place = 0.4
    joint.stay(0.3)
    joint.go(-0.4, 1.0)
    joint.stay(0.5)
    assert joint.jumped


@pytest.mark.parametrize("beside", [0.0, 0.027])
def test_a_jump_ends_where_the_commanded_motion_ends(beside):
    """The bus repeats its last value for 0.15 s in motion."""
    joint = Joint()
    joint.commanded = np.full(1, 0.3 - beside)
    joint.place = 0.2
    joint.stay(0.1)
    assert joint.jumped
    joint.go(0.1, 1.0)
    joint.say(arriving=True)
    assert not joint.jumped


def test_states_of_one_instant_are_judged_as_well():
    """Their stamps went back, and they were received together: one of them is false."""
    joint = Joint()
    for place in (0.0, 0.1, 0.0, 0.0):
        joint.jumps.measure(np.full(1, place), 0.0, joint.now, None, arriving=False)
    joint.stay(0.3)
    assert not joint.jumped


def test_what_comes_first_is_no_posture_yet():
    """There are drivers whose first states are zeros."""
    joint = Joint()
    joint.lose(150)
    for _ in range(3):
        joint.say()
    joint.place = 1.2
    joint.stay(0.5)
    assert not joint.jumped
    joint.place = 0.8
    joint.stay(0.3)
    assert joint.jumped


def test_a_reset_of_the_simulation_counts_as_a_silence():
    assert RESET_SILENCE > SILENCE
