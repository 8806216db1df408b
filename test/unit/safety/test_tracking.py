"""A ten-hertz policy is followed crisply: lag, settling, overshoot, seams."""

from __future__ import annotations

import numpy as np
import pytest

from vla_ros.safety.reasons import Reason
from vla_ros.types import SafetyState

PLAN_SPEED = 0.25


def follow_line(rig, seconds, stop_after, direction=(0.0, 1.0, 0.0), noise=0.0):
    """A policy that asks for a straight line at constant speed and then for its end; returns times and ways, m."""
    rig.start()
    start, direction = rig.pose().position, np.asarray(direction)
    rng = np.random.default_rng(0)
    times, ways = [], []
    for i in range(round(seconds * 100)):
        now = i * 0.01
        if i % 10 == 0:
            ahead = np.clip(now + 0.1 * np.arange(1, 13), 0.0, stop_after)
            plan = start + np.outer(PLAN_SPEED * ahead, direction) + noise * rng.normal(size=(12, 3))
            assert rig.send(rig.chunk(rig.actions(plan))) is Reason.OK
        rig.tick()
        times.append(now + 0.01)
        ways.append(float((rig.pose().position - start) @ direction))
    return np.array(times), np.array(ways), start + PLAN_SPEED * stop_after * direction


def test_a_plan_at_a_quarter_metre_a_second_is_followed_within_a_tenth_of_a_second(rig, referee):
    times, ways, _ = follow_line(rig, 1.2, 5.0)
    settled = times > 0.4
    lag = times[settled] - ways[settled] / PLAN_SPEED
    assert lag.max() < 0.1
    assert lag.min() > -2.0 * rig.parameters.timing.actuation_delay  # it leads by what the motors lag
    referee.accept(rig.commands)


@pytest.mark.parametrize("direction", [(0.0, 1.0, 0.0), (0.0, 0.0, -1.0), (1.0, 0.0, 0.0)])
def test_it_settles_on_a_constant_target_without_overshoot(rig, referee, direction):
    _, ways, end = follow_line(rig, 1.8, 0.8, direction)
    assert np.linalg.norm(rig.pose().position - end) < 0.0015
    assert ways.max() < PLAN_SPEED * 0.8 + 0.001
    after = ways[round(100 * (0.8 + 0.2)) :]
    assert np.abs(after - PLAN_SPEED * 0.8).max() < 0.0015  # 0.2 s after the plan's end at the latest
    referee.accept(rig.commands)


def test_the_tool_keeps_its_own_limits(rig, referee, contract):
    follow_line(rig, 1.5, 0.8)
    tools = np.array([referee.tool(q) for q in rig.commands])
    limits = contract.cartesian
    for order, limit in ((1, limits.linear_velocity), (2, limits.linear_acceleration), (3, limits.linear_jerk)):
        sizes = np.linalg.norm(np.diff(tools, n=order, axis=0), axis=1) / 0.01**order
        assert sizes.max() <= limit * 1.02, order


def test_seams_of_noisy_chunks_are_no_jerks(rig, referee, contract):
    """Chunks that differ by 3 mm from each other, ten times a second."""
    follow_line(rig, 1.5, 1.4, noise=0.003)
    tools = np.array([referee.tool(q) for q in rig.commands])
    accelerations = np.linalg.norm(np.diff(tools, n=2, axis=0), axis=1) / 0.01**2
    assert accelerations.max() <= contract.cartesian.linear_acceleration * 1.02
    referee.accept(rig.commands)


def test_turning_is_followed_too(rig, referee):
    rig.start()
    start = rig.kinematics.placement(rig.q).rotation.copy()
    for i in range(150):
        if i % 10 == 0:
            rows = np.zeros((12, 7))
            done = min(i * 0.01, 0.8)
            rows[:, 5] = np.clip(done + 0.1 * np.arange(1, 13), 0.0, 0.8) - done
            rows[:, 6] = 1.0
            rig.send(rig.chunk(rows))
        rig.tick()
    turned = rig.kinematics.placement(rig.q).rotation @ start.T
    assert np.arctan2(turned[1, 0], turned[0, 0]) == pytest.approx(0.8, abs=0.02)
    referee.accept(rig.commands)


@pytest.mark.parametrize(
    "target",
    [(0.45, 0.9, 0.3), (0.45, -0.9, 0.3), (0.45, 0.0, -0.5), (0.0, 0.0, 0.3), (0.45, 0.9, -0.5), (1.5, 1.5, 1.5)],
)
def test_targets_outside_of_the_workspace_are_slid_to_along_the_faces(rig, referee, contract, target):
    rig.start()
    for i in range(400):
        if i % 10 == 0:
            assert rig.ask(np.array(target)) is Reason.OK
        decision = rig.tick()
    assert decision.state is SafetyState.RUN
    referee.accept(rig.commands)
    nearest = np.clip(target, contract.cartesian.workspace_lower, contract.cartesian.workspace_upper)
    tool = rig.pose().position
    if nearest[2] > 0.1 and np.linalg.norm(nearest) < 0.7:  # elsewhere the fingers meet the table, or the arm its reach
        np.testing.assert_allclose(tool, nearest, atol=0.002)
    else:
        assert np.linalg.norm(tool - nearest) < np.linalg.norm(
            rig.kinematics.forward(rig.commands[0]).position - nearest
        )


def test_at_the_end_of_its_reach_the_arm_rests_and_comes_back_at_once(rig, referee):
    rig.start()

    def go(target, ticks):
        for i in range(ticks):
            if i % 10 == 0:
                pose = rig.pose()
                way = target - pose.position
                rows = pose.position + np.outer(np.minimum(0.03 * np.arange(1, 13) / np.linalg.norm(way), 1.0), way)
                actions = rig.actions(rows)
                turn = rig.kinematics.placement(rig.q).rotation @ rig.kinematics.placement(rig.commands[0]).rotation.T
                actions[:, 3:6] = -0.5 * np.array(
                    [turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]]
                )
                rig.send(rig.chunk(actions))
            rig.tick()

    go(np.array([0.9, 0.41, 0.53]), 500)
    reach = np.array([rig.kinematics.forward(q).position for q in rig.commands[-200:]])
    assert np.ptp(reach, axis=0).max() < 0.003  # it does not shake
    before = np.linalg.norm(rig.pose().position - [0.45, 0.1, 0.2])
    go(np.array([0.45, 0.1, 0.2]), 60)
    assert np.linalg.norm(rig.pose().position - [0.45, 0.1, 0.2]) < before - 0.05
    referee.accept(rig.commands)
