"""Waits for the external program that replaces the simulator before the graph is started."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

from rclpy.node import Node

from vla_ros.robot.contract import RobotContract, load_contract
from vla_ros.ros.graph.description import NodeDescription
from vla_ros.ros.messages.interfaces import command_topics
from vla_ros.ros.transitions import GraphError

PATIENCE = 10.0
"""Time to look for the program, s: discovery takes a second or two."""

_POLL = 0.1


def require_simulator(node: Node, graph: Iterable[NodeDescription], patience: float | None = None) -> None:
    """Wait until all topics that the robot of a graph needs are offered in the domain of `node`.

    Args:
        node: Node of this process; it need not be spun.
        graph: Nodes of the graph, one of which names the robot.
        patience: Time to look, s; `PATIENCE` when None.

    Raises:
        ContractError: when the robot's contract is missing or invalid.
        GraphError: when topics are missing; it names them.
    """
    robot = next((str(one.parameters["robot"]) for one in graph if "robot" in one.parameters), None)
    if robot is None:
        return
    contract = load_contract(robot)
    end = time.monotonic() + (PATIENCE if patience is None else patience)
    while missing := list(_missing(node, contract)):
        if time.monotonic() > end:
            raise GraphError(
                f"simulation: external, but in domain {node.context.get_domain_id()} nobody offers "
                f"{', '.join(missing)}: start the simulator first, in this domain and on this machine "
                "(docs/simulators.md lists what it has to offer)"
            )
        time.sleep(_POLL)


def _missing(node: Node, contract: RobotContract) -> Iterator[str]:
    controllers = contract.controllers
    for topic in ("/clock", controllers.joint_states_topic, *(camera.topic for camera in contract.cameras)):
        if not node.get_publishers_info_by_topic(topic):
            yield topic
    for topic in command_topics(contract):
        if not node.get_subscriptions_info_by_topic(topic):
            yield f"{topic} (a subscription)"
