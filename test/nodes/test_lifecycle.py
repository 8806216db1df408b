"""What every node inherits: transitions that refuse instead of dying, health in every state, an orderly end."""

from __future__ import annotations

import ast
import contextlib
import math
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.srv import DescribeParameters, SetParameters, SetParametersAtomically
from rclpy.parameter import Parameter
from std_msgs.msg import String

import vla_ros
from vla_ros.bringup.runner import RosLink, graph_environment
from vla_ros.errors import ContractError
from vla_ros.ros.dds.domains import claim_domain, free_domain
from vla_ros.ros.lifecycle import END_GRACE, ManagedNode, diagnostic
from vla_ros.ros.qos import qos
from vla_ros.ros.transitions import LifecycleClient

sys.path.insert(0, str(Path(__file__).parent))  # tests are imported by path, not from their folder
from running_script import RunningScript

DEADLINE = 30.0
SCRIPT = Path(__file__).with_name("managed_process.py")


class Scripted(ManagedNode):
    """Notes what is called, and raises what it is told to."""

    def __init__(self, link: RosLink, **options: Any) -> None:
        self.calls: list[str] = []
        self.raises: dict[str, Exception] = {}
        self.statuses: list[DiagnosticStatus] = []
        super().__init__("scripted", context=link.node.context, use_global_arguments=False, **options)

    def _step(self, name: str) -> None:
        self.calls.append(name)
        if name in self.raises:
            raise self.raises[name]

    def configure(self) -> None:
        self.parameter("depth", 3, "how deep")
        self.parameter("share", 0.5, "of the whole", low=0.0, high=1.0)
        self.read = self.parameter("policy", "first", "what decides", changeable=True)
        self.parameter("threads", 1, "of the processor", low=1, high=8, changeable=True)
        self._step("configure")

    def activate(self) -> None:
        self._step("activate")

    def deactivate(self) -> None:
        self._step("deactivate")

    def cleanup(self) -> None:
        self._step("cleanup")

    def health(self) -> list[DiagnosticStatus]:
        self._step("health")
        return self.statuses


class World:
    """A scripted node and somebody who talks to it, over real ROS."""

    def __init__(self) -> None:
        domain = free_domain()
        self.link, self.own = RosLink("somebody", domain), RosLink("own", domain)
        self.node = Scripted(self.own)
        self.own._executor.add_node(self.node)
        self.lifecycle = LifecycleClient(self.link.node)
        self.reports: list[DiagnosticStatus] = []
        self.change = threading.Condition()
        self.link.node.create_subscription(DiagnosticArray, "/diagnostics", self._take, qos("diagnostics"))

    def _take(self, message: DiagnosticArray) -> None:
        with self.change:
            self.reports += message.status
            self.change.notify_all()

    def next_report(self) -> DiagnosticStatus:
        with self.change:
            before = len(self.reports)
            assert self.change.wait_for(lambda: len(self.reports) > before + 1, DEADLINE)
            return self.reports[-1]

    def transit(self, transition: int) -> bool:
        request = ChangeState.Request()
        request.transition.id = transition
        return self.call(ChangeState, "/scripted/change_state", request).success

    def call(self, kind: Any, name: str, request: Any) -> Any:
        client = self.link.node.create_client(kind, name)
        assert client.wait_for_service(DEADLINE)
        future, done = client.call_async(request), threading.Event()
        future.add_done_callback(lambda _: done.set())
        assert done.wait(DEADLINE), "no answer"
        return future.result()

    def state(self) -> int:
        return self.lifecycle.state("scripted", DEADLINE)

    def steps(self) -> list[str]:
        return [call for call in self.node.calls if call != "health"]


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.own.close()
    world.link.close()


def test_the_way_up_and_down(world: World) -> None:
    for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
        assert world.transit(transition)
    assert world.state() == State.PRIMARY_STATE_ACTIVE
    assert world.node.active
    for transition in (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP):
        assert world.transit(transition)
    assert world.state() == State.PRIMARY_STATE_UNCONFIGURED
    assert not world.node.active
    assert world.steps() == ["configure", "activate", "deactivate", "cleanup"]


