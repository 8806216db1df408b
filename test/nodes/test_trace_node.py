"""The trace node over real ROS topics, as a process of its own; its traces explained by the command."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.serialization import serialize_message
from std_msgs.msg import String

from vla_ros.bringup.runner import GraphRunner
from vla_ros.cli.main import main
from vla_ros.insight.explain import changes, explain
from vla_ros.insight.report import report
from vla_ros.insight.trace.layout import INCIDENT_TOPIC, OBSERVATION_TOPIC, VERSION, image_topic
from vla_ros.insight.trace.reader import NS, read_trace
from vla_ros.insight.trace.ring import TraceRing
from vla_ros.msg import ActionChunk, Instruction, InstructionStatus, Observation, PolicyStatus, SafetyStatus
from vla_ros.nodes.trace_node import SOURCES, Channel, compressed, trace_folder
from vla_ros.ros.graph.description import Graph, Value, load_graph
from vla_ros.ros.messages.conversions import array_to_image, seconds_to_stamp
from vla_ros.ros.messages.definitions import message_definition, type_name
from vla_ros.ros.qos import qos

NAME = "trace_node"
DEADLINE = 60.0
RNG = np.random.default_rng(0)
SCENE = np.kron(RNG.integers(0, 255, (6, 8, 3)), np.ones((16, 16, 1))).astype(np.uint8)
JPEG = b"\xff\xd8"


def trace_alone(folder: Path, **parameters: Value) -> GraphRunner:
    """The shipped graph, reduced to the trace node."""
    graph = load_graph()
    node = next(node for node in graph.nodes if node.name == NAME)
    parameters = {**node.parameters, "folder": str(folder / "trace"), **parameters}
    arguments = {**graph.arguments, "trace": True}
    return GraphRunner(graph=Graph(arguments, (replace(node, parameters=parameters),)), folder=folder)


def observation(number: int, speed: float = 0.2) -> Observation:
    """Return an observation of two cameras and seven joints, the fourth of which moves at `speed` rad/s."""
    message = Observation(sequence=number, camera_names=["front", "wrist"], gripper_opening=0.04)
    message.header.stamp = seconds_to_stamp(100.0 + 0.1 * number)
    message.images = [array_to_image(SCENE, 100.0 + 0.1 * number, f"{name}_optical") for name in message.camera_names]
    message.joint_names = [f"panda_joint{index}" for index in range(1, 8)]
    message.joint_positions, message.joint_velocities = [0.0] * 7, [0.0, 0.0, 0.0, -speed, 0.0, 0.0, 0.0]
    return message


def chunk(number: int) -> ActionChunk:
    """Return a plan of two rows that came from the observation of the same number."""
    return ActionChunk(
        observation_stamp=seconds_to_stamp(100.0 + 0.1 * number),
        observation_sequence=number,
        instruction_sequence=3,
        sequence=number,
        policy="keypoint:pick",
        horizon=2,
        width=7,
        period=0.1,
        actions=[0.0] * 14,
        trust=0.9,
    )


def status(state: str, reason: str, sentence: str, **fields: Any) -> SafetyStatus:
    """Return a safety status; `x` differs from the proposal by 5 cm where the arm is slowed."""
    executed = [0.45 if state == "SLOW" else 0.5, 0.1]
    return SafetyStatus(
        state=getattr(SafetyStatus, state),
        state_name=state,
        reason=reason,
        sentence=sentence,
        armed=True,
        observation_age=0.12,
        speed_scale={"RUN": 1.0, "SLOW": 0.4}.get(state, 0.0),
        axes=["x", "y"],
        proposed=[0.5, 0.1],
        executed=executed,
        margin_names=["obstacle"],
        margins=[0.031],
        **fields,
    )


class Robot:
    """Publishes what the graph would, ten times a second, until told otherwise."""

    def __init__(self, runner: GraphRunner) -> None:
        self.runner, self.end, self.number = runner, False, 0
        self.state = status("RUN", "ok", "Commands pass unchanged.")
        make = runner.node.create_publisher
        self._task = make(Instruction, "/vla/task", qos("task"))
        self._observations = make(Observation, "/vla/observation", qos("observation"))
        self._chunks = make(ActionChunk, "/vla/action_chunk", qos("action_chunk"))
        self._safety = make(SafetyStatus, "/vla/safety_status", qos("status"))
        self._policy = make(PolicyStatus, "/vla/policy_status", qos("status"))
        self._answers = make(InstructionStatus, "/vla/instruction_status", qos("status"))
        self._diagnostics = make(DiagnosticArray, "/diagnostics", qos("diagnostics"))
        self.reports: list[DiagnosticStatus] = []
        runner.node.create_subscription(DiagnosticArray, "/diagnostics", self._hear, qos("diagnostics"))
        self._task.publish(Instruction(sequence=3, text="pick up the red cube"))
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self.end:
            self.number += 1
            self._observations.publish(observation(self.number))
            self._chunks.publish(chunk(self.number))
            self._safety.publish(self.state)
            self._policy.publish(PolicyStatus(state=PolicyStatus.RUNNING, sentence="works on 'pick up the red cube'"))
            refused = "I do not know 'vermilion'; did you mean red?"
            self._answers.publish(InstructionStatus(request_id="1", request_accepted=False, sentence=refused))
            time.sleep(0.1)

    def _hear(self, message: DiagnosticArray) -> None:
        self.reports += [one for one in message.status if one.name == NAME]

    def report(self, name: str) -> None:
        """Report the health of another node, once."""
        self._diagnostics.publish(DiagnosticArray(status=[DiagnosticStatus(name=name, message="well")]))

    def close(self) -> None:
        self.end = True
        self._thread.join()


@contextmanager
def robot_in(folder: Path, **parameters: Value) -> Iterator[Robot]:
    with trace_alone(folder, **parameters) as runner:
        robot = Robot(runner)
        try:
            yield robot
        finally:
            robot.close()


def wait(condition: Callable[[], Any], what: str) -> Any:
    end = time.monotonic() + DEADLINE
    while not (found := condition()):
        assert time.monotonic() < end, f"no {what} within {DEADLINE} s"
        time.sleep(0.1)
    return found


def readable(folder: Path, key: str, count: int) -> bool:
    """Say whether so many messages can be read by now, while the node writes."""
    if not list(folder.glob("*/*.mcap")):
        return False
    try:
        return len(read_trace(folder).records.get(key, [])) >= count
    except Exception:  # the file has just begun
        return False


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the trace of a run that ended in a hold for a fault."""
    folder = tmp_path_factory.mktemp("trace")
    traces = folder / "trace"
    with robot_in(folder, keep_after=1.0) as robot:
        wait(lambda: readable(traces, "vla/safety_status", 5), "trace")
        robot.state = status("SLOW", "obstacle", "The arm is kept from touching an obstacle. (hand, 0.03 m)")
        wait(lambda: readable(traces, image_topic("front"), 4), "images")
        robot.state = status("HOLD", "policy_silent", "The policy's heartbeat has stopped.")
        return wait(lambda: [*traces.glob("kept/*/metadata.yaml")], "kept trace")[0].parent


