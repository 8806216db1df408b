"""A second graph of the same names in one domain ends soon and names the first; the dead stand in nobody's way."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from rclpy.node import Node

from vla_ros.bringup import launch_actions
from vla_ros.bringup.launch_actions import end_launch, find_duplicate_nodes
from vla_ros.bringup.runner import GraphRunner, RosLink, graph_environment
from vla_ros.paths import share_file
from vla_ros.ros.dds.domains import claim_domain
from vla_ros.ros.dds.profile import LOOPBACK_PROFILE, PROFILE_VARIABLE
from vla_ros.ros.graph.description import Graph, load_graph
from vla_ros.ros.graph.duplicate_nodes import require_unique_names
from vla_ros.ros.process import NodeProcess
from vla_ros.ros.transitions import ACTIVE, GraphError, LifecycleClient

DEADLINE = 60.0
NAME = "instruction_node"


def graph_of_one() -> Graph:
    graph = load_graph()
    return Graph(graph.arguments, tuple(node for node in graph.nodes if node.name == NAME))


@pytest.fixture
def domain() -> int:
    domain, claim = claim_domain()
    claim.close()
    return domain


@dataclass
class Foreign:
    """A node of the graph that somebody has started by hand, and who else is in its domain."""

    domain: int
    process: NodeProcess
    bystander: RosLink

    def wait_for(self, condition: Callable[[set[str]], bool]) -> None:
        """Wait until the bystander sees what is wanted."""
        tick = threading.Event()
        for _ in range(int(DEADLINE / 0.05)):
            if condition({name for name, _ in self.bystander.node.get_node_names_and_namespaces()}):
                return
            tick.wait(0.05)
        raise AssertionError(self.process.last_lines())


@pytest.fixture
def foreign(domain: int, tmp_path: Path) -> Iterator[Foreign]:
    bystander = RosLink("bystander", domain)
    process = NodeProcess(graph_of_one().resolve()[0], graph_environment(domain), tmp_path)
    there = Foreign(domain, process, bystander)
    there.wait_for(lambda names: NAME in names)
    yield there
    process.signal(signal.SIGKILL)
    process.wait(DEADLINE)
    bystander.close()


def test_a_second_graph_ends_with_the_names_of_the_first_and_starts_nothing(foreign: Foreign, tmp_path: Path) -> None:
    second = GraphRunner(graph=graph_of_one(), domain=foreign.domain, folder=tmp_path / "second")
    with pytest.raises(GraphError, match=f"domain {foreign.domain} has /{NAME} already.*ROS_DOMAIN_ID.*namespace"):
        second.start()
    left = {file.name for file in (tmp_path / "second" / "log").iterdir()}
    assert left == {".lock"}  # no process has left its parameters or its log
    assert foreign.process.exit_code() is None


def test_a_graph_of_other_names_or_in_another_namespace_may_be_in_the_domain(foreign: Foreign) -> None:
    context = foreign.bystander.node.context
    other_arm = Node("safety_node", namespace="right", context=context, use_global_arguments=False)
    link = RosLink("visitor", foreign.domain)
    try:
        require_unique_names(link.node, ["/safety_node", f"/left/{NAME}"])
        for taken in (f"/{NAME}", "/right/safety_node"):
            with pytest.raises(GraphError, match=f"has {taken} already"):
                require_unique_names(link.node, ["/safety_node", taken])
    finally:
        link.close()
        other_arm.destroy_node()


def test_a_graph_that_was_killed_does_not_forbid_the_next_one(foreign: Foreign, tmp_path: Path) -> None:
    """The bystander, who knew the dead node, still has its name: whoever joins afterwards does not."""
    foreign.process.signal(signal.SIGKILL)
    assert foreign.process.wait(DEADLINE)
    names = {name for name, _ in foreign.bystander.node.get_node_names_and_namespaces()}
    assert NAME in names  # of a process that is dead: else this test shows nothing
    with GraphRunner(graph=graph_of_one(), domain=foreign.domain, folder=tmp_path / "next") as graph:
        assert LifecycleClient(graph.node).state(NAME, DEADLINE) == ACTIVE


def test_a_node_that_died_is_started_again_while_its_name_is_remembered(domain: int, tmp_path: Path) -> None:
    with GraphRunner(graph=graph_of_one(), domain=domain, folder=tmp_path) as graph:
        first = graph.process(NAME)
        first.signal(signal.SIGKILL)
        assert first.wait(DEADLINE)
        tick = threading.Event()
        for _ in range(int(DEADLINE / 0.05)):
            if graph.process(NAME) is not first and graph.process(NAME).exit_code() is None:
                break
            tick.wait(0.05)
        assert graph.process(NAME).pid != first.pid
        client = LifecycleClient(graph.node)
        for _ in range(int(DEADLINE / 0.5)):
            if client.state(NAME, DEADLINE) == ACTIVE:
                break
            tick.wait(0.5)
        assert client.state(NAME, DEADLINE) == ACTIVE
        assert graph.failure == ""


@dataclass
class LaunchContext:
    """As much of one as an action looks at."""

    is_shutdown: bool = False


def test_a_launch_looks_in_the_domain_of_its_environment(foreign: Foreign, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_DOMAIN_ID", str(foreign.domain))
    assert os.environ[PROFILE_VARIABLE] == str(share_file(LOOPBACK_PROFILE))  # of the bystander's process, this one
    with pytest.raises(GraphError, match=f"domain {foreign.domain} has /{NAME} already"):
        find_duplicate_nodes(LaunchContext(), ["/safety_node", f"/{NAME}"])
    assert find_duplicate_nodes(LaunchContext(is_shutdown=True), [f"/{NAME}"]) == []
    assert find_duplicate_nodes(LaunchContext(), [f"/left/{NAME}"]) == []
    monkeypatch.setattr(launch_actions, "require_unique_names", None)  # who has looked once does not look again
    assert find_duplicate_nodes(LaunchContext(), [f"/left/{NAME}"]) == []


def test_a_launch_ends_with_an_error_unless_it_ends_already() -> None:
    with pytest.raises(GraphError, match="bridge has ended"):
        end_launch(LaunchContext(), "bridge has ended")
    assert end_launch(LaunchContext(is_shutdown=True), "bridge has ended") == []
