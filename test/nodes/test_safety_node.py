"""The safety node over real topics: a process and a domain of its own; the test plays robot, policy and operator."""

from __future__ import annotations

import math
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

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool, String
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory

from vla_ros.bringup.runner import GraphRunner, RosLink
from vla_ros.msg import ActionChunk as ChunkMessage
from vla_ros.msg import Instruction as InstructionMessage
from vla_ros.msg import InstructionRequest, PolicyStatus, SafetyStatus
from vla_ros.paths import share_file
from vla_ros.robot.contract import load_contract
from vla_ros.ros.graph.description import Graph, Value, load_graph
from vla_ros.ros.messages.commands import commanded_point, commanded_rows, due
from vla_ros.ros.messages.conversions import (
    chunk_to_message,
    instruction_to_message,
    seconds_to_stamp,
    stamp_to_seconds,
)
from vla_ros.ros.qos import qos
from vla_ros.ros.transitions import ACTIVATE, CLEANUP, CONFIGURE, DEACTIVATE, GraphError, LifecycleClient
from vla_ros.safety.motion.joint_motion import HISTORY
from vla_ros.safety.reasons import Reason
from vla_ros.safety.selftest.record import UNDER_WAY
from vla_ros.types import ActionChunk, Instruction, InstructionKind

DEADLINE = 30.0
CONTRACT = load_contract("panda")
ARM, FINGERS = CONTRACT.joints.names, CONTRACT.gripper.names
TOPICS = CONTRACT.controllers


def safety_alone(folder: Path, executable: str = "safety_node", **parameters: Value) -> GraphRunner:
    graph = load_graph()
    node = next(node for node in graph.nodes if node.name == "safety_node")
    node = replace(node, executable=executable)
    node = replace(node, parameters={**node.parameters, "use_sim_time": False, **parameters})
    return GraphRunner(graph=Graph(graph.arguments, (node,)), folder=folder)


