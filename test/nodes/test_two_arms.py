"""Two arms in one domain, told apart by the namespace of their nodes: nothing of one reaches the other.

The names of the contract are those of a driver; they are remapped into the namespace as the launch files do it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from diagnostic_msgs.msg import DiagnosticArray
from std_msgs.msg import Bool, String

from vla_ros.bringup.runner import RosLink, graph_environment
from vla_ros.msg import Instruction, SafetyStatus
from vla_ros.robot.contract import load_contract
from vla_ros.ros.dds.domains import claim_domain
from vla_ros.ros.graph.description import load_graph
from vla_ros.ros.messages.interfaces import TOPICS, remappings, robot_topics
from vla_ros.ros.process import NodeProcess
from vla_ros.ros.qos import qos
from vla_ros.ros.transitions import ACTIVATE, CONFIGURE, LifecycleClient

DEADLINE = 60.0
PANDA = load_contract("panda")
ARMS = ("left", "right")
NODES = ("instruction_node", "safety_node", "perception_node", "action_node")


class Pair:
    """The nodes of two arms, each started with `-r __ns:=/<arm>`, and somebody who hears all of them."""

    def __init__(self, folder: Path) -> None:
        domain, self._claim = claim_domain()
        self.link = RosLink("console", domain)
        self.node = self.link.node
        self.change = threading.Condition()
        self.heard: dict[str, list[Any]] = {}
        self.processes: list[NodeProcess] = []
        try:
            self._start(folder, domain)
        except BaseException:
            self.close()
            raise

    def _start(self, folder: Path, domain: int) -> None:
        shipped = {one.name: one for one in load_graph().resolve({"use_sim_time": False}, simulation="")}
        for arm in ARMS:
            below = folder / arm
            below.mkdir()
            moved = {name: to for name, to in remappings(PANDA, arm) if name in robot_topics(PANDA)}
            for name in NODES:
                one = replace(shipped[name], remappings={"__ns": f"/{arm}", **moved})
                self.processes.append(NodeProcess(one, graph_environment(domain), below))
            self._listen(Instruction, f"/{arm}/vla/task", "task")
            self._listen(SafetyStatus, f"/{arm}/vla/safety_status", "status")
        self._listen(DiagnosticArray, "/diagnostics", "diagnostics")
        client = LifecycleClient(self.node)
        for transition in (CONFIGURE, ACTIVATE):
            for arm in ARMS:
                for name in NODES:
                    client.change(f"{arm}/{name}", transition, DEADLINE)

    def _listen(self, kind: type, topic: str, profile: str) -> None:
        kept = self.heard.setdefault(topic, [])

        def take(message: Any) -> None:
            with self.change:
                kept.append(message)
                self.change.notify_all()

        self.node.create_subscription(kind, topic, take, qos(profile))

    def wait(self, condition: Callable[[], bool], repeat: Callable[[], None] = lambda: None) -> None:
        end = time.monotonic() + DEADLINE
        while True:
            repeat()
            with self.change:
                if self.change.wait_for(condition, 0.1):
                    return
            assert time.monotonic() < end, {topic: kept[-1:] for topic, kept in self.heard.items()}

    def states(self, arm: str) -> list[str]:
        return [one.state_name for one in self.heard[f"/{arm}/vla/safety_status"]]

    def close(self) -> None:
        for process in self.processes:
            process.end(time.monotonic() + 4.0)
        self.link.close()
        self._claim.close()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    pair = Pair(tmp_path_factory.mktemp("arms"))
    yield pair
    pair.close()


def test_nothing_of_an_arm_is_outside_of_its_namespace(pair: Pair) -> None:
    """But for what belongs to the domain."""
    names = dict(pair.node.get_topic_names_and_types() + pair.node.get_service_names_and_types())
    inside = tuple(f"/{where}/" for where in (*ARMS, "console"))
    assert {name for name in names if not name.startswith(inside)} == {"/rosout", "/parameter_events", "/diagnostics"}
    services = ("/vla/arm", "/vla/reset", "/vla/selftest", "/vla/execute_instruction/_action/send_goal")
    for arm in ARMS:
        for name in (*TOPICS, *services, PANDA.controllers.arm_topic):
            assert f"/{arm}{name}" in names


def test_a_sentence_for_one_arm_is_no_task_of_the_other(pair: Pair) -> None:
    say = pair.node.create_publisher(String, "/left/vla/instruction", qos("instruction"))
    pair.wait(lambda: bool(pair.heard["/left/vla/task"]), lambda: say.publish(String(data="pick up the red cube")))
    assert pair.heard["/right/vla/task"] == []


def test_the_emergency_stop_of_one_arm_is_not_that_of_the_other(pair: Pair) -> None:
    button = pair.node.create_publisher(Bool, "/left/vla/estop", qos("estop"))
    pair.wait(lambda: "ESTOP" in pair.states("left")[-1:], lambda: button.publish(Bool(data=True)))
    before = len(pair.states("right"))
    pair.wait(lambda: len(pair.states("right")) > before + 5)
    assert set(pair.states("right")) == {"DISARMED"}


def test_their_reports_are_told_apart(pair: Pair) -> None:
    def reports() -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for message in pair.heard["/diagnostics"]:
            for status in message.status:
                found.setdefault(status.name, set()).add(status.hardware_id)
        return found

    wanted = {f"{arm}/{name}" for arm in ARMS for name in ("instruction_node", "safety_node", "action_node")}
    pair.wait(lambda: wanted <= set(reports()))
    assert all(name.startswith(tuple(f"{arm}/" for arm in ARMS)) for name in reports())
    assert reports()["left/safety_node"] == {"left/panda"}
    assert reports()["right/safety_node"] == {"right/panda"}
