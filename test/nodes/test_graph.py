"""The whole graph as processes, from simulator to safety layer, over DDS, with nothing replaced."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image, JointState
from trajectory_msgs.msg import JointTrajectory

from vla_ros.bringup.runner import STATE_FILE, GraphRunner
from vla_ros.client.observer import Observer
from vla_ros.client.operator_client import Operator
from vla_ros.envs.registry import make_env
from vla_ros.errors import InstructionError
from vla_ros.msg import ActionChunk, Instruction, PolicyStatus, SafetyStatus
from vla_ros.robot.contract import load_contract
from vla_ros.robot.kinematics import Kinematics
from vla_ros.ros.graph.description import Graph, load_graph
from vla_ros.ros.messages.commands import commanded_point
from vla_ros.ros.messages.conversions import stamp_to_seconds
from vla_ros.ros.transitions import ACTIVE, GraphError, LifecycleClient
from vla_ros.srv import ResetScene

READY, EPISODE = 60.0, 60.0  # s of wall time, on a machine that may be busy
SEED = 7
CONTRACT = load_contract("panda")
AT_REST = 0.01  # rad/s


def alive(pid: int) -> bool:
    """Say whether a process runs (one that has ended and was not waited for does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition: Callable[[], bool], what: str, timeout: float = READY) -> None:
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)


class Stage:
    """The running graph, an operator, and what the arm does."""

    def __init__(self, runner: GraphRunner) -> None:
        self.runner = runner
        self.observer = Observer(runner.node)
        self.operator = Operator(runner.node, self.observer)
        self.velocities: list[float] = []
        self.tools: list[np.ndarray] = []
        self.chunks: list[ActionChunk] = []
        self._kinematics = Kinematics(CONTRACT)
        self._scene = runner.node.create_client(ResetScene, "/sim/reset_scene")
        runner.node.create_subscription(JointState, CONTRACT.controllers.joint_states_topic, self._measure, 50)
        runner.node.create_subscription(ActionChunk, "/vla/action_chunk", self.chunks.append, 10)

    def _measure(self, message: JointState) -> None:
        self.velocities.append(float(np.abs(message.velocity[:7]).max()))
        self.tools.append(self._kinematics.forward(np.array(message.position[:7])).position)

    def set_up(self, seed: int) -> list[str]:
        """Bring the arm to rest, put the scene of `seed` before it, and return the names of its objects."""
        self.operator.say("stop", READY)
        self.operator.disarm()
        assert self.observer.wait(lambda: self.observer.safety.state == SafetyStatus.DISARMED, READY)
        answer = self.operator.call(self._scene, ResetScene.Request(seed=seed))
        assert answer.success, answer.message
        self.observer.begin()
        self.velocities.clear()
        self.tools.clear()
        self.chunks.clear()
        return list(answer.objects)

    def ask(self, text: str) -> int:
        return self.operator.say(text, READY)

    def wait_until_moving(self) -> None:
        wait_until(lambda: bool(self.velocities) and self.velocities[-1] > 0.1, "the arm does not move")


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with GraphRunner({"seed": SEED}, folder=tmp_path_factory.mktemp("graph")) as runner:
        yield Stage(runner)


def objects(seed: int) -> dict[str, np.ndarray]:
    """Where the objects of the scene of `seed` lie, (3,) m."""
    cell = make_env("pick", CONTRACT)
    cell.reset(seed)
    return {item.name: cell.thing_position(item.pair) for item in cell.objects}


def nearest(tools: list[np.ndarray], place: np.ndarray) -> float:
    """Smallest horizontal distance that the tool came to a place, m."""
    return float(np.linalg.norm(np.array(tools)[:, :2] - place[:2], axis=1).min())


def test_every_node_is_active_and_the_note_says_how_to_reach_them(stage: Stage) -> None:
    client = LifecycleClient(stage.runner.node)
    for description in stage.runner.descriptions:
        assert client.state(description.name, READY) == ACTIVE
    note = json.loads((stage.runner.folder / STATE_FILE).read_text(encoding="utf-8"))
    assert note["domain_id"] == stage.runner.domain
    assert note["pid"] == os.getpid()
    assert all(alive(pid) for pid in note["nodes"].values())