def test_the_trace_holds_what_was_said_and_no_pixels(kept: Path) -> None:
    trace = read_trace(kept)
    assert kept.name.endswith("_hold_policy_silent")
    assert (trace.origin["robot"], trace.cut_short) == ("panda", [])
    assert [message.text for _, message in trace.all("vla/task")] == ["pick up the red cube"]
    seen = [message for _, message in trace.all(OBSERVATION_TOPIC)]
    assert [(len(image.data), image.width) for image in seen[0].images] == [(0, 128), (0, 128)]
    assert [message.data for _, message in trace.all(INCIDENT_TOPIC)] == [
        "hold_policy_silent: The policy's heartbeat has stopped."
    ]


def test_images_are_few_small_and_stamped(kept: Path) -> None:
    trace = read_trace(kept)
    for camera in ("front", "wrist"):
        images = [message for _, message in trace.all(image_topic(camera))]
        assert all(bytes(image.data).startswith(JPEG) and image.header.stamp.sec >= 100 for image in images)
        assert images[0].header.frame_id == f"{camera}_optical"
        assert len(images) <= 2.0 * trace.seconds + 5  # 2 a second, and one more for each change of state


def test_rosbags_reads_the_folder(kept: Path) -> None:
    reader = pytest.importorskip("rosbags.highlevel", reason="the rosbags package is not installed")
    with reader.AnyReader([kept]) as bag:
        found = {c.topic: bag.deserialize(raw, c.msgtype) for c, _, raw in bag.messages()}
    assert found["/vla/safety_status"].reason == "policy_silent"
    assert bytes(found["/vla/trace/front/compressed"].data).startswith(JPEG)


