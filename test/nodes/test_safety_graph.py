"""What the safety node's eyes see of controllers: those that listen, those that only look, and a gripper's action."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from rclpy.node import Node
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from vla_ros.bringup.runner import RosLink
from vla_ros.msg import ActionChunk
from vla_ros.nodes.safety.graph_watch import GraphWatch
from vla_ros.robot.contract import GripperInterface, RobotContract, load_contract
from vla_ros.robot.sections.gripper import NO_GRIPPER
from vla_ros.ros.dds.domains import claim_domain
from vla_ros.ros.qos import qos

DEADLINE = 30.0
PANDA = load_contract("panda")
ARM, GRIPPER = PANDA.controllers.arm_topic, PANDA.controllers.gripper_topic
ACTION = replace(PANDA, controllers=replace(PANDA.controllers, gripper_interface=GripperInterface.GRIPPER_COMMAND))


@pytest.fixture(scope="module")
def link() -> Iterator[RosLink]:
    domain, claim = claim_domain()
    link = RosLink("eyes", domain)
    yield link
    link.close()
    claim.close()


@pytest.fixture
def node_of(link: RosLink) -> Iterator[Callable[[str], Node]]:
    made: list[Node] = []

    def make(name: str) -> Node:
        made.append(Node(name, context=link.node.context, use_global_arguments=False))
        return made[-1]

    yield make
    for node in made:
        node.destroy_node()


def says(link: RosLink, contract: RobotContract, *wanted: str) -> bool:
    """Say whether the complaint comes to name exactly these topics."""
    watch, tick = GraphWatch(link.node, contract), threading.Event()
    for _ in range(int(DEADLINE / 0.05)):
        if {topic for topic in (ARM, GRIPPER) if topic in watch.unheard()} == set(wanted):
            return True
        tick.wait(0.05)
    return False


def listen(node: Node, topic: str) -> None:
    node.create_subscription(JointTrajectory, topic, lambda message: None, qos("arm_command"))


def test_each_controller_that_is_not_there_is_named(link: RosLink, node_of: Callable[[str], Node]) -> None:
    assert says(link, PANDA, ARM, GRIPPER)
    robot = node_of("controllers")
    listen(robot, ARM)
    assert says(link, PANDA, GRIPPER)
    listen(robot, GRIPPER)
    assert says(link, PANDA)
    assert GraphWatch(link.node, PANDA).unheard() == ""


def test_where_there_is_no_gripper_only_the_arm_s_controller_is_wanted(
    link: RosLink, node_of: Callable[[str], Node]
) -> None:
    bare = replace(PANDA.controllers, gripper_interface=GripperInterface.NONE, gripper_topic="")
    contract = replace(PANDA, gripper=NO_GRIPPER, controllers=bare)
    assert says(link, contract, ARM)
    listen(node_of("controllers"), ARM)
    assert says(link, contract)
    assert GraphWatch(link.node, contract).complaint() == ""


def test_a_second_clock_is_named_where_time_is_simulated(link: RosLink) -> None:
    simulated = Parameter("use_sim_time", value=True)
    options: dict[str, Any] = {"context": link.node.context, "use_global_arguments": False}
    eyes = Node("safety_node", namespace="left", parameter_overrides=[simulated], **options)
    clocks = [Node("sim_node", namespace=namespace, **options) for namespace in ("left", "right")]
    try:
        watch, machine = GraphWatch(eyes, PANDA), GraphWatch(link.node, PANDA)
        clocks[0].create_publisher(Clock, "/clock", qos("clock"))
        clocks[0].create_publisher(Clock, "/clock", qos("clock"))  # of a process that was started again
        assert watch.other_clocks() == watch.complaint() == ""
        clocks[1].create_publisher(Clock, "/clock", qos("clock"))
        said = "/clock is published by /left/sim_node and /right/sim_node: a domain has one clock"
        assert said in watch.other_clocks()
        assert said in watch.complaint()
        assert machine.other_clocks() == machine.complaint() == ""
    finally:
        for node in (eyes, *clocks):
            node.destroy_node()


def test_in_a_namespace_topics_are_named_in_full(link: RosLink) -> None:
    options: dict[str, Any] = {"context": link.node.context, "use_global_arguments": False}
    eyes = Node("safety_node", namespace="left", **options)
    policies = [Node(name, namespace="left", **options) for name in ("policy_node", "other")]
    try:
        for one in policies:
            one.create_publisher(ActionChunk, "vla/action_chunk", qos("action_chunk"))
        assert "several nodes publish /left/vla/action_chunk: /left/other" in GraphWatch(eyes, PANDA).complaint()
        assert GraphWatch(link.node, PANDA).complaint() == ""  # the other arm's business
    finally:
        for node in (eyes, *policies):
            node.destroy_node()


def test_who_only_looks_is_no_controller(link: RosLink, node_of: Callable[[str], Node]) -> None:
    for name in ("_ros2cli_17", "rosbag2_recorder"):
        listen(node_of(name), ARM)
    listen(node_of("controllers"), GRIPPER)
    assert says(link, PANDA, ARM)
    assert {info.node_name for info in link.node.get_subscriptions_info_by_topic(ARM)} == {
        "_ros2cli_17",
        "rosbag2_recorder",
    }


def test_a_gripper_that_is_an_action_is_there_when_its_goals_are_served(
    link: RosLink, node_of: Callable[[str], Node]
) -> None:
    robot = node_of("controllers")
    listen(robot, ARM)
    listen(robot, GRIPPER)  # of the same name, and still no action
    assert says(link, ACTION, GRIPPER)
    robot.create_service(Trigger, f"{GRIPPER}/_action/send_goal", lambda request, response: response)
    assert says(link, ACTION)
