"""What is a contact and what is not: sensors that lie, an arm that is guided away, and one that is really held."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vla_ros.robot.contract import load_contract
from vla_ros.robot.kinematics import Kinematics
from vla_ros.safety.contact.contact import Contact
from vla_ros.safety.contact.contact_reaction import AFTER_MOTION, BLIND_WAY, ContactReaction
from vla_ros.safety.motion.joint_motion import JointStep, Stop
from vla_ros.safety.parameters import load_parameters
from vla_ros.safety.reasons import Reason
from vla_ros.safety.selftest.faults.following import table
from vla_ros.safety.selftest.shadow import Shadow
from vla_ros.safety.selftest.table import fault_table, run_faults
from vla_ros.types import NOWHERE, RobotState, SafetyState

CONTRACT = load_contract("panda")
PARAMETERS = load_parameters()
HELD = 60
"""Tick from which `held_joint` holds joint 1."""

TURN = np.array([1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])


def reporting_efforts(fault):
    """The same fault on an arm whose driver reports torques."""

    def play(trial):
        trial.shadow.external = np.zeros_like(trial.shadow.q)
        fault.play(trial)

    return replace(fault, play=play)


@pytest.mark.parametrize("arrange", [lambda fault: fault, reporting_efforts], ids=["positions", "efforts"])
@pytest.mark.parametrize("robot", ["panda", "fr3", "ur5e", "so101"])
def test_sensor_that_lies_is_no_contact(robot, arrange):
    rows = run_faults(load_contract(robot), PARAMETERS, [arrange(fault) for fault in table()])
    assert [row for row in rows if not row.stopped] == []
    assert not any("contact" in row.got for row in rows)


def moving(effort=False):
    shadow = Shadow(CONTRACT, PARAMETERS)
    if effort:
        shadow.external = np.zeros_like(shadow.q)
    shadow.move()
    return shadow


def against_obstacle(shadow, ticks=100, until=lambda decision: False):
    """Hold the joints where they are and let the plan go on; return what was decided."""
    shadow.obstacle = shadow.q.copy(), np.sign(shadow.velocities)
    decisions = []
    for i in range(ticks):
        if i % 10 == 0:
            shadow.ask(shadow.way((0.0, 0.025, 0.0)))
        decisions.append(shadow.tick())
        if until(decisions[-1]):
            break
    return decisions


TORQUES = {
    "frozen and noisy": lambda measured, computed, frozen, noise: frozen + noise,
    "the held joint alone frozen": lambda measured, computed, frozen, noise: np.where(TURN, frozen, measured),
    "computed from the motion": lambda measured, computed, frozen, noise: computed,
    "computed, and noisy": lambda measured, computed, frozen, noise: computed + noise,
}


def held_joint(torques, speed, wild=()):
    """Hold joint 1 at 3000 N m/rad while the plan and the other joints go on; lie about torques from then on.

    Returns the shadow, the reason of each tick and how far joint 1 was behind its command at most, rad. In the ticks
    `wild` joint 2 is measured 0.5 rad off.
    """
    shadow, random = Shadow(CONTRACT, PARAMETERS), np.random.default_rng(1)
    shadow.external, step = np.zeros_like(shadow.q), np.array([0.0, speed * CONTRACT.action.period, 0.0])
    shadow.start()
    honest, frozen, behind, reasons = shadow._efforts, None, 0.0, []

    def efforts():
        if frozen is None:
            return honest()
        return TORQUES[torques](honest(), honest() + shadow.external, frozen, 0.01 * random.standard_normal(7))

    shadow._efforts = efforts
    for i in range(210):
        if i % 10 == 0:
            tool = shadow.kinematics.forward(np.asarray(shadow.commands[-1])).position
            shadow.ask(tool + np.outer(np.arange(1, CONTRACT.action.horizon + 1), step))
        if i == HELD:
            frozen = honest()
            shadow.obstacle = shadow.q.copy(), np.sign(shadow.velocities) * TURN
        if i in wild:
            reasons.append(report(shadow, lambda: shadow.q + 0.5 * np.roll(TURN, 1), 1)[0].reason)
        else:
            reasons.append(shadow.tick().reason)
        if i >= HELD:
            shadow.external = 3000.0 * (shadow.q - shadow.commands[-1]) * TURN
            behind = max(behind, float(np.abs(shadow.commands[-1] - shadow.q)[0]))
    return shadow, reasons, behind


@pytest.mark.parametrize("torques", TORQUES)
@pytest.mark.parametrize("speed", [0.04, 0.1])
def test_torques_that_feel_nothing_do_not_hide_a_held_joint(torques, speed):
    shadow, reasons, behind = held_joint(torques, speed)
    assert "contact" in reasons[HELD : HELD + 80]
    assert np.abs(shadow.commands[-1] - shadow.q)[0] < 0.5 * behind


def test_arm_does_not_back_off_to_where_it_is_measured_once():
    """The stall has lasted long enough in a measurement that is false in another joint; the next one counts."""
    contact = held_joint("computed from the motion", 0.1)[1].index("contact")
    shadow, reasons, behind = held_joint("computed from the motion", 0.1, wild=(contact,))
    assert (reasons[contact], reasons[contact + 1]) == ("tracking", "contact")
    assert np.abs(shadow.commands[-1] - shadow.q).max() < 0.5 * behind
    assert np.ptp(np.array(shadow.commands)[contact - 210 :, 1]) < 0.1


def in_contact():
    shadow = moving()
    against_obstacle(shadow, until=lambda decision: decision.reason == "contact")
    assert shadow.supervisor.reason.label == "contact"
    return shadow


def noisy(shadow):
    """Return where the arm is, as a sensor with noise measures it: 1 microrad."""
    return shadow.q + 1e-6 * np.sin(1e3 * shadow.now) * TURN


def report(shadow, positions, ticks):
    """Let the joint states say what `positions` gives, while the arm does as it is told; return the decisions."""
    decisions = []
    for _ in range(ticks):
        shadow.pass_time()
        shadow.sense(shadow.state(positions=positions(), velocities=np.zeros_like(shadow.q)))
        decision = shadow.supervisor.tick(shadow.now)
        if decision.joint_positions is not None:
            shadow.carry_out(decision.joint_positions, decision.gripper_opening)
        decisions.append(decision)
    return decisions


def test_small_loss_of_a_zero_in_motion_is_tolerated():
    """Below `follow_tolerance` it is neither a contact nor a fault."""
    for joint in range(CONTRACT.joints.count):
        for offset in (-0.02, 0.02):
            shadow, lost = moving(), np.zeros(CONTRACT.joints.count)
            lost[joint] = offset
            for i in range(25):
                if i % 10 == 0:
                    shadow.ask(shadow.way((0.0, 0.025, 0.0)))
                shadow.pass_time()
                shadow.sense(shadow.state(positions=shadow.q + lost))
                decision = shadow.supervisor.tick(shadow.now)
                shadow.carry_out(decision.joint_positions, decision.gripper_opening)
                assert decision.state is SafetyState.RUN, (joint, offset, i, decision.sentence)


def test_arm_held_at_once_after_motion_is_a_contact():
    """The plan ends while the arm is held: what it has not answered by then is a contact all the same."""
    shadow = moving()
    shadow.obstacle = shadow.q.copy(), np.sign(shadow.velocities)
    shadow.supervisor.stop("stop", shadow.now)
    assert "contact" in {decision.reason for decision in report(shadow, lambda: noisy(shadow), 40)}


def test_arm_guided_by_hand_at_rest_is_no_contact():
    """Also where its torques show the hand: it gives up the posture, as without torques."""
    shadow = moving(effort=True)
    for _ in range(round((PARAMETERS.timing.chunk_timeout + AFTER_MOTION) / shadow.period) + 40):
        shadow.tick()
    assert shadow.supervisor.state is SafetyState.HOLD
    shadow.external = 3.0 * CONTRACT.contact.effort
    start, reasons = shadow.q.copy(), set()
    for share in np.linspace(0.0, 0.5, 100):
        shadow.pass_time()
        shadow.sense(shadow.state(positions=start + share * TURN, velocities=0.5 * TURN))
        decision = shadow.supervisor.tick(shadow.now)
        reasons.add(decision.reason)
        if decision.joint_positions is not None:
            np.testing.assert_array_equal(decision.joint_positions, start)
    assert "contact" not in reasons
    assert (decision.state, decision.reason) == (SafetyState.DISARMED, "tracking")


def test_arm_that_leaves_its_command_in_a_contact_is_given_up():
    """Beyond the tracking tolerance nothing backs off: the arm brakes, and is handed over."""
    shadow = in_contact()
    for _ in range(6):
        shadow.tick()  # it is backing off
    began, away = shadow.commands[-1], shadow.q + 0.5 * TURN
    decisions = report(shadow, lambda: away, 40)
    assert (decisions[-1].state, decisions[-1].reason) == (SafetyState.DISARMED, "tracking")
    assert decisions[-1].joint_positions is None
    assert decisions[3].reason == "tracking"
    assert np.abs(shadow.commands[-1] - began).max() < 0.05


def test_lost_arm_that_comes_back_backs_off_no_further_and_is_handed_over():
    shadow = in_contact()
    away = shadow.q + 0.5 * TURN
    assert report(shadow, lambda: away, 3)[-1].state is SafetyState.HOLD  # lost, but not yet at rest
    before = len(shadow.commands)
    settled = report(shadow, lambda: noisy(shadow), 60)
    assert (settled[-1].state, settled[-1].reason) == (SafetyState.DISARMED, "tracking")
    way = float(np.abs(np.diff(shadow.commands[before - 1 :], axis=0)).max(axis=1).sum())
    assert way < 0.02  # the rest of the stop


@pytest.mark.parametrize("noise", [0.0, 1e-4, 5e-4])
def test_backing_off_ends_when_the_measurement_freezes(noise):
    shadow = in_contact()
    frozen, began = shadow.q.copy(), shadow.commands[-1].copy()
    pressed, random = float(np.abs(frozen - began).max()), np.random.default_rng(0)
    decisions = report(shadow, lambda: frozen + noise * random.standard_normal(7), 100)
    way = float(np.abs(np.diff([began, *shadow.commands[-100:]], axis=0)).max(axis=1).sum())
    assert decisions[-1].state is SafetyState.HOLD
    np.testing.assert_array_equal(shadow.commands[-1], shadow.commands[-2])
    assert way <= BLIND_WAY + pressed + 0.02  # and the stop


@pytest.mark.parametrize("noise", [0.0, 1e-4])
def test_back_off_reaches_an_arm_that_is_measured_in_one_place_and_goes_little_further(noise, monkeypatch):
    """It is held 0.3 rad behind its command, with an encoder so coarse, or so still, that its positions stay equal."""
    reaction, random = ContactReaction(CONTRACT, Kinematics(CONTRACT), 0.01), np.random.default_rng(0)
    reaction.reset(CONTRACT.joints.home)
    monkeypatch.setattr(reaction._monitor, "update", lambda *_, **__: Contact("joint1", "tracking", 0.3, 0.1))
    monkeypatch.setattr(type(reaction._held), "touching", property(lambda _: True))
    rest, now, least = np.zeros(7), 0.0, np.inf

    def command(ahead, speed):
        positions = CONTRACT.joints.home + ahead * TURN
        stop = Stop(positions[None], rest[None], rest[None])
        reaction.record(JointStep(positions, speed * TURN, rest, stop), now)

    for ahead in [*np.linspace(-0.4, 0.0, 100), *np.linspace(0.0, 0.3, 60)]:
        now += 0.01
        command(ahead, 0.5)
    for tick in range(280):
        now += 0.01
        measured = CONTRACT.joints.home + noise * random.standard_normal(7) * TURN
        reaction.judge(Reason.OK, "", RobotState(measured, rest, 0.04, NOWHERE, now), now)
        velocities = reaction.retreat()
        if tick >= 3 and ahead > 1e-3:
            assert velocities is not None and velocities[0] < 0.0, ahead
        ahead += 0.01 * (0.0 if velocities is None else velocities[0])
        least = min(least, ahead)
        command(ahead, 0.0 if velocities is None else velocities[0])
    assert -BLIND_WAY - 0.02 <= least <= 1e-3


def late(shadow, ticks, lateness):
    """Let the joint states of a free arm come `lateness` s late while the plan goes on; return the decisions."""
    past, decisions = [(shadow.q.copy(), shadow.stamp)], []
    for i in range(ticks):
        if i % 10 == 0:
            shadow.ask(shadow.way((0.0, 0.025, 0.0)))
        shadow.pass_time()
        past.append((shadow.q.copy(), shadow.stamp))
        back = min(round(lateness(i) / shadow.period), len(past) - 1)
        q, stamp = past[-1 - back]
        shadow.sense(shadow.state(positions=q + 1e-6 * np.sin(1e3 * shadow.now) * TURN, stamp=stamp))
        decisions.append(shadow.supervisor.tick(shadow.now))
        if decisions[-1].joint_positions is not None:
            shadow.carry_out(decisions[-1].joint_positions, decisions[-1].gripper_opening)
    return decisions


@pytest.mark.parametrize("most", [0.05, 0.1])
def test_busy_machine_is_no_contact(most):
    """The states fall behind, as a sensor's process that is not served, and catch up again."""
    decisions = late(moving(), 40, lambda i: max(0.0, min(0.01 * i, most) if i < 20 else most - 0.05 * (i - 20)))
    assert "contact" not in {decision.reason for decision in decisions}