def test_each_moment_is_explained_by_what_was_recorded(kept: Path) -> None:
    trace = read_trace(kept)
    history = changes(trace)
    assert [(one.state, one.reason) for one in history] == [
        ("RUN", "ok"),
        ("SLOW", "obstacle"),
        ("HOLD", "policy_silent"),
    ]
    said = {one.state: explain(trace, one.at + NS // 3, history) for one in history}
    assert said["RUN"].sentences[0].startswith("The arm was driven by the policy (RUN, ok, for 0.3 s): Commands pass")
    slow = "\n".join(said["SLOW"].sentences)
    for part in (
        "slowed down to 40 % of the proposed speed (SLOW, obstacle,",
        "(hand, 0.03 m)",
        "its fastest joint, panda_joint4, at 0.20 rad/s",
        "(number 3, given ",
        "'pick up the red cube'",
        "policy 'keypoint:pick' (2 steps of 0.1 s, confidence 0.90)",
        "of front, wrist, stamped ",
        "in 1 of 2 axes, most in x: proposed 0.500 m, commanded 0.450 m.",
        "Room left before a limit acts: obstacle 0.031 m.",
        "I do not know 'vermilion'; did you mean red?",
        "later the state was HOLD (policy_silent)",
    ):
        assert part in slow
    assert said["HOLD"].sentences[0].startswith("The arm was stopped and held (HOLD, policy_silent, for 0.3 s)")
    assert set(said["HOLD"].images) == {"front", "wrist"}


def test_the_command_tells_a_moment_and_saves_its_images(kept: Path, tmp_path: Path, capsys: Any) -> None:
    assert main(["explain", str(kept), "--at", "end", "--out", str(tmp_path), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["state"], answer["reason"]) == ("HOLD", "policy_silent")
    assert Path(answer["images"]["front"]).read_bytes().startswith(JPEG)
    assert main(["explain", str(kept)]) == 0
    assert "SLOW      obstacle: The arm is kept" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["--at", "1000"], 2, "lies outside of the trace, which runs from 0 to "),
        (["--at", "-1000"], 2, "lies outside of the trace"),
        (["--at", "nan"], 2, "--at is 'nan', expected seconds since the beginning"),
        (["--at", "25:00:00"], 2, "--at is '25:00:00', expected"),
    ],
)
def test_a_time_that_is_none_is_answered(kept: Path, words: list[str], code: int, sentence: str, capsys: Any) -> None:
    assert main(["explain", str(kept), *words]) == code
    assert sentence in capsys.readouterr().err


def test_what_is_no_trace_is_answered(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "a.mcap").write_bytes(b"nothing")
    assert main(["explain", str(tmp_path / "a.mcap")]) == 1
    assert "is no decision trace" in capsys.readouterr().err
    assert main(["explain", str(tmp_path / "b.mcap")]) == 2
    assert "there is no trace" in capsys.readouterr().err


