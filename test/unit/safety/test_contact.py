"""Contact detection against arms that are free, lag, are held, carry something, or report false values."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pinocchio
import pytest

from vla_ros.errors import ContractError
from vla_ros.robot.contract import load_contract
from vla_ros.robot.kinematics import Kinematics
from vla_ros.safety.contact.contact import VETO, ContactMonitor
from vla_ros.safety.contact.momentum_observer import DOWN, MomentumObserver
from vla_ros.safety.measurement.tracking_model import TrackingModel
from vla_ros.types import RobotState

PERIOD = 0.01
GIVE = 0.05
"""Fraction of its command that a held arm still follows: it bends."""

CONTRACT = load_contract("panda")
KINEMATICS = Kinematics(CONTRACT)
MODEL = KINEMATICS.model


def seen(watch, commanded, measurement, **more):
    """One tick: what was commanded, then what is measured."""
    watch.command(commanded)
    return watch.update(measurement, **more)


def state(q, v, stamp, efforts=None):
    return RobotState(q, v, 0.08, KINEMATICS.forward(q), stamp, efforts)


def monitor(contract=CONTRACT):
    return ContactMonitor(contract, MODEL, KINEMATICS.frame_id, PERIOD)


def swing(t):
    """Position, velocity and acceleration of a smooth motion of all joints, (n,) each."""
    size, rate = np.linspace(0.1, 0.3, MODEL.nq), np.linspace(1.0, 2.5, MODEL.nq)
    home = CONTRACT.joints.home
    return (home + size * np.sin(rate * t), size * rate * np.cos(rate * t), -size * rate**2 * np.sin(rate * t))


def efforts_of(q, v, a, external=0.0):
    return pinocchio.rnea(MODEL, MODEL.createData(), q, v, a) - external


@pytest.mark.parametrize("lag", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("delay", [0, 1, 2])
def test_free_arm_within_its_model_is_no_contact(lag, delay):
    watch, contact = monitor(), CONTRACT.contact
    commands = [swing(k * PERIOD)[0] for k in range(400)]
    watch.reset(commands[0])
    measured = commands[0]
    gain = 1.0 - np.exp(-PERIOD / np.maximum(lag * contact.lag, 1e-9))
    for k in range(1, 400):
        # Measured is what came of the commands before the newest one.
        measured = measured + gain * (commands[max(k - delay, 0)] - measured)
        assert seen(watch, commands[k], state(measured, np.zeros(7), k * PERIOD)) is None


@pytest.mark.parametrize("speed", [0.1, 0.2, 0.45])
def test_held_joint_is_a_contact_at_any_speed(speed):
    """The joint speed of a tool that moves at `speed` m/s 0.6 m from the axis."""
    watch, q = monitor(), CONTRACT.joints.home.copy()
    watch.reset(q)
    held, found = q.copy(), None
    for k in range(1, 60):
        q = q + np.array([speed / 0.6 * PERIOD, 0, 0, 0, 0, 0, 0])
        found = seen(watch, q, state(held + GIVE * (q - held), np.zeros(7), k * PERIOD))
        if found:
            break
    assert found is not None
    assert (found.by, found.joint) == ("tracking", "panda_joint1")
    # Command ahead of the arm when it is seen: threshold, delay, lag and two measurements.
    lost = (1.0 - GIVE) * float(q[0] - held[0])
    assert lost <= CONTRACT.contact.tracking[0] + speed / 0.6 * (0.02 + 0.025 + 0.03)
    assert watch.touching


def late_command(torques, until, back=lambda t: 0.0, believed=lambda t: True):
    """Joint 1 comes to rest at 5 rad/s^2 while its command goes on at 0.5 rad/s: the controller got no newer one.

    Returns the first contact and when it was seen, s: the stall shows from 0.47 s on. `back` is what of the way between
    joint and command the joint has made up for by then, `believed` whether other checks believe the measurement.
    """
    watch, start, axis = monitor(), CONTRACT.joints.home, np.eye(7)[0]
    watch.reset(start)
    speed, braking, begin = 0.5, 5.0, 0.3
    still = efforts_of(start, np.zeros(7), np.zeros(7))
    for k in range(1, round(until / PERIOD)):
        t = k * PERIOD
        late = np.clip(t - begin, 0.0, speed / braking)
        way = speed * min(t, begin) + speed * late - 0.5 * braking * late**2
        way += back(t) * (speed * t - way)
        resting = t >= begin + speed / braking
        v = axis * (0.0 if resting else speed - braking * late)
        a = axis * (-braking if begin < t and not resting else 0.0)
        q = start + axis * (way + 1e-7 * k)  # no sensor reads the same to the last bit
        push = 20.0 * axis * (t > begin)
        noise = 1e-3 * np.cos(k) * np.ones(7)
        efforts = {
            "none": None,
            "frozen": still,
            "frozen and noisy": still + 10.0 * noise,
            "joint 1 frozen": np.where(axis > 0.0, still, efforts_of(q, v, a, noise)),
            "joint 1 noisy": np.where(axis > 0.0, still + 10.0 * noise, efforts_of(q, v, a, noise)),
            "free": efforts_of(q, v, a, noise),
            "held": efforts_of(q, v, a, -push),
        }[torques]
        found = seen(watch, start + axis * speed * t, state(q, v, t, efforts), believed=believed(t))
        if found:
            return found, t
    return None, until


@pytest.mark.parametrize(
    ("torques", "by"),
    [
        ("none", "tracking"),
        ("frozen", "tracking"),
        ("frozen and noisy", "tracking"),
        ("joint 1 frozen", "tracking"),
        ("joint 1 noisy", "tracking"),
        ("free", None),
        ("held", "effort"),
    ],
)
def test_arm_that_is_behind_its_command_is_held_where_its_torques_do_not_say_otherwise(torques, by):
    found, _ = late_command(torques, until=0.6)
    assert (found and found.by) == by


def test_stall_that_lasts_is_a_contact_whatever_torques_say():
    """A driver that computes its torques from the motion reports those of a free arm."""
    first = late_command("none", until=1.0)[1]
    found, at = late_command("free", until=1.0)
    assert (found.by, found.joint) == ("tracking", "panda_joint1")
    assert at - first <= VETO + 1e-9


def test_stall_that_lasts_is_a_contact_where_the_arm_is_stopped_for_not_following_meanwhile():
    found, _ = late_command("free", until=1.0, believed=lambda t: t < 0.55)
    assert (found and found.by) == "tracking"


def test_arm_that_is_served_again_has_met_nothing():
    """It is still far behind its command when torques are believed no longer, but comes nearer."""
    served = 0.55
    found, _ = late_command("free", 1.0, lambda t: np.clip(8.0 * (t - served), 0.0, 1.0), lambda t: t < served)
    assert found is None


def test_held_joint_that_reads_the_same_is_no_contact():
    """A measurement that equals the one before to the last bit is that of a frozen sensor."""
    watch, q = monitor(), CONTRACT.joints.home.copy()
    watch.reset(q)
    held = q.copy()
    for k in range(1, 100):
        q = q + np.array([0.5 * PERIOD, 0, 0, 0, 0, 0, 0])
        assert seen(watch, q, state(held, np.zeros(7), k * PERIOD)) is None


def test_measurement_that_is_not_believed_is_no_contact():
    watch, q = monitor(), CONTRACT.joints.home.copy()
    watch.reset(q)
    held = q.copy()
    push = np.full(7, 50.0)
    for k in range(1, 60):
        q = q + np.array([0.5 * PERIOD, 0, 0, 0, 0, 0, 0])
        measured = held + GIVE * (q - held)
        newest = state(measured, np.zeros(7), k * PERIOD, efforts_of(measured, np.zeros(7), np.zeros(7), push))
        assert seen(watch, q, newest, believed=False) is None


def test_joint_that_steps_away_and_follows_is_no_contact():
    """A zero that is lost by less than the following check tolerates, forward or backward, at any speed."""
    for speed in (0.2, 1.0):
        for step in (-0.025, -0.01, 0.01, 0.025):
            watch, q = monitor(), CONTRACT.joints.home.copy()
            watch.reset(q)
            for k in range(1, 80):
                q = q + np.array([speed * PERIOD, 0.5 * speed * PERIOD, 0, 0, 0, 0, 0])
                lost = np.array([step if k > 40 else 0.0, 0, 0, 0, 0, 0, 0])
                assert seen(watch, q, state(q + lost, np.zeros(7), k * PERIOD)) is None, (speed, step, k)


def test_one_false_measurement_is_no_contact():
    watch, q = monitor(), CONTRACT.joints.home
    watch.reset(q)
    for k in range(1, 30):
        away = 0.1 if k % 3 == 0 else 0.0
        assert seen(watch, q, state(q + away, np.zeros(7), k * PERIOD)) is None


def test_the_same_state_again_is_no_evidence():
    watch, q = monitor(), CONTRACT.joints.home
    watch.reset(q)
    for _ in range(10):
        assert seen(watch, q, state(q + 0.1, np.zeros(7), 1.0)) is None


def test_contract_without_thresholds_detects_nothing():
    watch, q = monitor(replace(CONTRACT, contact=None)), CONTRACT.joints.home
    watch.reset(q)
    assert watch.methods == ()
    assert seen(watch, q, state(q + 1.0, np.zeros(7), 1.0)) is None


def test_observer_is_silent_in_free_motion():
    observer = MomentumObserver(MODEL, KINEMATICS.frame_id, 0.01)
    worst = 0.0
    for k in range(300):
        q, v, a = swing(k * PERIOD)
        worst = max(worst, float(np.abs(observer.update(state(q, v, k * PERIOD, efforts_of(q, v, a)))).max()))
    assert worst < 0.02


def test_observer_finds_the_external_torque():
    observer, pushed = MomentumObserver(MODEL, KINEMATICS.frame_id, 0.01), np.linspace(-9.0, 9.0, 7)
    for k in range(40):
        q, v, a = swing(k * PERIOD)
        residual = observer.update(state(q, v, k * PERIOD, efforts_of(q, v, a, pushed)))
    np.testing.assert_allclose(residual, pushed, atol=0.05)


def test_observer_survives_gaps_and_clocks_set_back():
    observer = MomentumObserver(MODEL, KINEMATICS.frame_id, 0.01)
    stamps = [0.0, 0.01, 0.5, 0.51, 0.51, 0.2, 0.21, 100.0]
    for stamp in stamps:
        q, v, a = swing(stamp)
        assert np.abs(observer.update(state(q, v, stamp, efforts_of(q, v, a)))).max() < 0.1


def test_torques_that_jump_between_two_measurements_are_no_contact():
    """Joint 2 is brought to 0.5 rad/s between two measurements, and its torque is back before the second one."""
    watch, at_rest = monitor(), np.array(CONTRACT.joints.home)
    watch.reset(at_rest)
    residuals = []
    for k in range(30):
        q, v = at_rest.copy(), np.zeros(7)
        if k > 10:
            v[1], q[1] = 0.5, q[1] + 0.5 * (k - 10.5) * PERIOD
        assert seen(watch, q, state(q, v, k * PERIOD, efforts_of(q, v, np.zeros(7)))) is None, k
        residuals.append(abs(watch.residual_torques[1]))
    assert sorted(residuals)[-2] > CONTRACT.contact.effort[1]  # two in a row


@pytest.mark.parametrize("missing", [(), (11, 12)], ids=["all", "two lost"])
def test_torques_between_two_measurements_that_are_far_apart_are_nobodys(missing):
    """Joint 2 is accelerated by 40 rad/s^2 for 20 ms; who lost what was measured meanwhile sees speed from nowhere."""
    watch, at_rest = monitor(), np.array(CONTRACT.joints.home)
    watch.reset(at_rest)
    for k in range(30):
        pushing = np.clip(k * PERIOD - 0.1, 0.0, 0.02)
        q, v, a = at_rest.copy(), np.zeros(7), np.zeros(7)
        a[1], v[1] = 40.0 * (10 < k <= 12), 40.0 * pushing
        q[1] += 20.0 * pushing**2 + v[1] * max(k * PERIOD - 0.12, 0.0)
        if k not in missing:
            assert seen(watch, q, state(q, v, k * PERIOD, efforts_of(q, v, a))) is None, k


def moving(watch, external, ticks=60):
    """Feed a free motion with a torque from outside that `external` gives for q; return the first contact."""
    watch.reset(swing(0.0)[0])
    for k in range(1, ticks):
        q, v, a = swing(k * PERIOD)
        found = seen(watch, q, state(q, v, k * PERIOD, efforts_of(q, v, a, external(q))))
        if found:
            return found
    return None


def test_external_torque_over_its_threshold_is_a_contact():
    push = np.array([0.0, 0.0, 1.5 * CONTRACT.contact.effort[2], 0.0, 0.0, 0.0, 0.0])
    found = moving(monitor(), lambda q: push)
    assert found is not None
    assert (found.by, found.joint) == ("effort", "panda_joint3")
    assert moving(monitor(), lambda q: 0.4 * push) is None


@pytest.mark.parametrize(("mass", "contact"), [(0.5, False), (1.0, False), (3.0, True), (-2.0, True)])
def test_payload_up_to_the_contract_is_no_contact(mass, contact):
    """A negative mass is a force from below: the table under the gripper."""
    found = moving(monitor(), lambda q: KINEMATICS.jacobian(q).T @ (9.81 * mass * DOWN))
    assert (found is not None) is contact


def test_arm_without_efforts_is_watched_by_position_alone():
    contract = replace(CONTRACT, contact=replace(CONTRACT.contact, effort=None))
    assert monitor(contract).methods == ("tracking",)
    watch, q = monitor(), CONTRACT.joints.home
    watch.reset(q)
    assert seen(watch, q, state(q, np.zeros(7), 1.0)) is None  # thresholds, but none reported


def test_effort_thresholds_need_masses_in_the_description():
    bare = pinocchio.Model(MODEL)
    bare.inertias[3] = pinocchio.Inertia.Zero()
    with pytest.raises(ContractError, match="no mass behind"):
        ContactMonitor(CONTRACT, bare, KINEMATICS.frame_id, PERIOD)


def test_tracking_model_spans_command_and_slowest_arm():
    model = TrackingModel(0.02, np.array([0.1]), PERIOD)
    model.reset(np.array([0.0]))
    for k in range(1, 11):
        model.command(np.array([0.01 * k]))
    assert model.residual(np.array([0.1])) == 0.0
    assert model.residual(np.array([0.12])) == pytest.approx(0.02)
    assert model.residual(np.array([-0.01]))[0] < -0.01
