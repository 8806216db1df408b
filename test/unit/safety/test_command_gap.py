"""After a gap of the layer's own commands: what is commanded, and where the arm must be for that."""

from __future__ import annotations

import numpy as np
import pytest

from vla_ros.robot.contract import load_contract
from vla_ros.safety.motion.command_trajectory import TAIL, command_trajectory
from vla_ros.safety.reasons import Reason
from vla_ros.safety.supervisor import SafetySupervisor
from vla_ros.safety_bench.plants import Lie, Plant, PlantShadow
from vla_ros.types import SafetyState

HOLD, RUN, ESTOP, DISARMED = SafetyState.HOLD, SafetyState.RUN, SafetyState.ESTOP, SafetyState.DISARMED
TURN = np.eye(7)[0]
GAP = 5.0
STATES = [HOLD, RUN, ESTOP]


@pytest.fixture
def shadow(contract, parameters):
    return PlantShadow(contract, parameters, Plant(lag=0.02, delay=1))


def bring_to(shadow, state, sag=0.0):
    """Armed, at rest, in one of the states in which it is commanded; the second joint comes to hang `sag` rad off."""
    shadow.move(40)
    if state is HOLD:
        shadow.heart = None
    if state is ESTOP:
        shadow.supervisor.press_estop(shadow.now)
    for i in range(60):
        if state is RUN and i % shadow.chunk_ticks == 0:
            shadow.stay()
        hang(shadow, min(sag, 1e-3 * i))
        shadow.tick()
    assert shadow.supervisor.state is state


def hang(shadow, angle):
    shadow.plant.lie, shadow.plant.offset = Lie.OFFSET, angle * np.eye(len(shadow.q))[1]


def hold_up(shadow, seconds=GAP):
    """Nothing runs for so long: no tick, no joint state; the arm follows the stop that its controller has."""
    shadow.now, shadow.stamp = shadow.now + seconds, shadow.stamp + seconds
    shadow.coast()


def go_on(shadow, ticks=60):
    """Tick; returns the decisions and the steps that were commanded."""
    mark = len(shadow.steps)
    return [shadow.tick() for _ in range(ticks)], shadow.steps[mark:]


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("angle", [0.03, 0.1, 0.5])
def test_an_arm_that_was_moved_in_a_gap_is_given_up(shadow, state, angle):
    bring_to(shadow, state)
    hold_up(shadow)
    shadow.put(shadow.q + angle * TURN)
    assert shadow.supervisor.watchdog_brake(shadow.now, 0) is None
    decisions, commanded = go_on(shadow)
    assert commanded == []
    assert shadow.supervisor.state is (ESTOP if state is ESTOP else DISARMED)
    assert not shadow.supervisor.commanding
    if state is ESTOP:
        assert "not commanded any more: tracking" in decisions[-1].sentence
        shadow.supervisor.release_estop(shadow.now)
        assert shadow.supervisor.reset(shadow.now) is Reason.OK
    else:
        assert decisions[-1].reason == "tracking"
    shadow.heart = None
    assert shadow.supervisor.arm(shadow.now) is Reason.OK
    _, commanded = go_on(shadow, 5)
    assert len(commanded) == 5
    np.testing.assert_allclose(commanded[0][1].positions, shadow.q, atol=1e-9)


@pytest.mark.parametrize("state", STATES)
def test_an_arm_that_rests_where_its_stop_ended_is_commanded_on_once_that_was_measured(shadow, state):
    bring_to(shadow, state)
    hold_up(shadow)
    place = shadow.q.copy()
    assert shadow.supervisor.watchdog_brake(shadow.now, 0) is None
    decisions, commanded = go_on(shadow)
    assert decisions[0].joint_positions is None  # one state alone may have waited in a queue since before the gap
    assert len(commanded) > 40
    np.testing.assert_allclose(commanded[0][1].positions, place, atol=1e-3)
    assert shadow.supervisor.state in (state, HOLD)
    if state is RUN:
        for i in range(60):
            if i % shadow.chunk_ticks == 0:
                shadow.stay()
            shadow.tick()
        assert shadow.supervisor.state is RUN


@pytest.mark.parametrize("state", STATES)
def test_without_a_fresh_joint_state_nothing_is_commanded(shadow, state):
    bring_to(shadow, state)
    hold_up(shadow)
    mark = len(shadow.steps)
    for _ in range(100):
        assert shadow.tick(sense=False).joint_positions is None
        assert not shadow.supervisor.commanding
        assert shadow.supervisor.watchdog_brake(shadow.now, 0) is None
    assert len(shadow.steps) == mark
    assert shadow.supervisor.state is (ESTOP if state is ESTOP else HOLD)