class Cell:
    """An ideal robot that is where it was last told to be, a policy, and everything that was heard."""

    def __init__(self, runner: GraphRunner, steady: bool = True) -> None:
        self.runner, self.node = runner, runner.node
        self.change = threading.Condition()
        # No two robots stand at home to the last bit: one that does after a silence may be a driver that has frozen.
        noise = np.random.default_rng().uniform(-1e-6, 1e-6, len(ARM))
        self.q, self.opening = np.array(CONTRACT.joints.home) + noise, CONTRACT.gripper.max_opening
        self.stamp, self.sequence = 10.0, 0
        self.order = [*FINGERS, *reversed(ARM)]  # drivers order joints as they like
        self.velocity: list[float] = [0.0]  # of each joint; empty where the driver reports none
        self.parts: list[tuple[list[str], Any]] = []  # which joints are reported by which publisher; empty: all by one
        self.drift = 0.0  # of every joint, without a command, rad/s
        self.held = False  # a hand holds the arm, whatever is commanded
        self.commands: list[JointTrajectory] = []
        self.grips: list[JointTrajectory] = []
        self.statuses: list[SafetyStatus] = []
        self._made: list[tuple[Callable[[Any], object], Any]] = []
        self._subscribe(JointTrajectory, TOPICS.arm_topic, self._on_arm, "arm_command_out")
        self._subscribe(JointTrajectory, TOPICS.gripper_topic, self._on_gripper, "gripper_command")
        self._subscribe(SafetyStatus, "/vla/safety_status", self._on_status, "status")
        self.states = self._publisher(JointState, TOPICS.joint_states_topic, qos("joint_states_out"))
        self.instructions = self._publisher(InstructionMessage, "/vla/task", qos("task"))
        self.chunks = self._publisher(ChunkMessage, "/vla/action_chunk", qos("action_chunk"))
        self.hearts = self._publisher(PolicyStatus, "/vla/policy_status", qos("status"))
        self.heart: dict[str, Any] | None = {"state": PolicyStatus.RUNNING}
        self._arm = self.node.create_client(SetBool, "/vla/arm")
        self._reset = self.node.create_client(Trigger, "/vla/reset")
        self.talking = threading.Event()
        self.closing = threading.Event()
        self._thread = threading.Thread(target=self._talk, daemon=True)
        if steady:
            self.talking.set()
            self._thread.start()

    def close(self) -> None:
        self.closing.set()
        if self._thread.is_alive():
            self._thread.join()
        for destroy, thing in self._made:
            destroy(thing)
        self.node.destroy_client(self._arm)
        self.node.destroy_client(self._reset)

    def _publisher(self, kind: type, topic: str, profile: QoSProfile) -> Any:
        publisher = self.node.create_publisher(kind, topic, profile)
        self._made.append((self.node.destroy_publisher, publisher))
        return publisher

    def _subscribe(self, kind: type, topic: str, callback: Callable[[Any], None], profile: str) -> None:
        subscription = self.node.create_subscription(kind, topic, callback, qos(profile))
        self._made.append((self.node.destroy_subscription, subscription))

    def _talk(self) -> None:
        while not self.closing.wait(0.01):
            if self.talking.is_set():
                self.say_state()
            if self.heart is not None:
                self.hearts.publish(PolicyStatus(**{"inferences": self.sequence} | self.heart))

    def say_state(self) -> None:
        with self.change:
            self.stamp = round(self.stamp + 0.01, 6)
            self.q = self.q + 0.01 * self.drift
            values = dict(zip(ARM, self.q.tolist(), strict=True)) | dict.fromkeys(FINGERS, self.opening / 2)
            parts = self.parts or [(self.order, self.states)]
            messages = []
            for names, publisher in parts:
                message = JointState(name=names, position=[values[n] for n in names])
                message.velocity = self.velocity * len(names)
                message.header.stamp = seconds_to_stamp(self.stamp)
                messages.append((publisher, message))
            self.change.notify_all()
        for publisher, message in messages:
            publisher.publish(message)

    def _on_arm(self, message: JointTrajectory) -> None:
        with self.change:
            self.commands.append(message)
            if not self.held:
                self.q = np.array(commanded_point(message).positions)
            self.change.notify_all()

    def _on_gripper(self, message: JointTrajectory) -> None:
        with self.change:
            self.grips.append(message)
            self.opening = float(sum(commanded_point(message).positions))
            self.change.notify_all()

    def _on_status(self, message: SafetyStatus) -> None:
        with self.change:
            self.statuses.append(message)
            self.change.notify_all()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        with self.change:
            assert self.change.wait_for(condition, DEADLINE), self.statuses[-1:]

    def wait_for_state(self, name: str, reason: str = "") -> SafetyStatus:
        """Wait until a status that comes from now on says so, and return it."""
        mark = len(self.statuses)

        def said() -> bool:
            fitting = [s for s in self.statuses[mark:] if s.state_name == name and reason in ("", s.reason)]
            found.extend(fitting[:1])
            return bool(fitting)

        found: list[SafetyStatus] = []
        self.wait_for(said)
        return found[0]

    def call(self, client: Any, request: Any) -> Any:
        assert client.wait_for_service(DEADLINE)
        done = threading.Event()
        future = client.call_async(request)
        future.add_done_callback(lambda _: done.set())
        assert done.wait(DEADLINE)
        return future.result()

    def arm(self, arm: bool = True) -> SetBool.Response:
        return self.call(self._arm, SetBool.Request(data=arm))

    def reset(self) -> Trigger.Response:
        return self.call(self._reset, Trigger.Request())

    def wait_until_heard(self, publisher: Any) -> None:
        end = time.monotonic() + DEADLINE
        while publisher.get_subscription_count() < 1:
            assert time.monotonic() < end, publisher.topic_name
            time.sleep(0.01)

    def guide(self, angle: float) -> None:
        """Turn the first joint by hand, rad, and keep the arm there."""
        with self.change:
            self.held = True
            self.q = self.q + angle * np.eye(len(ARM))[0]

    def rest(self) -> None:
        """Disarm, and stand where the last command ended: one that vanishes on the way is a driver that has frozen."""
        self.held = False
        self.arm(False)
        end = time.monotonic() + DEADLINE
        while True:
            said, stamp = len(self.commands), self.stamp
            self.wait_for_state("DISARMED")
            self.wait_for(lambda stamp=stamp: self.stamp > stamp + 0.1)
            if len(self.commands) == said:  # ten states that were measured there have come
                return
            assert time.monotonic() < end, self.statuses[-1:]

    def require_no_commands(self, ticks: int = 40) -> None:
        """Let the node tick, and see that it commands nothing."""
        heard, seen = len(self.commands), self.statuses[-1].tick
        self.wait_for(lambda: self.statuses[-1].tick > seen + ticks)
        assert len(self.commands) == heard

    def chunk(self, **changes: Any) -> ChunkMessage:
        """A plan that moves the tool 20 mm a row along y."""
        actions = np.zeros((12, 7))
        actions[:, 1], actions[:, 6] = 0.02 * np.arange(1, 13), 1.0
        with self.change:
            self.sequence += 1
            values = {
                "actions": actions,
                "period": 0.1,
                "observation_stamp": self.stamp,
                "specification": CONTRACT.action.fingerprint,
                "sequence": self.sequence,
            } | changes
        return chunk_to_message(ActionChunk(**values))

    def policy_until(self, condition: Callable[[], bool], publisher: Any = None, **changes: Any) -> None:
        """Send chunks ten times a second until `condition` holds."""
        end = time.monotonic() + DEADLINE
        while not condition():
            assert time.monotonic() < end, self.statuses[-1:]
            (publisher or self.chunks).publish(self.chunk(**changes))
            with self.change:
                self.change.wait_for(condition, 0.1)

    def arm_when_ready(self) -> None:
        """Arm as soon as the self-test has passed and enough joint states have come."""
        end = time.monotonic() + DEADLINE
        while not (answer := self.arm()).success:
            assert time.monotonic() < end, answer

    def run(self) -> None:
        """Arm and move."""
        self.wait_until_heard(self.chunks)
        self.wait_until_heard(self.states)
        self.arm_when_ready()
        self.policy_until(lambda: self.statuses[-1].state_name == "RUN")


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GraphRunner]:
    with safety_alone(tmp_path_factory.mktemp("safety")) as running:
        yield running


class Button:
    """An emergency stop that is there for all tests: once seen, its absence would count as pressed."""

    def __init__(self, runner: GraphRunner) -> None:
        self._node = runner.node
        self.plug_in()

    def plug_in(self) -> None:
        self.publisher = self._node.create_publisher(Bool, "/vla/estop", qos("estop"))

    def unplug(self) -> None:
        self._node.destroy_publisher(self.publisher)

    def press(self, pressed: bool = True) -> None:
        self.publisher.publish(Bool(data=pressed))


@pytest.fixture(scope="module")
def button(runner: GraphRunner) -> Button:
    return Button(runner)


@pytest.fixture
def cell(runner: GraphRunner, button: Button) -> Iterator[Cell]:
    """A robot at home before a safety node that was activated afresh."""
    lifecycle = LifecycleClient(runner.node)
    lifecycle.change("safety_node", DEACTIVATE, DEADLINE)
    lifecycle.change("safety_node", ACTIVATE, DEADLINE)
    cell = Cell(runner)
    cell.wait_for(lambda: bool(cell.statuses))
    yield cell
    cell.talking.set()
    end = time.monotonic() + DEADLINE
    while cell.statuses[-1].state_name == "ESTOP" and time.monotonic() < end:  # a failed test leaves nothing latched
        button.press(False)
        cell.reset()
    try:
        cell.rest()
    finally:
        cell.close()