def test_without_an_instruction_the_armed_robot_stays_where_it_is(stage: Stage) -> None:
    stage.set_up(SEED)
    stage.operator.arm(READY)
    wait_until(lambda: len(stage.tools) >= 100, "no joint states")
    assert max(stage.velocities) < AT_REST
    assert not stage.chunks


def test_the_arm_goes_to_the_named_object(stage: Stage) -> None:
    name = stage.set_up(SEED)[0]
    place = objects(SEED)[name]
    stage.ask(f"pick up the {name}")
    stage.operator.arm(READY)
    wait_until(lambda: len(stage.tools) > 1 and nearest(stage.tools, place) < 0.02, "it does not get there", EPISODE)
    assert stage.observer.task.instruction == f"pick up the {name}"
    figures = stage.observer.figures(lockstep=False)
    assert figures["steps"] > 5
    assert figures["observation_age_ms_p50"] > 0.0


def test_stop_halts_the_arm_and_it_stays_halted(stage: Stage) -> None:
    name = stage.set_up(SEED)[1]
    stage.ask(f"pick up the {name}")
    stage.operator.arm(READY)
    stage.wait_until_moving()
    number = stage.ask("stop")
    wait_until(lambda: stage.velocities[-1] < AT_REST, "the arm does not come to rest")
    count, chunks = len(stage.velocities), len(stage.chunks)
    wait_until(lambda: len(stage.velocities) >= count + 150, "no joint states")
    assert max(stage.velocities[count + 20 :]) < AT_REST
    assert stage.observer.safety.state == SafetyStatus.HOLD
    assert stage.observer.instruction.kind == Instruction.STOP
    assert all(chunk.instruction_sequence < number for chunk in stage.chunks[:chunks])
    assert len(stage.chunks) == chunks


def test_a_new_instruction_replaces_the_old_one(stage: Stage) -> None:
    first, second = stage.set_up(SEED)[:2]
    places = objects(SEED)
    stage.ask(f"pick up the {first}")
    stage.operator.arm(READY)
    stage.wait_until_moving()
    number = stage.ask(f"pick up the {second}")
    count = len(stage.chunks)
    wait_until(lambda: len(stage.tools) > 1 and nearest(stage.tools, places[second]) < 0.03, "it does not get there")
    assert {chunk.instruction_sequence for chunk in stage.chunks[count + 1 :]} == {number}
    assert stage.observer.task.instruction == f"pick up the {second}"
    assert stage.observer.policy.instruction_sequence == number
    assert stage.observer.task.grasped_object != first


def test_what_the_policy_was_not_taught_moves_nothing_and_says_why(stage: Stage) -> None:
    stage.set_up(SEED)
    stage.operator.arm(READY)
    stage.ask("juggle the purple elephants")
    assert stage.observer.wait(lambda: stage.observer.policy.state == PolicyStatus.FAULT, READY)
    assert "elephants" in stage.observer.policy.sentence
    assert not stage.chunks
    assert max(stage.velocities) < AT_REST


def test_an_instruction_that_is_none_is_refused_with_a_sentence(stage: Stage) -> None:
    with pytest.raises(InstructionError, match="empty"):
        stage.ask("   ")


def test_a_policy_that_dies_is_started_again_and_works_on(stage: Stage) -> None:
    name = stage.set_up(SEED)[2]
    stage.ask(f"pick up the {name}")
    stage.operator.arm(READY)
    stage.wait_until_moving()
    before = stage.runner.process("policy_node")
    before.signal(signal.SIGKILL)
    assert stage.observer.wait(lambda: stage.observer.safety.state == SafetyStatus.HOLD, READY)
    wait_until(lambda: stage.runner.process("policy_node").pid != before.pid, "no second process")
    wait_until(lambda: stage.velocities[-1] < AT_REST, "the arm does not hold meanwhile")
    count = len(stage.chunks)
    wait_until(lambda: len(stage.chunks) > count, "the new process sends no chunks")
    assert LifecycleClient(stage.runner.node).state("policy_node", READY) == ACTIVE
    assert stage.runner.failure == ""
    stage.ask("stop")


