"""The SROS2 policy: as shipped, and what it says about commands."""

from xml.etree import ElementTree

import pytest

from vla_ros.bringup.security_policy import OPERATOR, policy, rights_of_the_graph
from vla_ros.errors import ContractError
from vla_ros.paths import share_file
from vla_ros.robot.contract import load_contract, parse_contract
from vla_ros.ros.graph.description import load_graph

PANDA = load_contract("panda")


GRIPPER_ACTION = "/gripper/gripper_cmd"


def with_gripper_action(interface):
    text = PANDA.text.replace("gripper_interface: joint_trajectory", f"gripper_interface: {interface}")
    return parse_contract(text.replace(PANDA.controllers.gripper_topic, GRIPPER_ACTION))


def names(profile, group, right, kind):
    found = [g for g in profile.findall(group) if g.get(right) == "ALLOW"]
    return {element.text for g in found for element in g.findall(kind)}


def profiles(text):
    return {p.get("node"): p for p in ElementTree.fromstring(text).iter("profile")}


def test_the_shipped_policy_is_the_generated_one():
    assert share_file("config/security/policy.xml").read_text(encoding="utf-8") == policy(PANDA)


def test_every_node_of_the_graph_has_an_enclave():
    everything = {"tf": "own", "trace": "true", "console": "true"}
    wanted = {node.name for node in load_graph().resolve(everything, simulation="")}
    assert set(profiles(policy(PANDA))) == wanted | {OPERATOR, "robot"}


@pytest.mark.parametrize("robot", ["panda", "fr3", "ur5e", "so101"])
def test_the_safety_node_alone_commands_the_robot(robot):
    contract = load_contract(robot)
    for node, profile in profiles(policy(contract)).items():
        commands = {contract.controllers.arm_topic, contract.controllers.gripper_topic}
        allowed = commands & names(profile, "topics", "publish", "topic")
        assert allowed == (commands if node == "safety_node" else set()), node


@pytest.mark.parametrize("interface", ["gripper_command", "parallel_gripper_command"])
def test_a_gripper_that_is_an_action_is_called_by_the_safety_node_alone(interface):
    contract = with_gripper_action(interface)
    found = profiles(policy(contract))
    calls = {node: names(profile, "actions", "call", "action") for node, profile in found.items()}
    assert [node for node, called in calls.items() if GRIPPER_ACTION in called] == ["safety_node"]
    assert names(found["robot"], "actions", "execute", "action") == {GRIPPER_ACTION}
    for profile in found.values():
        assert GRIPPER_ACTION not in names(profile, "topics", "publish", "topic")


def test_the_policy_alone_sends_chunks_and_the_instruction_node_alone_sets_tasks():
    for topic, owner in (("/vla/action_chunk", "policy_node"), ("/vla/task", "instruction_node")):
        publishers = [n for n, p in profiles(policy(PANDA)).items() if topic in names(p, "topics", "publish", "topic")]
        assert publishers == [owner]


def test_nothing_is_allowed_by_a_wildcard_and_a_namespace_moves_all_of_one_arm():
    assert "*" not in policy(PANDA)
    safety = profiles(policy(PANDA, "left"))["safety_node"]
    assert safety.get("ns") == "/left"
    assert "/left/arm_controller/joint_trajectory" in names(safety, "topics", "publish", "topic")
    assert "/diagnostics" in names(safety, "topics", "publish", "topic")
    with pytest.raises(ContractError):
        policy(PANDA, "2nd")


def test_each_thing_said_is_heard_by_somebody():
    rights = rights_of_the_graph(PANDA)
    heard = {topic for right in rights.values() for topic in right.subscribe}
    for node, right in rights.items():
        if node not in ("robot",):
            assert set(right.publish) <= heard, node
