"""Nodes in one process: each keeps its name, parameters and state; they come and go together."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lifecycle_msgs.msg import State
from rcl_interfaces.srv import GetParameters
from rclpy.parameter import parameter_value_to_python
from std_msgs.msg import String

from vla_ros.bringup.runner import GraphRunner, RosLink, graph_environment
from vla_ros.client.observer import Observer
from vla_ros.client.operator_client import Operator
from vla_ros.client.stage import Stage
from vla_ros.nodes.policy_node import NICENESS
from vla_ros.paths import share_file
from vla_ros.robot.contract import load_contract
from vla_ros.ros.dds.domains import claim_domain
from vla_ros.ros.dds.profile import LOOPBACK_PROFILE, PROFILE_VARIABLE
from vla_ros.ros.graph.description import Graph, load_graph
from vla_ros.ros.qos import qos
from vla_ros.ros.transitions import ACTIVATE, ACTIVE, DEACTIVATE, LifecycleClient

sys.path.insert(0, str(Path(__file__).parent))  # tests are imported by path, not from their folder
from running_script import RunningScript

DEADLINE = 60.0
SCRIPT = Path(__file__).with_name("shared_process.py")
NAMES = {"instruction_node": "ears", "action_node": "goals"}
PARAMETERS = {"ears": {"use_sim_time": False, "max_rate": 7.0}, "goals": {"use_sim_time": True}}


def wait_until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.05)


def call(link: RosLink, kind: Any, name: str, request: Any) -> Any:
    client = link.node.create_client(kind, name)
    assert client.wait_for_service(DEADLINE)
    future, done = client.call_async(request), threading.Event()
    future.add_done_callback(lambda _: done.set())
    assert done.wait(DEADLINE), f"no answer of {name}"
    return future.result()


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GraphRunner]:
    """Two nodes of the shipped graph under other names, in the process that they share in it."""
    shipped = load_graph()
    nodes = tuple(
        replace(one, name=NAMES[one.name], parameters=PARAMETERS[NAMES[one.name]])
        for one in shipped.nodes
        if one.name in NAMES
    )
    renamed = replace(nodes[0], remappings={"/vla/task": "/test/task", "vla/task": "/test/task"})
    arguments = {**shipped.arguments, "processes": "shared"}
    graph = Graph(arguments, (renamed, *nodes[1:]))
    with GraphRunner(graph=graph, simulation="", folder=tmp_path_factory.mktemp("graph")) as runner:
        yield runner


def test_two_nodes_of_one_process_have_states_of_their_own(graph: GraphRunner) -> None:
    assert graph.process("ears") is graph.process("goals")
    lifecycle = LifecycleClient(graph.node)
    lifecycle.change("ears", DEACTIVATE, DEADLINE)
    assert lifecycle.state("ears", DEADLINE) == State.PRIMARY_STATE_INACTIVE
    assert lifecycle.state("goals", DEADLINE) == ACTIVE
    lifecycle.change("ears", ACTIVATE, DEADLINE)


def test_parameters_and_remappings_reach_only_their_node(graph: GraphRunner) -> None:
    for name, expected in PARAMETERS.items():
        request = GetParameters.Request(names=list(expected))
        answer = call(graph._link, GetParameters, f"/{name}/get_parameters", request)
        found = dict(zip(expected, map(parameter_value_to_python, answer.values), strict=True))
        assert found == expected
    spaces = dict.fromkeys(("ears", "goals"), "/")
    wait_until(
        lambda: spaces.items() <= dict(graph.node.get_node_names_and_namespaces()).items(), "the nodes are not there"
    )
    wait_until(
        lambda: any(name == "/test/task" for name, _ in graph.node.get_publisher_names_and_types_by_node("ears", "/")),
        "the remapping of a node does not hold",
    )
    heard = dict(graph.node.get_subscriber_names_and_types_by_node("goals", "/"))
    assert "/vla/task" in heard
    assert "/test/task" not in heard


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")
def test_a_process_that_handles_no_images_shares_no_memory(graph: GraphRunner) -> None:
    environment = Path(f"/proc/{graph.process('ears').pid}/environ").read_text(encoding="utf-8").split("\0")
    assert f"{PROFILE_VARIABLE}={share_file(LOOPBACK_PROFILE)}" in environment


def test_nodes_of_a_killed_process_come_back_together(graph: GraphRunner) -> None:
    lifecycle, killed = LifecycleClient(graph.node), graph.process("ears")
    killed.signal(signal.SIGKILL)
    wait_until(lambda: graph.process("ears") is not killed, "the process was not started again")
    for name in NAMES.values():
        wait_until(lambda name=name: lifecycle.state(name, DEADLINE) == ACTIVE, f"{name} is not active again")
    assert graph.process("ears") is graph.process("goals")
    assert graph.failure == ""


def granted(niceness: int) -> int:
    """Return the niceness that a process gets which asks for this one."""
    text = "import os, sys; from vla_ros.priority import prefer_thread; prefer_thread(int(sys.argv[1]))"
    command = [sys.executable, "-c", f"{text}; print(os.getpriority(os.PRIO_PROCESS, 0))", str(niceness)]
    return int(subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=True).stdout)


def test_the_demo_runs_with_all_but_two_nodes_in_one_process(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    with GraphRunner({"processes": "shared"}, folder=tmp_path) as runner:
        pids = {one.name: runner.process(one.name).pid for one in runner.descriptions}
        alone = {pids.pop(name) for name in ("sim_node", "safety_node")}
        assert len(alone) == 2
        assert len(set(pids.values()) - alone) == 1
        assert os.getpriority(os.PRIO_PROCESS, pids["policy_node"]) == granted(NICENESS)
        observer = Observer(runner.node, load_contract("panda").cameras[0].topic)
        operator = Operator(runner.node, observer)
        sentence = Stage(runner.node, observer, operator).set_up(1000, "", DEADLINE)
        observer.begin()
        operator.say(sentence, DEADLINE)
        operator.arm(DEADLINE)
        assert observer.wait(lambda: observer.safety.state_name == "RUN", DEADLINE), observer.safety.sentence
        assert observer.wait(lambda: observer.episode.chunks > 5, DEADLINE), observer.policy.sentence
        killed = runner.process("policy_node")
        killed.signal(signal.SIGKILL)
        assert observer.wait(lambda: observer.safety.state_name == "HOLD", DEADLINE), observer.safety.sentence
        wait_until(lambda: runner.process("policy_node") is not killed, "the process was not started again")
        lifecycle = LifecycleClient(runner.node)
        for name in pids:
            wait_until(lambda name=name: lifecycle.state(name, DEADLINE) == ACTIVE, f"{name} is not active again")
        assert runner.failure == ""


class Pair(RunningScript):
    """The two nodes of shared_process.py."""

    def tell(self, name: str, text: str, until: Callable[[], bool]) -> None:
        speech = self.link.node.create_publisher(String, f"/test/{name}", qos("instruction"))

        def told() -> bool:
            speech.publish(String(data=text))
            return until()

        wait_until(told, f"{name} was told to {text}: {self.said()}")


@pytest.fixture
def domain() -> Iterator[int]:
    domain, claim = claim_domain()
    yield domain
    claim.close()


@pytest.fixture
def pair(tmp_path: Path, domain: int) -> Iterator[Pair]:
    with Pair(SCRIPT, domain, DEADLINE, log=tmp_path / "log") as pair:
        pair.bring_up("first", "second")
        yield pair


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_ends_both_nodes_in_order(pair: Pair, number: signal.Signals) -> None:
    pair.process.send_signal(number)
    assert pair.process.wait(DEADLINE) == 0, pair.said()
    for name in ("first", "second"):
        assert f"[{name}]: deactivated" in pair.said()


def test_a_callback_that_raises_is_logged_and_ends_nobody(pair: Pair) -> None:
    pair.tell("first", "fail", lambda: "the callback was asked to fail" in pair.said())
    assert "[first]: a callback failed" in pair.said()
    assert [pair.lifecycle.state(name, DEADLINE) for name in ("first", "second")] == [ACTIVE, ACTIVE]


def test_a_node_that_blocks_holds_up_no_other(pair: Pair) -> None:
    pair.tell("first", "block", lambda: "[first]: blocks" in pair.said())
    assert pair.lifecycle.state("second", DEADLINE) == ACTIVE
    pair.process.send_signal(signal.SIGTERM)
    assert pair.process.wait(DEADLINE) == 1, pair.said()
    assert "[second]: deactivated" in pair.said()


def test_a_node_that_ends_unasked_ends_the_process_with_an_error(pair: Pair) -> None:
    pair.tell("first", "end", lambda: pair.process.poll() is not None)
    assert pair.process.wait(DEADLINE) == 1
    assert "[second]: deactivated" in pair.said()
    assert "error: first has ended unasked" in pair.said()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["instruction_node", "safety_node"], "safety_node runs alone and shares no process"),
        (["sim_node", "instruction_node"], "sim_node runs alone and shares no process"),
        (["instruction_node", "no_such_node"], "no node 'no_such_node' in this package"),
        ([], "no node to run"),
        (["instruction_node", "action_node", "--ros-args", "-r", "__node:=x"], "two nodes are called /x"),
        (["instruction_node", "--ros-args", "--log-level", "verbose"], "verbose"),
    ],
)
def test_a_container_refuses_with_one_sentence(words: list[str], says: str, domain: int) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "vla_ros.nodes.node_container", *words],
        env=graph_environment(domain),
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert says in ended.stderr
