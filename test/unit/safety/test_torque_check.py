"""Torque sensors that follow what a motion demands, and numb ones: frozen, noisy, late, computed too small."""

from __future__ import annotations

import numpy as np
import pinocchio
import pytest

from vla_ros.robot.contract import load_contract
from vla_ros.robot.kinematics import Kinematics
from vla_ros.safety.contact.momentum_observer import MomentumObserver
from vla_ros.safety.contact.torque_check import TorqueCheck
from vla_ros.types import RobotState

PERIOD = 0.01
TURNING = 0.94
"""Time at which the arm turns back in `swing`, s: it can stand from there on."""
CONTRACT = load_contract("panda")
KINEMATICS = Kinematics(CONTRACT)
MODEL = KINEMATICS.model
EFFORT = CONTRACT.contact.effort
STRONG = np.arange(7) < 4
"""Joints whose motion here demands torques far above what says nothing."""


def swing(t):
    """Position, velocity and acceleration of a motion of all joints, (n,) each."""
    size, rate = np.linspace(0.2, 0.3, 7), 5.0
    home = CONTRACT.joints.home
    return home + size * np.sin(rate * t), size * rate * np.cos(rate * t), -size * rate**2 * np.sin(rate * t)


def torques_at(t):
    return pinocchio.rnea(MODEL, MODEL.createData(), *swing(t))


class Arm:
    """A swinging arm, its observer and the check, fed with the torques that a test makes of the true ones."""

    def __init__(self):
        self.observer = MomentumObserver(MODEL, KINEMATICS.frame_id, 0.01)
        self.check, self.t = TorqueCheck(EFFORT), 0.0
        self.random = np.random.default_rng(0)

    def move(self, seconds, torques, standing=None):
        """Go on for a while, or stand where the swing is at time `standing`; returns which joints are numb then."""
        for _ in range(round(seconds / PERIOD)):
            self.t += PERIOD
            q, v, _ = swing(self.t) if standing is None else (swing(standing)[0], np.zeros(7), None)
            measured = np.asarray(torques(self.t), dtype=np.float64)
            state = RobotState(q, v, 0.08, KINEMATICS.forward(q), self.t, measured)
            self.observer.update(state)
            self.check.update(self.observer, measured, self.t)
        return self.check.numb(self.t)

    def noise(self, size=0.01):
        return size * self.random.standard_normal(7)


def test_sensor_that_follows_feels():
    arm = Arm()
    assert not arm.move(2.0, lambda t: torques_at(t) + arm.noise()).any()


@pytest.mark.parametrize(
    "lie",
    [
        lambda t: torques_at(0.0),
        lambda t: np.zeros(7),
        lambda t: torques_at(0.0) + 0.1 * (torques_at(t) - torques_at(0.0)),
        lambda t: np.roll(torques_at(t), 3),
        lambda t: -torques_at(t),
    ],
    ids=["frozen", "zeros", "a tenth", "swapped", "wrong sign"],
)
def test_sensor_that_does_not_follow_is_numb(lie):
    arm = Arm()
    assert arm.move(1.0, lambda t: lie(t) + arm.noise())[STRONG].all()


@pytest.mark.parametrize("joint", range(4))
def test_each_joint_is_judged_by_its_own_sensor(joint):
    arm, alone = Arm(), np.arange(7) == joint
    np.testing.assert_array_equal(arm.move(1.0, lambda t: np.where(alone, 1.0, torques_at(t)) + arm.noise()), alone)


def test_sensor_that_freezes_in_motion_becomes_numb_and_one_that_follows_again_feels():
    arm = Arm()
    assert not arm.move(1.0, lambda t: torques_at(t) + arm.noise()).any()
    assert arm.move(1.0, lambda t: torques_at(1.0) + arm.noise())[STRONG].all()
    assert not arm.move(2.0, lambda t: torques_at(t) + arm.noise())[STRONG].any()


@pytest.mark.parametrize("frozen", [False, True])
def test_what_a_sensor_was_found_to_be_it_stays_at_rest(frozen):
    arm = Arm()
    arm.move(TURNING, lambda t: (torques_at(0.0) if frozen else torques_at(t)) + arm.noise())
    weight = pinocchio.rnea(MODEL, MODEL.createData(), swing(arm.t)[0], np.zeros(7), np.zeros(7))
    gravity = torques_at(0.0) if frozen else weight
    numb = arm.move(3.0, lambda t: gravity + arm.noise(), standing=TURNING)
    np.testing.assert_array_equal(numb[STRONG], frozen)


def test_torque_that_stays_the_same_to_the_last_bit_is_numb_within_a_moment():
    arm = Arm()
    arm.move(0.5, torques_at)
    stuck, alone = torques_at(arm.t), np.arange(7) == 6
    numb = arm.move(0.12, lambda t: np.where(alone, stuck, torques_at(t)))
    np.testing.assert_array_equal(numb, alone)


def test_nothing_is_learned_between_measurements_that_are_far_apart():
    arm = Arm()
    arm.move(0.2, torques_at)
    arm.t += 1.0
    assert not arm.move(0.05, torques_at).any()


def test_arming_anew_forgets_what_was_found():
    arm = Arm()
    assert arm.move(1.0, lambda t: np.zeros(7) + arm.noise()).any()
    arm.check.reset()
    arm.observer.reset()
    assert not arm.move(0.02, lambda t: torques_at(t) + arm.noise()).any()