def test_contact_while_the_graph_is_at_fault_is_remembered():
    """Something else holds the arm first; it does not forget what it has met."""
    shadow = moving()
    shadow.obstacle = shadow.q.copy(), np.sign(shadow.velocities)
    shadow.supervisor.report(Reason.FOREIGN_PUBLISHER, "(two)")
    held = report(shadow, lambda: noisy(shadow), 60)
    assert {decision.reason for decision in held} == {"foreign_publisher"}
    shadow.supervisor.report(Reason.OK)
    assert report(shadow, lambda: noisy(shadow), 1)[0].reason == "contact"


def test_every_fault_of_contact_is_in_the_table():
    names = [fault.name for fault in fault_table()]
    assert "the arm meets something immovable" in names
    assert "something presses on the arm" in names
    assert "the gripper takes its heaviest payload" in names


def pressing(shadow):
    """Return how far the command is from the arm that is held by something, rad."""
    return float(np.abs(shadow.commands[-1] - shadow.q).max())


def pressed():
    shadow = moving()
    against_obstacle(shadow, until=lambda decision: decision.reason == "contact")
    assert pressing(shadow) > 0.01, "nothing presses, so nothing could be relieved"
    return shadow


@pytest.mark.parametrize("stopped", [False, True], ids=["held", "emergency stop"])
def test_contact_is_relieved_whatever_else_holds_the_arm(stopped):
    shadow = pressed()
    if stopped:
        shadow.supervisor.press_estop(shadow.now)
    shadow.supervisor.report(Reason.MESSAGE_UNREADABLE)
    for _ in range(120):
        assert shadow.tick().reason == (Reason.MESSAGE_UNREADABLE.label if not stopped else "estop_pressed")
    assert pressing(shadow) < 0.003