@pytest.mark.parametrize("error", [ContractError("no such robot"), ZeroDivisionError("a mistake")])
def test_what_configure_raises_refuses_and_leaves_the_way_open(world: World, error: Exception) -> None:
    world.node.raises["configure"] = error
    assert not world.transit(Transition.TRANSITION_CONFIGURE)
    assert world.state() == State.PRIMARY_STATE_UNCONFIGURED
    assert world.steps() == ["configure", "cleanup"]
    world.node.raises.clear()
    assert world.transit(Transition.TRANSITION_CONFIGURE)


def test_what_activate_raises_refuses_and_stops_what_had_begun(world: World) -> None:
    assert world.transit(Transition.TRANSITION_CONFIGURE)
    world.node.raises["activate"] = ContractError("not yet")
    assert not world.transit(Transition.TRANSITION_ACTIVATE)
    assert world.state() == State.PRIMARY_STATE_INACTIVE
    assert world.steps() == ["configure", "activate", "deactivate"]
    assert not world.node.active


def test_a_node_that_cannot_stop_in_order_counts_as_stopped(world: World) -> None:
    for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
        assert world.transit(transition)
    world.node.raises["deactivate"] = RuntimeError("stuck")
    assert world.transit(Transition.TRANSITION_DEACTIVATE)
    assert not world.node.active


@pytest.mark.parametrize("transition", [Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_ACTIVATE, 200])
def test_a_transition_that_does_not_exist_is_answered_and_survived(world: World, transition: int) -> None:
    assert not world.transit(transition)
    assert world.transit(Transition.TRANSITION_CONFIGURE)


def test_shutdown_stops_and_frees(world: World) -> None:
    for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
        assert world.transit(transition)
    assert world.transit(Transition.TRANSITION_ACTIVE_SHUTDOWN)
    assert world.steps() == ["configure", "activate", "deactivate", "cleanup"]
    assert world.state() == State.PRIMARY_STATE_FINALIZED


def test_health_is_reported_in_every_state_and_when_it_fails(world: World) -> None:
    assert (world.next_report().message, world.next_report().level) == ("not active", DiagnosticStatus.OK)
    world.node.statuses = [DiagnosticStatus(name="scripted", message="well")]
    assert world.next_report().message == "well"
    world.node.raises["health"] = RuntimeError("lost")
    report = world.next_report()
    assert (report.message, report.level) == ("no health: lost", DiagnosticStatus.ERROR)


def test_a_live_change_of_a_parameter_is_refused_and_the_old_value_kept(world: World) -> None:
    assert world.transit(Transition.TRANSITION_CONFIGURE)
    request = SetParameters.Request(parameters=[Parameter("depth", value=99).to_parameter_msg()])
    result = world.call(SetParameters, "/scripted/set_parameters", request).results[0]
    assert not result.successful
    assert "read-only" in result.reason
    assert world.node.get_parameter("depth").value == 3


def set_parameter(world: World, name: str, value: Any) -> Any:
    request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
    return world.call(SetParameters, "/scripted/set_parameters", request).results[0]


def test_a_changeable_parameter_is_set_after_cleanup_and_not_before(world: World) -> None:
    assert world.transit(Transition.TRANSITION_CONFIGURE)
    for transition in (Transition.TRANSITION_ACTIVATE, Transition.TRANSITION_DEACTIVATE):
        answer = set_parameter(world, "policy", "second")
        assert not answer.successful
        assert "ros2 lifecycle set /scripted deactivate, then cleanup" in answer.reason
        assert world.transit(transition)
    assert world.transit(Transition.TRANSITION_CLEANUP)
    assert set_parameter(world, "policy", "second").successful
    assert not set_parameter(world, "depth", 4).successful
    assert not set_parameter(world, "threads", 9).successful
    assert world.transit(Transition.TRANSITION_CONFIGURE)
    assert world.node.read == "second"