def test_disarmed_it_commands_nothing_and_armed_it_holds_the_measured_posture(cell: Cell) -> None:
    cell.wait_until_heard(cell.states)
    cell.wait_for(lambda: len(cell.statuses) > 10)
    assert cell.statuses[-1].state_name == "DISARMED"
    assert not cell.statuses[-1].armed
    assert not cell.commands
    assert not cell.grips
    measured = cell.q.copy()
    cell.arm_when_ready()
    cell.wait_for(lambda: len(cell.commands) > 20 and len(cell.grips) > 20)
    command, grip = cell.commands[-1], cell.grips[-1]
    assert tuple(command.joint_names) == ARM
    np.testing.assert_allclose(commanded_point(command).positions, measured, atol=1e-9)
    np.testing.assert_array_equal(commanded_point(command).velocities, np.zeros(7))
    assert len(command.points) == HISTORY + 3  # the step, where it ends, and that once more
    assert abs(due(command) - time.time()) < 1.0  # by the system clock
    assert not any(any(point.velocities) or any(point.accelerations) for point in command.points)
    assert tuple(grip.joint_names) == FINGERS
    np.testing.assert_allclose(grip.points[0].positions, [CONTRACT.gripper.max_opening / 2] * 2)
    assert cell.wait_for_state("HOLD").armed


def test_chunks_move_the_arm_and_the_status_says_how(cell: Cell) -> None:
    cell.run()
    moved = len(cell.commands)
    # On a machine that is busy a tick is missed now and then, and the status says that instead.
    cell.policy_until(lambda: len(cell.commands) > moved + 60 and cell.statuses[-1].reason == "ok")
    status = cell.statuses[-1]
    assert status.reason == "ok"
    assert status.reason_code == 0
    assert list(status.axes) == ["x", "y", "z", "roll", "pitch", "yaw", "gripper", *ARM]
    assert len(status.proposed) == len(status.executed) == len(status.axes)
    assert 0.0 <= status.observation_age < 1.0
    assert status.tick >= status.commands > 60
    q = commanded_rows(cell.commands, 0.01)
    assert np.abs(q[-1] - q[0]).max() > 0.02
    joints = CONTRACT.joints
    assert (np.abs(np.diff(q, axis=0)) <= joints.velocity * 0.01 + 1e-9).all()
    assert (np.abs(np.diff(q, n=2, axis=0)) <= joints.acceleration * 1e-4 + 1e-9).all()


def test_a_chunk_with_nan_holds(cell: Cell) -> None:
    cell.run()
    message = cell.chunk()
    message.actions[3] = float("nan")
    rejected = cell.statuses[-1].rejected_chunks
    cell.chunks.publish(message)
    assert cell.wait_for_state("HOLD", "chunk_not_finite").rejected_chunks > rejected


def test_a_ragged_chunk_holds(cell: Cell) -> None:
    cell.run()
    message = cell.chunk()
    message.horizon = 13
    cell.chunks.publish(message)
    cell.wait_for_state("HOLD", "chunk_shape")


def test_a_chunk_from_before_all_that_is_known_is_refused_and_does_no_harm(cell: Cell) -> None:
    cell.run()
    rejected = cell.statuses[-1].rejected_chunks
    cell.policy_until(lambda: cell.statuses[-1].rejected_chunks > rejected, observation_stamp=1.0)
    assert cell.statuses[-1].state_name != "ESTOP"


def test_of_refused_chunks_in_a_row_the_log_has_the_first_and_then_how_many_there_were(
    runner: GraphRunner, cell: Cell
) -> None:
    cell.wait_until_heard(cell.chunks)
    cell.wait_until_heard(cell.states)
    log = runner.process("safety_node").log_path
    began = log.stat().st_size
    cell.policy_until(lambda: b"more since the last such line" in log.read_bytes()[began:], specification="foreign")
    assert log.read_bytes()[began:].count(b"refused: chunk_specification\n") >= 1  # a single one, as it came


def test_a_silent_policy_is_answered_by_a_hold(cell: Cell) -> None:
    cell.run()
    while cell.wait_for_state("HOLD").reason != "chunk_stale":  # a busy machine can be late with joint states, too
        cell.policy_until(lambda: cell.statuses[-1].state_name == "RUN")
    cell.policy_until(lambda: cell.statuses[-1].state_name == "RUN")  # and it goes on when the policy is back


def test_silent_joint_states_are_answered_by_a_hold(cell: Cell) -> None:
    cell.run()
    cell.talking.clear()
    cell.wait_for_state("HOLD", "state_stale")


def test_a_stop_instruction_holds(cell: Cell) -> None:
    cell.run()
    cell.wait_until_heard(cell.instructions)
    stop = Instruction("stop now", 1_000_000, InstructionKind.STOP, stamp=cell.stamp)
    cell.instructions.publish(instruction_to_message(stop))
    assert "stop now" in cell.wait_for_state("HOLD", "instruction_stop").sentence
    assert cell.statuses[-1].instruction_sequence == 0
    task = Instruction("go on", 0, stamp=cell.stamp + 1.0)  # the instruction node has started again
    cell.instructions.publish(instruction_to_message(task))
    cell.policy_until(lambda: cell.statuses[-1].state_name == "RUN")


def test_the_emergency_stop_latches_until_a_reset(cell: Cell, button: Button) -> None:
    cell.wait_until_heard(button.publisher)
    cell.run()
    button.press()
    assert not cell.wait_for_state("ESTOP", "estop_pressed").armed
    assert not cell.arm().success
    end = time.monotonic() + DEADLINE
    while "moving" in (answer := cell.reset()).message:  # the stop is still under way
        assert time.monotonic() < end, answer
    assert "estop_pressed" in answer.message
    assert not answer.success
    button.press(False)
    cell.wait_for_state("ESTOP", "estop_latched")
    assert not cell.arm().success
    assert cell.reset().success
    cell.wait_for_state("DISARMED")
    while not (answer := cell.arm()).success:  # until the measured arm has been at rest for a while
        assert time.monotonic() < end, answer


