"""What the layer does about each fault: the state, the reason, and how fast."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vla_ros.errors import ObservationError
from vla_ros.safety.motion.command_trajectory import TAIL
from vla_ros.safety.reasons import Reason
from vla_ros.types import Instruction, InstructionKind, Pose, SafetyState

HOLD, RUN, SLOW, ESTOP, DISARMED = (
    SafetyState.HOLD,
    SafetyState.RUN,
    SafetyState.SLOW,
    SafetyState.ESTOP,
    SafetyState.DISARMED,
)


def aside(rig, metres=0.1):
    return rig.pose().position + np.array([0.0, metres, 0.0])


def moving(rig):
    """The arm under way at full speed: 0.25 m/s along y."""
    rig.start()
    start = rig.pose().position
    for i in range(60):
        if i % 10 == 0:
            way = start + np.outer(np.arange(1, 13) + i / 10, [0.0, 0.025, 0.0])
            assert rig.send(rig.chunk(rig.actions(way))) is Reason.OK
        rig.tick()
    assert speed(rig) > 0.2
    return start


def speed(rig):
    """Speed of the tool over the last tick, m/s."""
    before, after = (rig.kinematics.forward(q).position for q in rig.commands[-2:])
    return float(np.linalg.norm(after - before)) / rig.supervisor.period


def assert_stops(rig, referee, within=0.3):
    """Speed falls from now on until the arm rests, within all limits."""
    fastest = speed(rig)
    for _ in range(round(within / rig.supervisor.period)):
        rig.tick()
        assert speed(rig) <= fastest + 1e-9
        fastest = speed(rig)
    assert speed(rig) == 0.0
    referee.accept(rig.commands)


# Arming.


def test_nothing_is_commanded_before_it_is_armed(rig):
    rig.wait()
    rig.ask(aside(rig))
    decision = rig.tick()
    assert decision.state is DISARMED
    assert decision.joint_positions is None
    assert decision.gripper_opening is None
    assert rig.supervisor.counters.commands == 0


def test_armed_it_holds_where_it_is_until_two_chunks_came(rig):
    rig.arm()
    decision = rig.ticks(20)
    assert (decision.state, decision.reason) == (HOLD, "waiting")
    np.testing.assert_array_equal(decision.joint_positions, rig.commands[0])
    rig.ask(aside(rig))
    assert rig.tick().state is HOLD
    rig.ask(aside(rig))
    assert rig.tick().state is RUN


def test_without_a_joint_state_it_is_not_armed(rig):
    assert rig.supervisor.arm(rig.now) is Reason.STATE_MISSING
    rig.wait()
    rig.now += 1.0
    assert rig.supervisor.arm(rig.now) is Reason.STATE_STALE


def test_an_arm_that_moves_is_not_armed(rig):
    rig.velocities = np.full(7, 0.06)
    rig.wait()
    assert rig.supervisor.arm(rig.now) is Reason.MOVING


@pytest.mark.parametrize(("excess", "answer"), [(0.05, Reason.OK), (0.2, Reason.OUTSIDE_LIMITS)])
def test_an_arm_outside_of_its_limits_is_armed_only_where_it_can_come_back(rig, contract, excess, answer):
    rig.q[3] = contract.joints.upper[3] + excess
    rig.wait()
    assert rig.supervisor.arm(rig.now) is answer


def test_disarming_in_motion_brings_the_arm_to_rest_first(rig, referee):
    moving(rig)
    rig.supervisor.disarm(rig.now)
    decision = rig.tick()
    assert (decision.state, decision.reason) == (HOLD, "disarming")
    for _ in range(40):
        decision = rig.tick()
    assert decision.state is DISARMED
    assert decision.joint_positions is None
    assert speed(rig) < 0.05  # the last command of a stop is its place of rest
    referee.accept([*rig.commands, *[rig.commands[-1]] * 3])


def test_arming_again_takes_over_from_where_the_arm_is(rig):
    rig.start()
    rig.supervisor.disarm(rig.now)
    rig.ticks(2)  # the place of rest has been commanded
    for _ in range(10):  # moved by hand
        rig.q = rig.q + 0.01
        rig.wait(1)
    rig.wait(13)
    assert rig.supervisor.arm(rig.now) is Reason.TRACKING  # until its controller has let go of the last command
    rig.wait(round((TAIL + rig.contract.controllers.command_timeout) / rig.supervisor.period))
    assert rig.supervisor.arm(rig.now) is Reason.OK
    np.testing.assert_allclose(rig.tick().joint_positions, rig.commands[-2] + 0.1, rtol=0.0, atol=1e-9)


def test_an_opening_that_jumps_is_not_what_the_gripper_begins_with(rig, contract):
    rig.wait()
    rig.opening = contract.gripper.min_opening  # one wrong measurement: 80 mm in one period
    rig.wait(1)
    assert rig.supervisor.arm(rig.now) is Reason.MOVING
    rig.wait(1)  # measured twice it is believed
    assert rig.supervisor.arm(rig.now) is Reason.OK
    assert rig.tick().gripper_opening == contract.gripper.min_opening


@pytest.mark.parametrize(("moved", "begins"), [(0.0, 0.03), (0.02, 0.06)])
def test_armed_again_the_gripper_lets_go_of_nothing_that_it_holds(rig, moved, begins):
    rig.start()
    assert rig.run_towards(rig.pose().position, 60, opening=0.03).gripper_opening == pytest.approx(0.03)
    rig.opening = 0.04  # where the object stops the fingers
    rig.tick()
    rig.supervisor.disarm(rig.now)
    while rig.supervisor.commanding:
        rig.opening = 0.04
        rig.tick()
    rig.opening = 0.04 + moved
    rig.wait()
    assert rig.supervisor.arm(rig.now) is Reason.OK
    assert rig.tick().gripper_opening == pytest.approx(begins)


# Joint states.


def test_silence_of_the_joint_states_holds_at_once_and_ends_by_itself(rig, referee, parameters):
    moving(rig)
    count = round(parameters.timing.state_timeout / rig.supervisor.period)
    decisions = [rig.tick(sense=False) for _ in range(count + 2)]
    assert all(d.state is RUN for d in decisions[: count - 1])
    assert decisions[-1].reason == "state_stale"
    assert decisions[-1].state is HOLD
    assert_stops(rig, referee)
    assert rig.run_towards(aside(rig), 30).state is RUN


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
@pytest.mark.parametrize("where", ["joint_positions", "joint_velocities"])
def test_a_joint_state_that_cannot_be_holds_at_once(rig, referee, value, where):
    moving(rig)
    broken = np.zeros(7)
    broken[4] = value
    with pytest.raises(ObservationError):
        rig.supervisor.receive_state(rig.state(**{where: broken}), rig.now)
    decision = rig.tick(sense=False)
    assert decision.state is HOLD
    assert decision.reason == ("state_out_of_range" if value == 1e300 else "state_not_finite")
    assert_stops(rig, referee)


@pytest.mark.parametrize("width", [1, 6, 8])
def test_a_joint_state_of_another_robot_holds(rig, width):
    rig.start()
    with pytest.raises(ObservationError, match="robot contract"):
        rig.supervisor.receive_state(
            rig.state(joint_positions=np.zeros(width), joint_velocities=np.zeros(width)), rig.now
        )
    assert rig.tick(sense=False).reason == "state_width"


def test_one_late_joint_state_is_dropped_and_does_no_harm(rig):
    rig.start()
    with pytest.raises(ObservationError, match="older"):
        rig.supervisor.receive_state(rig.state(stamp=rig.stamp - 0.02), rig.now)
    assert rig.tick().state is RUN


def test_the_same_joint_state_again_and_again_is_not_fresh(rig):
    rig.start()
    rig.ask(aside(rig))
    for _ in range(30):
        rig.now += 0.01
        rig.sense()
        decision = rig.supervisor.tick(rig.now)
    assert decision.reason == "state_stale"


def test_an_arm_that_is_not_where_it_was_told_holds(rig, parameters):
    rig.start()
    rig.q = rig.q + np.array([0, 0, 0, 0, 1.2 * parameters.motion.tracking_tolerance, 0, 0])
    before = np.array(rig.commands[-1])
    decision = rig.tick()
    assert (decision.state, decision.reason) == (HOLD, "tracking")
    np.testing.assert_allclose(decision.joint_positions, before, atol=1e-6)


# Clocks.


@pytest.mark.parametrize("jump", [3600.0, -3600.0, 1.7e9])
def test_a_jump_of_the_sensors_clock_holds_drops_the_plan_and_ends_by_itself(rig, referee, jump):
    rig.stamp += 4000.0
    moving(rig)
    rig.stamp += jump
    decisions = [rig.tick() for _ in range(10)]
    assert "clock_jump" in {d.reason for d in decisions}
    assert decisions[-1].state is HOLD
    assert_stops(rig, referee)
    assert rig.run_towards(aside(rig, 0.05), 40).state is RUN
    referee.accept(rig.commands)


def test_a_paused_simulation_holds_and_resumes_without_a_jump(rig, referee):
    moving(rig)
    for _ in range(200):  # states keep coming, time stands still
        rig.now += 0.01
        rig.sense()
        decision = rig.supervisor.tick(rig.now)
        rig.q = np.array(decision.joint_positions)
        rig.commands.append(rig.q)
        rig.followed = rig.now, rig.supervisor.commanded
    assert decision.state is HOLD
    rig.velocities = np.zeros(7)
    rig.wait(2)
    assert rig.run_towards(aside(rig, 0.05), 40).state is RUN
    referee.accept(rig.commands)


def test_a_simulation_at_a_third_of_the_speed_does_not_overtake_its_plan(rig):
    """The plan asks for 0.1 m/s of simulation time; in steady time the arm then moves at a third of that."""
    rig.start()
    start = rig.pose().position
    began, travelled = rig.stamp, []
    for i in range(360):
        if i % 30 == 0:
            elapsed = rig.stamp - began
            way = start + np.outer(elapsed + 0.1 * np.arange(1, 13), [0.0, 0.1, 0.0])
            assert rig.send(rig.chunk(rig.actions(way))) is Reason.OK
        rig.now += 0.01
        if i % 3 == 0:
            rig.stamp += 0.01
            rig.sense()
        decision = rig.supervisor.tick(rig.now)
        rig.q = np.array(decision.joint_positions)
        travelled.append(rig.pose().position[1] - start[1])
    assert decision.state is RUN
    assert travelled[-1] - travelled[-151] == pytest.approx(0.05, abs=0.005)


# Chunks.


def nan_chunk(rig):
    rig.supervisor.refuse_chunk(Reason.CHUNK_NOT_FINITE, rig.now)


def test_a_chunk_with_nan_is_refused_as_a_whole_and_holds(rig, referee):
    moving(rig)
    nan_chunk(rig)
    assert (rig.tick().state, rig.supervisor.reason) == (HOLD, Reason.CHUNK_NOT_FINITE)
    assert_stops(rig, referee)


def test_an_arm_that_waits_for_chunks_says_why_the_last_one_was_refused(rig):
    rig.arm()
    rig.supervisor.refuse_chunk(Reason.INSTRUCTION_UNKNOWN, rig.now)
    decision = rig.tick()
    assert (decision.state, decision.reason) == (HOLD, "waiting")
    assert "the last chunk was refused: instruction_unknown" in decision.sentence


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"specification": "another"}, "chunk_specification"),
        ({"actions": np.zeros((12, 6))}, "chunk_shape"),
        ({"actions": np.zeros((13, 7))}, "chunk_shape"),
        ({"actions": np.full((12, 7), 1e300)}, "chunk_out_of_range"),
        ({"actions": np.full((12, 7), 11.0)}, "chunk_out_of_range"),
        ({"period": 0.2}, "chunk_period"),
        ({"trust": 0.0}, "trust_low"),
    ],
)
def test_a_malformed_chunk_is_refused_and_holds(rig, changes, reason):
    rig.start()
    chunk = rig.chunk(**({"actions": rig.actions(np.tile(aside(rig), (12, 1)))} | changes))
    assert rig.send(chunk).label == reason
    assert (rig.tick().state, rig.supervisor.reason.label) == (HOLD, reason)


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("actions", np.full((12, 7), np.nan), "chunk_not_finite"),
        ("actions", np.full((12, 7), np.inf), "chunk_not_finite"),
        ("actions", "rubbish", "chunk_shape"),
        ("actions", np.zeros(7), "chunk_shape"),
        ("trust", np.nan, "chunk_not_finite"),
        ("trust", 2.0, "trust_low"),
        ("period", np.nan, "chunk_period"),
        ("observation_stamp", None, "chunk_shape"),
        ("period", np.array([0.1]), "chunk_shape"),
        ("instruction_sequence", np.nan, "chunk_not_finite"),
        ("actions", np.zeros((12, 7), complex), "chunk_shape"),
    ],
)
def test_nothing_about_a_chunk_is_believed_not_even_that_it_was_checked_before(rig, field, value, reason):
    rig.start()
    chunk = rig.chunk(rig.actions(np.tile(aside(rig), (12, 1))))
    object.__setattr__(chunk, field, value)
    assert rig.send(chunk).label == reason
    assert rig.tick().state is HOLD


@pytest.mark.parametrize(
    ("age", "reason"),
    [
        (0.0, "ok"),
        (0.5, "chunk_out_of_order"),
        (2.0, "chunk_too_old"),
        (-0.04, "ok"),
        (-0.06, "chunk_stamp_future"),
        (1e9, "chunk_stamp_zero"),
        (np.nan, "chunk_stamp_zero"),
    ],
)
def test_a_chunk_out_of_its_time_is_dropped_and_the_arm_goes_on(rig, age, reason):
    rig.start()
    actions = rig.actions(np.tile(aside(rig), (12, 1)))
    assert rig.send(rig.chunk(actions, observation_stamp=rig.stamp - age)).label == reason
    assert rig.tick().state is RUN


def test_a_stamp_of_zero_is_no_stamp(rig):
    rig.stamp = 0.5
    rig.start()
    assert (
        rig.send(rig.chunk(rig.actions(np.tile(aside(rig), (12, 1))), observation_stamp=0.0)) is Reason.CHUNK_STAMP_ZERO
    )


def test_a_chunk_that_comes_twice_is_dropped_the_second_time(rig):
    rig.start()
    chunk = rig.chunk(rig.actions(np.tile(aside(rig), (12, 1))))
    assert rig.send(chunk) is Reason.OK
    assert rig.send(chunk) is Reason.CHUNK_DUPLICATE


def test_a_policy_that_was_started_again_counts_from_one_again(rig):
    rig.start()
    rig.sequence = 0
    assert rig.ask(aside(rig)) is Reason.OK


@pytest.mark.parametrize("quaternion", [np.zeros(4), np.full(4, np.nan), np.full(4, 1e300), [0, 0, 0, 1.1]])
def test_a_start_that_is_no_pose_is_refused(rig, quaternion):
    rig.start()
    chunk = rig.chunk(rig.actions(np.tile(aside(rig), (12, 1))))
    with np.errstate(over="ignore"):
        assert rig.supervisor.receive_chunk(chunk, Pose(np.zeros(3), quaternion), rig.now) is Reason.CHUNK_START


def test_without_fresh_joint_states_no_chunk_is_taken(rig):
    rig.start()
    rig.now += 1.0
    assert rig.ask(aside(rig)) is Reason.CHUNK_WITHOUT_STATE


def test_rejected_chunks_are_counted(rig):
    rig.start()
    before = rig.supervisor.counters.rejected_chunks
    for _ in range(3):
        rig.send(rig.chunk(np.zeros((12, 6))))
    assert rig.supervisor.counters.rejected_chunks == before + 3


# Silence of the policy.


def test_a_policy_that_falls_silent_is_answered_within_its_deadline(rig, referee, parameters):
    start = moving(rig)
    assert rig.send(rig.chunk(rig.actions(start + np.outer(6 + np.arange(1, 13), [0.0, 0.0, 0.002])))) is Reason.OK
    deadline = parameters.timing.chunk_timeout
    ticks = 0
    while rig.tick().state in (RUN, SLOW):
        ticks += 1
        assert ticks < 200
    assert ticks * rig.supervisor.period <= deadline + 0.02
    assert rig.supervisor.reason is Reason.CHUNK_STALE
    assert_stops(rig, referee)


def test_a_short_chunk_is_finished_and_then_held(rig, referee, parameters):
    moving(rig)
    assert rig.ask(aside(rig, 0.05), rows=2) is Reason.OK
    ticks = 0
    while (decision := rig.tick()).state is RUN:
        ticks += 1
    assert decision.reason == "chunk_exhausted"
    assert ticks * rig.supervisor.period <= 0.2 + parameters.timing.exhausted_grace + 0.02
    assert_stops(rig, referee)


def test_an_ageing_observation_makes_the_arm_slow_before_it_holds(rig, parameters):
    rig.start()
    target = rig.pose().position + np.array([0.0, 0.35, 0.0])
    scales = []
    for _ in range(90):
        stamp = rig.stamp - 0.45  # a policy that takes its time: every chunk is half a second old when it comes
        actions = rig.actions(np.tile(target, (12, 1)))
        rig.send(rig.chunk(actions, observation_stamp=stamp))
        for _ in range(10):
            decision = rig.tick()
            scales.append(decision.speed_scale)
        if decision.state is SLOW:
            break
    assert decision.state is SLOW
    assert decision.reason == "observation_ageing"
    assert parameters.motion.slow_speed < decision.speed_scale < 1.0


def test_little_trust_is_little_speed(rig):
    rig.start()
    for i in range(40):
        if i % 10 == 0:
            actions = rig.actions(rig.pose().position + np.outer(np.arange(1, 13), [0.0, 0.05, 0.0]))
            assert rig.send(rig.chunk(actions, trust=0.09)) is Reason.OK
        decision = rig.tick()
    assert decision.state is SLOW
    assert decision.speed_scale == pytest.approx(0.3)
    assert speed(rig) <= 0.3 * rig.contract.cartesian.linear_velocity + 1e-3


# Instructions.


def test_a_stop_holds_at_once_and_only_a_new_task_ends_it(rig, referee):
    moving(rig)
    rig.supervisor.receive_instruction(Instruction("stop", 5, InstructionKind.STOP), rig.now)
    decision = rig.tick()
    assert (decision.state, decision.reason) == (HOLD, "instruction_stop")
    assert "stop" in decision.sentence
    assert_stops(rig, referee)
    actions = rig.actions(np.tile(aside(rig), (12, 1)))
    assert rig.send(rig.chunk(actions, instruction_sequence=5)) is Reason.INSTRUCTION_STOP
    assert rig.send(rig.chunk(actions, instruction_sequence=4)) is Reason.INSTRUCTION_OLD
    assert rig.send(rig.chunk(actions, instruction_sequence=6)) is Reason.INSTRUCTION_UNKNOWN
    assert rig.tick().state is HOLD
    rig.supervisor.receive_instruction(Instruction("go on", 6), rig.now)
    for _ in range(2):
        assert rig.send(rig.chunk(actions, instruction_sequence=6)) is Reason.OK
        rig.ticks(5)
    assert rig.supervisor.state is RUN


@pytest.mark.parametrize("sequence", [1, 7, -1, 2**63])
def test_before_the_first_task_no_chunk_serves_one(rig, sequence):
    """0 is what a plan says that serves no instruction (ActionChunk.msg); any other was not heard here."""
    rig.arm()
    actions = rig.actions(np.tile(aside(rig), (12, 1)))
    for _ in range(3):
        assert rig.send(rig.chunk(actions, instruction_sequence=sequence)) is Reason.INSTRUCTION_UNKNOWN
        assert rig.ticks(5).state is HOLD
    assert rig.send(rig.chunk(actions)) is Reason.OK
    rig.supervisor.receive_instruction(Instruction("task", 7), rig.now)
    assert rig.send(rig.chunk(actions)) is Reason.INSTRUCTION_OLD
    assert rig.send(rig.chunk(actions, instruction_sequence=7)) is Reason.OK


def test_a_new_task_drops_the_plan_of_the_old_one(rig):
    rig.start()
    rig.supervisor.receive_instruction(Instruction("another task", 7), rig.now)
    assert (rig.tick().state, rig.supervisor.reason) == (HOLD, Reason.INSTRUCTION_NEW)
    assert rig.ask(aside(rig)) is Reason.INSTRUCTION_OLD
    assert rig.supervisor.instruction_sequence == 0


def test_an_instruction_node_that_was_started_again_is_heard(rig):
    rig.start()
    rig.supervisor.receive_instruction(Instruction("task", 9, stamp=10.0), rig.now)
    rig.supervisor.receive_instruction(Instruction("late one", 8, stamp=5.0), rig.now)
    actions = rig.actions(np.tile(aside(rig), (12, 1)))
    assert rig.send(rig.chunk(actions, instruction_sequence=8)) is Reason.INSTRUCTION_OLD
    rig.supervisor.receive_instruction(Instruction("first again", 1, stamp=20.0), rig.now)
    assert rig.send(rig.chunk(actions, instruction_sequence=1)) is Reason.OK


def test_a_task_from_before_a_stop_does_not_lift_it(rig):
    """A restarted instruction node numbers its stop anew; then the old task comes once more."""
    rig.start()
    old = Instruction("task", 10, stamp=10.0)
    rig.supervisor.receive_instruction(old, rig.now)
    rig.supervisor.receive_instruction(Instruction("stop", 1, InstructionKind.STOP, 20.0), rig.now)
    rig.supervisor.receive_instruction(old, rig.now)
    actions = rig.actions(np.tile(aside(rig), (12, 1)))
    assert rig.send(rig.chunk(actions, instruction_sequence=10)) is not Reason.OK
    rig.supervisor.receive_instruction(Instruction("go on", 2, stamp=30.0), rig.now)
    assert rig.send(rig.chunk(actions, instruction_sequence=2)) is Reason.OK


@pytest.mark.parametrize("clock", [0.0, 1e9], ids=["clock of the sensors", "another clock"])
def test_a_stop_with_a_stamp_far_ahead_rejects_no_later_task(rig, clock):
    rig.start()
    old = Instruction("task", 10, stamp=clock + rig.now)
    rig.supervisor.receive_instruction(old, rig.now)
    rig.supervisor.receive_instruction(Instruction("stop", 11, InstructionKind.STOP, clock + 1e10), rig.now)
    rig.supervisor.receive_instruction(old, rig.now)
    actions = rig.actions(np.tile(aside(rig), (12, 1)))
    assert rig.send(rig.chunk(actions, instruction_sequence=10)) is not Reason.OK
    rig.supervisor.receive_instruction(Instruction("go on", 12, stamp=clock + rig.now + 2.0), rig.now)
    assert rig.send(rig.chunk(actions, instruction_sequence=12)) is Reason.OK


@pytest.mark.parametrize("ago", [60.0, 1e9])
def test_a_stop_of_a_slow_clock_is_not_lifted_by_the_task_before_it(rig, ago):
    rig.start()
    old = Instruction("task", 10, stamp=rig.now)
    rig.supervisor.receive_instruction(old, rig.now)
    rig.supervisor.receive_instruction(Instruction("stop", 11, InstructionKind.STOP, max(rig.now - ago, 0.0)), rig.now)
    rig.supervisor.receive_instruction(old, rig.now)
    actions = rig.actions(np.tile(aside(rig), (12, 1)))
    assert rig.send(rig.chunk(actions, instruction_sequence=10)) is not Reason.OK
    rig.supervisor.receive_instruction(replace(old, sequence=12), rig.now)
    assert rig.send(rig.chunk(actions, instruction_sequence=12)) is Reason.OK


@pytest.mark.parametrize("time", [np.nan, np.inf, -np.inf])
def test_a_tick_at_no_time_changes_nothing(rig, time):
    rig.start()
    before = rig.supervisor.commanded
    with pytest.raises(ValueError, match="finite"):
        rig.supervisor.tick(time)
    assert rig.supervisor.commanded is before
    assert rig.tick().state is SafetyState.RUN


def test_without_heartbeats_the_instruction_node_is_not_missed(rig):
    """As in lock step, where the time of the simulator stands still while it is waited for."""
    rig.start()
    rig.supervisor.receive_instruction_beat(1, rig.now)
    assert rig.run_towards(aside(rig), 100).state is not HOLD


# Emergency stop.


def test_the_emergency_stop_stops_latches_and_ends_only_by_a_reset(rig, referee):
    moving(rig)
    rig.supervisor.press_estop(rig.now)
    assert rig.tick().state is ESTOP
    assert not rig.supervisor.armed
    assert rig.supervisor.reset(rig.now) is Reason.MOVING
    assert_stops(rig, referee)
    assert rig.supervisor.reset(rig.now) is Reason.ESTOP_PRESSED
    rig.supervisor.release_estop(rig.now)
    assert rig.run_towards(aside(rig), 30).reason == "estop_latched"
    assert rig.supervisor.arm(rig.now) is Reason.ESTOP_LATCHED
    assert rig.supervisor.reset(rig.now) is Reason.OK
    assert rig.tick().state is DISARMED
    assert rig.supervisor.arm(rig.now) is Reason.DISARMING  # the place of rest was commanded, and is not yet reached
    rig.ticks(2)
    assert rig.supervisor.arm(rig.now) is Reason.OK


def test_the_emergency_stop_is_not_reset_blindly(rig):
    rig.start()
    rig.supervisor.press_estop(rig.now)
    rig.ticks(30)
    rig.supervisor.release_estop(rig.now)
    rig.now += 1.0
    assert rig.supervisor.reset(rig.now) is Reason.STATE_STALE


def test_stop_time_is_the_analytic_one(rig, contract):
    """Each joint could stop in v / a + a / j; they stop together, with the slowest of them, within a tick."""
    moving(rig)
    velocities = np.abs(rig.decisions[-1].joint_velocities)
    joints = contract.joints
    analytic = float(np.max(velocities / joints.acceleration + joints.acceleration / joints.jerk))
    rig.supervisor.press_estop(rig.now)
    ticks = 0
    while speed(rig) > 0.0 or ticks == 0:
        rig.tick()
        ticks += 1
    # One tick more to see that it rests, and acceleration under way at the press may add its own end.
    assert ticks * rig.supervisor.period <= analytic + 0.03


# Ticks.


def test_a_short_gap_between_ticks_slows_and_a_long_one_holds(rig, parameters):
    rig.start()
    rig.run_towards(aside(rig), 20)
    rig.now += 0.042
    rig.stamp += 0.042
    decision = rig.tick()
    assert (decision.state, decision.reason) == (SLOW, "ticks_missed")
    assert not rig.supervisor.resting
    while not rig.supervisor.resting:
        assert decision.speed_scale == 0.0  # after a gap it goes on from rest
        decision = rig.tick()
    assert rig.tick().speed_scale == parameters.motion.slow_speed
    rig.run_towards(aside(rig), 60)
    assert rig.supervisor.state is RUN
    before = rig.supervisor.counters.missed_ticks
    rig.now += 0.12
    rig.stamp += 0.12
    decision = rig.tick()
    assert (decision.state, decision.reason) == (HOLD, "ticks_missed")
    assert rig.supervisor.counters.missed_ticks == before + 12


def test_a_step_that_could_not_be_sent_in_time_is_one_of_the_known_stop_instead(rig, referee):
    """Its controller has begun the stop: the next tick goes on from there."""
    moving(rig)
    rig.ask(aside(rig))
    before = rig.supervisor.commanded
    rig.tick()
    step = rig.supervisor.commanded
    assert not rig.supervisor.too_late(step, rig.now + rig.supervisor.parameters.timing.tick_budget)
    assert rig.supervisor.too_late(step, rig.now + rig.supervisor.parameters.timing.tick_budget + 1e-4)
    taken = rig.supervisor.withdraw(step)
    np.testing.assert_array_equal(taken.positions, before.ahead.positions[0])
    assert taken.due == step.due
    assert taken.serial > step.serial
    assert rig.supervisor.commanded is taken
    rig.commands[-1] = rig.q = taken.positions.copy()
    rig.followed = rig.now, taken
    rig.run_towards(aside(rig), 20)
    referee.accept(rig.commands)


@pytest.mark.parametrize("late", [1e-4, 0.012, 0.3], ids=["just", "a tick", "frozen"])
def test_a_step_that_was_taken_and_not_sent_is_sent_by_the_watch_only_in_time(rig, referee, late):
    moving(rig)
    rig.ask(aside(rig))
    before, budget = rig.supervisor.commanded, rig.supervisor.parameters.timing.tick_budget
    rig.tick()
    step = rig.supervisor.commanded
    in_time, _ = rig.supervisor.watchdog_brake(rig.now + budget, before.serial)
    assert in_time is step
    instead, _ = rig.supervisor.watchdog_brake(rig.now + budget + late, before.serial)
    period = rig.supervisor.parameters.timing.period
    missed = round((instead.due - step.due) / period)
    assert missed == max(int((budget + late) / period + 1e-9) - 1, 0), "ticks that are over"
    stop = before.ahead.positions
    np.testing.assert_array_equal(instead.positions, stop[min(missed, len(stop) - 1)])
    rig.commands[-1:] = [stop[min(row, len(stop) - 1)] for row in range(missed + 1)]
    referee.accept(rig.commands)


def test_a_tick_that_is_late_brakes_and_the_next_one_goes_on(rig, referee):
    moving(rig)
    rig.ask(aside(rig))
    rig.tick()
    known = rig.supervisor.commanded.ahead.positions[0]
    rig.now += 0.006
    np.testing.assert_array_equal(rig.tick().joint_positions, known)
    rig.now -= 0.006
    assert not np.array_equal(rig.tick().joint_positions, rig.supervisor.commanded.stop.positions[0])
    assert rig.supervisor.commanded.stopped_rows == 0
    assert rig.supervisor.state is RUN
    referee.accept(rig.commands)


def test_two_ticks_in_one_period_are_one_step(rig):
    moving(rig)
    rig.tick()
    decision = rig.supervisor.tick(rig.now + 0.002)
    assert decision.joint_positions is None
    assert rig.tick().joint_positions is not None


def test_after_a_gap_the_first_step_is_one_tick_of_motion(rig, referee):
    moving(rig)
    rig.now += 0.5
    rig.stamp += 0.5
    rig.ticks(40)
    referee.accept(rig.commands)


# What goes out.


def test_decisions_say_axis_by_axis_what_was_asked_and_what_was_done(rig, referee):
    rig.start()
    decision = rig.run_towards(np.array([0.5, 0.7, 0.3]), 300)  # far outside of the workspace
    assert decision.reason == "workspace"
    assert list(decision.proposed) == list(rig.supervisor.axes) == list(decision.executed)
    assert decision.proposed["y"] == pytest.approx(0.7, abs=1e-3)
    assert decision.executed["y"] == pytest.approx(0.4, abs=1e-3)
    np.testing.assert_allclose([decision.executed[a] for a in "xyz"], referee.tool(decision.joint_positions), atol=1e-9)
    assert decision.executed["gripper"] == decision.gripper_opening
    joints = [decision.executed[name] for name in rig.contract.joints.names]
    np.testing.assert_array_equal(joints, decision.joint_positions)
    assert "300 mm" in decision.sentence
    referee.accept(rig.commands)


def test_clean_chunks_are_not_corrected(rig):
    moving(rig)
    assert rig.supervisor.counters.corrections == 0
    assert all(d.reason == "ok" for d in rig.decisions if d.state is RUN)


def test_whatever_breaks_inside_the_arm_comes_to_rest(rig, referee, monkeypatch):
    moving(rig)
    motion = rig.supervisor._motion
    monkeypatch.setattr(motion, "follow", lambda *_: 1 / 0)
    assert rig.tick().reason == "result_invalid"
    assert_stops(rig, referee)


@pytest.mark.parametrize("place", ["advance", "judge"])
def test_what_breaks_after_or_before_the_step_does_not_make_it_two_steps(rig, referee, monkeypatch, place):
    moving(rig)
    envelope = rig.supervisor._motion._envelope
    for tick in range(30):
        with monkeypatch.context() as patch:
            if tick == 3:
                patch.setattr(envelope, place, lambda *_: 1 / 0)
            rig.tick()
    assert rig.supervisor.state is HOLD
    assert speed(rig) == 0.0
    referee.accept(rig.commands)


def test_a_solver_that_fails_is_answered_within_one_tick(rig, referee, monkeypatch):
    moving(rig)
    monkeypatch.setattr("vla_ros.robot.differential_ik.daqp.solve", lambda *_, **__: (np.full(7, np.nan), 0.0, 1, {}))
    before = speed(rig)
    assert rig.tick().reason == "solver"
    assert speed(rig) < before
    assert_stops(rig, referee)


def test_many_brakings_in_a_row_hold(rig, parameters, monkeypatch):
    rig.start()
    monkeypatch.setattr("vla_ros.robot.differential_ik.daqp.solve", lambda *_, **__: (np.zeros(7), 0.0, -1, {}))
    reasons = []
    for i in range(parameters.motion.corrections_hold + 10):
        if i % 10 == 0:
            rig.ask(aside(rig))
        reasons.append(rig.tick().reason)
    assert "too_many_corrections" in reasons


def test_the_gripper_is_held_in_a_hold(rig):
    rig.start()
    rig.run_towards(rig.pose().position, 10, opening=0.0)
    nan_chunk(rig)
    opening = rig.tick().gripper_opening
    assert 0.0 < opening < 0.08
    assert rig.ticks(20).gripper_opening == opening
