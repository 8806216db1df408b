"""Two arms in one safety layer: both commanded, kept apart, within their own workspaces, stopped together."""

from dataclasses import replace

import numpy as np
import pytest

from vla_ros.errors import ObservationError
from vla_ros.robot.contract import load_contract
from vla_ros.robot.kinematics import Kinematics
from vla_ros.safety.parameters import load_parameters
from vla_ros.safety.reasons import Reason
from vla_ros.safety.selftest.judge import broken_limits, run_fault_rows
from vla_ros.safety.selftest.shadow import Shadow
from vla_ros.safety.selftest.table import fault_table
from vla_ros.safety.selftest.trial import passes
from vla_ros.safety_bench.plants import Lie, Plant, PlantShadow
from vla_ros.types import RobotState, SafetyState

PAIR, PARAMETERS = load_contract("so101_pair"), load_parameters()
N = 5


def shadow_of(contract=PAIR, lead="left"):
    shadow = Shadow(contract.led_by(lead), PARAMETERS)
    assert shadow.start() is Reason.OK
    return shadow


def go_to(shadow, goal, ticks, openings=None):
    reasons = set()
    rows = np.tile(goal, (PAIR.action.horizon, 1))
    for tick in range(ticks):
        if tick % shadow.chunk_ticks == 0:
            answer = shadow.send(shadow.chunk(shadow.joint_actions(rows, openings)))
            assert answer is Reason.OK
        reasons.add(shadow.tick().reason)
    return reasons


def towards_each_other():
    goal = np.array(PAIR.joints.home)
    goal[0], goal[N] = 0.9, -0.9
    return goal


def test_a_plan_moves_both_arms():
    shadow = shadow_of()
    goal = np.array(PAIR.joints.home)
    goal[4], goal[9] = 0.4, -0.4
    assert "ok" in go_to(shadow, goal, 200)
    assert shadow.q == pytest.approx(goal, abs=1e-3)


def test_arms_that_are_sent_into_each_other_keep_apart():
    shadow = shadow_of()
    assert "self_collision" in go_to(shadow, towards_each_other(), 200)
    assert shadow.clearance(Reason.SELF_COLLISION) >= 0.0
    assert abs(shadow.q[0]) > 0.2 and abs(shadow.q[N]) > 0.2  # they went as far as they may
    assert broken_limits(shadow) == []


@pytest.mark.parametrize(("lead", "other"), [("left", "right"), ("right", "left")])
def test_each_tool_stays_in_the_workspace_of_its_arm(lead, other):
    box = PAIR.led_by(lead).cartesian
    narrow = replace(PAIR.led_by(lead), cartesian=replace(box, workspace_upper=box.workspace_upper * [1, 1, 0.4]))
    shadow = Shadow(narrow, PARAMETERS)
    assert shadow.start() is Reason.OK
    goal = np.array(PAIR.joints.home)
    goal[PAIR.joint_columns(lead).start + 1] = -1.2  # up and back
    assert "workspace" in go_to(shadow, goal, 100)
    assert broken_limits(shadow) == []
    moved = np.abs(shadow.q - PAIR.joints.home)
    assert moved[PAIR.joint_columns(lead)].max() > 0.05 and moved[PAIR.joint_columns(other)].max() < 1e-6


@pytest.mark.parametrize("lead", ["left", "right"])
def test_each_arm_has_a_gripper_of_its_own(lead):
    shadow = shadow_of(lead=lead)
    go_to(shadow, PAIR.joints.home, 60, openings=0.05)
    place = ["left", "right"].index(lead)
    assert shadow.opened[place] == pytest.approx(0.05) and shadow.opened[1 - place] == pytest.approx(0.09)
    decision = shadow.tick()
    assert decision.gripper_openings == shadow.opened and decision.gripper_opening is None
    assert decision.executed[f"{lead}/gripper"] == pytest.approx(0.05)


@pytest.mark.parametrize("joint", [2, N + 2])
def test_both_arms_stop_when_one_of_them_does_not_follow(joint):
    shadow = shadow_of()
    shadow.obstacle = (np.array(shadow.q), np.zeros(2 * N))
    shadow.obstacle[1][joint] = 1.0
    goal = np.array(PAIR.joints.home)
    goal[[2, N + 2, 4, N + 4]] += 0.5
    reasons = go_to(shadow, goal, 60)
    assert "contact" in reasons and shadow.supervisor.state in (SafetyState.HOLD, SafetyState.DISARMED)
    for _ in range(60):
        shadow.tick()
    assert not shadow.supervisor.commanded.velocities.any()


def test_an_emergency_stop_stops_both():
    shadow = shadow_of()
    goal = np.array(PAIR.joints.home)
    goal[[4, N + 4]] += 1.0
    go_to(shadow, goal, 40)
    assert shadow.supervisor.commanded.velocities[[4, N + 4]].all()
    shadow.supervisor.press_estop(shadow.now)
    for _ in range(60):
        decision = shadow.tick()
    assert decision.state is SafetyState.ESTOP and not decision.joint_velocities.any()