def test_ranges_of_parameters_are_told(world: World) -> None:
    assert world.transit(Transition.TRANSITION_CONFIGURE)
    request = DescribeParameters.Request(names=["share", "threads", "depth"])
    share, threads, depth = world.call(DescribeParameters, "/scripted/describe_parameters", request).descriptors
    assert [(one.from_value, one.to_value) for one in share.floating_point_range] == [(0.0, 1.0)]
    assert [(one.from_value, one.to_value) for one in threads.integer_range] == [(1, 8)]
    assert (list(depth.integer_range), depth.description) == ([], "how deep")


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("share", 1.5, "expected 0.0 to 1.0"),
        ("share", math.nan, "expected 0.0 to 1.0"),
        ("share", 1, "expected 0.0 to 1.0, a float such as 0.5"),
        ("threads", 0, "expected 1 to 8"),
        ("depth", "deep", "expected an int such as 3"),
    ],
)
def test_a_value_out_of_range_or_of_another_type_is_refused(name: str, value: Any, says: str) -> None:
    link = RosLink("own", free_domain())
    node = Scripted(link, parameter_overrides=[Parameter(name, value=value)])
    try:
        with pytest.raises(ContractError, match=f"{name}.*{says}"):
            node.configure()
    finally:
        node.destroy_node()
        link.close()


def assigned(definition: ast.ClassDef) -> set[str]:
    """Return the attributes of itself that a class assigns."""
    return {
        one.attr
        for one in ast.walk(definition)
        if isinstance(one, ast.Attribute)
        and isinstance(one.ctx, ast.Store)
        and isinstance(one.value, ast.Name)
        and one.value.id == "self"
    }


def test_no_node_overwrites_what_its_base_keeps() -> None:
    link = RosLink("own", free_domain())
    node = ManagedNode("plain", context=link.node.context, use_global_arguments=False)
    kept = set(vars(node)) | set(dir(ManagedNode))
    node.destroy_node()
    link.close()
    found = {
        definition.name: assigned(definition)
        for path in Path(vla_ros.__file__).parent.rglob("*.py")
        for definition in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(definition, ast.ClassDef)
        and any(isinstance(base, ast.Name) and base.id == "ManagedNode" for base in definition.bases)
    }
    assert {"SafetyNode", "TamperNode"} <= set(found)
    assert {name: names & kept for name, names in found.items() if names & kept} == {}


def test_a_report_names_the_robot_before_and_after_its_contract_is_read() -> None:
    class Armed(Scripted):
        default_robot = "panda"

    link = RosLink("own", free_domain())
    node = Armed(link, namespace="left")
    said = diagnostic("scripted", DiagnosticStatus.OK, "well", {})
    before = node._of_this_arm(said).hardware_id
    assert node.robot_parameter() == "panda"
    after = node._of_this_arm(said).hardware_id
    node.destroy_node()
    link.close()
    assert before == after == "left/panda"


def test_reports_of_two_arms_can_be_told_apart() -> None:
    link = RosLink("own", free_domain())
    robot = Parameter("robot", value="config/robots/panda.yaml")
    found = []
    for namespace, overrides in (("", []), ("", [robot]), ("left", [robot]), ("right", [robot]), ("right", [])):
        node = Scripted(link, namespace=namespace, parameter_overrides=overrides)
        if overrides:
            node.parameter("robot", "")
        said = diagnostic("scripted: camera", DiagnosticStatus.OK, "well", {"images": 3})
        told = [node._of_this_arm(said) for _ in range(2)][-1]  # a report that is made again is not marked twice
        found.append((told.name, told.hardware_id, told.message, told.values[0].value))
        node.destroy_node()
    link.close()
    assert found == [
        ("scripted: camera", "vla_ros", "well", "3"),
        ("scripted: camera", "panda", "well", "3"),
        ("left/scripted: camera", "left/panda", "well", "3"),
        ("right/scripted: camera", "right/panda", "well", "3"),
        ("right/scripted: camera", "right", "well", "3"),
    ]


@pytest.mark.parametrize("module", ["instruction_node", "preflight"])
@pytest.mark.parametrize(
    ("words", "says"),
    [(["--log-level", "verbose"], "verbose"), (["--params-file", "/none.yaml"], "/none.yaml"), (["-p", "a"], "-p a")],
)
def test_arguments_that_ros_does_not_take_are_one_sentence(module: str, words: list[str], says: str) -> None:
    command = [sys.executable, "-m", f"vla_ros.nodes.{module}", "--ros-args", *words]
    ended = subprocess.run(
        command, env=graph_environment(free_domain()), capture_output=True, text=True, timeout=DEADLINE, check=False
    )
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    (line,) = [line for line in ended.stderr.splitlines() if not line.startswith("[")]  # rcl logs a line of its own
    assert says in line


