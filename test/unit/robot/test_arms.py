"""Contracts of several arms: what they say of each arm, what is one for all, and which are refused."""

import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest
import yaml

from vla_ros.errors import ContractError
from vla_ros.paths import share_file
from vla_ros.robot.contract import load_contract, parse_contract
from vla_ros.robot.joint_states.reader import JointStateReader
from vla_ros.robot.joint_states.report import JointReport
from vla_ros.robot.kinematics import Kinematics
from vla_ros.safety.motion.collision import CollisionModel
from vla_ros.safety.parameters import load_parameters

PAIR, ONE = load_contract("so101_pair"), load_contract("so101")
LINES = yaml.safe_load(share_file("config/robots/so101_pair.yaml").read_text())
ONE_LINES = yaml.safe_load(share_file("config/robots/so101.yaml").read_text())
N = 5


def parse(lines):
    return parse_contract(yaml.safe_dump(lines, sort_keys=False), where="pair.yaml")


def changed(change):
    lines = copy.deepcopy(LINES)
    change(lines)
    return lines


def as_list_of_one():
    lines = copy.deepcopy(ONE_LINES)
    arm = {"name": "arm"}
    arm |= {line: lines.pop(line) for line in ("end_effector_frame", "joints", "cartesian", "gripper", "contact")}
    own = ("arm_interface", "arm_topic", "gripper_interface", "gripper_topic")
    arm["controllers"] = {line: lines["controllers"].pop(line) for line in own}
    return lines | {"arms": [arm]}


def test_one_arm_is_a_list_of_one():
    listed, plain = parse(as_list_of_one()), parse(ONE_LINES)
    assert [arm.name for arm in plain.arms] == ["arm"]
    for contract in (listed, plain):
        arm = contract.arms[0]
        assert arm.joints is contract.joints and arm.cartesian is contract.cartesian
        assert arm.gripper is contract.gripper and arm.contact is contract.contact
        assert contract.led_by("arm") is contract and contract.leading.name == "arm"
    different = {line for line in vars(plain) if repr(getattr(plain, line)) != repr(getattr(listed, line))} - {"text"}
    assert not different


def test_joints_of_two_arms_stand_arm_after_arm():
    assert [arm.name for arm in PAIR.arms] == ["left", "right"]
    assert PAIR.joints.names == PAIR.arms[0].joints.names + PAIR.arms[1].joints.names
    assert PAIR.joints.count == 2 * N and PAIR.joint_columns("right") == slice(N, 2 * N)
    assert np.array_equal(PAIR.joints.jerk, np.tile(ONE.joints.jerk, 2))
    assert PAIR.contact is not None and PAIR.contact.lag.shape == (2 * N,)
    assert PAIR.commands_joints and PAIR.finger_names == ("left_gripper", "right_gripper")


def test_what_each_arm_has_is_no_line_of_the_robot():
    for read in (lambda: PAIR.gripper.max_opening, lambda: PAIR.cartesian.workspace_lower, lambda: PAIR.leading):
        with pytest.raises(ContractError, match=r"\['left', 'right'\]"):
            read()
    again = pickle.loads(pickle.dumps(PAIR))
    assert again.gripper == PAIR.gripper and repr(again.gripper) == repr(copy.deepcopy(PAIR).gripper)


def test_an_arm_in_the_lead_lends_its_lines():
    right = PAIR.led_by("right")
    assert right.cartesian is PAIR.arms[1].cartesian and right.leading.name == "right"
    box = replace(right.cartesian, linear_velocity=0.01)
    assert replace(right, cartesian=box).arms[1].cartesian is box
    assert replace(right, cartesian=box).arms[0].cartesian is PAIR.arms[0].cartesian
    with pytest.raises(ContractError, match="no arm 'middle'"):
        PAIR.led_by("middle")


def set_line(arm, *path, value):
    def change(lines):
        place = lines["arms"][arm]
        for key in path[:-1]:
            place = place[key]
        if value is None:
            del place[path[-1]]
        else:
            place[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (set_line(1, "joints", "home", value=None), r"pair.yaml.arms\[right\].joints: 'home' is missing"),
        (set_line(0, "cartesian", value=None), r"arms\[left\]: 'cartesian' is missing"),
        (set_line(0, "name", value=None), r"arms\[0\]: 'name' is missing"),
        (set_line(1, "name", value="left"), r"arms: got the names \['left', 'left'\]"),
        (set_line(1, "name", value="a/b"), "without '/'"),
        (set_line(1, "colour", value="red"), r"arms\[right\]: unknown lines \['colour'\]"),
        (set_line(1, "name", value="middle"), r"command the arms \['left', 'right'\], expected \['left', 'middle'\]"),
        (set_line(1, "gripper", "names", value=["left_gripper"]), "the joint left_gripper stands twice"),
        (set_line(1, "controllers", "arm_topic", value="/left_arm_controller/joint_trajectory"), "stands twice"),
        (set_line(1, "controllers", "command_timeout", value=0.1), r"arms\[right\].controllers: \['command_timeout'\]"),
        (set_line(0, "joints", "fixed", value={"right_gripper": 0.1}), r"arms\[left\].*is moved by another arm"),
        (set_line(1, "contact", value=None), r"arms\[right\]: 'contact' is missing"),
        (set_line(1, "contact", "effort", value=[1.0] * 5), r"arms\[right\].contact.effort: expected none"),
        (set_line(1, "gripper", value="none"), r"arms\[right\].controllers: unknown lines"),
        (lambda lines: lines.update(arms=[]), "expected a list of arms"),
        (lambda lines: lines.update(arms={"left": 1}), "expected a list of arms"),
        (lambda lines: lines.update(gripper="none"), "unknown lines"),
        (lambda lines: lines["controllers"].update(arm_topic="/x"), "unknown lines"),
        (lambda lines: lines["action"]["groups"][0].update(joints=6), "has joints 6, expected 5"),
        (lambda lines: lines["action"].update(groups=lines["action"]["groups"][:2]), "commands? the arms"),
    ],
)
def test_a_wrong_line_is_a_sentence_with_its_arm(change, sentence):
    with pytest.raises(ContractError, match=sentence):
        parse(changed(change))