def lockstep_run(folder: Path, seed: int) -> dict[tuple[int, str], bytes]:
    """One episode in lock step, as what passed by: (control period, what) to its bytes."""
    parts: dict[tuple[int, str], bytes] = {}
    with GraphRunner({"seed": seed, "lockstep": True}, folder=folder) as runner:
        observer = Observer(runner.node)
        operator = Operator(runner.node, observer)
        everything = QoSProfile(depth=500)

        def keep(name: str, stamp: object, data: bytes) -> None:
            parts.setdefault((round(stamp_to_seconds(stamp) / 0.01), name), data)

        def numbers(*rows: object) -> bytes:
            return np.concatenate([np.asarray(row, dtype=np.float64) for row in rows]).tobytes()

        def commanded(message: JointTrajectory) -> tuple[object, object]:
            point = commanded_point(message)
            return point.positions, point.velocities

        def command(name: str) -> Callable[[JointTrajectory], None]:
            return lambda m: keep(name, m.header.stamp, numbers(*commanded(m)))

        def picture(name: str) -> Callable[[Image], None]:
            return lambda m: keep(name, m.header.stamp, hashlib.sha256(m.data.tobytes()).digest())

        listen, topics = runner.node.create_subscription, CONTRACT.controllers
        listen(
            JointState,
            topics.joint_states_topic,
            lambda m: keep("state", m.header.stamp, numbers(m.position, m.velocity)),
            everything,
        )
        listen(JointTrajectory, topics.arm_topic, command("arm"), everything)
        listen(JointTrajectory, topics.gripper_topic, command("gripper"), everything)
        listen(
            ActionChunk,
            "/vla/action_chunk",
            lambda m: keep("chunk", m.observation_stamp, numbers(m.actions)),
            everything,
        )
        for camera in CONTRACT.cameras:
            listen(Image, camera.topic, picture(camera.name), everything)
        assert observer.wait(lambda: bool(observer.task.instruction), READY)
        observer.begin()
        operator.say(observer.task.instruction, READY)
        assert observer.wait(lambda: observer.episode.chunks > 0, READY)
        settle(observer)
        operator.arm(READY)
        # Time waits for everyone, so the task succeeds however busy the machine is.
        assert observer.wait(lambda: observer.episode.success, 3 * EPISODE), observer.safety.sentence
        end = round(stamp_to_seconds(observer.task.header.stamp) / 0.01)
    # What was said before the first command depends on when this process began to listen.
    first = min(tick for tick, what in parts if what == "arm")
    return {key: value for key, value in parts.items() if first <= key[0] < end}


def settle(observer: Observer) -> None:
    """Wait until no chunk of the first instant is on its way any more."""
    count = -1
    while count != (count := observer.episode.chunks):
        time.sleep(0.5)


def test_in_lockstep_the_whole_graph_repeats_bit_for_bit(tmp_path: Path) -> None:
    first, second = lockstep_run(tmp_path / "first", 5), lockstep_run(tmp_path / "second", 5)
    common = set(first) & set(second)
    assert len(common) > 0.9 * max(len(first), len(second))  # this listener may miss a message, the graph does not
    assert {what for _, what in common} == {"state", "arm", "gripper", "front", "wrist", "chunk"}
    differing = sorted(key for key in common if first[key] != second[key])
    assert differing == []
    states = [np.frombuffer(first[key])[:7] for key in sorted(common) if key[1] == "state"]
    assert np.abs(states[-1] - states[0]).max() > 0.1  # something happened


def test_the_death_of_the_safety_node_is_the_end_of_the_graph(tmp_path: Path) -> None:
    with GraphRunner({"seed": SEED}, folder=tmp_path) as runner:
        pids = [runner.process(node.name).pid for node in runner.descriptions]
        runner.process("safety_node").signal(signal.SIGKILL)
        wait_until(lambda: bool(runner.failure), "no failure")
        assert "safety_node" in runner.failure
    wait_until(lambda: not any(map(alive, pids)), "processes are left")