def test_time_of_the_back_off_runs_only_while_there_are_measurements():
    shadow = pressed()
    for _ in range(500):
        shadow.tick(sense=False)
    before = pressing(shadow)
    for _ in range(120):
        shadow.tick()
    assert pressing(shadow) < 0.003 < before


def test_disarming_relieves_a_contact_also_with_a_fault_of_the_graph():
    shadow = pressed()
    shadow.supervisor.disarm(shadow.now)
    for i in range(100):
        shadow.supervisor.report(Reason.MESSAGE_UNREADABLE if i < 30 else Reason.OK)
        shadow.tick()
    assert shadow.supervisor.state is SafetyState.DISARMED
    assert pressing(shadow) < 0.003


@pytest.mark.parametrize("after", [0, 1, 3, 6])
def test_reset_waits_until_an_emergency_stop_has_relieved_the_contact(after):
    shadow = pressed()
    for _ in range(after):
        shadow.tick()
    shadow.supervisor.press_estop(shadow.now)
    shadow.supervisor.release_estop(shadow.now)
    for _ in range(150):
        shadow.supervisor.reset(shadow.now)
        shadow.tick()
    assert shadow.supervisor.state is SafetyState.DISARMED
    assert pressing(shadow) < 0.003


def test_publisher_of_another_topic_does_not_keep_a_contact_from_being_relieved():
    shadow = pressed()
    shadow.supervisor.report(Reason.FOREIGN_PUBLISHER)
    for _ in range(120):
        shadow.tick()
    assert pressing(shadow) < 0.003


def test_arm_that_another_publisher_may_move_is_not_backed_off():
    shadow = pressed()
    shadow.supervisor.report(Reason.FOREIGN_COMMANDER)
    for _ in range(60):
        shadow.tick()
    rest = shadow.commands[-1]
    for _ in range(60):
        shadow.tick()
    np.testing.assert_array_equal(shadow.commands[-1], rest)
