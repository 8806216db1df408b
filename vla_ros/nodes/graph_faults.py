"""Faults in the real graph: processes really killed and stopped, real strangers on real topics, in motion.

One graph per round; before each fault a fresh scene, armed, and the arm under way. The referee judges the commands that
were published, not what the safety layer says of them.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rclpy.qos import QoSProfile
from std_msgs.msg import Bool, String
from std_srvs.srv import Trigger
from tqdm import tqdm
from trajectory_msgs.msg import JointTrajectory

from vla_ros.errors import InstructionError
from vla_ros.evaluation.referee import Referee
from vla_ros.msg import ActionChunk, SafetyStatus
from vla_ros.nodes.observer import MOVING, Observer
from vla_ros.nodes.operator_client import Operator
from vla_ros.nodes.qos import qos
from vla_ros.nodes.runner import GraphRunner
from vla_ros.nodes.transitions import GraphError
from vla_ros.robot.contract import RobotContract, load_contract
from vla_ros.safety.parameters import load_parameters
from vla_ros.srv import ResetScene

READY_LIMIT = 20.0
"""Wall time for one step of the preparation, s."""

UNDER_WAY = 0.05
"""Speed of the fastest joint at which the arm counts as under way, rad/s."""

RESUME_LIMIT = 60.0
"""Wall time until the arm follows its policy again, s: a policy that was killed is started again."""

DISCOVERY = 1.0
"""Until the middleware has noticed that somebody came or went, s."""

TRANSPORT = 0.2
"""From a publisher through executor and control thread to a status that was heard, on a busy machine, s."""

STARVED = ("state_stale", "ticks_missed", "tracking")
"""Reasons of a hold that say that the machine was too busy to simulate; the fault itself is then tried again."""

ATTEMPTS = 4


@dataclass
class GraphRow:
    """What one fault in the graph led to; times in ms, -1 when it never came to that.

    `starved` counts the attempts before, in which the layer held because the machine was too busy to simulate.
    """

    name: str
    expected: str
    got: str = ""
    reaction_ms: float = -1.0
    deadline_ms: float = -1.0
    rest_ms: float = -1.0
    resume_ms: float = -1.0
    commands: int = 0
    lost_commands: int = 0
    violations: int = 0
    by_kind: dict[str, int] = field(default_factory=dict)
    starved: int = 0
    stopped: bool = False
    sentence: str = ""


@dataclass(frozen=True)
class GraphFault:
    """A fault: `begin` brings it about, `end` takes it away.

    Until `deadline`, s, the arm must brake for one of `reasons`; None where it need not.
    """

    name: str
    begin: Callable[[Stage], None]
    end: Callable[[Stage], None]
    deadline: float | None
    reasons: tuple[str, ...]
    state: str = "HOLD"


class Recorder:
    """Keeps every command of the arm and every change of the safety layer's state, with the time it was heard."""

    def __init__(self, stage: Stage) -> None:
        """Listen."""
        node, topic = stage.graph.node, stage.contract.controllers.arm_topic
        self.commands: list[tuple[float, list[float], list[float]]] = []
        self.states: list[tuple[float, int, str, int]] = []
        node.create_subscription(JointTrajectory, topic, self._on_command, QoSProfile(depth=1000))
        node.create_subscription(SafetyStatus, "/vla/safety_status", self._on_status, qos("status"))

    def _on_command(self, message: JointTrajectory) -> None:
        point = message.points[0]
        self.commands.append((time.monotonic(), list(point.positions), list(point.velocities)))

    def _on_status(self, message: SafetyStatus) -> None:
        self.states.append((time.monotonic(), message.state, message.reason, message.commands))

    def speed(self) -> float:
        """Speed of the fastest joint in the newest command, rad/s."""
        return max(map(abs, self.commands[-1][2])) if self.commands and self.commands[-1][2] else 0.0