@pytest.mark.parametrize("kind", [String, InstructionRequest])
def test_a_stop_is_heard_without_an_instruction_node(cell: Cell, kind: type) -> None:
    """In a flood, too, and only a new task ends it."""
    topic = "/vla/instruction" if kind is String else "/vla/instruction_request"
    sentences = cell._publisher(kind, topic, qos("instruction"))
    cell.wait_until_heard(sentences)
    cell.run()
    field = "data" if kind is String else "text"
    sentences.publish(kind(**{field: "please, could you kindly stop moving"}))
    for i in range(300):
        sentences.publish(kind(**{field: f"pick up the cube number {i}"}))
    cell.wait_for_state("HOLD", "instruction_stop")
    seen = cell.statuses[-1].tick
    cell.policy_until(lambda: cell.statuses[-1].tick > seen + 50)
    assert cell.statuses[-1].reason == "instruction_stop"
    task = Instruction("pick up the red cube", 0, InstructionKind.TASK, time.monotonic())
    cell.instructions.publish(instruction_to_message(task))
    cell.policy_until(lambda: cell.statuses[-1].state_name == "RUN")


def test_a_message_that_is_too_large_is_not_read(cell: Cell) -> None:
    cell.run()
    names = [f"{i:040d}" for i in range(1000)]
    cell.states.publish(JointState(name=names, position=[0.0] * 1000, velocity=[0.0] * 1000))
    cell.wait_for_state("HOLD", "message_unreadable")


def test_a_malformed_message_is_not_read_and_costs_no_other(cell: Cell) -> None:
    cell.run()
    mark = cell.statuses[-1].tick
    cell.states.publish(b"\x00\x01\x00\x00" + b"\xff" * 40)  # lengths beyond its end
    cell.wait_for_state("HOLD", "message_unreadable")
    cell.policy_until(lambda: cell.statuses[-1].state_name == "RUN")
    assert cell.statuses[-1].tick > mark


def reset_until_done(cell: Cell) -> Trigger.Response:
    """Reset; the stop may be under way, or the middleware may not have noticed yet that a publisher has gone."""
    end = time.monotonic() + DEADLINE
    while not (answer := cell.reset()).success:
        assert time.monotonic() < end, answer
        time.sleep(0.05)
    return answer


def test_a_lost_button_is_pressed_until_a_reset(cell: Cell, button: Button) -> None:
    cell.wait_until_heard(button.publisher)
    cell.run()
    button.unplug()
    cell.wait_for_state("ESTOP")
    assert not cell.arm().success
    reset_until_done(cell)
    button.plug_in()
    cell.wait_until_heard(button.publisher)


def test_a_best_effort_button_that_joins_in_motion_is_heard(runner: GraphRunner, cell: Cell) -> None:
    cell.run()
    link = RosLink("careless_button", runner.domain)
    try:
        careless = link.node.create_publisher(
            Bool, "/vla/estop", QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        )
        cell.wait_until_heard(careless)
        end = time.monotonic() + DEADLINE
        while cell.statuses[-1].reason != "estop_pressed":
            assert time.monotonic() < end
            careless.publish(Bool(data=True))
            time.sleep(0.02)
    finally:
        link.close()
    reset_until_done(cell)  # it said true and has gone: what a one-shot publisher pressed can be reset


def test_a_false_of_another_publisher_releases_nothing(cell: Cell, button: Button) -> None:
    cell.wait_until_heard(button.publisher)
    cell.run()
    other = cell.node.create_publisher(Bool, "/vla/estop", qos("estop"))
    try:
        cell.wait_until_heard(other)
        button.press()
        cell.wait_for_state("ESTOP", "estop_pressed")
        for _ in range(20):
            other.publish(Bool(data=False))
        seen = cell.statuses[-1].tick
        cell.wait_for(lambda: cell.statuses[-1].tick > seen + 20)
        assert cell.statuses[-1].reason == "estop_pressed"
        button.press(False)
        cell.wait_for_state("ESTOP", "estop_latched")
    finally:
        cell.node.destroy_publisher(other)
    cell.wait_for_state("ESTOP", "estop_pressed")  # it has gone
    reset_until_done(cell)


def test_a_latched_stop_survives_every_transition(runner: GraphRunner, cell: Cell, button: Button) -> None:
    cell.wait_until_heard(button.publisher)
    cell.run()
    button.press()
    cell.wait_for_state("ESTOP", "estop_pressed")
    lifecycle = LifecycleClient(runner.node)
    lifecycle.change("safety_node", DEACTIVATE, DEADLINE)
    last = cell.statuses[-1].tick
    for transition in (CLEANUP, CONFIGURE, ACTIVATE):
        lifecycle.change("safety_node", transition, DEADLINE)
    cell.wait_for(lambda: cell.statuses[-1].tick < last)  # of the node that was configured again
    assert cell.statuses[-1].state_name == "ESTOP"
    assert not cell.arm().success
    assert not cell.reset().success
    button.press(False)
    cell.wait_for_state("ESTOP", "estop_latched")
    reset_until_done(cell)


def test_an_arm_that_is_guided_away_in_an_emergency_stop_is_not_commanded(cell: Cell, button: Button) -> None:
    cell.wait_until_heard(button.publisher)
    cell.run()
    button.press()
    cell.wait_for_state("ESTOP", "estop_pressed")
    cell.guide(0.5)
    cell.wait_for(lambda: "not commanded any more" in cell.statuses[-1].sentence)
    cell.require_no_commands()
    button.press(False)
    assert "not commanded any more" in cell.wait_for_state("ESTOP", "estop_latched").sentence
    cell.require_no_commands()
    reset_until_done(cell)


def test_what_was_commanded_before_a_deactivation_is_not_commanded_after_it(
    runner: GraphRunner, cell: Cell, button: Button
) -> None:
    """Nobody has watched the arm meanwhile: it may be anywhere, also where a joint state does not show it."""
    cell.wait_until_heard(button.publisher)
    cell.run()
    button.press()
    cell.wait_for_state("ESTOP", "estop_pressed")
    lifecycle = LifecycleClient(runner.node)
    lifecycle.change("safety_node", DEACTIVATE, DEADLINE)
    heard = len(cell.commands)
    lifecycle.change("safety_node", ACTIVATE, DEADLINE)
    assert cell.wait_for_state("ESTOP", "estop_pressed").tick > 0
    cell.require_no_commands()
    assert len(cell.commands) == heard
    button.press(False)
    cell.wait_for_state("ESTOP", "estop_latched")
    reset_until_done(cell)
    end = time.monotonic() + DEADLINE
    while not (answer := cell.arm()).success:
        assert time.monotonic() < end, answer
    cell.wait_for(lambda: len(cell.commands) > heard + 5)