@pytest.mark.parametrize("state", STATES)
def test_a_joint_state_from_before_the_gap_that_comes_after_it_commands_nothing(shadow, state):
    """It has waited in a queue: the arm is not there any more."""
    bring_to(shadow, state)
    old = shadow.q.copy()
    hold_up(shadow)
    shadow.put(shadow.q + 0.1 * TURN)
    mark = len(shadow.steps)
    for _ in range(5):
        shadow.pass_time()
        shadow.sense(shadow.state(positions=old))
        shadow.rewind()
        shadow.tick(sense=False)
    go_on(shadow)
    assert len(shadow.steps) == mark
    assert not shadow.supervisor.commanding


def let_come(shadow, positions, stamp):
    """One tick with a state of other positions and another stamp; the driver's clock goes on."""
    shadow.pass_time()
    shadow.sense(shadow.state(positions=positions, stamp=stamp))
    shadow.rewind()
    return shadow.tick(sense=False)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("begin", [0.0, 0.5 * GAP, GAP - 0.5])
def test_states_that_waited_in_a_queue_over_the_gap_are_not_believed(shadow, state, begin):
    """They come one a tick, in order, with the stamps of when they were measured: before the gap, or in it."""
    bring_to(shadow, state)
    old, stamp, mark = shadow.q.copy(), shadow.stamp + begin, len(shadow.steps)
    hold_up(shadow)
    shadow.put(shadow.q + 0.3 * TURN)
    for i in range(35):
        let_come(shadow, old, stamp + shadow.period * (i + 1))
    assert len(shadow.steps) == mark
    assert shadow.supervisor.state is (ESTOP if state is ESTOP else HOLD)
    decisions, commanded = go_on(shadow)
    assert commanded == []
    assert "tracking" in (decisions[-1].sentence if state is ESTOP else decisions[-1].reason)


def test_after_a_queue_the_arm_is_commanded_on_once_fresh_states_have_shown_it_at_rest(shadow):
    bring_to(shadow, HOLD)
    for _ in range(2):
        old, stamp, mark = shadow.q.copy(), shadow.stamp, len(shadow.steps)
        hold_up(shadow)
        for i in range(50):
            decision = let_come(shadow, old, stamp + shadow.period * (i + 1))
        assert "stamps of the joint states are 5.0 s older" in decision.sentence
        for _ in range(10):  # those of the queue have shown a rest, but of when?
            assert "stamps" not in shadow.tick().sentence
        assert len(shadow.steps) == mark
        _, commanded = go_on(shadow)
        assert len(commanded) > 50


def test_states_that_come_with_jitter_are_fresh(shadow):
    bring_to(shadow, HOLD)
    hold_up(shadow)
    place, mark = shadow.q.copy(), len(shadow.steps)
    for i in range(60):
        let_come(shadow, place, shadow.stamp + shadow.period - 0.08 + 0.005 * (i % 2))
    assert len(shadow.steps) > mark


def test_one_wrong_stamp_before_a_gap_makes_no_state_stale(shadow):
    bring_to(shadow, HOLD)
    shadow.sense(shadow.state(stamp=shadow.stamp + 0.25))
    hold_up(shadow)
    _, commanded = go_on(shadow)
    assert len(commanded) > 40


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("seconds", [-2.0 * GAP, -3.0, -0.2, 0.2, 3.0])
def test_a_driver_whose_clock_was_set_in_a_gap_is_commanded_on_after_a_new_arming(shadow, state, seconds):
    """Forwards, or backwards: a queue that does not end reads like that."""
    bring_to(shadow, state)
    hold_up(shadow)
    shadow.stamp += seconds
    decisions, commanded = go_on(shadow, round(1.2 / shadow.period))
    assert commanded == []
    assert "stamps of the joint states" in decisions[-1].sentence
    if state is ESTOP:
        shadow.supervisor.release_estop(shadow.now)
        assert shadow.supervisor.reset(shadow.now) is Reason.OK
    assert shadow.tick().state is DISARMED
    shadow.heart = None
    assert shadow.supervisor.arm(shadow.now) is Reason.OK
    go_on(shadow)
    hold_up(shadow)  # the clock is known as it is
    _, commanded = go_on(shadow)
    assert len(commanded) > 40


@pytest.fixture
def soft(parameters):
    return PlantShadow(load_contract("so101"), parameters, Plant(lag=0.05))


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("angle", [0.019, 0.025, 0.028])
@pytest.mark.parametrize("seconds", [0.6, GAP])
def test_an_arm_that_hangs_beside_its_command_as_before_the_gap_is_commanded_on(soft, state, angle, seconds):
    """Gravity holds it there, further from the command than one tick, and within `follow_tolerance`."""
    bring_to(soft, state, sag=angle)
    hold_up(soft, seconds)
    _, commanded = go_on(soft)
    assert len(commanded) > 40
    assert soft.supervisor.state in (state, HOLD)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize(("before", "after"), [(0.0, 0.025), (0.019, 0.029), (0.025, -0.025), (0.025, 0.05)])