def test_an_arm_without_a_gripper_beside_one_that_has_one():
    def change(lines):
        lines["arms"][1]["gripper"] = "none"
        for line in ("gripper_interface", "gripper_topic"):
            del lines["arms"][1]["controllers"][line]
        lines["action"]["groups"] = lines["action"]["groups"][:3]
        lines["arms"][1]["joints"]["fixed"] = {"right_gripper": 0.0}

    contract = parse(changed(change))
    assert contract.openings([1.2]) == pytest.approx((0.09, 0.0))
    assert contract.finger_positions((0.09, 0.0)) == pytest.approx([1.2])
    assert Kinematics(contract).model.nq == 2 * N
    with pytest.raises(ContractError, match=r"of arm 'right'.*there is no gripper"):
        parse(changed(lambda lines: (change(lines), lines["action"].update(groups=LINES["action"]["groups"]))))


def test_arms_that_are_commanded_at_their_tools_are_refused():
    group = {"group": "left/ee_delta", "reference": "relative", "frame": "stand", "rotation": "six_d"}
    with pytest.raises(ContractError, match="'left/ee_delta' commands a tool"):
        parse(changed(lambda lines: lines["action"]["groups"].__setitem__(0, group)))


def test_a_legacy_contract_of_two_commanded_arms_is_refused():
    with pytest.raises(ContractError, match=r"\['left', 'right'\], expected one"):
        parse(ONE_LINES | {"action": LINES["action"]})


def test_tools_of_two_arms_are_those_of_the_single_arm_where_it_stands():
    q, aside = np.array([0.3, -0.5, 0.2, 1.1, 0.4]), np.array([0.0, 0.2, 0.0])
    alone, both = Kinematics(ONE), Kinematics(PAIR)
    left, right = both.placements(np.concatenate([q, ONE.joints.home]))
    assert left.translation == pytest.approx(alone.placement(q).translation + aside, abs=1e-9)
    assert right.translation == pytest.approx(alone.placement(ONE.joints.home).translation - aside, abs=1e-9)
    jacobians = both.jacobians(np.concatenate([q, ONE.joints.home]))
    assert jacobians.shape == (12, 2 * N) and jacobians[:6, :N] == pytest.approx(alone.jacobian(q), abs=1e-9)
    assert not jacobians[:6, N:].any() and not jacobians[6:, :N].any()
    assert both.length == pytest.approx(alone.length)
    with pytest.raises(ContractError, match="expected one"):
        both.forward(PAIR.joints.home)
    assert Kinematics(PAIR.led_by("right")).forward(PAIR.joints.home).position[1] < -0.1


def test_a_tool_that_another_arm_carries_is_refused():
    wrong = parse(changed(set_line(1, "end_effector_frame", value="left_gripper_frame_link")))
    with pytest.raises(ContractError, match=r"end_effector_frame of arm 'right'.*left_shoulder_pan"):
        Kinematics(wrong)


def test_parts_of_two_arms_are_watched_against_each_other():
    parameters = load_parameters()
    model = CollisionModel(PAIR, parameters.collision, parameters.obstacles)
    across = [pair for pair in model.pairs if "left_" in pair.name and "right_" in pair.name]
    parts = sum(1 for pair in model.pairs if pair.name.startswith("left_") and pair.name.endswith("table")) + 1
    assert len(across) == parts**2 - 1  # but the two bases, which do not move
    assert any({"left_base_link_0", "right_shoulder_link_0"} == set(pair.name.split(" and ")) for pair in across)
    alone = CollisionModel(ONE, parameters.collision, parameters.obstacles)
    assert len(model.pairs) - len(across) == 2 * len(alone.pairs)
    q = np.array(PAIR.joints.home)
    q[0], q[N] = 0.9, -0.9  # towards each other
    assert model.distances(q).min() < 0.0 < model.distances(PAIR.joints.home).min()


def test_joint_states_of_two_arms_have_an_opening_each():
    names = [*reversed(PAIR.joints.names), "right_gripper", "left_gripper"]
    positions = [*reversed(PAIR.joints.home), -0.17, 1.2]
    reading = JointStateReader(PAIR).read(JointReport(names, positions, [0.0] * 12, 1.0), 0.0)
    assert reading.openings == pytest.approx((0.09, 0.0)) and np.isnan(reading.opening)
    assert reading.positions == pytest.approx(PAIR.joints.home)
    state = reading.to_state(Kinematics(PAIR).forward)
    assert state.gripper_openings == reading.openings
    assert np.isnan(state.gripper_opening) and np.isnan(state.end_effector.position).all()