@pytest.mark.parametrize("angle", [0.05, 0.5])
def test_an_arm_that_is_moved_while_the_node_is_frozen_is_given_up(
    runner: GraphRunner, cell: Cell, angle: float
) -> None:
    cell.run()
    process = runner.process("safety_node")
    process.signal(signal.SIGSTOP)
    try:
        frozen_at = cell.stamp
        cell.wait_for(lambda: cell.stamp > frozen_at + 0.3)
        cell.guide(angle)
        heard = len(cell.commands)
        cell.wait_for(lambda: cell.stamp > frozen_at + 2.0)
    finally:
        process.signal(signal.SIGCONT)
    cell.wait_for_state("DISARMED", "tracking")
    cell.require_no_commands()
    assert len(cell.commands) == heard


def test_a_button_that_speaks_before_the_activation_is_not_pressed_by_it(
    runner: GraphRunner, cell: Cell, button: Button
) -> None:
    """It says more than its queue keeps; what it says is heard meanwhile."""
    cell.wait_until_heard(button.publisher)
    lifecycle = LifecycleClient(runner.node)
    lifecycle.change("safety_node", DEACTIVATE, DEADLINE)
    for _ in range(2 * qos("estop").depth):
        button.press(False)
        time.sleep(0.01)  # a rate that a button may have
    lifecycle.change("safety_node", ACTIVATE, DEADLINE)
    mark = len(cell.statuses)
    cell.wait_for(lambda: len(cell.statuses) > mark + 2)
    assert {status.state_name for status in cell.statuses[mark:]} == {"DISARMED"}


def test_an_emergency_stop_of_another_type_is_pressed(runner: GraphRunner, cell: Cell) -> None:
    cell.run()
    link = RosLink("wrong_button", runner.domain)
    try:
        link.node.create_publisher(String, "/vla/estop", qos("estop"))
        cell.wait_for_state("ESTOP", "estop_pressed")
    finally:
        link.close()
    reset_until_done(cell)


def test_joint_states_of_another_machine_are_ignored(runner: GraphRunner, cell: Cell) -> None:
    cell.run()
    link = RosLink("wheels", runner.domain)
    try:
        wheels = link.node.create_publisher(JointState, TOPICS.joint_states_topic, qos("joint_states_out"))
        cell.wait_until_heard(wheels)
        mark, first = len(cell.statuses), cell.statuses[-1].tick

        def over() -> bool:
            wheels.publish(JointState(name=["wheel"], position=[0.0], velocity=[0.0]))
            return cell.statuses[-1].tick > first + 50

        cell.policy_until(over)
        assert {status.reason for status in cell.statuses[mark:]} & {"state_width", "foreign_publisher"} == set()
    finally:
        link.close()


@pytest.mark.parametrize("velocity", [[], [math.nan]])
def test_a_driver_without_velocities_is_armed_at_rest_alone(cell: Cell, velocity: list[float]) -> None:
    cell.velocity = velocity
    cell.run()
    cell.arm(False)
    cell.wait_for_state("DISARMED")
    cell.drift, began = 0.1, cell.stamp  # rad/s
    cell.wait_for(lambda: cell.stamp > began + 0.3)
    end = time.monotonic() + DEADLINE
    while (answer := cell.arm()).message.split(":")[0] != "moving":
        cell.arm(False)
        assert time.monotonic() < end, answer


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GraphRunner]:
    """A safety node whose contract has the arm and the gripper from two publishers."""
    folder = tmp_path_factory.mktemp("apart")
    line, sources = "  joint_states_topic: /joint_states\n", {"arm": (ARM, 0.12), "hand": (FINGERS, 0.1)}
    assert CONTRACT.text.count(line) == 1
    rows = "".join(f"    {n}: {{joints: [{', '.join(j)}], max_age: {age}}}\n" for n, (j, age) in sources.items())
    text = CONTRACT.text.replace(line, f"{line}  joint_states_from:\n{rows}")
    (folder / "apart.yaml").write_text(text, encoding="utf-8")
    with safety_alone(folder, robot=str(folder / "apart.yaml")) as running:
        yield running


@pytest.fixture
def split(apart: GraphRunner) -> Iterator[Cell]:
    """A robot before that node, whose arm and gripper report apart."""
    lifecycle = LifecycleClient(apart.node)
    lifecycle.change("safety_node", DEACTIVATE, DEADLINE)
    lifecycle.change("safety_node", ACTIVATE, DEADLINE)
    cell = Cell(apart, steady=False)
    hand = cell._publisher(JointState, TOPICS.joint_states_topic, qos("joint_states_out"))
    cell.parts = [(list(ARM), cell.states), (list(FINGERS), hand)]
    cell.talking.set()
    cell._thread.start()
    end = time.monotonic() + 4 * DEADLINE
    while "self-test" in cell.arm().message:
        assert time.monotonic() < end
        time.sleep(0.1)
    yield cell
    cell.close()


def test_arm_and_gripper_of_two_drivers_are_followed_where_the_contract_says_so(split: Cell) -> None:
    split.run()
    moved = len(split.commands)
    split.policy_until(lambda: len(split.commands) > moved + 60 and split.statuses[-1].state_name == "RUN")
    split.parts = split.parts[:1]
    split.wait_for_state("HOLD", "state_source")


def test_a_second_publisher_of_one_source_holds_and_is_named(split: Cell) -> None:
    split.run()
    other = split._publisher(JointState, TOPICS.joint_states_topic, qos("joint_states_out"))
    split.wait_until_heard(other)
    split.parts = [*split.parts, (list(ARM), other)]
    status = split.wait_for_state("HOLD", "foreign_publisher")
    assert "/joint_states, arm:" in status.sentence