def test_an_arm_that_hung_elsewhere_before_the_gap_is_given_up(soft, state, before, after):
    bring_to(soft, state, sag=before)
    hold_up(soft, 0.6)
    hang(soft, after)
    _, commanded = go_on(soft)
    assert commanded == []
    assert not soft.supervisor.commanding


def test_what_comes_to_rest_beside_the_end_of_a_stop_in_the_gap_alone_may_have_been_put_there(soft):
    """It was held up in motion: no rest was measured before."""
    soft.move(40)
    hold_up(soft, 0.6)
    soft.put(soft.q + 0.025 * np.eye(len(soft.q))[1])
    _, commanded = go_on(soft)
    assert commanded == []
    assert not soft.supervisor.commanding


def test_an_arm_that_is_guided_while_it_is_looked_at_is_not_commanded(shadow):
    """It is moved slowly about the place where the stop ended."""
    bring_to(shadow, HOLD)
    hold_up(shadow)
    start, mark = shadow.q.copy(), len(shadow.steps)
    for i in range(200):
        shadow.put(start + 0.015 * np.sin(0.2 * i) * TURN)
        shadow.tick()
    assert len(shadow.steps) == mark


@pytest.mark.parametrize("seconds", [0.5, 1.0, 3.0])
def test_stopped_in_motion_it_goes_on_from_the_end_of_the_stop(shadow, seconds):
    shadow.move(40)
    for _ in range(round(seconds / shadow.period)):  # the states go on
        shadow.pass_time()
        shadow.coast()
        shadow.sense()
    for i in range(80):
        if i % shadow.chunk_ticks == 0:
            shadow.stay()
        decision = shadow.tick()
    assert decision.state is RUN


def test_a_gap_begins_when_the_controller_lets_go_of_the_last_trajectory(shadow):
    """In motion: its end is that of the stop behind the last step, and what the trajectory holds after it."""
    shadow.move(40)
    supervisor, timeout = shadow.supervisor, shadow.contract.controllers.command_timeout
    sent = command_trajectory(supervisor.commanded, shadow.period, shadow.now)
    end = sent.stamp + float(sent.times[-1])
    assert end > shadow.now + TAIL + 0.05
    assert not supervisor.interrupted(end + timeout - 1e-6)
    assert supervisor.interrupted(end + timeout + 1e-6)
    assert supervisor.watchdog_brake(end + timeout - 1e-6, supervisor.commanded.serial) is not None


@pytest.mark.parametrize("state", STATES)
def test_an_arm_that_was_let_go_of_is_commanded_nothing_until_it_is_armed(shadow, state):
    bring_to(shadow, state)
    shadow.supervisor.let_go()
    assert shadow.supervisor.state is (ESTOP if state is ESTOP else DISARMED)
    assert shadow.supervisor.watchdog_brake(shadow.now, 0) is None
    _, commanded = go_on(shadow)
    assert commanded == []
    assert shadow.supervisor.state is (ESTOP if state is ESTOP else DISARMED)


@pytest.mark.parametrize("released", [False, True])
def test_an_arm_that_is_guided_away_in_an_emergency_stop_is_given_up(shadow, released):
    bring_to(shadow, ESTOP)
    if released:
        shadow.supervisor.release_estop(shadow.now)
    for _ in range(60):
        moved = shadow.q + 0.0083 * TURN
        shadow.tick(sense=False)
        shadow.put(moved)
        shadow.sense()
    decisions, commanded = go_on(shadow)
    assert commanded == []
    assert decisions[-1].state is ESTOP
    assert "not commanded any more: tracking" in decisions[-1].sentence
    shadow.supervisor.release_estop(shadow.now)
    assert shadow.supervisor.reset(shadow.now) is Reason.OK
    assert shadow.tick().state is DISARMED


def test_in_lock_step_the_time_waits_for_commands(contract, parameters, shadow):
    supervisor = SafetySupervisor(contract, parameters, lockstep=True)
    supervisor.receive_state(shadow.state(stamp=1.0), 1.0)
    assert supervisor.arm(1.0) is Reason.OK
    assert supervisor.tick(1.01).joint_positions is not None
    supervisor.receive_state(shadow.state(stamp=9.0), 9.0)
    assert supervisor.tick(9.0).joint_positions is not None