class Page(HTMLParser):
    """Collects the tags of a page and what they refer to."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.refers: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.refers += [value or "" for name, value in attrs if name in ("src", "href", "data", "action")]


def test_the_report_is_one_page_with_nothing_outside(kept: Path, tmp_path: Path) -> None:
    target = tmp_path / "new" / "run.html"
    assert main(["explain", str(kept), "--report", str(target)]) == 0
    page = Page()
    page.feed(target.read_text(encoding="utf-8"))
    assert "script" not in page.tags
    assert page.refers
    assert all(one.startswith("data:image/jpeg;base64,") for one in page.refers)
    assert page.tags.count("svg") >= 5


def test_foreign_text_is_escaped_and_odd_numbers_are_no_obstacle(tmp_path: Path) -> None:
    channels = {
        "s": Channel("/vla/safety_status", type_name(SafetyStatus), message_definition(type_name(SafetyStatus))),
        "r": Channel("/vla/instruction_rejected", type_name(String), message_definition(type_name(String))),
    }
    ring = TraceRing(tmp_path, channels, {"version": VERSION, "robot": "<b>x", "started": ""}, NS)
    odd = status("RUN", "ok", "<script>alert(1)</script>")
    odd.proposed, odd.executed = [float("nan"), float("inf")], [0.0, 0.0]
    odd.speed_scale = float("nan")
    ring.write("s", bytes(serialize_message(odd)), NS)
    ring.write("r", bytes(serialize_message(String(data="<img src=http://x>"))), 2 * NS)
    ring.close()
    trace = read_trace(tmp_path)
    text = report(trace, changes(trace))
    assert "<script" not in text
    assert "<img src=http" not in text
    assert "<b>x" not in text


def test_messages_of_another_version_are_named(tmp_path: Path) -> None:
    old = Channel("/vla/safety_status", "vla_ros/msg/SafetyStatus", "string data")
    ring = TraceRing(tmp_path, {"s": old}, {"version": VERSION}, NS)
    ring.write("s", bytes(serialize_message(String(data="x"))), NS)
    run = ring.run
    ring.close()
    assert main(["explain", str(run)]) == 1


def test_a_silent_node_is_told_and_the_trace_kept(tmp_path: Path) -> None:
    with robot_in(tmp_path, keep_after=0.0) as robot:
        wait(lambda: readable(tmp_path / "trace", "vla/safety_status", 1), "trace")
        robot.report("safety_node")
        found = wait(lambda: [*tmp_path.glob("trace/kept/*/metadata.yaml")], "kept trace")
    assert found[0].parent.name.endswith("_node_silent")


def test_a_killed_trace_node_leaves_a_trace_and_starts_another(tmp_path: Path) -> None:
    traces = tmp_path / "trace"
    with robot_in(tmp_path) as robot:
        wait(lambda: readable(traces, "vla/action_chunk", 15), "trace")
        robot.runner.process(NAME).signal(signal.SIGKILL)
        kept = wait(lambda: [*traces.glob("kept/*_interrupted/*.mcap")], "trace of the killed process")
        assert len(read_trace(kept[0]).records["vla/action_chunk"]) >= 15
        wait(lambda: readable(traces, "vla/safety_status", 5), "second trace")


def test_a_folder_that_cannot_be_written_costs_the_trace_alone(tmp_path: Path) -> None:
    (tmp_path / "trace").write_text("a file")
    with robot_in(tmp_path) as robot:
        wait(lambda: any("no trace" in one.message for one in robot.reports), "report")
        assert robot.reports[-1].level == DiagnosticStatus.ERROR


def test_every_topic_has_a_definition_and_a_profile() -> None:
    for source in SOURCES.values():
        assert message_definition(type_name(source.kind))
        assert qos(source.profile)


def test_the_folder_is_that_of_ros_where_none_is_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ROS_HOME", str(tmp_path))
    assert trace_folder("") == tmp_path / "vla_ros" / "trace"
    assert trace_folder("here").is_absolute()


def test_an_image_becomes_a_jpeg_of_the_same_stamp() -> None:
    image = array_to_image(SCENE, 12.5, "front_optical")
    message = compressed(image)
    assert bytes(message.data).startswith(JPEG)
    assert (message.header.stamp.sec, message.header.frame_id) == (12, "front_optical")
    assert len(message.data) < 20_000