def test_a_joint_that_two_sources_report_holds(split: Cell) -> None:
    split.run()
    (_, states), hand = split.parts
    split.parts = [([*ARM, FINGERS[0]], states), hand]
    split.wait_for_state("HOLD", "state_source")
    log = split.runner.process("safety_node").log_path
    said = "source 'arm' also reports ['panda_finger_joint1'] of source 'hand'"
    split.wait_for(lambda: said in log.read_text(encoding="utf-8"))


@pytest.mark.parametrize("names", [[*ARM, *FINGERS], [*FINGERS]], ids=["everything", "fingers"])
def test_a_second_publisher_of_joint_states_holds_and_is_named(
    runner: GraphRunner, cell: Cell, names: list[str]
) -> None:
    cell.run()
    link = RosLink("second_driver", runner.domain)
    try:
        second = link.node.create_publisher(JointState, TOPICS.joint_states_topic, qos("joint_states_out"))
        cell.wait_until_heard(second)
        end = time.monotonic() + DEADLINE
        while "/second_driver" not in cell.statuses[-1].sentence:
            assert time.monotonic() < end, cell.statuses[-1].sentence
            second.publish(JointState(name=names, position=[0.0] * len(names), velocity=[0.0] * len(names)))
            time.sleep(0.02)
        assert (cell.statuses[-1].state_name, cell.statuses[-1].reason) == ("HOLD", "foreign_publisher")
    finally:
        link.close()


def test_a_second_commander_in_motion_holds(runner: GraphRunner, cell: Cell) -> None:
    cell.run()
    link = RosLink("safety_node", runner.domain)  # of the very same name
    try:
        link.node.create_publisher(JointTrajectory, TOPICS.arm_topic, qos("arm_command"))
        cell.wait_for_state("HOLD", "foreign_commander")
    finally:
        link.close()


def test_a_second_policy_of_the_same_name_holds(runner: GraphRunner, cell: Cell) -> None:
    cell.run()
    link = RosLink(cell.node.get_name(), runner.domain)
    try:
        foreign = link.node.create_publisher(ChunkMessage, "/vla/action_chunk", qos("action_chunk"))
        cell.wait_until_heard(foreign)

        def refused() -> bool:
            foreign.publish(cell.chunk())
            return cell.statuses[-1].reason == "foreign_publisher"

        cell.policy_until(refused)
        assert cell.statuses[-1].state_name == "HOLD"
    finally:
        link.close()


def test_a_second_sender_of_chunks_is_refused_and_named(runner: GraphRunner, cell: Cell) -> None:
    cell.run()
    stranger = RosLink("stranger", runner.domain)
    try:
        foreign = stranger.node.create_publisher(ChunkMessage, "/vla/action_chunk", qos("action_chunk"))
        cell.wait_until_heard(foreign)
        cell.policy_until(lambda: cell.statuses[-1].state_name == "HOLD", publisher=foreign)
        # The name of a publisher's node reaches the middleware's picture of the graph after the publisher does.
        end = time.monotonic() + DEADLINE
        while "/stranger" not in (answer := cell.arm(False) and cell.arm()).message:
            assert not answer.success
            assert time.monotonic() < end, answer
        assert not answer.success
    finally:
        stranger.close()


def test_another_commander_forbids_to_arm(runner: GraphRunner, cell: Cell) -> None:
    cell.wait_until_heard(cell.states)
    stranger = RosLink("usurper", runner.domain)
    try:
        stranger.node.create_publisher(JointTrajectory, TOPICS.arm_topic, qos("arm_command"))
        end = time.monotonic() + DEADLINE
        while "/usurper" not in (answer := cell.arm()).message:
            assert time.monotonic() < end
            cell.arm(False)
        assert not answer.success
    finally:
        stranger.close()


def test_a_controller_that_is_not_there_is_named_and_forbids_to_arm(runner: GraphRunner, cell: Cell) -> None:
    """As with no preflight, or when the controllers have ended since."""
    cell.wait_until_heard(cell.states)
    log = runner.process("safety_node").log_path
    began = log.stat().st_size
    heard = next(pair for pair in cell._made if pair[1].topic_name == TOPICS.gripper_topic)
    cell._made.remove(heard)
    cell.node.destroy_subscription(heard[1])
    expected = f"no controller listens to {TOPICS.gripper_topic}"
    end = time.monotonic() + DEADLINE
    while expected not in (answer := cell.arm()).message:
        assert time.monotonic() < end, answer
        cell.arm(False)
    assert not answer.success
    cell.wait_for(lambda: expected.encode() in log.read_bytes()[began:])
    said = len(cell.commands)
    cell._subscribe(JointTrajectory, TOPICS.gripper_topic, cell._on_gripper, "gripper_command")
    while not (answer := cell.arm()).success:
        assert time.monotonic() < end, answer
    cell.wait_for(lambda: len(cell.commands) > said and b"controllers: well again" in log.read_bytes()[began:])


def test_a_quality_of_service_that_is_not_received_forbids_to_arm(runner: GraphRunner, cell: Cell) -> None:
    cell.wait_until_heard(cell.states)
    careless = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    task = cell._publisher(InstructionMessage, "/vla/task", careless)
    end = time.monotonic() + DEADLINE
    while "quality of service" not in (answer := cell.arm()).message:
        assert time.monotonic() < end
        cell.arm(False)
    assert not answer.success
    assert "/vla/task" in answer.message
    del task


def test_a_node_that_was_frozen_counts_what_it_missed_and_makes_no_jump(runner: GraphRunner, cell: Cell) -> None:
    cell.run()
    before = cell.statuses[-1].missed_ticks
    process = runner.process("safety_node")
    process.signal(signal.SIGSTOP)
    heard, frozen_at = len(cell.commands), cell.stamp
    cell.wait_for(lambda: cell.stamp > frozen_at + 0.3)
    process.signal(signal.SIGCONT)
    cell.policy_until(lambda: cell.statuses[-1].missed_ticks >= before + 10 and len(cell.commands) > heard + 5)
    q = commanded_rows(cell.commands, 0.01)
    assert (np.abs(np.diff(q, axis=0)) <= CONTRACT.joints.velocity * 0.01 + 1e-9).all()


