"""Keys become bounded chunks; no key means stand still."""

import numpy as np
import pytest

from vla_ros.actions.decoding import decode
from vla_ros.actions.trajectory import ArmStart, decode_chunk
from vla_ros.errors import ObservationError
from vla_ros.policies.keyboard import MOTIONS, PRESS, SPEED, TURN, KeyboardPolicy
from vla_ros.policies.protocol import Policy
from vla_ros.robot.contract import load_contract
from vla_ros.robot.kinematics import Kinematics
from vla_ros.types import NOWHERE, Instruction, Observation, Pose, RobotState

CONTRACT = load_contract("panda")
DOWN = np.array([1.0, 0.0, 0.0, 0.0])


class Clock:
    now = 5.0

    def __call__(self):
        return self.now


def observed(position=(0.5, 0.0, 0.3), instruction=True, opening=0.08):
    state = RobotState(np.zeros(7), np.zeros(7), opening, Pose(np.array(position), DOWN), 1.0)
    return Observation({}, state, Instruction("push it", 4) if instruction else None, 1.0, 9)


@pytest.fixture
def driver():
    clock = Clock()
    return KeyboardPolicy(CONTRACT, clock), clock


def planned(policy, observation=None):
    observation = observation or observed()
    chunk = policy.predict(observation)
    return decode(chunk.actions, CONTRACT.action, observation.state.end_effector, CONTRACT.gripper.max_opening)


def test_it_is_a_policy(driver):
    assert isinstance(driver[0], Policy)
    chunk = driver[0].predict(observed())
    assert chunk.specification == CONTRACT.action.fingerprint
    assert (chunk.observation_stamp, chunk.observation_sequence, chunk.instruction_sequence) == (1.0, 9, 4)
    assert driver[0].predict(observed()).sequence == chunk.sequence + 1


def test_without_a_key_it_stands_still(driver):
    plan = planned(driver[0])
    np.testing.assert_allclose(plan.positions, np.tile((0.5, 0.0, 0.3), (12, 1)), atol=1e-12)
    np.testing.assert_allclose(plan.openings, 0.08)


@pytest.mark.parametrize("key", MOTIONS)
def test_a_key_moves_for_a_while_and_not_longer(driver, key):
    policy, clock = driver
    assert policy.press(key)
    times = np.minimum(0.1 * np.arange(1, 13), PRESS)
    wanted = np.array((0.5, 0.0, 0.3)) + times[:, None] * SPEED * np.array(MOTIONS[key])
    np.testing.assert_allclose(planned(policy).positions, wanted, atol=1e-9)
    clock.now += PRESS - 0.05
    assert np.abs(planned(policy).positions - (0.5, 0.0, 0.3)).max() == pytest.approx(0.05 * SPEED)
    clock.now += 0.06
    np.testing.assert_allclose(planned(policy).positions, np.tile((0.5, 0.0, 0.3), (12, 1)), atol=1e-12)


def test_a_turn_is_about_the_vertical(driver):
    policy, _ = driver
    policy.press("q")
    plan = planned(policy)
    np.testing.assert_allclose(plan.positions, np.tile((0.5, 0.0, 0.3), (12, 1)), atol=1e-12)
    half = 0.5 * TURN * PRESS
    wanted = (np.cos(half), np.sin(half), 0.0, 0.0)  # (0, 0, sin, cos) times (1, 0, 0, 0)
    assert abs(np.dot(plan.quaternions[-1], wanted)) == pytest.approx(1.0, abs=1e-9)


def test_the_tool_stays_in_its_workspace(driver):
    policy, _ = driver
    policy.press("w")
    upper = CONTRACT.cartesian.workspace_upper[0]
    assert planned(policy, observed((upper - 0.01, 0.0, 0.3))).positions[:, 0].max() == pytest.approx(upper)


def test_the_gripper_changes_once_a_press_and_stays(driver):
    policy, _ = driver
    policy.press(" ")
    np.testing.assert_allclose(planned(policy).openings, 0.0, atol=1e-12)
    np.testing.assert_allclose(planned(policy, observed(opening=0.03)).openings, 0.0, atol=1e-12)
    policy.press(" ")
    np.testing.assert_allclose(planned(policy).openings, 0.08)


def test_a_new_instruction_stops_the_motion(driver):
    policy, _ = driver
    policy.press("w")
    policy.reset(Instruction("another", 5))
    np.testing.assert_allclose(planned(policy).positions, np.tile((0.5, 0.0, 0.3), (12, 1)), atol=1e-12)


def test_other_keys_mean_nothing(driver):
    assert not driver[0].press("z")
    assert not driver[0].press("\x1b")


def test_without_an_instruction_there_is_nothing_to_serve(driver):
    with pytest.raises(ObservationError, match="instruction"):
        driver[0].predict(observed(instruction=False))


PAIR = load_contract("so101_pair")
N = 5


def of_pair(policy, q):
    state = RobotState.of_arms(q, np.zeros(2 * N), (0.09, 0.05), 1.0)
    chunk = policy.predict(Observation({}, state, Instruction("push it", 4), 1.0, 9))
    starts = {arm.name: ArmStart(q[PAIR.joint_columns(arm.name)], NOWHERE, 0.09) for arm in PAIR.arms}
    return decode_chunk(chunk.actions, PAIR.action, starts)


def tools_of(rows):
    kinematics = Kinematics(PAIR)
    postures = np.hstack([rows["left"].joint_positions, rows["right"].joint_positions])
    return [kinematics.placements(q) for q in postures]


def test_of_two_arms_the_others_stand_still():
    clock, home = Clock(), np.array(PAIR.joints.home)
    policy = KeyboardPolicy(PAIR, clock)
    start = Kinematics(PAIR).placements(home)
    for driven in (0, 1, 0):
        still = of_pair(policy, home)
        np.testing.assert_allclose(tools_of(still)[-1][driven].translation, start[driven].translation, atol=1e-6)
        policy.press("r")
        moved = tools_of(of_pair(policy, home))
        way = moved[-1][driven].translation - start[driven].translation
        np.testing.assert_allclose(way, [0.0, 0.0, SPEED * PRESS], atol=0.015)  # five joints turn the tool, too
        np.testing.assert_allclose(moved[-1][1 - driven].translation, start[1 - driven].translation, atol=1e-6)
        policy.press("\t")
    assert "tab" in policy.help and "tab" not in KeyboardPolicy(CONTRACT).help


def test_of_two_arms_each_gripper_changes_on_its_own():
    policy, home = KeyboardPolicy(PAIR, Clock()), np.array(PAIR.joints.home)
    policy.press("\t")
    policy.press(" ")
    rows = of_pair(policy, home)
    np.testing.assert_allclose(rows["left"].openings, 0.09)
    np.testing.assert_allclose(rows["right"].openings, 0.0, atol=1e-12)


def test_an_arm_that_is_commanded_in_joints_is_driven_at_its_tool(of_joints):
    contract = of_joints("panda")
    policy, kinematics = KeyboardPolicy(contract, Clock()), Kinematics(contract)
    q = np.array(contract.joints.home)
    pose = kinematics.forward(q)
    policy.press("a")
    observation = Observation({}, RobotState(q, np.zeros(7), 0.08, pose, 1.0), Instruction("push it", 4), 1.0, 9)
    arm = contract.arms[0].name
    rows = decode_chunk(policy.predict(observation).actions, contract.action, {arm: ArmStart(q, pose, 0.08)})
    way = kinematics.forward(rows[arm].joint_positions[-1]).position - pose.position
    np.testing.assert_allclose(way, [0.0, SPEED * PRESS, 0.0], atol=2e-3)
