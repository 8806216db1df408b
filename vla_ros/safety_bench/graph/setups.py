"""Graphs for fault injection: as shipped, with tampered sensors, with a cable, with a full disk."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vla_ros.bringup.runner import GraphRunner
from vla_ros.robot.contract import load_contract
from vla_ros.ros.graph.description import Graph, NodeDescription, Value, load_graph
from vla_ros.ros.transitions import GraphError
from vla_ros.safety_bench.graph.faults.namespaces import Cabled
from vla_ros.safety_bench.graph.tampering.tamper_node import RAW

BUTTON_TIMEOUT = 0.25
"""Silence after which a continuously publishing button counts as pressed, s."""

RESTARTS = 1_000_000
"""Maximum number of restarts: the bench kills a node more often than the shipped graph restarts it."""

FULL_DISK_BYTES = 200_000


@dataclass
class Setup:
    """A running graph, and its `cable` if it has one."""

    graph: GraphRunner
    cable: Cabled | None = None


@contextlib.contextmanager
def started(name: str, arguments: Mapping[str, Any], folder: Path) -> Iterator[Setup]:
    """Run the graph called `name` for the duration of a `with` block, without a limit on restarts.

    Raises:
        GraphError: when it does not start, or this machine does not allow it.
    """
    graph = load_graph()
    nodes = {node.name: replace(node, restarts=RESTARTS if node.restarts else 0) for node in graph.nodes}
    folder = folder / name
    with ExitStack() as stack:
        cable: Cabled | None = None
        if name == "tampered":
            nodes = _tampered(nodes, str(arguments["robot"]))
        elif name == "hanging":
            _change(nodes, "safety_node", executable="safety_bench.graph.tampering.hanging_safety_node")
        elif name == "button":
            parameters = {**nodes["safety_node"].parameters, "estop_timeout": BUTTON_TIMEOUT}
            _change(nodes, "safety_node", parameters=parameters)
        elif name == "unread":
            _change(nodes, "safety_node", prefix=("sh", "-c", '"$0" "$@" | sleep 3600'))
        elif name == "cabled":
            cable = stack.enter_context(Cabled(os.getpid() % 250, folder))
            _change(nodes, "policy_node", prefix=cable.prefix())
            stack.enter_context(_environment("ROS_STATIC_PEERS", cable.far_address))
        elif name == "full_disk":
            stack.enter_context(_full_disk(folder / "log"))
        elif name != "plain":
            raise GraphError(f"there is no graph '{name}' to bring faults about in")
        runner = GraphRunner(arguments, graph=Graph(graph.arguments, tuple(nodes.values())), folder=folder)
        yield Setup(stack.enter_context(runner), cable)


def impossible(name: str) -> str:
    """Return why a graph cannot be created on this machine; "" if it can."""
    if name in {"cabled", "full_disk"} and not Cabled.possible():
        return "not tried: it needs root and the tool `ip`"
    return ""


def _change(nodes: dict[str, NodeDescription], name: str, **changes: Any) -> None:  # noqa: ANN401 (any field)
    nodes[name] = replace(nodes[name], **changes)


def _tampered(nodes: Mapping[str, NodeDescription], robot: str) -> dict[str, NodeDescription]:
    """Remap the simulator's sensor topics, and add a node that republishes them."""
    contract = load_contract(robot)
    topics = ("/clock", contract.controllers.joint_states_topic, *(camera.topic for camera in contract.cameras))
    parameters: dict[str, Value] = {"robot": robot}
    sim = replace(nodes["sim_node"], remappings={topic: RAW + topic for topic in topics})
    tamper = replace(
        nodes["perception_node"],
        name="tamper_node",
        executable="safety_bench.graph.tampering.tamper_node",
        parameters=parameters,
        restarts=0,
    )
    return {"sim_node": sim, "tamper_node": tamper, **{name: nodes[name] for name in nodes if name != "sim_node"}}


@contextlib.contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@contextlib.contextmanager
def _full_disk(folder: Path) -> Iterator[None]:
    """Mount a separate file system on the log folder, with room for the parameter files only."""
    folder.mkdir(parents=True, exist_ok=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={FULL_DISK_BYTES}", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        raise GraphError(f"no file system of its own for the logs: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], capture_output=True, check=False)