def test_diagnostics_give_counters_and_durations(cell: Cell) -> None:
    heard: list[DiagnosticArray] = []
    cell._subscribe(DiagnosticArray, "/diagnostics", heard.append, "diagnostics")
    cell.run()
    end = time.monotonic() + DEADLINE
    while not any(s.name == "safety_node" and s.values for m in heard for s in m.status):
        assert time.monotonic() < end
        cell.chunks.publish(cell.chunk())
        time.sleep(0.1)
    line = next(s for m in heard[::-1] for s in m.status if s.name == "safety_node")
    values = {pair.key: pair.value for pair in line.values}
    assert {"state", "ticks", "missed_ticks", "commands", "corrections", "rejected_chunks"} < set(values)
    assert float(values["tick_ms_p99"]) > 0.0
    assert values["realtime_priority"] == "1" or values["realtime_priority"].startswith("no real-time priority 1: ")


def test_while_the_solver_hangs_the_known_stop_goes_out_in_every_period(tmp_path: Path) -> None:
    """The solver sleeps for 0.6 s, twice as long as any stop takes: the commands brake to rest meanwhile."""
    with safety_alone(tmp_path, "safety_bench.graph.tampering.hanging_safety_node") as running:
        cell = Cell(running)
        cell.wait_until_heard(cell.states)
        cell.wait_for(lambda: bool(cell.statuses))
        cell.run()
        cell.policy_until(
            lambda: bool(cell.commands) and max(map(abs, commanded_point(cell.commands[-1]).velocities)) > 0.05
        )
        overruns = cell.statuses[-1].overruns
        running.process("safety_node").signal(signal.SIGUSR1)
        cell.wait_for(lambda: not any(commanded_point(cell.commands[-1]).velocities))  # nobody sends chunks any more
        status = cell.wait_for_state("HOLD", "tick_overrun")
        assert status.overruns - overruns > 20  # of the 60 periods that it hung
        cell.policy_until(lambda: cell.statuses[-1].state_name == "RUN")
        cell.close()


@pytest.fixture(scope="module")
def stepped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cell]:
    with safety_alone(tmp_path_factory.mktemp("lockstep"), lockstep=True) as running:
        cell = Cell(running, steady=False)
        cell.wait_until_heard(cell.states)
        yield cell
        cell.close()


def step(cell: Cell, again: bool = False) -> JointTrajectory:
    """Say one state and return the command that answers it."""
    if again:
        cell.stamp = round(cell.stamp - 0.01, 6)
    count = len(cell.commands)
    cell.say_state()
    cell.wait_for(lambda: len(cell.commands) > count)
    return cell.commands[-1]


def test_in_lock_step_one_state_is_one_command_with_its_stamp(stepped: Cell) -> None:
    cell = stepped
    cell.say_state()
    while not cell.arm().success:
        cell.say_state()
    for _ in range(15):
        command = step(cell)
        assert stamp_to_seconds(command.header.stamp) == pytest.approx(cell.stamp, abs=1e-9)
    assert commanded_point(command).time_from_start.nanosec == 10_000_000
    for _ in range(2):
        cell.chunks.publish(cell.chunk())
        for _ in range(10):
            step(cell)
    ticks = cell.statuses[-1].tick
    first, second = step(cell), step(cell, again=True)
    assert list(commanded_point(first).positions) == list(commanded_point(second).positions)
    assert list(commanded_point(first).velocities) == list(commanded_point(second).velocities)
    assert any(commanded_point(first).velocities)
    third = step(cell)
    assert list(commanded_point(third).positions) != list(commanded_point(first).positions)
    cell.wait_for(lambda: cell.statuses[-1].tick > ticks - 5)
    q = commanded_rows(cell.commands, 0.01)
    assert (np.abs(np.diff(q, axis=0)) <= CONTRACT.joints.velocity * 0.01 + 1e-9).all()


def test_a_missing_self_test_forbids_to_arm_until_it_has_passed(tmp_path: Path) -> None:
    """A node whose table was never run: arming says how far it is, is refused, and is granted when it has passed."""
    with safety_alone(tmp_path, selftest_folder=str(tmp_path / "kept")) as running:
        cell = Cell(running)
        cell.wait_until_heard(cell.states)
        cell.wait_for(lambda: bool(cell.statuses))
        first = cell.arm()
        assert not first.success
        assert "self-test is under way" in first.message
        assert not cell.commands
        end = time.monotonic() + 10 * DEADLINE
        while not (answer := cell.arm()).success:
            assert time.monotonic() < end, answer.message
            time.sleep(0.2)
        assert list((tmp_path / "kept").glob("*.json"))
        cell.close()


def test_a_layer_that_misses_a_fault_is_not_armed(tmp_path: Path) -> None:
    """With the collision check switched off the layer touches what stands in the way: the table finds out."""
    text = share_file("config/safety.yaml").read_text(encoding="utf-8")
    assert text.count("enabled: true") == 1
    (tmp_path / "careless.yaml").write_text(text.replace("enabled: true", "enabled: false"), encoding="utf-8")
    with safety_alone(
        tmp_path, safety=str(tmp_path / "careless.yaml"), selftest_folder=str(tmp_path / "kept")
    ) as running:
        cell = Cell(running)
        cell.wait_until_heard(cell.states)
        cell.wait_for(lambda: bool(cell.statuses))
        end = time.monotonic() + 10 * DEADLINE
        while "under way" in (answer := cell.arm()).message:
            assert time.monotonic() < end, answer.message
            time.sleep(0.2)
        assert not answer.success
        assert "missed" in answer.message
        assert "in the way" in answer.message
        assert not cell.commands
        assert not list((tmp_path / "kept").glob("*.json"))
        cell.close()