@pytest.mark.parametrize(("column", "value"), [(6, np.nan), (11, np.nan), (6, 40.0), (11, 40.0)])
def test_nonsense_for_the_second_arm_holds_both(column, value):
    shadow = shadow_of()
    actions = shadow.joint_actions(np.tile(shadow.q, (PAIR.action.horizon, 1)))
    actions[3, column] = value
    assert shadow.send(shadow.chunk(actions)) in (Reason.CHUNK_NOT_FINITE, Reason.CHUNK_OUT_OF_RANGE)
    assert shadow.tick().state is SafetyState.HOLD


def test_a_state_without_the_opening_of_each_gripper_is_refused():
    shadow = shadow_of()
    home, still = PAIR.joints.home, np.zeros(2 * N)
    wrong = RobotState(home, still, 0.09, Kinematics(PAIR.led_by("left")).forward(home), shadow.stamp + 0.01)
    with pytest.raises(ObservationError):
        shadow.supervisor.receive_state(wrong, shadow.now)
    nan = RobotState.of_arms(home, still, (0.09, np.nan), shadow.stamp + 0.01)
    with pytest.raises(ObservationError):
        shadow.supervisor.receive_state(nan, shadow.now)


def test_a_fault_is_played_with_each_arm_in_the_lead():
    led = []

    def play(trial):
        led.append(trial.shadow.contract.lead)
        trial.tick()
        trial.require(led[-1] == "left", "the right arm lets it through")

    row = run_fault_rows(PAIR, PARAMETERS, [passes("a fault", Reason.OK, play)])[0]
    assert led == ["left", "right"] and not row.stopped and "the right arm" in row.sentence


@pytest.mark.parametrize(
    "name",
    [
        "a joint limit is missing",
        "the workspace has no inside",
        "a gripper value is 1e300",
        "the gripper is asked for too wide an opening",
        "a joint is asked beyond its limit",
    ],
)
def test_faults_of_two_arms_are_stopped(name):
    faults = [fault for fault in fault_table(PAIR) if fault.name == name]
    assert [row.stopped for row in run_fault_rows(PAIR, PARAMETERS, faults)] == [True]


def test_frozen_driver_in_wide_motion_is_no_contact():
    """The other arm's measurements change; backing off would move the arm that nobody sees."""
    contract = load_contract("so101_pair").led_by("left")
    shadow, swing = PlantShadow(contract, PARAMETERS, Plant()), np.tile([0.6, 0.4, 0.4, -0.4, 0.8], 2)
    while shadow.supervisor.arm(shadow.now) is not Reason.OK:
        shadow.tick()
    reasons, held = set(), []
    for tick in range(260):
        if tick % 10 == 0:
            times = 0.01 * (tick + 10 * np.arange(1, contract.action.horizon + 1))
            rows = contract.joints.home + 0.5 * swing * np.sin(2.0 * np.pi * times / 2.0)[:, None]
            shadow.send(shadow.chunk(shadow.joint_actions(rows, np.full((len(rows), 2), 0.05))))
        if tick == 60:
            shadow.plant.lying, shadow.plant.lie = contract.joint_owners == 1, Lie.FROZEN
        decision = shadow.tick()
        reasons.add(decision.reason)
        if tick >= 60 and decision.state is SafetyState.HOLD:
            held.append(shadow.commands[-1])
    assert "not_following" in reasons and "contact" not in reasons
    way = np.diff(held, axis=0)
    assert (way * way[0] >= 0.0).all(), "it only stops, and does not go back"


@pytest.mark.parametrize("frozen", ["left", "right"])
def test_a_driver_of_one_arm_that_freezes_holds_both(frozen):
    """It moves too little to be far from its commands, and the other arm is measured to move all the time."""
    shadow = shadow_of()
    rows, own = np.tile(PAIR.joints.home, (PAIR.action.horizon, 1)), PAIR.joint_columns(frozen)
    times = 0.1 * np.arange(1, PAIR.action.horizon + 1)
    stuck, reasons = np.array(shadow.q), set()
    for tick in range(150):
        if tick % shadow.chunk_ticks == 0:
            rows[:, [4, N + 4]] = PAIR.joints.home[4] + 0.012 * np.sin(4.0 * (tick * shadow.period + times))[:, None]
            shadow.send(shadow.chunk(shadow.joint_actions(rows)))
        measured = shadow.q.copy()
        measured[own] = stuck[own]
        shadow.pass_time()
        shadow.sense(shadow.state(positions=measured))
        shadow.rewind()
        reasons.add(shadow.tick(sense=False).reason)
    assert "not_following" in reasons and shadow.supervisor.state is SafetyState.HOLD
