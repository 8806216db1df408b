"""The list of names against the sources, and what a namespace does to it."""

import re
from pathlib import Path

import pytest

import vla_ros
from vla_ros.errors import ContractError
from vla_ros.robot.contract import load_contract, parse_contract
from vla_ros.ros.messages import interfaces

PACKAGE = Path(vla_ros.__file__).parent
SOURCES = [
    file
    for room in ("ros", "bringup", "recording", "client", "nodes")
    for file in sorted((PACKAGE / room).rglob("*.py"))
]
CONTRACT = load_contract("panda")


def test_every_name_in_the_code_is_in_the_list():
    named = set()
    for file in SOURCES:
        found = re.findall(r'"/?((?:vla|sim|scene)/[a-z_/]+)"', file.read_text(encoding="utf-8"))
        named |= {f"/{name}" for name in found}
    known = {*interfaces.TOPICS, *interfaces.SERVICES, *interfaces.ACTIONS, *interfaces.SIMULATION_TOPICS}
    assert named <= known
    assert set(interfaces.TOPICS) <= named


ABSOLUTE_BY_NATURE = {
    "interfaces.py",
    "launch_actions.py",
    "security_policy.py",
    "bag.py",
    "standard_bag.py",
    "recorder.py",
}
"""They name topics as they stand in a recording or on the wire."""


def test_the_names_of_nodes_are_relative():
    """A node that is started with `-r __ns:=/left` takes all of its topics, services and actions with it."""
    absolute = {
        file.name: found
        for file in SOURCES
        if file.name not in ABSOLUTE_BY_NATURE
        and (found := re.findall(r'f?"(/(?:vla|sim|scene|gripper|robot_description)[a-z_/{}]*)"', file.read_text()))
    }
    assert absolute == {}


def test_a_namespace_moves_everything_of_one_arm_and_nothing_else():
    renamed = dict(interfaces.remappings(CONTRACT, "/left/"))
    assert renamed["/vla/estop"] == "/left/vla/estop"
    assert renamed["/vla/execute_instruction/_action/send_goal"] == "/left/vla/execute_instruction/_action/send_goal"
    assert renamed[CONTRACT.controllers.arm_topic] == f"/left{CONTRACT.controllers.arm_topic}"
    assert not set(renamed) & set(interfaces.SHARED)
    assert interfaces.remappings(CONTRACT, "") == []


def test_a_gripper_that_is_an_action_moves_with_all_its_parts():
    text = CONTRACT.text.replace("gripper_interface: joint_trajectory", "gripper_interface: gripper_command")
    contract = parse_contract(text.replace(CONTRACT.controllers.gripper_topic, "/hand/gripper_cmd"))
    renamed = dict(interfaces.remappings(contract, "left"))
    for part in ("send_goal", "get_result", "cancel_goal", "feedback", "status"):
        assert renamed[f"/hand/gripper_cmd/_action/{part}"] == f"/left/hand/gripper_cmd/_action/{part}"
    assert "/hand/gripper_cmd" not in interfaces.robot_topics(contract)


def test_the_network_note_names_everything():
    note = (Path(__file__).resolve().parents[3] / "docs" / "network.md").read_text(encoding="utf-8")
    everything = (
        *interfaces.TOPICS,
        *interfaces.SERVICES,
        *interfaces.ACTIONS,
        *interfaces.SIMULATION_TOPICS,
        *interfaces.SHARED,
        CONTRACT.controllers.joint_states_topic,
    )
    assert [name for name in everything if f"`{name}`" not in note] == []


@pytest.mark.parametrize("wrong", ["2nd", "a-b", "a b", "a//b"])
def test_what_ros_would_not_take_is_refused(wrong):
    with pytest.raises(ContractError, match="namespace"):
        interfaces.remappings(CONTRACT, wrong)
