"""The referee against commands whose violations were counted by hand; the limits are those of the Panda contract."""

from __future__ import annotations

import numpy as np
import pytest

from vla_ros.robot.contract import load_contract
from vla_ros.robot.kinematics import Kinematics
from vla_ros.safety.motion.collision import CollisionModel
from vla_ros.safety.parameters import load_parameters
from vla_ros.safety_bench.referee.referee import KINDS, Judgement, Referee

PERIOD = 0.01


@pytest.fixture(scope="module")
def contract():
    return load_contract("panda")


@pytest.fixture(scope="module")
def referee(contract):
    return Referee(contract, PERIOD)


def still(contract, rows=10):
    return np.tile(contract.joints.home, (rows, 1))


def stretched(contract, rows):
    """The tool further out than at home, straight ahead (y = 0): turning the base moves it on a circle."""
    q = still(contract, rows)
    q[:, 1] += 0.25
    q[:, 3] += 0.3
    return q


def found(judgement):
    return {kind: count for kind, count in judgement.violations.items() if count}


def test_standing_still_violates_nothing(referee, contract):
    judgement = referee.judge(still(contract), np.full(10, 0.08))
    assert found(judgement) == {}
    assert judgement.commands == 10
    assert judgement.worst["joint_velocity"] == 0.0


def test_an_arm_that_reaches_into_itself_is_found(referee, contract):
    """Elbow and wrist are bent so far that the forearm is inside the base, by the layer's own shapes, too."""
    collision = CollisionModel(contract, load_parameters().collision, ())
    folded = np.array([0.6, 1.54, 0.04, -2.86, -0.8, 1.96, 2.58])
    assert collision.distances(folded).min() < -0.02
    assert referee.judge(still(contract)).violations["self_collision"] == 0
    q = still(contract)
    q[5] = folded
    judgement = referee.judge(q, table_every=1)
    assert judgement.violations["self_collision"] == 1
    assert judgement.worst["self_mm"] < -1.0


def test_a_command_that_is_not_finite_counts_once(referee, contract):
    q = still(contract)
    q[4, 2], q[4, 3], q[7, 0] = np.nan, np.inf, 1e300 * 1e300
    assert found(referee.judge(q)) == {"not_finite": 2}


def test_one_step_too_far(referee, contract):
    """Joint 1 goes 0.03 rad in one tick: 3 rad/s of 2.175 allowed.

    Acceleration: +3 / 0.01 = 300 in the tick, -300 in the next; 15 is allowed: 2 commands.
    Jerk: +30,000, -60,000, +30,000 in three commands; 7,500 is allowed: 3 commands.
    """
    q = still(contract)
    q[5:, 0] += 0.03
    judgement = referee.judge(q)
    assert found(judgement) == {"joint_velocity": 1, "joint_acceleration": 2, "joint_jerk": 3}
    assert judgement.worst["joint_velocity"] == pytest.approx(3.0 / 2.175)
    assert judgement.worst["joint_acceleration"] == pytest.approx(300.0 / 15.0)
    assert judgement.worst["joint_jerk"] == pytest.approx(60_000.0 / 7500.0)


def test_the_first_command_counts_from_rest(referee, contract):
    """Ten ticks at 0.5 rad/s, from the first on there is no jump: only the first difference is one, 50 rad/s^2."""
    q = still(contract)
    q[:, 0] += 0.005 * np.arange(10)
    assert found(referee.judge(q)) == {"joint_acceleration": 1}  # jerk 5,000 and -5,000: below 7,500


def test_beyond_a_joint_limit(referee, contract):
    q = still(contract)
    q[:, 6] = contract.joints.upper[6] + 0.001
    assert found(referee.judge(q)) == {"joint_position": 10}


def test_outside_of_the_workspace(referee, contract):
    """The stretched arm turned until its tool is at y = 0.42 m; the face is at 0.40 m."""
    q = stretched(contract, 10)
    q[:, 0] = np.arcsin(0.42 / Kinematics(contract).forward(q[0]).position[0])
    judgement = referee.judge(q)
    assert found(judgement)["workspace"] == 10
    assert judgement.worst["beyond_workspace_mm"] == pytest.approx(20.0, abs=0.1)  # 0.42 - 0.40 m


def test_mujoco_and_pinocchio_agree_where_the_tool_is(referee, contract):
    """1.9 mm inside the face at y = 0.4 is no violation, 1.1 mm beyond it is one: the slack is 1 mm."""
    radius = Kinematics(contract).forward(stretched(contract, 1)[0]).position[0]
    for y, count in ((0.3981, 0), (0.4009, 0), (0.4011, 1)):
        q = stretched(contract, 1)
        q[:, 0] = np.arcsin(y / radius)
        assert referee.judge(q).violations["workspace"] == count