class Stage:
    """A running graph with an operator, a recorder and a referee."""

    def __init__(self, graph: GraphRunner, contract: RobotContract, referee: Referee) -> None:
        """Join the graph."""
        self.graph, self.contract, self.referee = graph, contract, referee
        self.observer = Observer(graph.node, contract)
        self.operator = Operator(graph.node, self.observer)
        self.recorder = Recorder(self)
        self.made: list[Any] = []
        self.armed_at = 0, 0
        self.button: Any = None
        self._scene = graph.node.create_client(ResetScene, "/sim/reset_scene")
        self._reset = graph.node.create_client(Trigger, "/vla/reset")

    def prepare(self, seed: int) -> None:
        """Put a fresh scene before the arm and get it under way.

        Raises:
            GraphError: when that cannot be done in time.
        """
        with contextlib.suppress(InstructionError):
            self.operator.say("stop", READY_LIMIT)
        self.operator.disarm()
        self._await(lambda: self.observer.safety.state == SafetyStatus.DISARMED, "the arm was not disarmed")
        answer = self.operator.call(self._scene, ResetScene.Request(seed=seed))
        time.sleep(0.5)
        self.armed_at = len(self.recorder.commands), len(self.recorder.states)
        self.operator.arm(READY_LIMIT)
        self.operator.say(str(answer.instruction), READY_LIMIT)
        self._await(lambda: self.observer.safety.state in MOVING and self.recorder.speed() > UNDER_WAY,
                    "the arm did not get under way")  # fmt: skip

    def _await(self, condition: Callable[[], bool], complaint: str, timeout: float = READY_LIMIT) -> None:
        if not self.observer.wait(condition, timeout):
            raise GraphError(f"{complaint}: {self.observer.safety.sentence}")

    def press(self, pressed: bool) -> None:
        """Press or release the button."""
        if self.button is None:
            self.button = self.graph.node.create_publisher(Bool, "/vla/estop", qos("estop"))
            end = time.monotonic() + READY_LIMIT
            while self.button.get_subscription_count() == 0 and time.monotonic() < end:
                time.sleep(0.02)
        self.button.publish(Bool(data=pressed))

    def lose_button(self) -> None:
        """Take the button's publisher away."""
        self.graph.node.destroy_publisher(self.button)
        self.button = None

    def reset(self) -> None:
        """Leave the emergency stop as documented: button free, reset, arm."""
        self.press(False)
        end = time.monotonic() + READY_LIMIT
        while time.monotonic() < end:
            self.press(False)
            if self.operator.call(self._reset, Trigger.Request()).success:
                break
            time.sleep(0.2)
        self.operator.arm(READY_LIMIT)

    def send_strange_chunks(self, value: float) -> None:
        """Be a second sender of chunks."""
        publisher = self.graph.node.create_publisher(ActionChunk, "/vla/action_chunk", qos("action_chunk"))
        self.made.append(publisher)
        action = self.contract.action
        message = ActionChunk(
            policy="stranger", action_specification=action.fingerprint, horizon=action.horizon, width=action.width,
            period=action.period, actions=[value] * (action.horizon * action.width), trust=1.0,
            instruction_sequence=int(self.observer.instruction.sequence), sequence=1 << 40,
        )  # fmt: skip
        message.observation_stamp = self.observer.safety.header.stamp
        for _ in range(5):
            publisher.publish(message)
            time.sleep(0.02)

    def take_strangers_away(self) -> None:
        """End the second sender."""
        for publisher in self.made:
            self.graph.node.destroy_publisher(publisher)
        self.made.clear()

    def flood(self) -> None:
        """Say 500 sentences at once, the last one what was asked for before."""
        publisher = self.graph.node.create_publisher(String, "/vla/instruction", qos("instruction"))
        sentence = str(self.observer.instruction.text)
        end = time.monotonic() + READY_LIMIT
        while publisher.get_subscription_count() == 0 and time.monotonic() < end:
            time.sleep(0.02)
        for i in range(500):
            publisher.publish(String(data=f"pick up the thing number {i}" if i % 2 else "\x07" * 5000))
        publisher.publish(String(data=sentence))
        self.made.append(publisher)

    def signal(self, node: str, number: signal.Signals) -> None:
        """Send a signal to the process of a node."""
        self.graph.process(node).signal(number)