def test_the_process_comes_first_where_the_system_grants_it(runner: GraphRunner, cell: Cell) -> None:
    del cell
    allowed = "import os; os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))"
    granted = subprocess.run([sys.executable, "-c", allowed], capture_output=True, check=False).returncode == 0
    process = Path(f"/proc/{runner.process('safety_node').pid}")
    threads = {thread.name: os.sched_getscheduler(int(thread.name)) for thread in (process / "task").iterdir()}
    assert set(threads.values()) == {os.SCHED_FIFO if granted else os.SCHED_OTHER}


def test_the_self_test_runs_on_demand_and_disturbs_nothing(runner: GraphRunner, cell: Cell) -> None:
    cell.run()
    client = runner.node.create_client(Trigger, "/vla/selftest")
    assert client.wait_for_service(DEADLINE)
    future = client.call_async(Trigger.Request())
    moved = len(cell.commands)
    end = time.monotonic() + 10 * DEADLINE
    while not future.done():
        assert time.monotonic() < end
        cell.chunks.publish(cell.chunk())
        time.sleep(0.1)
    answer = future.result()
    assert answer.success, answer.message
    assert "faults stopped" in answer.message
    assert len(cell.commands) > moved + 50  # it was commanded all the time
    runner.node.destroy_client(client)


def test_a_policy_without_a_heartbeat_is_not_followed(cell: Cell) -> None:
    cell.run()
    cell.heart = None
    cell.policy_until(lambda: cell.statuses[-1].reason == "policy_silent")  # its chunks go on coming
    assert cell.wait_for_state("HOLD", "policy_silent").armed
    cell.heart = {"state": PolicyStatus.RUNNING}
    cell.policy_until(lambda: cell.statuses[-1].state_name == "RUN")


@pytest.mark.parametrize(
    ("heart", "reason"),
    [
        ({"state": PolicyStatus.FAULT, "sentence": "out of memory"}, "policy_fault"),
        ({"state": PolicyStatus.WAITING}, "policy_waiting"),
        ({"state": PolicyStatus.RUNNING, "computing": 0.1, "inferences": 7}, "policy_stuck"),
    ],
)
def test_a_policy_that_is_not_well_is_not_followed(cell: Cell, heart: dict[str, Any], reason: str) -> None:
    cell.run()
    cell.heart = heart
    cell.policy_until(lambda: cell.statuses[-1].reason == reason)
    assert str(heart.get("sentence", "")) in cell.statuses[-1].sentence


def test_the_status_says_how_much_room_is_left(cell: Cell) -> None:
    cell.run()
    cell.policy_until(lambda: cell.statuses[-1].state_name == "RUN" and len(cell.statuses[-1].margins) > 8)
    margins = dict(zip(cell.statuses[-1].margin_names, cell.statuses[-1].margins, strict=True))
    q = np.array(commanded_point(cell.commands[-1]).positions)
    nearest = np.minimum(q - CONTRACT.joints.lower, CONTRACT.joints.upper - q).min()
    assert margins["joint_position"] == pytest.approx(nearest, abs=0.05)
    assert 0.0 < margins["obstacle"] < 1.0
    assert 0.0 < margins["chunk"] <= 0.8
    assert margins["heartbeat"] <= 0.1
    assert cell.statuses[-1].steady_time == pytest.approx(time.monotonic(), abs=5.0)


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"robot": "robbie"}, "robbie"),
        ({"safety": "config/qos.yaml"}, "missing"),
        ({"estop_timeout": -1.0}, "expected 0.0 to 10.0"),
        ({"estop_timeout": float("nan")}, "expected 0.0 to 10.0"),
        ({"estop_timeout": 1}, "expected 0.0 to 10.0, a float such as 0.0"),
    ],
)
def test_a_configuration_that_does_not_hold_is_refused(tmp_path: Path, parameters: dict[str, Value], says: str) -> None:
    with pytest.raises(GraphError, match="configure") as error, safety_alone(tmp_path, **parameters):
        pass
    assert says in str(error.value)


def test_two_clocks_hold_the_arm_and_forbid_to_arm(tmp_path: Path) -> None:
    with safety_alone(tmp_path, use_sim_time=True) as running:
        links = [RosLink(name, running.domain) for name in ("simulation", "player")]
        cell = Cell(running)
        try:
            made = [link.node.create_publisher(Clock, "/clock", qos("clock")) for link in links[:1]]
            cell.run()
            made.append(links[1].node.create_publisher(Clock, "/clock", qos("clock")))
            status = cell.wait_for_state("HOLD", "foreign_publisher")
            assert "/clock is published by /player and /simulation" in status.sentence
            cell.arm(False)
            cell.wait_for_state("DISARMED")
            answer = cell.arm()
            assert not answer.success
            assert "/clock is published by /player and /simulation" in answer.message
        finally:
            cell.close()
            for link in links:
                link.close()


def test_reasons_of_the_core_fit_the_message() -> None:
    assert max(len(reason.label) for reason in Reason) <= 64
    assert max(reason.code for reason in Reason) < 2**16


def test_a_selftest_in_motion_blocks_nothing(runner: GraphRunner, cell: Cell) -> None:
    cell.run()
    client = runner.node.create_client(Trigger, "/vla/selftest")
    try:
        assert client.wait_for_service(DEADLINE)
        first = client.call_async(Trigger.Request())
        second = cell.call(client, Trigger.Request())  # answered at once, by whichever of the two came second
        assert UNDER_WAY in second.message
        assert not second.success
        moved = len(cell.commands)
        mark = len(cell.statuses)
        cell.policy_until(lambda: len(cell.commands) > moved + 100)
        assert "state_stale" not in {status.reason for status in cell.statuses[mark:]}  # the executor goes on
        assert cell.arm(False).success
        assert not first.done(), "the disarming was answered while the self-test was under way"
        end = time.monotonic() + 10.0 * DEADLINE
        while not first.done():
            assert time.monotonic() < end
            time.sleep(0.1)
        assert first.result().success, first.result().message
    finally:
        runner.node.destroy_client(client)