def test_a_node_that_cannot_be_configured_ends_the_start_with_its_log(tmp_path: Path) -> None:
    graph = load_graph()
    broken = tuple(
        replace(node, parameters={**node.parameters, "robot": "nobody"}) if node.name == "safety_node" else node
        for node in graph.nodes
    )
    runner = GraphRunner(graph=Graph(graph.arguments, broken), folder=tmp_path)
    with pytest.raises(GraphError, match="no robot contract 'nobody'"):
        runner.start()
    wait_until(lambda: not any(alive(runner.process(n.name).pid) for n in runner.descriptions), "processes are left")
    assert not (tmp_path / STATE_FILE).exists()


def test_a_killed_runner_leaves_no_orphans(tmp_path: Path) -> None:
    program = (
        "from vla_ros.bringup.runner import GraphRunner; import time\n"
        f"with GraphRunner(folder={str(tmp_path)!r}): print('up', flush=True); time.sleep(600)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    pids = json.loads((tmp_path / STATE_FILE).read_text(encoding="utf-8"))["nodes"].values()
    process.kill()
    process.wait()
    wait_until(lambda: not any(map(alive, pids)), "orphans are left")


def demo(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "vla_ros.cli.main", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_the_demo_command_does_the_task_films_it_and_then_takes_instructions(tmp_path: Path) -> None:
    process = demo("demo", "--out", str(tmp_path), "--keep-running", "--seed", str(SEED), "--timeout", "120")
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(iter(process.stdout.readline, "")))
    reader.start()
    try:
        wait_until(lambda: any("stays up" in line for line in lines), "the graph does not stay up", 200)
        for sentence, code, answer in (("stop", 0, "stopped"), ("   ", 1, "refused")):
            said = demo("say", sentence, "--out", str(tmp_path))
            output, errors = said.communicate(timeout=60)
            assert (said.returncode, output.split()[0].rstrip(":")) == (code, answer), output + errors
        wait_until(lambda: any("HOLD" in line and "'stop'" in line for line in lines), "stop does not arrive")
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)
        reader.join(timeout=10)
    assert process.returncode == 0, "".join(lines[-25:])
    figures = json.loads(lines[-1])
    expected = {
        "success",
        "instruction",
        "steps",
        "policy_ms_p50",
        "observation_age_ms_p50",
        "observation_age_ms_p99",
        "command_rate_hz",
        "video",
        "seed",
        "episode_s",
        "missed_ticks",
    }
    assert expected <= set(figures)
    assert figures["success"] is True
    assert figures["seed"] == SEED
    assert figures["instruction"].startswith("pick up the")
    with av.open(figures["video"]) as film:
        frames = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    assert len(frames) > 10
    assert np.abs(frames[-1].astype(int) - frames[0]).max() > 50  # the arm moved
    assert Path(figures["video"]).with_suffix(".png").stat().st_size > 1000


def test_the_demo_command_ends_everything_on_an_interrupt(tmp_path: Path) -> None:
    process = demo("demo", "--out", str(tmp_path), "--keep-running", "--seed", str(SEED))
    note = tmp_path / STATE_FILE
    wait_until(note.exists, "the graph does not start")
    wait_until(lambda: "policy_node" in note.read_text(encoding="utf-8"), "the graph does not start")
    pids = list(json.loads(note.read_text(encoding="utf-8"))["nodes"].values())
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 1, output + errors
    assert json.loads(output.splitlines()[-1])["success"] is False
    wait_until(lambda: not any(map(alive, pids)), "processes are left")
    assert not note.exists()


@pytest.mark.parametrize("arguments", [["--seed", "-1"], ["--timeout", "0"], ["--robot", "nobody"], ["--view", "3d"]])
def test_the_demo_command_refuses_wrong_usage(tmp_path: Path, arguments: list[str]) -> None:
    process = demo("demo", "--out", str(tmp_path), *arguments)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "Traceback" not in errors
    assert errors


def test_the_demo_command_reports_a_policy_that_is_not_there(tmp_path: Path) -> None:
    process = demo("demo", "--out", str(tmp_path), "--policy", str(tmp_path / "nothing"))
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 2
    assert str(tmp_path / "nothing") in errors
    assert "vla-ros train" in errors


def test_say_without_a_graph_says_how_to_start_one(tmp_path: Path) -> None:
    said = demo("say", "stop", "--out", str(tmp_path))
    _, errors = said.communicate(timeout=60)
    assert said.returncode == 1
    assert "demo --keep-running" in errors