def graph_faults() -> tuple[GraphFault, ...]:
    """Return every fault; the deadlines are those of the shipped parameters."""
    silence = load_parameters().timing.chunk_timeout + 0.02

    stale, pressed = ("chunk_stale", "chunk_exhausted", "chunk_too_old"), ("estop_pressed",)

    def process(node: str, deadline: float | None) -> Iterator[GraphFault]:
        yield GraphFault(f"SIGSTOP of the {node} in motion", lambda stage: stage.signal(node, signal.SIGSTOP),
                         lambda stage: stage.signal(node, signal.SIGCONT), deadline, stale)  # fmt: skip
        yield GraphFault(f"kill -9 of the {node} in motion", lambda stage: stage.signal(node, signal.SIGKILL),
                         lambda stage: None, deadline, stale)  # fmt: skip

    return (
        *process("policy_node", silence + TRANSPORT),
        *process("perception_node", silence + 2 * TRANSPORT),  # the policy answers what it has got
        *process("instruction_node", None),  # the arm goes on with its task
        GraphFault("another sender of chunks", lambda stage: stage.send_strange_chunks(0.01),
                   Stage.take_strangers_away, silence + DISCOVERY, stale),
        GraphFault("NaN chunks of another sender", lambda stage: stage.send_strange_chunks(float("nan")),
                   Stage.take_strangers_away, silence + DISCOVERY, stale),
        GraphFault("500 instructions at once", Stage.flood, Stage.take_strangers_away, None, ()),
        GraphFault("emergency stop by topic", lambda stage: stage.press(True), Stage.reset, TRANSPORT,
                   pressed, "ESTOP"),
        GraphFault("the emergency stop's publisher is lost", Stage.lose_button, Stage.reset, DISCOVERY,
                   pressed, "ESTOP"),
    )  # fmt: skip


def run_graph_faults(robot: str, policy: str, repeats: int, folder: Path) -> list[dict[str, Any]]:
    """Bring every fault about `repeats` times, each round in a graph of its own, and return the rows.

    Raises:
        GraphError: when the graph does not come up.
    """
    contract = load_contract(robot)
    referee, rows = Referee(contract, load_parameters().timing.period), []
    faults = graph_faults()
    with tqdm(total=repeats * len(faults), desc="faults in the graph", unit="fault") as bar:
        for round_number in range(repeats):
            arguments = {"robot": robot, "policy": policy, "device": "cpu", "seed": 1}
            with GraphRunner(arguments, folder=folder / "graph") as graph:
                stage = Stage(graph, contract, referee)
                for number, fault in enumerate(faults):
                    rows.append(asdict(_attempt(stage, fault, 100 * round_number + number)))
                    bar.update()
    return rows


def _attempt(stage: Stage, fault: GraphFault, seed: int) -> GraphRow:
    """Try a fault again where the machine and not the fault stopped the arm; limits count in every attempt."""
    violations = 0
    for attempt in range(ATTEMPTS):
        row = _try(stage, fault, seed)
        row.starved, row.violations = attempt, row.violations + violations
        if row.stopped or not any(reason in row.got for reason in STARVED):
            break
        violations = row.violations
    row.stopped = row.stopped and not row.violations
    return row


