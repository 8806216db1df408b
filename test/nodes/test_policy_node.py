"""The policy node over real ROS topics, with a small network of random weights: what it says does not matter here."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vla_ros.bringup.runner import GraphRunner
from vla_ros.language.tokenizer import WordTokenizer
from vla_ros.models.build import build_model
from vla_ros.models.checkpoint import PolicyBundle, save_checkpoint
from vla_ros.models.options import model_values
from vla_ros.msg import ActionChunk, Instruction, Observation, PolicyStatus
from vla_ros.processing.features import CameraFeature, PolicyFeatures, tool_state
from vla_ros.processing.normalizer import Normalizer
from vla_ros.processing.processor import Processor, Statistics
from vla_ros.robot.contract import load_contract
from vla_ros.robot.kinematics import Kinematics
from vla_ros.ros.graph.description import Graph, load_graph
from vla_ros.ros.messages.conversions import message_to_chunk, observation_to_message
from vla_ros.ros.qos import qos
from vla_ros.ros.transitions import DEACTIVATE, GraphError, LifecycleClient
from vla_ros.types import Observation as ObservationType
from vla_ros.types import RobotState

DEADLINE = 90.0
CONTRACT = load_contract("panda")
WORDS = ("pick", "up", "the", "red", "blue", "cube", "ball")


def write_checkpoint(folder: Path, model: str = "keypoint") -> Path:
    """A checkpoint of the network `model` that fits the robot, with random weights."""
    action = CONTRACT.action
    cameras = tuple(CameraFeature(c.name, c.policy_height, c.policy_width) for c in CONTRACT.cameras)
    features = PolicyFeatures(cameras, tool_state(action), action, words=12)
    needed = {
        "cameras": {c.name: (c.height, c.width) for c in cameras},
        "vocabulary": len(WORDS) + 2,
        "state_width": features.state_width,
        "horizon": action.horizon,
    }
    config, _ = model_values(model, needed, {"size": "tiny"}, 12)
    rows = Normalizer.by_mean(np.zeros((action.horizon, 6)), np.full((action.horizon, 6), 0.02))
    state = Normalizer.by_mean(np.zeros(features.state_width), np.ones(features.state_width))
    processor = Processor(features, Statistics(state, rows), WordTokenizer(WORDS))
    bundle = PolicyBundle(model, config, processor, CONTRACT.text, {})
    save_checkpoint(folder, build_model(model, config), bundle)
    return folder


def policy_alone(folder: Path, checkpoint: Path, execution: str = "auto") -> GraphRunner:
    """The shipped graph, reduced to the policy node."""
    graph = load_graph()
    node = next(node for node in graph.nodes if node.name == "policy_node")
    parameters = {**node.parameters, "policy": str(checkpoint), "use_sim_time": False, "execution": execution}
    return GraphRunner(graph=Graph(graph.arguments, (replace(node, parameters=parameters),)), folder=folder)


class Bench:
    """Publishes what the policy node hears and keeps what it says."""

    def __init__(self, runner: GraphRunner) -> None:
        node = runner.node
        self.change = threading.Condition()
        self.chunks: list[ActionChunk] = []
        self.states: list[PolicyStatus] = []
        node.create_subscription(ActionChunk, "/vla/action_chunk", self._keep(self.chunks), qos("action_chunk"))
        node.create_subscription(PolicyStatus, "/vla/policy_status", self._keep(self.states), qos("status"))
        self._observations = node.create_publisher(Observation, "/vla/observation", qos("observation"))
        self._tasks = node.create_publisher(Instruction, "/vla/task", qos("task"))
        self.sequence = 0
        self._kinematics = Kinematics(CONTRACT)
        end = time.monotonic() + DEADLINE
        while not (self._observations.get_subscription_count() and self._tasks.get_subscription_count()):
            assert time.monotonic() < end
            time.sleep(0.01)
        self.wait_for(lambda: bool(self.states))
        self._shake_hands(end)

    def _shake_hands(self, end: float) -> None:
        """Publishers see a match before subscribers do: publish until something comes back on every way."""
        while not self.chunks:
            assert time.monotonic() < end
            self._tasks.publish(Instruction(sequence=1, kind=Instruction.TASK, text="pick up the red cube"))
            self.observe()
            time.sleep(0.1)

    def _keep(self, kept: list[Any]) -> Callable[[Any], None]:
        def take(message: Any) -> None:
            with self.change:
                kept.append(message)
                self.change.notify_all()

        return take

    def wait_for(self, condition: Callable[[], bool]) -> None:
        with self.change:
            assert self.change.wait_for(condition, DEADLINE), (len(self.chunks), self.states[-1:])

    def observe(self, height: int = 96, *, now: bool = False) -> int:
        """Publish an observation and return its sequence number; `now` stamps it with the time that it is."""
        self.sequence += 1
        home = CONTRACT.joints.home
        stamp = time.time() if now else 5.0 + 0.1 * self.sequence
        state = RobotState(home, np.zeros(7), 0.08, self._kinematics.forward(home), stamp)
        rng = np.random.default_rng(self.sequence)
        images = {c.name: rng.integers(0, 255, (height, c.policy_width, 3), dtype=np.uint8) for c in CONTRACT.cameras}
        observation = ObservationType(images, state, None, stamp, self.sequence)
        self._observations.publish(observation_to_message(observation, CONTRACT))
        return self.sequence

    def ask(self, text: str, sequence: int, kind: int = Instruction.TASK) -> None:
        """Publish an instruction and wait until the node has it."""
        self._tasks.publish(Instruction(sequence=sequence, kind=kind, text=text))
        self.wait_for(lambda: self.states[-1].instruction_sequence == sequence)

    def next_status(self) -> PolicyStatus:
        count = len(self.states)
        self.wait_for(lambda: len(self.states) > count + 1)
        return self.states[-1]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("policy")
    with policy_alone(folder, write_checkpoint(folder / "untrained")) as runner:
        yield Bench(runner)


@pytest.fixture
def bench(shared: Bench) -> Bench:
    """The bench at rest: stopped, and nothing heard."""
    shared.ask("stop", 1000 + shared.sequence, Instruction.STOP)
    shared.observe()
    shared.next_status()
    shared.chunks.clear()
    return shared


def test_without_a_task_nothing_is_published_and_the_heart_beats(bench: Bench) -> None:
    bench.observe()
    status = bench.next_status()
    assert status.state == PolicyStatus.IDLE
    assert status.policy == "keypoint:untrained"
    assert status.device.startswith(("cpu", "cuda"))
    assert not bench.chunks


def test_a_task_and_an_observation_make_a_chunk_that_names_both(bench: Bench) -> None:
    bench.ask("pick up the red cube", 11)
    before = bench.next_status().inferences
    sequence = bench.observe()
    # The observation of the bench may have come after the task, and is answered, too.
    bench.wait_for(lambda: any(chunk.observation_sequence == sequence for chunk in bench.chunks))
    chunk = message_to_chunk(next(chunk for chunk in bench.chunks if chunk.observation_sequence == sequence))
    assert chunk.instruction_sequence == 11
    assert chunk.observation_stamp == pytest.approx(5.0 + 0.1 * sequence)
    assert chunk.actions.shape == (CONTRACT.action.horizon, CONTRACT.action.width)
    assert chunk.specification == CONTRACT.action.fingerprint
    assert bench.chunks[0].header.frame_id == CONTRACT.base_frame
    status = bench.next_status()
    assert status.inferences >= before + 1
    assert status.inference_ms_p99 >= status.inference_ms_p50 > 0.0


def test_chunks_serve_the_newest_instruction_alone(bench: Bench) -> None:
    bench.ask("pick up the red cube", 21)
    bench.observe()
    bench.wait_for(lambda: bool(bench.chunks))
    bench.ask("pick up the blue ball", 22)
    count = len(bench.chunks)
    bench.observe()
    bench.wait_for(lambda: len(bench.chunks) > count)
    assert {chunk.instruction_sequence for chunk in bench.chunks[count:]} == {22}
    sequences = [chunk.sequence for chunk in bench.chunks]
    assert sequences == sorted(set(sequences))


def test_stop_ends_the_chunks(bench: Bench) -> None:
    bench.ask("pick up the red cube", 31)
    bench.observe()
    bench.wait_for(lambda: bool(bench.chunks))
    bench.ask("stop", 32, Instruction.STOP)
    count = len(bench.chunks)
    for _ in range(3):
        bench.observe()
    status = bench.next_status()
    assert status.state == PolicyStatus.IDLE
    assert "stop" in status.sentence
    assert len(bench.chunks) == count


def test_words_that_it_was_not_taught_are_a_fault_with_a_sentence(bench: Bench) -> None:
    bench.ask("pick up the purple elephant", 41)
    bench.observe()
    bench.wait_for(lambda: bench.states[-1].state == PolicyStatus.FAULT)
    assert "purple" in bench.states[-1].sentence
    assert "elephant" in bench.states[-1].sentence
    assert not bench.chunks
    bench.ask("pick up the blue ball", 42)
    bench.observe()
    bench.wait_for(lambda: bool(bench.chunks))
    assert bench.next_status().state in (PolicyStatus.RUNNING, PolicyStatus.WAITING)


def test_an_observation_that_does_not_fit_is_a_fault_and_the_next_one_is_used(bench: Bench) -> None:
    bench.ask("pick up the red cube", 51)
    bench.observe(height=48)
    bench.wait_for(lambda: bench.states[-1].state == PolicyStatus.FAULT)
    assert "(48, 128)" in bench.states[-1].sentence
    bench.observe()
    bench.wait_for(lambda: bool(bench.chunks))


def test_with_a_task_and_no_observation_it_says_that_it_waits(bench: Bench) -> None:
    bench.ask("pick up the red cube", 61)
    bench.wait_for(lambda: bench.states[-1].state == PolicyStatus.WAITING)
    assert "observation" in bench.states[-1].sentence


def test_it_measures_delays_and_plans_on_from_the_chunk_under_way(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "untrained", "flow")
    with policy_alone(tmp_path, checkpoint, "real_time_chunking") as runner:
        bench = Bench(runner)
        bench.ask("pick up the red cube", 81)
        for _ in range(4):
            seen = bench.observe(now=True)
            bench.wait_for(lambda seen=seen: any(c.observation_sequence == seen for c in bench.chunks))  # type: ignore[misc]
        bench.wait_for(lambda: "ms a chunk, jitter" in bench.states[-1].sentence)
        status = bench.states[-1]
        assert status.state == PolicyStatus.RUNNING
        assert "real_time_chunking: as it was asked for (" in status.sentence


def test_deactivated_it_is_silent(tmp_path: Path) -> None:
    with policy_alone(tmp_path, write_checkpoint(tmp_path / "untrained")) as runner:
        bench = Bench(runner)
        bench.ask("pick up the red cube", 1)
        bench.observe()
        bench.wait_for(lambda: bool(bench.chunks))
        LifecycleClient(runner.node).change("policy_node", DEACTIVATE, DEADLINE)
        beats, chunks = len(bench.states), len(bench.chunks)
        bench.observe()
        time.sleep(1.2)  # more than two heartbeats
        assert (len(bench.states), len(bench.chunks)) == (beats, chunks)


@pytest.mark.parametrize("model", ["flow", "rt2", "real_time"])
def test_it_runs_any_network_by_its_checkpoint(model: str, tmp_path: Path) -> None:
    if model == "real_time":
        pytest.importorskip("transformers")
    with policy_alone(tmp_path, write_checkpoint(tmp_path / "untrained", model)) as runner:
        bench = Bench(runner)
        for sequence, text in ((71, "pick up the red cube"), (72, "pick up the blue ball")):
            bench.ask(text, sequence)
            seen = bench.observe()
            bench.wait_for(
                lambda sequence=sequence, seen=seen: any(  # type: ignore[misc]
                    (c.instruction_sequence, c.observation_sequence) == (sequence, seen) for c in bench.chunks
                )
            )
        chunk = message_to_chunk(bench.chunks[-1])
        assert chunk.policy == f"{model}:untrained"
        assert chunk.actions.shape == (CONTRACT.action.horizon, CONTRACT.action.width)
        assert bench.next_status().policy == f"{model}:untrained"


def refused(tmp_path: Path, checkpoint: Path, execution: str = "auto") -> str:
    with pytest.raises(GraphError) as error, policy_alone(tmp_path / "graph", checkpoint, execution):
        pass
    return str(error.value)


def test_a_missing_checkpoint_is_refused_with_what_to_do(tmp_path: Path) -> None:
    report = refused(tmp_path, tmp_path / "nothing")
    assert "nothing" in report
    assert "vla-ros train" in report


def test_a_way_to_follow_chunks_that_is_none_is_refused(tmp_path: Path) -> None:
    report = refused(tmp_path, write_checkpoint(tmp_path / "untrained"), "rtc")
    assert "execution.mode is 'rtc', expected one of auto, synchronous" in report


def test_a_checkpoint_for_another_robot_is_refused_line_by_line(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "other")
    path = folder / "policy.json"
    description = json.loads(path.read_text(encoding="utf-8"))
    description["contract"] = CONTRACT.text.replace("policy_width: 128", "policy_width: 64")
    path.write_text(json.dumps(description), encoding="utf-8")
    report = refused(tmp_path, folder)
    assert "cameras.front.policy_width" in report
    assert "64" in report


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "damaged")
    weights = folder / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert "cannot be loaded" in refused(tmp_path, folder)
