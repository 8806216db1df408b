"""After a contact the arm goes back within all limits, and stays until it is armed again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vla_ros.robot.contract import load_contract
from vla_ros.robot.kinematics import Kinematics
from vla_ros.safety.contact.backoff import LONGEST, TOOL_SPEED, YIELDS, BackOff
from vla_ros.safety.contact.contact_reaction import LONGEST_TIME, longest_rest
from vla_ros.safety.motion.joint_motion import longest_stop
from vla_ros.safety.parameters import load_parameters
from vla_ros.safety.reasons import Reason
from vla_ros.safety.selftest.shadow import Shadow
from vla_ros.types import SafetyState

CONTRACT = load_contract("panda")
KINEMATICS = Kinematics(CONTRACT)
PERIOD = 0.01
TURN = np.array([1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])


def followed(length=0.2):
    """A back-off that has seen a motion of joint 1, and its last posture."""
    backoff, q = BackOff(CONTRACT.joints, KINEMATICS, CONTRACT.contact.retreat), CONTRACT.joints.home
    for way in np.arange(0.0, length, 0.003):
        backoff.note(q + way * TURN)
        last = q + way * TURN
    return backoff, last


def carry(backoff, commanded, measured, touching, ticks=400):
    """Let an ideal arm do what the back-off asks for; return the postures."""
    way = [commanded]
    for _ in range(ticks):
        velocities = backoff.velocities(way[-1], measured(way[-1]), touching(way[-1]))
        if velocities is None:
            break
        way.append(way[-1] + PERIOD * velocities)
    else:
        pytest.fail("the way back does not end")
    return np.array(way)


def tool(q):
    return np.asarray(KINEMATICS.placement(q).translation)


def test_backoff_ends_the_retreat_behind_the_measured_place():
    backoff, last = followed()
    held = last - 0.03 * TURN
    backoff.begin(last, held)
    way = carry(backoff, last, lambda q: np.minimum(q, held), lambda q: False)
    behind = float(np.linalg.norm(tool(way[-1]) - tool(held)))
    assert CONTRACT.contact.retreat - 0.001 <= behind <= CONTRACT.contact.retreat + 0.004
    assert way[-1][0] < held[0]


def test_backoff_is_no_faster_than_reduced_speed():
    backoff, last = followed()
    backoff.begin(last, last - 0.1 * TURN)
    way = carry(backoff, last, lambda q: q, lambda q: False)
    speeds = np.linalg.norm(np.diff([tool(q) for q in way], axis=0), axis=1) / PERIOD
    assert speeds.max() <= TOOL_SPEED * 1.01


def test_backoff_goes_on_while_the_contact_does():
    backoff, last = followed(0.6)
    released = last - 0.06 * TURN  # an arm that was bent is free only this far back
    backoff.begin(last, last - 0.005 * TURN)
    way = carry(backoff, last, lambda q: np.minimum(q, released), lambda q: q[0] > released[0])
    assert way[-1][0] <= released[0]


def test_backoff_without_end_of_contact_ends():
    backoff, last = followed(0.6)
    backoff.begin(last, last - 0.01 * TURN)
    way = carry(backoff, last, lambda q: q - 0.01 * TURN, lambda q: True, ticks=2000)
    length = float(np.linalg.norm(np.diff([tool(q) for q in way], axis=0), axis=1).sum())
    assert length <= LONGEST + 0.02 + 0.01 * YIELDS


def test_arm_that_stood_yields_to_where_it_is_pushed():
    backoff = BackOff(CONTRACT.joints, KINEMATICS, CONTRACT.contact.retreat)
    home = CONTRACT.joints.home
    backoff.note(home)
    pushed = home + 0.02 * TURN
    backoff.begin(home, pushed)
    way = carry(backoff, home, lambda q: pushed, lambda q: bool(np.abs(q - pushed).max() > 2e-3))
    np.testing.assert_allclose(way[-1], pushed, atol=1e-3)


def test_arm_pushed_forward_does_not_press_back():
    backoff, last = followed()
    pushed = last + 0.02 * TURN
    backoff.begin(last, pushed)
    way = carry(backoff, last, lambda q: pushed, lambda q: bool(np.abs(q - pushed).max() > 2e-3))
    assert way[:, 0].min() >= last[0] - 1e-9
    np.testing.assert_allclose(way[-1], pushed, atol=1e-3)


@pytest.fixture
def obstructed():
    """A shadow whose arm has met something immovable at full speed, and has backed off."""
    shadow = Shadow(CONTRACT, load_parameters())
    shadow.move()
    shadow.obstacle = shadow.q.copy(), np.sign(shadow.velocities)
    for i in range(100):
        if i % 10 == 0:
            shadow.ask(shadow.way((0.0, 0.025, 0.0)))
        shadow.tick()
    return shadow


def test_contact_holds_until_armed_again(obstructed):
    shadow = obstructed
    place = shadow.obstacle[0]
    assert (shadow.supervisor.state, shadow.supervisor.reason.label) == (SafetyState.HOLD, "contact")
    np.testing.assert_allclose(shadow.commands[-1], shadow.q, atol=1e-9)  # it presses on nothing
    assert 0.004 < np.linalg.norm(tool(shadow.q) - tool(place)) < 0.03
    shadow.obstacle = None
    for i in range(60):  # good chunks alone do not go on
        if i % 10 == 0:
            shadow.stay()
        assert shadow.tick().state is SafetyState.HOLD
    assert shadow.supervisor.arm(shadow.now) is Reason.OK  # armed already: that is no new arming
    assert shadow.tick().reason == "contact"
    shadow.supervisor.disarm(shadow.now)
    for _ in range(60):
        shadow.tick()
    assert shadow.supervisor.arm(shadow.now) is Reason.OK
    for _ in range(30):
        shadow.stay()
        decision = shadow.tick()
    assert decision.state is SafetyState.RUN


def test_backoff_keeps_every_joint_limit(obstructed):
    joints, q = CONTRACT.joints, np.array(obstructed.commands)
    for order, limit in ((1, joints.velocity), (2, joints.acceleration), (3, joints.jerk)):
        assert (np.abs(np.diff(q, n=order, axis=0)) / PERIOD**order / limit).max() <= 1.0 + 1e-6, order


def in_contact():
    """A shadow whose arm has met something immovable, in the tick that has found it out."""
    shadow = Shadow(CONTRACT, load_parameters())
    shadow.move()
    shadow.obstacle = shadow.q.copy(), np.sign(shadow.velocities)
    for i in range(60):
        if i % 10 == 0:
            shadow.ask(shadow.way((0.0, 0.025, 0.0)))
        if shadow.tick().reason == "contact":
            break
    assert shadow.supervisor.reason.label == "contact"
    return shadow


def pressed(shadow):
    """How far the command is ahead of the arm, rad."""
    return float(np.abs(shadow.commands[-1] - shadow.q).max())


def keeps_limits(shadow):
    joints, q = CONTRACT.joints, np.array(shadow.commands)
    shares = [
        (np.abs(np.diff(q, n=order, axis=0)) / PERIOD**order / limit).max()
        for order, limit in ((1, joints.velocity), (2, joints.acceleration), (3, joints.jerk))
    ]
    return max(shares) <= 1.0 + 1e-6


@pytest.mark.parametrize("later", [0, 1, 5, 15, 30])
def test_disarming_in_a_contact_ends_the_retreat_first(later):
    shadow = in_contact()
    place = shadow.obstacle[0]
    for _ in range(later):
        shadow.tick()
    shadow.supervisor.disarm(shadow.now)
    ticks = 0
    while (decision := shadow.tick()).state is not SafetyState.DISARMED:
        assert (decision.state, decision.reason) == (SafetyState.HOLD, "disarming")
        assert not shadow.supervisor.armed
        ticks += 1
        assert ticks < 150
    assert decision.joint_positions is None
    assert pressed(shadow) < 1e-9
    assert 0.004 < np.linalg.norm(tool(shadow.q) - tool(place)) < 0.03
    assert keeps_limits(shadow)


def test_a_contact_of_an_arm_that_is_disarming_is_backed_off_from():
    """It is disarmed in motion, and meets something on its way to rest."""
    shadow = Shadow(CONTRACT, load_parameters())
    shadow.external = np.zeros(7)
    shadow.move()
    shadow.obstacle = shadow.q.copy(), np.sign(shadow.velocities)
    for _ in range(2):
        shadow.tick()
        shadow.external = -3.0 * CONTRACT.contact.effort * np.sign(shadow.velocities)
    shadow.supervisor.disarm(shadow.now)
    for _ in range(5):
        shadow.tick()
    shadow.external = np.zeros(7)
    for _ in range(120):
        decision = shadow.tick()
    assert decision.state is SafetyState.DISARMED
    assert pressed(shadow) < 1e-3
    assert keeps_limits(shadow)


@pytest.mark.parametrize("blocked", ["frozen", "stuck"])
def test_disarming_does_not_wait_for_a_retreat_that_cannot_go_on(blocked, monkeypatch):
    shadow = in_contact()
    shadow.supervisor.disarm(shadow.now)
    if blocked == "stuck":  # nothing may move any more, whatever it is
        monkeypatch.setattr(shadow.supervisor._motion, "retrace", lambda _: shadow.supervisor._motion.brake())
    decisions = [shadow.tick(sense=blocked == "stuck") for _ in range(round(LONGEST_TIME / PERIOD) + 40)]
    assert decisions[-1].state is SafetyState.DISARMED
    # Blocked, it rests with its way before it, which may become free; without a measurement there is none to go.
    assert decisions[200].state is (SafetyState.HOLD if blocked == "stuck" else SafetyState.DISARMED)


@pytest.mark.parametrize("later", [0, 1, 5, 15, 30])
def test_estop_in_a_contact_stops_and_then_presses_on_nothing(later):
    """It drives no way back: the command goes to where the arm is held, and the arm follows by what it was bent."""
    shadow = in_contact()
    for _ in range(later):
        shadow.tick()
    place = shadow.obstacle[0]
    known = shadow.supervisor.commanded.stop.positions[-1]
    shadow.supervisor.press_estop(shadow.now)
    for _ in range(200):
        decision = shadow.tick()
    assert decision.state is SafetyState.ESTOP
    np.testing.assert_array_equal(shadow.commands[-1], shadow.commands[-2])
    assert pressed(shadow) < 1e-3
    behind = max(tool(place)[1] - tool(known)[1], 0.0)  # of the known stop, along its way, m
    assert tool(place)[1] - tool(shadow.q)[1] <= behind + 1e-3
    assert keeps_limits(shadow)
    shadow.supervisor.release_estop(shadow.now)
    assert shadow.supervisor.reset(shadow.now) is Reason.OK
    assert shadow.tick().state is SafetyState.DISARMED


def measure(shadow, offset, ticks=1):
    """Let joint states come that are `offset` rad from where the arm is commanded."""
    for _ in range(ticks):
        shadow.pass_time()
        shadow.sense(shadow.state(positions=shadow.q + offset))
        shadow.rewind()
        decision = shadow.tick(sense=False)
    return decision


@pytest.mark.parametrize("joint", [0, 3])
@pytest.mark.parametrize("offset", [-0.1, -0.02, 0.02, 0.1])
@pytest.mark.parametrize("later", [-1, 0, 1, 2, 10])
def test_one_false_state_does_not_lead_an_arm_in_an_emergency_stop(later, offset, joint):
    """It comes so many ticks after the stop has come to rest, when nothing but this unloading moves the arm."""
    shadow = in_contact()
    shadow.supervisor.press_estop(shadow.now)
    rows = shadow.supervisor.commanded.ahead.rows
    for _ in range(rows + later):
        shadow.tick()
    held = shadow.q.copy()
    measure(shadow, offset * np.eye(7)[joint])
    for _ in range(100):
        decision = shadow.tick()
    assert decision.state is SafetyState.ESTOP
    assert pressed(shadow) < 1e-3
    assert np.abs(shadow.q - held).max() < 0.01  # what it was bent


@pytest.mark.parametrize("joint", [0, 3])
@pytest.mark.parametrize("offset", [-0.1, 0.1])
def test_one_false_state_changes_no_way_back(offset, joint):
    """At its end a measurement decides whether to go on, and where to."""
    undisturbed, length = in_contact(), 0
    while undisturbed.supervisor._contact.retreating:
        undisturbed.tick()
        length += 1
    for later in range(length - 4, length + 2):
        shadow = in_contact()
        place = tool(shadow.obstacle[0])
        for _ in range(later):
            shadow.tick()
        measure(shadow, offset * np.eye(7)[joint])
        for _ in range(60):
            shadow.tick()
        assert pressed(shadow) < 1e-3, later
        assert 0.004 < np.linalg.norm(tool(shadow.q) - place) < 0.009, later


@pytest.mark.parametrize(("sag", "follows"), [(1e-3, 0.0), (5e-3, 1.0)])
def test_estop_does_not_run_after_an_arm_that_sags(obstructed, sag, follows):
    """It has backed off, and hangs below its command; where that could be a contact, the command goes there once."""
    shadow = obstructed
    measure(shadow, -sag, 20)
    rest = shadow.commands[-1].copy()
    shadow.supervisor.press_estop(shadow.now)
    measure(shadow, -sag, 150)
    np.testing.assert_allclose(rest - shadow.commands[-1], follows * sag, atol=6e-4 * follows)


@pytest.mark.parametrize("estop", [False, True])
def test_an_arm_that_is_pushed_on_rests_in_the_time_that_is_waited_for(estop):
    """Somebody follows it: the way back does not end of itself, and needs more than a stop and less than the wait."""
    shadow = in_contact()
    shadow.obstacle = None
    began = shadow.now
    if estop:
        shadow.supervisor.press_estop(shadow.now)
    else:
        shadow.supervisor.disarm(shadow.now)
    while shadow.supervisor.state is SafetyState.HOLD or not shadow.supervisor.resting:
        measure(shadow, -0.03 * TURN)
        assert shadow.now - began <= longest_rest(CONTRACT, PERIOD)
    assert estop or shadow.now - began > LONGEST_TIME - 0.1


def test_without_contact_thresholds_a_stop_is_waited_for():
    assert longest_rest(replace(CONTRACT, contact=None), PERIOD) == longest_stop(CONTRACT.joints, PERIOD)
    assert longest_rest(CONTRACT, PERIOD) >= LONGEST_TIME + longest_stop(CONTRACT.joints, PERIOD)


def test_disarming_waits_for_a_resting_arm_to_yield_to_what_pushes_it():
    """Its command is at rest in the tick that finds the contact: what has still to be done is to go where it is."""
    shadow = Shadow(CONTRACT, load_parameters())
    shadow.external = np.zeros(7)
    shadow.move()
    shadow.heart = None
    while np.abs(shadow.tick().joint_velocities).max() > 0.0:
        pass
    rest = shadow.commands[-1].copy()
    shadow.external = -3.0 * CONTRACT.contact.effort
    pushed = rest + 0.01 * TURN
    while (decision := measure(shadow, pushed - shadow.q)).reason != "contact":
        assert len(shadow.commands) < 500
    shadow.supervisor.disarm(shadow.now)
    assert shadow.supervisor.state is SafetyState.HOLD
    while decision.state is not SafetyState.DISARMED:
        decision = measure(shadow, pushed - shadow.q)
    np.testing.assert_allclose(shadow.commands[-1], pushed, atol=1e-3)


def test_layer_without_contact_thresholds_never_reports_one():
    shadow = Shadow(replace(CONTRACT, contact=None), load_parameters())
    shadow.move()
    shadow.obstacle = shadow.q.copy(), np.sign(shadow.velocities)
    for i in range(60):
        if i % 10 == 0:
            shadow.ask(shadow.way((0.0, 0.025, 0.0)))
        assert shadow.tick().reason != "contact"