def _try(stage: Stage, fault: GraphFault, seed: int) -> GraphRow:
    expected = fault.state if fault.deadline is not None else "no command beyond a limit"
    row = GraphRow(fault.name, expected, deadline_ms=-1.0 if fault.deadline is None else 1e3 * fault.deadline)
    try:
        if fault.state == "ESTOP":
            stage.press(False)
        stage.prepare(seed)
        before = len(stage.recorder.states)
        began = time.monotonic()
        fault.begin(stage)
        _watch(stage, fault, row, before, began)
        if fault.state == "ESTOP":  # arming again begins where the arm was measured: another sequence of commands
            _judge(stage, row)
        fault.end(stage)
        _resume(stage, fault, row)
        if fault.state != "ESTOP":
            time.sleep(0.5)
            _judge(stage, row)
    except (GraphError, InstructionError) as error:
        row.got, row.sentence = row.got or "not tried", str(error).splitlines()[0]
        with contextlib.suppress(GraphError, InstructionError):
            fault.end(stage)
        return row
    row.stopped = not row.sentence
    if row.stopped:
        parts = [f"braked after {row.reaction_ms:.0f} ms" * (row.reaction_ms >= 0),
                 f"{row.commands} commands in limits",
                 f"followed again after {1e-3 * row.resume_ms:.1f} s" * (row.resume_ms >= 0)]  # fmt: skip
        row.sentence = ", ".join(filter(None, parts))
    return row


def _watch(stage: Stage, fault: GraphFault, row: GraphRow, before: int, began: float) -> None:
    """Wait for the answer of the layer, and for the arm to rest."""
    recorder = stage.recorder
    state = getattr(SafetyStatus, fault.state)

    def answered() -> list[tuple[float, int, str, int]]:
        return [one for one in recorder.states[before:] if one[0] >= began and one[1] == state]

    if fault.deadline is None:
        time.sleep(2.0)
    else:
        stage.observer.wait(lambda: bool(answered()), fault.deadline + 2.0)
        time.sleep(0.6)
    heard = answered()
    row.got = recorder.states[-1][2]
    if heard:
        row.reaction_ms, row.got = 1e3 * (heard[0][0] - began), f"{fault.state}: {heard[0][2]}"
        moving = [at for at, _, speeds in list(recorder.commands) if at > heard[0][0] and any(speeds)]
        row.rest_ms = 1e3 * (moving[-1] - heard[0][0]) if moving else 0.0
    if fault.deadline is None:
        return
    if not heard:
        row.sentence = f"never {fault.state}, but {row.got}"
    elif heard[0][2] not in fault.reasons:
        row.sentence = f"held, but because of {heard[0][2]}"
    elif row.reaction_ms > row.deadline_ms:
        row.sentence = f"braked after {row.reaction_ms:.0f} ms, at most {row.deadline_ms:.0f} ms are right"
    elif recorder.speed() > 0.0:
        row.sentence = "the arm does not rest"


def _judge(stage: Stage, row: GraphRow) -> None:
    """Let the referee judge the commands since arming; with gaps in the recording it cannot judge differences."""
    recorder, (first, before) = stage.recorder, stage.armed_at
    commands, states = recorder.commands[first:], recorder.states[before:]
    heard = sum(states[0][0] <= one[0] <= states[-1][0] for one in commands)
    row.lost_commands = max(states[-1][3] - states[0][3] - heard - 2, 0)  # 2: status and command of a tick may swap
    found = dict(stage.referee.judge(np.array([one[1] for one in commands])).violations)
    if row.lost_commands:
        found |= dict.fromkeys(("joint_velocity", "joint_acceleration", "joint_jerk"), 0)
        speeds = np.abs([one[2] for one in commands if one[2]])
        found["joint_velocity"] = int((speeds > stage.contract.joints.velocity * (1.0 + 1e-6)).any(axis=1).sum())
    row.commands, row.violations = len(commands), sum(found.values())
    row.by_kind = {kind: count for kind, count in found.items() if count}
    if row.violations:
        row.sentence = row.sentence or f"{row.violations} violations: {row.by_kind}"


def _resume(stage: Stage, fault: GraphFault, row: GraphRow) -> None:
    """Wait until the policy is followed again."""
    began = time.monotonic()
    if stage.observer.wait(lambda: stage.observer.safety.state in MOVING, RESUME_LIMIT):
        row.resume_ms = 1e3 * (time.monotonic() - began)
    else:
        row.sentence = row.sentence or f"it did not go on: {stage.observer.safety.sentence}"
