"""Orders of people in the graph: instruction node and safety node as processes; the test plays robot and policy.

Whatever becomes of the instruction node, a stop is heard, its loss holds, and who said something learns the truth.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from std_msgs.msg import String

from vla_ros.bringup.runner import GraphRunner, RosLink
from vla_ros.cli.main import main
from vla_ros.client.observer import Observer
from vla_ros.client.operator_client import Operator, make_request
from vla_ros.msg import Instruction, InstructionRequest, InstructionStatus, SafetyStatus
from vla_ros.ros.graph.description import Graph, load_graph
from vla_ros.ros.qos import qos
from vla_ros.ros.transitions import ACTIVATE, DEACTIVATE, LifecycleClient

sys.path.insert(0, str(Path(__file__).parent))
from test_safety_node import DEADLINE, Cell

NODE = "instruction_node"
TASK = "pick up the red cube"
SAYINGS = 13


class Site(Cell):
    """The robot, a policy that never tires, and an operator."""

    def __init__(self, runner: GraphRunner, operator: Operator, observer: Observer) -> None:
        super().__init__(runner)
        self.operator, self.observer = operator, observer
        self.tasks: list[Instruction] = []
        self.following: int | None = None
        self._subscribe(Instruction, "/vla/task", self._on_task, "task")
        self._policy = threading.Thread(target=self._propose, daemon=True)
        self._policy.start()

    def close(self) -> None:
        self.signal(signal.SIGCONT)
        super().close()
        self._policy.join()

    def _propose(self) -> None:
        while not self.closing.wait(0.1):
            if self.following is not None:
                self.chunks.publish(self.chunk(instruction_sequence=self.following))

    def _on_task(self, message: Instruction) -> None:
        with self.change:
            self.tasks.append(message)
            if message.kind == Instruction.TASK:
                self.following = int(message.sequence)
            self.change.notify_all()

    def signal(self, number: signal.Signals) -> None:
        self.runner.process(NODE).signal(number)

    def move(self) -> None:
        """Give a task, arm, and get under way."""
        self.operator.say(TASK, DEADLINE)
        self.wait_until_heard(self.chunks)
        self.wait_until_heard(self.states)
        end = time.monotonic() + DEADLINE
        while not (answer := self.arm()).success:
            assert time.monotonic() < end, answer
        self.wait_for_state("RUN")

    def stays_stopped(self, ticks: int = 100) -> None:
        """Require HOLD because of a stop for so many ticks, while the policy goes on."""
        mark, seen = len(self.statuses), self.statuses[-1].tick
        self.wait_for(lambda: self.statuses[-1].tick > seen + ticks)
        assert {(status.state_name, status.reason) for status in self.statuses[mark:]} == {("HOLD", "instruction_stop")}

    def command(self, capsys: pytest.CaptureFixture[str], text: str, timeout: float = 10.0) -> tuple[int, dict, str]:
        """Run `vla-ros say`, and return its exit code, the JSON and all that it printed."""
        code = main(["say", text, "--out", str(self.runner.folder), "--timeout", str(timeout), "--json"])
        printed = capsys.readouterr().out
        return code, json.loads(printed.splitlines()[-1]), printed


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GraphRunner]:
    shipped = load_graph()
    nodes = tuple(
        replace(node, parameters={**node.parameters, "use_sim_time": False})
        for node in shipped.nodes
        if node.name in (NODE, "safety_node")
    )
    with GraphRunner(graph=Graph(shipped.arguments, nodes), folder=tmp_path_factory.mktemp("orders")) as running:
        yield running


@pytest.fixture(scope="module")
def observer(runner: GraphRunner) -> Observer:
    return Observer(runner.node)


@pytest.fixture(scope="module")
def operator(runner: GraphRunner, observer: Observer) -> Operator:
    return Operator(runner.node, observer)


@pytest.fixture
def site(runner: GraphRunner, operator: Operator, observer: Observer) -> Iterator[Site]:
    """A robot at home before a safety node that was activated afresh."""
    lifecycle = LifecycleClient(runner.node)
    lifecycle.change("safety_node", DEACTIVATE, DEADLINE)
    lifecycle.change("safety_node", ACTIVATE, DEADLINE)
    site = Site(runner, operator, observer)
    site.wait_for(lambda: bool(site.statuses))
    yield site
    site.arm(False)
    site.close()


def test_an_instruction_node_that_hangs_in_motion_holds(site: Site) -> None:
    site.move()
    site.signal(signal.SIGSTOP)
    said = site.wait_for_state("HOLD", "instruction_silent")
    assert "instruction node" in said.sentence
    site.signal(signal.SIGCONT)
    site.wait_for_state("RUN")


def test_an_instruction_node_that_is_deactivated_holds(site: Site) -> None:
    """It runs, and takes no orders."""
    site.move()
    lifecycle = LifecycleClient(site.node)
    lifecycle.change(NODE, DEACTIVATE, DEADLINE)
    site.wait_for_state("HOLD", "instruction_silent")
    lifecycle.change(NODE, ACTIVATE, DEADLINE)
    site.wait_for_state("RUN")


def test_a_heartbeat_of_somebody_else_holds(site: Site) -> None:
    site.move()
    link = RosLink("intruder", site.runner.domain)
    over = threading.Event()
    publisher = link.node.create_publisher(InstructionStatus, "/vla/instruction_status", qos("status"))

    def beat() -> None:
        count = 0
        while not over.wait(0.05):
            count += 1
            publisher.publish(InstructionStatus(beat=count))

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        said = site.wait_for_state("HOLD", "foreign_publisher")
        assert "/vla/instruction_status" in said.sentence
    finally:
        over.set()
        thread.join()
        link.close()
    site.wait_for_state("RUN")


def test_say_stop_is_heard_while_the_instruction_node_hangs(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.move()
    site.signal(signal.SIGSTOP)
    code, answer, printed = site.command(capsys, "stop")
    assert code == 0, printed
    assert (answer["acknowledged_by_safety_node"], answer["accepted"], answer["state"]) == (True, False, "HOLD")
    assert answer["reason"] == "instruction_stop"
    assert "stopped: the safety layer has heard it" in printed
    assert "the instruction node has not answered" in printed
    site.stays_stopped()  # longer than the timeout of the heartbeat: the stop says more than the silence


def test_say_stop_is_heard_when_the_silence_holds_already(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.move()
    site.signal(signal.SIGSTOP)
    site.wait_for_state("HOLD", "instruction_silent")
    code, answer, printed = site.command(capsys, "stop")
    assert (code, answer["acknowledged_by_safety_node"], answer["accepted"]) == (0, True, False), printed
    site.signal(signal.SIGCONT)
    site.stays_stopped()


def test_say_of_a_task_says_that_nobody_took_it(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.signal(signal.SIGSTOP)
    code, answer, printed = site.command(capsys, "pick up the blue ball", timeout=2.0)
    assert (code, answer["accepted"], answer["done"]) == (1, False, False)
    assert "the instruction node did not answer within 2.0 s" in printed


def test_every_stop_by_say_is_heard_and_told_so(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(SAYINGS):
        site.move()
        mark = len(site.statuses)
        code, answer, printed = site.command(capsys, "stop")
        assert (code, answer["acknowledged_by_safety_node"], answer["accepted"]) == (0, True, True), printed
        assert f"accepted as instruction {answer['instruction']}" in printed
        held = [s for s in site.statuses[mark:] if (s.state, s.reason) == (SafetyStatus.HOLD, "instruction_stop")]
        assert held, "say told of a stop that never came"
        taken = [task for task in site.tasks if task.request_id == answer["request_id"]]
        assert {(task.kind, task.sequence) for task in taken} >= {(Instruction.STOP, answer["instruction"])}


def test_a_stop_behind_a_flood_is_heard(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.move()
    sentences = site._publisher(String, "/vla/instruction", qos("instruction"))
    site.wait_until_heard(sentences)
    for i in range(2000):
        sentences.publish(String(data=f"pick up the cube number {i}"))
    code, answer, printed = site.command(capsys, "stop")
    assert (code, answer["acknowledged_by_safety_node"], answer["state"]) == (0, True, "HOLD"), printed
    site.stays_stopped()
    site.move()


def test_a_task_from_before_a_stop_is_not_followed_after_it(site: Site) -> None:
    """The node hangs with a task in one queue, and the stop is pushed out of its other one."""
    requests = site._publisher(InstructionRequest, "/vla/instruction_request", qos("instruction"))
    sentences = site._publisher(String, "/vla/instruction", qos("instruction"))
    site.wait_until_heard(requests)
    site.wait_until_heard(sentences)
    site.move()
    site.signal(signal.SIGSTOP)
    late = make_request("pick up the green ball")
    requests.publish(late)
    seen = site.statuses[-1].tick
    site.wait_for(lambda: site.statuses[-1].tick > seen + 10)  # the safety node has heard that sentence
    sentences.publish(String(data="stop"))
    site.wait_for_state("HOLD", "instruction_stop")
    for i in range(2 * qos("instruction").depth):
        sentences.publish(String(data=f"\x07 {i}"))  # no instruction comes of it
    known = len(site.tasks)
    site.signal(signal.SIGCONT)
    site.wait_for(lambda: any(task.request_id == late.id for task in site.tasks[known:]))
    assert all(task.kind == Instruction.TASK for task in site.tasks[known:]), "the node has heard the stop after all"
    site.stays_stopped()
    site.move()  # what is said after the stop is followed
