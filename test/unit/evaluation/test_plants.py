"""Whether the first posture after a silence was the true one decides which constant faults a safety layer can know."""

from __future__ import annotations

import numpy as np
import pytest

from vla_ros.robot.contract import load_contract
from vla_ros.safety.parameters import load_parameters
from vla_ros.safety_bench.plants import FirstPosture, Lie, Plant, PlantShadow

PERIOD = 0.01


def receive(first: FirstPosture, lie: Lie, seconds: float, now: float) -> float:
    """Report `lie` for a time; returns the time after it, s."""
    for _ in range(round(seconds / PERIOD)):
        first.receive(lie, lie, 0.5, now)
        now += PERIOD
    return now


@pytest.mark.parametrize(
    ("reports", "true"),
    [
        ([(Lie.NONE, 0.05)], None),
        ([(Lie.NONE, 0.2)], True),
        ([(Lie.STILL, 0.2)], True),
        ([(Lie.NONE, 0.2), (Lie.OFFSET, 0.5)], True),
        ([(Lie.OFFSET, 0.2), (Lie.NONE, 0.5)], False),
        ([(Lie.FROZEN, 0.2), (Lie.NONE, 0.5)], False),
        ([(Lie.NONE, 0.08), (Lie.OFFSET, 0.05)], None),
        ([(Lie.ALTERNATING, 0.5), (Lie.SPEEDLESS, 0.5)], None),
        ([(Lie.ALTERNATING, 0.5), (Lie.NONE, 0.08), (Lie.ONE_FALSE, 0.01), (Lie.NONE, 0.08)], None),
    ],
)
def test_first_posture_takes_a_constant_report(reports, true):
    first, now = FirstPosture(), 500.0
    for lie, seconds in reports:
        now = receive(first, lie, seconds, now)
    assert first.true is true


@pytest.mark.parametrize(
    ("silence", "lie", "true"),
    [
        (0.15, Lie.NONE, True),
        (0.3, Lie.NONE, None),
        (0.3, Lie.OFFSET, True),
        (1.5, Lie.OFFSET, None),
    ],
)
def test_first_posture_is_forgotten_in_a_silence(silence, lie, true):
    """A jump into a constant fault is remembered for 1 s of silence; see `posture_jumps.RESTART`."""
    first = FirstPosture()
    now = receive(first, lie, 0.2, receive(first, Lie.NONE, 0.2, 500.0))
    first.receive(lie, lie, 0.5, now + silence)
    assert first.true is true


@pytest.mark.parametrize(("gap", "true"), [(0.01, True), (0.12, True), (0.15, None)])
def test_first_posture_shows_no_jump_that_a_hand_can_move(gap, true):
    """At 100 rad/s^2, from rest to rest, 0.5 rad take 0.141 s."""
    first = FirstPosture()
    now = receive(first, Lie.NONE, 0.2, 500.0)
    first.receive(Lie.OFFSET, Lie.OFFSET, 0.5, now - PERIOD + gap)
    assert first.true is true


def test_a_fault_is_hidden_until_the_driver_tells_the_truth():
    first = FirstPosture()
    now = receive(first, Lie.SWAPPED, 0.2, 500.0)
    assert first.hides_fault
    now = receive(first, Lie.ALTERNATING, 0.2, now)
    assert first.hides_fault
    now = receive(first, Lie.NONE, 0.2, now)
    assert not first.hides_fault
    receive(first, Lie.SWAPPED, 0.2, now)
    assert first.hides_fault  # the first posture was the false one
    receive(first, Lie.SWAPPED, 0.2, receive(first, Lie.NONE, 0.2, now + 3.0))
    assert not first.hides_fault  # the joints were seen to jump


def test_faults_of_one_kind_differ():
    plant = Plant()
    plant.place(np.zeros(3))
    plant.lie, plant.offset = Lie.OFFSET, np.array([0.1, 0.0, 0.0])
    before, plant.offset = plant.fault, np.array([0.2, 0.0, 0.0])
    assert plant.fault != before
    plant.lie = Lie.NONE
    assert plant.fault == (Lie.NONE,)


def test_a_dry_run_tells_what_its_driver_reported():
    shadow = PlantShadow(load_contract("panda"), load_parameters(), Plant())
    shadow.wait(20)
    assert shadow.first_posture.true
    shadow.now += 3.0
    shadow.plant.lie, shadow.plant.offset = Lie.OFFSET, np.full(7, 0.1)
    shadow.wait(20)
    assert shadow.first_posture.true is False
    shadow.now += 3.0
    for shadow.plant.lie in (Lie.NONE, Lie.OFFSET, Lie.NONE):
        shadow.wait(8)
        assert shadow.first_posture.true is None


PAIR = load_contract("so101_pair")


def test_each_arm_lags_in_its_own_way():
    plant = Plant(np.repeat([0.0, 0.05], 5), np.repeat([0, 2], 5))
    plant.place(np.zeros(10))
    for _ in range(2):
        plant.follow(np.ones(10), PERIOD)
    assert plant.q == pytest.approx(np.repeat([1.0, 0.0], 5))
    plant.follow(np.ones(10), PERIOD)
    assert plant.q == pytest.approx(np.repeat([1.0, 1.0 - np.exp(-PERIOD / 0.05)], 5))


@pytest.mark.parametrize("lie", [Lie.FROZEN, Lie.OFFSET, Lie.STILL, Lie.ALTERNATING, Lie.SPEEDLESS])
def test_the_driver_of_one_arm_lies_alone(lie):
    plant = Plant()
    plant.place(np.zeros(10))
    plant.lie, plant.offset, plant.lying = lie, np.full(10, 0.3), np.repeat([False, True], 5)
    plant.report()
    plant.follow(np.ones(10), PERIOD)
    q, v = plant.report()
    assert q[:5] == pytest.approx(np.ones(5)) and v[:5] == pytest.approx(np.full(5, 1.0 / PERIOD))
    true = np.allclose(q[5:], 1.0) and np.allclose(v[5:], 1.0 / PERIOD)
    plant.report()
    assert not true or lie is Lie.ALTERNATING


def test_two_arms_with_lags_of_their_own_are_played_from_home():
    shadow = PlantShadow(PAIR.led_by("right"), load_parameters(), Plant(np.repeat([0.0, 0.06], 5), 1))
    shadow.move()
    goal = shadow.q.copy()
    assert np.abs(shadow.commands[-1] - PAIR.joints.home).max() > 1e-3 and len(shadow.all_openings[-1]) == 2
    assert goal == pytest.approx(shadow.plant.q)