def test_another_clock_at_run_time_is_refused(world: World) -> None:
    assert world.transit(Transition.TRANSITION_CONFIGURE)
    for atomically in (False, True):
        parameters = [Parameter("use_sim_time", value=True).to_parameter_msg()]
        kind = SetParametersAtomically if atomically else SetParameters
        name = "/scripted/set_parameters" + ("_atomically" if atomically else "")
        answer = world.call(kind, name, kind.Request(parameters=parameters))
        result = answer.result if atomically else answer.results[0]
        assert not result.successful
        assert "use_sim_time is False and cannot be changed while the node runs" in result.reason
    assert world.node.get_parameter("use_sim_time").value is False
    assert world.node.get_clock().now().nanoseconds > 0, "the clock stands at zero: it was switched"
    assert not world.node.get_clock().ros_time_is_active


def test_the_clock_that_is_set_already_is_accepted(world: World) -> None:
    request = SetParameters.Request(parameters=[Parameter("use_sim_time", value=False).to_parameter_msg()])
    assert world.call(SetParameters, "/scripted/set_parameters", request).results[0].successful


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., RunningScript]]:
    """Return what starts the node of managed_process.py and brings it up."""
    with contextlib.ExitStack() as running:

        def start(hangs: bool = False) -> RunningScript:
            domain, claim = claim_domain()
            running.enter_context(claim)
            words = ["--ros-args", "-p", f"hangs:={str(hangs).lower()}"]
            script = RunningScript(SCRIPT, domain, DEADLINE, words=words, log=tmp_path / "log")
            running.enter_context(script)
            script.bring_up("managed")
            return script

        yield start


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_process_in_order(run: Callable[..., RunningScript], number: signal.Signals) -> None:
    process = run().process
    process.send_signal(number)
    assert process.wait(DEADLINE) == 0


def test_a_node_that_hangs_at_its_end_is_ended_all_the_same(run: Callable[..., RunningScript]) -> None:
    process = run(hangs=True).process
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(DEADLINE) == 1
    assert time.monotonic() - began >= END_GRACE * 0.9, "it did not even try"


def test_a_process_knows_how_long_it_has_until_it_is_ended() -> None:
    script = (
        "from vla_ros.ros.lifecycle import end_within_grace, time_left\n"
        "print(time_left())\nend_within_grace()\nprint(time_left())"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=DEADLINE, check=True)
    before, after = map(float, ran.stdout.split())
    assert before == math.inf
    assert 0.0 < after <= END_GRACE


def test_a_second_signal_ends_a_node_that_hangs_at_once(run: Callable[..., RunningScript]) -> None:
    process = run(hangs=True).process
    end = time.monotonic() + DEADLINE
    while process.poll() is None:  # until it has taken the first one, further ones are the same one
        process.send_signal(signal.SIGINT)
        time.sleep(0.1)
        assert time.monotonic() < end
    assert process.returncode == -signal.SIGINT


def test_a_callback_that_raises_does_not_end_the_process(run: Callable[..., RunningScript]) -> None:
    running = run()
    heard: list[int] = []

    def take(message: DiagnosticArray) -> None:
        heard.extend(int(pair.value) for status in message.status for pair in status.values if pair.key == "heard")

    running.link.node.create_subscription(DiagnosticArray, "/diagnostics", take, qos("diagnostics"))
    speech = running.link.node.create_publisher(String, "/test/hear", qos("instruction"))
    end = time.monotonic() + DEADLINE
    while not (heard and heard[-1] >= 20):  # more are sent than can have been on their way when the first one failed
        assert time.monotonic() < end
        assert running.process.poll() is None, "the callback ended the process"
        speech.publish(String(data="fail"))
        time.sleep(0.02)
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(DEADLINE) == 0
