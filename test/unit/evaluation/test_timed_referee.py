"""The referee with times: what jitter, gaps and armings do to the references of controllers, counted by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vla_ros.robot.contract import load_contract
from vla_ros.safety.motion.command_trajectory import lead
from vla_ros.safety.motion.joint_motion import JointMotion
from vla_ros.safety.parameters import load_parameters
from vla_ros.safety_bench.fuzz import timed_trajectories
from vla_ros.safety_bench.plants import Lie, Plant, PlantShadow
from vla_ros.safety_bench.referee.referee import Referee
from vla_ros.safety_bench.referee.reference_limits import Arming
from vla_ros.safety_bench.referee.trajectory_controller import Release, TimedTrajectory, TrajectoryControllerModel

PERIOD = 0.01
BUDGET = 0.005
LEAD = lead(PERIOD, BUDGET)
FIRST = 1.0
EXACT = (TrajectoryControllerModel(1000.0, Release.EXACT),)


@pytest.fixture(scope="module")
def contract():
    return load_contract("panda")


@pytest.fixture(scope="module")
def referee(contract):
    return Referee(contract, PERIOD)


def found(judgement):
    return {kind: count for kind, count in judgement.violations.items() if count}


def motion(contract, rows=60, speed=0.4):
    """Real steps of the safety layer: joint 1 gains a speed, and comes to rest."""
    joints = JointMotion(contract.joints, PERIOD)
    joints.schedule(FIRST + LEAD)
    steps = [joints.current]
    for row in range(rows):
        wish = joints.current.velocities.copy()
        wish[0] += np.clip((speed if row < rows // 2 else 0.0) - wish[0], -joints.reachable[0], joints.reachable[0])
        steps.append(joints.accept(joints.propose(wish)))
    return steps


def streamed(steps, late=lambda: 0.0):
    return timed_trajectories([(step, step.due - LEAD + late()) for step in steps], PERIOD)


def early_and_late():
    """A lateness from 2.4 ms early to the budget, anew for each tick."""
    rng = np.random.default_rng(5)
    return lambda: float(rng.uniform(-2.4e-3, BUDGET))


def test_standing_still_violates_nothing(referee, contract):
    times = 1.0 + PERIOD * np.arange(20)
    q = np.tile(contract.joints.home, (20, 1))
    judgement = referee.judge_timed(times, q, 0.0 * q, 1.5 * PERIOD)
    assert found(judgement) == {}
    assert judgement.commands == 20


def test_points_on_a_grid_are_within_limits_whatever_the_jitter(referee, contract):
    rng = np.random.default_rng(1)
    steps = motion(contract)
    for jitter in (0.0, 3e-4, 3e-3):
        trajectories = streamed(steps, lambda jitter=jitter: min(abs(rng.normal(0.0, jitter)), BUDGET))
        judgement = referee.judge_trajectories(trajectories, start=contract.joints.home)
        assert found(judgement) == {}, jitter
        assert judgement.worst["reference_acceleration"] > 0.4


@pytest.mark.parametrize("late", [lambda: -2.4e-3, early_and_late()], ids=["always early", "early and late"])
def test_ticks_that_are_early_for_the_grid_starve_no_controller(referee, contract, late):
    """One that waits for stamps gets the next trajectory before it has begun the last: it must begin all the same."""
    judgement = referee.judge_trajectories(streamed(motion(contract), late), start=contract.joints.home)
    assert found(judgement) == {}
    assert judgement.worst["reference_acceleration"] > 0.4


def test_single_points_on_arrival_break_the_acceleration_with_jitter(referee, contract):
    """The same motion as it was sent before: one point, 1.5 periods ahead, from its arrival on."""
    rng = np.random.default_rng(1)
    steps = motion(contract)
    times = 1.0 + PERIOD * np.arange(len(steps)) + np.abs(rng.normal(0.0, 3e-4, len(steps)))
    q, v = np.array([step.positions for step in steps]), np.array([step.velocities for step in steps])
    judgement = referee.judge_timed(times, q, v, 1.5 * PERIOD)
    assert set(found(judgement)) == {"reference_acceleration"}
    assert judgement.worst["reference_acceleration"] > 5.0


def test_a_jump_is_seen_by_the_positions_that_are_sent(referee, contract):
    """Joint 1 is 0.1 rad further in one command of 10 ms: a cubic reaches 1.5 * 10 rad/s, 2.175 are allowed."""
    q = np.tile(contract.joints.home, (20, 1))
    q[10:, 0] += 0.1
    judgement = referee.judge_timed(1.0 + PERIOD * np.arange(20), q, 0.0 * q, PERIOD, controllers=EXACT)
    assert judgement.worst["reference_velocity"] == pytest.approx(15.0 / 2.175, rel=1e-2)
    assert set(found(judgement)) == {"reference_velocity", "reference_acceleration"}


def test_between_commands_a_limit_of_position_may_not_be_passed(referee, contract):
    """From rest at the limit to a point at it that is passed on the way back: the segment bulges beyond it."""
    q = np.tile(contract.joints.home, (2, 1))
    q[:, 6] = contract.joints.upper[6]
    v = np.zeros((2, 7))
    v[0, 6] = -1.0
    judgement = referee.judge_timed(np.array([1.0, 1.1]), q, v, 0.1, controllers=EXACT)
    assert judgement.violations["reference_position"] > 0
    assert judgement.violations["joint_position"] == 0


def after_gap(contract, taken):
    """30 steps, a gap of 5 ticks, and on: the layer took `taken` rows of the stop in it."""
    joints = JointMotion(contract.joints, PERIOD)
    joints.schedule(FIRST + LEAD)
    wish, steps = np.zeros(7), [joints.current]
    for row in range(60):
        if row == 30:
            due = joints.current.due + 9 * PERIOD
            for _ in range(taken):
                joints.brake()
            joints.schedule(due)
        wish[0] = min(joints.current.velocities[0] + 0.03, 0.5)
        steps.append(joints.accept(joints.propose(wish)))
    return streamed(steps)


def test_after_a_gap_the_motion_starts_where_the_controller_is(referee, contract):
    """From 0.5 rad/s a stop takes 7 ticks. Where the layer goes on as if there had been no gap, the reference jumps."""
    jumped = referee.judge_trajectories(after_gap(contract, 0), start=contract.joints.home)
    assert jumped.violations["reference_acceleration"] > 0
    assert jumped.worst["reference_acceleration"] > 5.0
    rested = referee.judge_trajectories(after_gap(contract, 9), start=contract.joints.home)
    assert found(rested) == {}


@pytest.mark.parametrize("lost", [3, 6, 25])
def test_what_was_not_heard_is_no_violation_and_what_was_is_judged(referee, contract, lost):
    """The recording lost commands in full motion, at two places; a jump in what it heard is still found."""
    steps = motion(contract, rows=120)
    heard = [*steps[:40], *steps[40 + lost : 80], *steps[80 + lost :]]
    gaps = [40, 80 - lost]
    home = contract.joints.home
    taken_for_silence = referee.judge_trajectories(streamed(heard), start=home)
    assert taken_for_silence.total > 0
    judged = referee.judge_trajectories(streamed(heard), start=home, unheard=gaps)
    assert found(judged) == {}
    assert judged.worst["reference_acceleration"] < 1.0
    jumping = streamed(heard)
    jumping[60:] = [replace(one, positions=one.positions + 0.02) for one in jumping[60:]]
    assert referee.judge_trajectories(jumping, start=home, unheard=gaps).violations["reference_acceleration"] > 0


def test_rows_of_a_moving_arm_are_judged_from_the_first_on(referee, contract):
    rows = np.array([step.positions for step in motion(contract)])[10:50]
    assert found(referee.judge(rows))["joint_acceleration"] > 0, "taken to begin at rest"
    assert found(referee.judge(rows, moving=True)) == {}
    rows[20:, 0] += 0.01
    assert set(found(referee.judge(rows, moving=True))) >= {"joint_acceleration", "joint_jerk"}


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_a_few_rows_of_a_moving_arm_can_be_judged(referee, contract, rows):
    assert found(referee.judge(np.tile(contract.joints.home, (rows, 1)), moving=True)) == {}


def test_resuming_in_mid_stop_is_counted_once_per_gap(referee, contract):
    """By hand: a line of 1 rad/s, a gap of 50 ms in which the trajectory goes on at 0.5 rad/s, and 1 rad/s again."""
    home = contract.joints.home
    step = np.eye(7)[0]

    def line(arrival, begin, speeds):
        times = PERIOD * np.arange(-2, len(speeds) - 2)
        way = begin + PERIOD * np.cumsum(speeds)
        rows = home + np.outer(way, step)
        return TimedTrajectory(arrival, arrival + 1e-3, times, rows, np.outer(speeds, step), np.zeros((len(speeds), 7)))

    slowing = line(1.0, 0.0, np.concatenate([np.full(4, 0.5), np.linspace(0.5, 0.1, 40)]))
    faster = line(1.1, 0.05, np.linspace(0.4, 0.8, 40))
    judgement = referee.judge_trajectories([slowing, faster], start=home, controllers=EXACT)
    assert judgement.violations["gap_resumed"] == 1
    ended = line(1.1, 0.05, np.concatenate([np.linspace(0.3, 0.0, 20), np.linspace(0.0, 0.4, 20)]))
    assert referee.judge_trajectories([slowing, ended], start=home, controllers=EXACT).violations["gap_resumed"] == 0


def test_a_low_rate_is_no_gap(referee, contract):
    """Commands every 0.1 s, which speed up and slow down."""
    home, step = contract.joints.home, np.eye(7)[0]
    times = 0.1 * np.arange(-2, 6)
    speeds = 0.2 + 0.1 * np.sin(np.arange(40))
    way = 0.1 * np.cumsum(speeds)
    sent = [
        TimedTrajectory(
            0.1 * i,
            0.1 * i + 1e-3,
            times,
            home + np.outer(way[i : i + 8], step),
            np.outer(speeds[i : i + 8], step),
            np.zeros((8, 7)),
        )
        for i in range(30)
    ]
    assert referee.judge_trajectories(sent, start=home, controllers=EXACT).violations["gap_resumed"] == 0
    missed = [*sent[:10], *sent[13:]]
    assert referee.judge_trajectories(missed, start=home, controllers=EXACT).violations["gap_resumed"] == 1


def test_first_command_after_arming_is_near_command_and_arm(referee, contract):
    """One period at full speed is 0.02175 rad for joint 1."""
    home = contract.joints.home
    times, q = 1.0 + PERIOD * np.arange(5), np.tile(home, (5, 1))
    for off, count in ((0.02, 0), (0.023, 1)):
        moved = home + off * np.eye(7)[0]
        for arming in (Arming(0.999, moved, home), Arming(0.999, home, moved), Arming(0.999, None, moved)):
            judgement = referee.judge_timed(times, q, 0.0 * q, PERIOD, armings=[arming])
            assert judgement.violations["arming_jump"] == count
    late = Arming(2.0, None, home + 1.0)  # nothing was commanded after it
    assert referee.judge_timed(times, q, 0.0 * q, PERIOD, armings=[late]).violations["arming_jump"] == 0


def test_trajectories_that_are_not_finite_are_counted_and_left_out(referee, contract):
    q = np.tile(contract.joints.home, (5, 1))
    q[2, 3] = np.nan
    assert found(referee.judge_timed(1.0 + PERIOD * np.arange(5), q, 0.0 * q, PERIOD)) == {"not_finite": 1}


@pytest.fixture
def shadow(contract):
    plant = Plant(lag=0.05, delay=2)
    return PlantShadow(contract, load_parameters(), plant)


def test_plant_delays_and_lags(contract):
    """Two periods nothing, then 1 - exp(-0.01 / 0.05) of the way."""
    plant = Plant(lag=0.05, delay=2)
    plant.place(np.zeros(7))
    for expected in (0.0, 0.0, 1.0 - np.exp(-0.2), 1.0 - np.exp(-0.4)):
        plant.follow(np.ones(7), 0.01)
        np.testing.assert_allclose(plant.q, expected, atol=1e-12)


def test_driver_reports_lies(contract):
    plant = Plant()
    plant.place(np.arange(7.0))
    plant.follow(np.arange(7.0) + 0.01, 0.01)
    plant.offset = 0.4 * np.eye(7)[2]
    truth = plant.q
    plant.lie = Lie.FROZEN
    frozen = plant.report()[0]
    plant.follow(truth + 1.0, 0.01)
    np.testing.assert_array_equal(plant.report()[0], frozen)
    plant.lie = Lie.ONE_FALSE
    np.testing.assert_allclose(plant.report()[0] - plant.q, plant.offset, atol=1e-12)
    np.testing.assert_array_equal(plant.report()[0], plant.q)
    plant.lie = Lie.SWAPPED
    assert plant.report()[0][0] == plant.q[1]
    plant.lie = Lie.STILL
    assert not plant.report()[1].any()
    plant.lie = Lie.SILENT
    assert plant.report() is None


def test_silent_driver_brings_no_state(shadow):
    shadow.start()
    shadow.plant.lie = Lie.SILENT
    for _ in range(60):
        decision = shadow.tick()
    assert decision.reason == "state_stale"