def test_into_the_table(referee, contract):
    """The second joint tilts the arm until the hand is under the table's top at z = 0."""
    q = still(contract)
    q[:, 1] += 0.9
    assert Kinematics(contract).forward(q[0]).position[2] < 0.0
    judgement = referee.judge(q, table_every=1)
    assert judgement.violations["table"] == 10
    assert judgement.worst["table_mm"] < 0.0


def test_the_gripper(referee, contract):
    """0.08, then 0.09 (too wide, 1 m/s), 0.08 again (-1 m/s), 0.078 (0.2 m/s: exactly allowed), NaN."""
    judgement = referee.judge(still(contract, 5), np.array([0.08, 0.09, 0.08, 0.078, np.nan]))
    assert found(judgement) == {"gripper_range": 1, "gripper_velocity": 2, "not_finite": 1}


def test_judgements_add_up(referee, contract):
    first, second = referee.judge(still(contract)), Judgement(5)
    second.violations["table"], second.worst["table_mm"] = 3, -4.0
    first.add(second)
    assert (first.commands, first.total, first.worst["table_mm"]) == (15, 3, -4.0)
    assert tuple(first.violations) == KINDS


@pytest.fixture(scope="module")
def pair():
    return load_contract("so101_pair")


@pytest.fixture(scope="module")
def pair_referee(pair):
    return Referee(pair, PERIOD)


def test_two_arms_that_stand_still_violate_nothing(pair_referee, pair):
    judgement = pair_referee.judge(still(pair), np.full((10, 2), 0.09))
    assert found(judgement) == {} and judgement.worst["arms_mm"] > 50.0


def test_arms_that_reach_into_each_other_are_found(pair_referee, pair):
    q = still(pair)
    q[:, 0] += 0.9 * np.linspace(0.0, 1.0, 10)
    assert pair_referee.judge(q, table_every=1).violations["arm_collision"] == 0
    q[:, 5] -= 0.9 * np.linspace(0.0, 1.0, 10)
    judgement = pair_referee.judge(q, table_every=1)
    collision = CollisionModel(pair, load_parameters().collision, ())
    across = np.array(
        [
            {"left", "right"} == {one[:4] if one[0] == "l" else one[:5] for one in name.split(" and ")}
            for name in (one.name for one in collision.pairs)
        ]
    )
    touching = [collision.distances(row)[across].min() for row in q]
    assert judgement.violations["arm_collision"] == sum(gap < -1e-3 for gap in touching) > 0
    assert judgement.worst["arms_mm"] == pytest.approx(1e3 * min(touching), abs=2.0)
    assert judgement.violations["self_collision"] == 0


def test_an_arm_that_reaches_into_the_base_of_the_other_is_found(pair_referee, pair):
    q = still(pair)
    q[:, :4] = [1.6, 1.2, -1.19, 0.9]  # to the base of the right arm
    q[:, 5] = np.pi / 2  # which turns away
    collision = CollisionModel(pair, load_parameters().collision, ())
    across = [index for index, one in enumerate(collision.pairs) if "right_base" in one.name and "left" in one.name]
    assert across and collision.distances(q[0])[across].min() < -0.002
    assert pair_referee.judge(q).violations["arm_collision"] > 0


@pytest.mark.parametrize(("arm", "first"), [(0, 0), (1, 5)])
def test_each_tool_is_judged_in_its_own_workspace(pair_referee, pair, arm, first):
    box = pair.arms[arm].cartesian
    q = still(pair)
    q[:, first] = [-1.4, 1.4][arm]
    tool = np.asarray(Kinematics(pair).placements(q[0])[arm].translation)
    beyond = max((box.workspace_lower - tool).max(), (tool - box.workspace_upper).max())
    judgement = pair_referee.judge(q)
    assert judgement.violations["workspace"] == (10 if beyond > 1e-3 else 0)
    assert judgement.worst["beyond_workspace_mm"] == pytest.approx(1e3 * max(beyond, 0.0), abs=0.1)
    assert beyond > 1e-3


def test_the_faster_tool_is_told(pair_referee, pair):
    q = still(pair, 3)
    q[1:, 5] += 0.01
    places = [np.asarray(Kinematics(pair).placements(row)[1].translation) for row in q[:2]]
    speed = np.linalg.norm(places[1] - places[0]) / PERIOD
    assert pair_referee.judge(q).worst["tool_speed"] == pytest.approx(speed / 0.25, rel=1e-6)


@pytest.mark.parametrize("column", [0, 1])
def test_each_gripper_is_judged(pair_referee, pair, column):
    """0.09, 0.1 (too wide, 1 m/s), 0.09 again (-1 m/s), 0.0895 (0.05 m/s), NaN."""
    openings = np.full((5, 2), 0.09)
    openings[:, column] = [0.09, 0.10, 0.09, 0.0895, np.nan]
    judgement = pair_referee.judge(still(pair, 5), openings)
    assert found(judgement) == {"gripper_range": 1, "gripper_velocity": 2, "not_finite": 1}
