"""`ros2 launch` with something wrong, beside a robot that runs: it says what, ends, and nothing moves or is left.

The robot is the MuJoCo cell in a process of its own. Every launch is asked to arm as soon as it can, so that it is not
the missing call of a person that keeps the arm still.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ros2launch.api", reason="ROS 2's launch is not installed here")

from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory

from vla_ros.bringup.runner import GraphRunner, RosLink, graph_environment
from vla_ros.robot.contract import load_contract
from vla_ros.ros.dds.domains import free_domain
from vla_ros.ros.graph.description import Graph, load_graph
from vla_ros.ros.qos import qos

ROOT = Path(__file__).resolve().parents[2]
PANDA = load_contract("panda")
ARM, GRIPPER = PANDA.controllers.arm_topic, PANDA.controllers.gripper_topic
OTHER_ARM, OTHER_CAMERA = "/other_controller/joint_trajectory", "/camera/elsewhere/image_raw"
PATIENCE = 120.0  # s that a launch gets, on a machine that may be busy
AT_REST = 1e-3  # rad


class Launch:
    """One `ros2 launch`, in a process group of its own; `said` is what it has printed so far."""

    def __init__(self, domain: int, file: str, *arguments: str) -> None:
        command = [
            sys.executable,
            "-c",
            "from ros2cli.cli import main; raise SystemExit(main())",
            "launch",
            str(ROOT / "launch" / file),
            *arguments,
        ]
        self._process = subprocess.Popen(
            command,
            env={**os.environ, **graph_environment(domain)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self.said = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.said += line

    def wait(self) -> int:
        """Wait until it has ended by itself and return its exit code."""
        code = self._process.wait(timeout=PATIENCE)
        self._reader.join(timeout=PATIENCE)
        return code

    def nodes(self) -> list[int]:
        """Return the process ids of what it has started."""
        return [int(pid) for pid in re.findall(r"process started with pid \[(\d+)\]", self.said)]

    def kill(self) -> None:
        """End it in a way that it cannot notice."""
        self._process.kill()

    def close(self) -> None:
        """End it as a person at the keyboard does, and what is left after that by force."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=PATIENCE)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)


class Robot:
    """The simulated robot, and what it was told and did. Who listens is a hidden node, which is no controller."""

    def __init__(self, folder: Path) -> None:
        everything = load_graph()
        cell = Graph(everything.arguments, tuple(node for node in everything.nodes if node.simulation == "mujoco"))
        self.runner = GraphRunner({"seed": 7}, graph=cell, folder=folder)
        self.runner.start()
        self.commands: Counter[str] = Counter()
        self.positions: list[np.ndarray] = []
        self._ears = RosLink("_ears", self.runner.domain)
        for topic in (ARM, GRIPPER, f"/left{ARM}", f"/left{GRIPPER}", OTHER_ARM):
            self._hear(topic)
        self._ears.node.create_subscription(JointState, "/joint_states", self._feel, qos("joint_states"))

    def _hear(self, topic: str) -> None:
        def take(message: JointTrajectory) -> None:
            del message
            self.commands[topic] += 1

        self._ears.node.create_subscription(JointTrajectory, topic, take, qos("arm_command"))

    def _feel(self, message: JointState) -> None:
        self.positions.append(np.array(message.position))

    def travel(self) -> float:
        """Return how far any joint has been from where it stood first, rad or m."""
        return float(np.abs(np.array(self.positions) - self.positions[0]).max())

    def close(self) -> None:
        self._ears.close()
        self.runner.close()


def wait_until(condition: Callable[[], bool], what: Callable[[], str]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, what()
        time.sleep(0.02)


def runs(pid: int) -> bool:
    """Say whether a process runs; one that has ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture(scope="module")
def cell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Robot]:
    robot = Robot(tmp_path_factory.mktemp("cell"))
    yield robot
    robot.close()


@pytest.fixture
def robot(cell: Robot) -> Robot:
    cell.commands.clear()
    cell.positions.clear()
    wait_until(lambda: bool(cell.positions), lambda: "the robot does not say where it stands")
    return cell


@pytest.fixture
def launch() -> Iterator[Callable[..., Launch]]:
    begun: list[Launch] = []

    def begin(domain: int, file: str, *arguments: str) -> Launch:
        simulated = ["use_sim_time:=true"] if file == "bringup.launch.py" else []
        begun.append(Launch(domain, file, "arm:=true", *simulated, *arguments))
        return begun[-1]

    yield begin
    for one in begun:
        one.close()


def contract_with(tmp_path: Path, line: str, instead: str) -> str:
    """Write the Panda's contract with one topic changed and return its path."""
    assert line in PANDA.text
    path = tmp_path / "changed.yaml"
    path.write_text(PANDA.text.replace(line, instead), encoding="utf-8")
    return str(path)


def assert_refused(launch: Launch, robot: Robot, *words: str) -> None:
    assert launch.wait() == 1, launch.said
    for word in words:
        assert word in launch.said, launch.said
    assert robot.commands == {}, launch.said
    assert robot.travel() < AT_REST


@pytest.mark.parametrize("file", ["bringup.launch.py", "simulation_mujoco.launch.py"])
def test_an_unknown_robot(robot: Robot, launch: Callable[..., Launch], file: str) -> None:
    begun = launch(robot.runner.domain, file, "robot:=robbie")
    assert_refused(begun, robot, "no robot contract 'robbie'")
    assert "process started" not in begun.said


def test_a_missing_controller(robot: Robot, launch: Callable[..., Launch], tmp_path: Path) -> None:
    other = contract_with(tmp_path, ARM, OTHER_ARM)
    begun = launch(robot.runner.domain, "bringup.launch.py", f"robot:={other}")
    assert_refused(begun, robot, f"no controller listens to {OTHER_ARM}", ARM, "robot 'panda' is not complete")


def test_a_camera_topic_that_never_comes(robot: Robot, launch: Callable[..., Launch], tmp_path: Path) -> None:
    other = contract_with(tmp_path, PANDA.camera("wrist").topic, OTHER_CAMERA)
    begun = launch(robot.runner.domain, "bringup.launch.py", f"robot:={other}")
    assert_refused(begun, robot, f"nobody publishes {OTHER_CAMERA}", "robot 'panda' is not complete")
    assert begun.said.index("still waiting") < begun.said.index("is not complete")


def test_a_wrong_namespace(robot: Robot, launch: Callable[..., Launch]) -> None:
    begun = launch(robot.runner.domain, "bringup.launch.py", "namespace:=left")
    missing = "nobody publishes /left/joint_states (JointState); there is /joint_states: is the namespace right?"
    assert_refused(begun, robot, missing, "robot 'panda' is not complete")


def test_a_namespace_that_is_none(robot: Robot, launch: Callable[..., Launch]) -> None:
    begun = launch(robot.runner.domain, "bringup.launch.py", "namespace:=2nd-arm")
    assert_refused(begun, robot, "namespace '2nd-arm'")


def test_a_policy_of_another_robot(launch: Callable[..., Launch]) -> None:
    begun = launch(free_domain(), "simulation_mujoco.launch.py", "robot:=so101")
    assert begun.wait() == 1, begun.said
    assert "policy_node could not be brought up: cannot configure: " in begun.said
    assert "policy pick does not fit robot 'so101'" in begun.said


def test_with_nothing_wrong_the_same_robot_is_commanded(robot: Robot, launch: Callable[..., Launch]) -> None:
    begun = launch(robot.runner.domain, "bringup.launch.py")
    wait_until(lambda: robot.commands[ARM] > 0 and robot.commands[GRIPPER] > 0, lambda: begun.said)
    wait_until(lambda: "every node is active" in begun.said, lambda: begun.said)


def test_no_node_outlives_a_launch_that_is_killed(robot: Robot, launch: Callable[..., Launch]) -> None:
    begun = launch(robot.runner.domain, "bringup.launch.py")
    wait_until(lambda: "every node is active" in begun.said, lambda: begun.said)
    nodes = begun.nodes()
    assert len(nodes) == len(load_graph().resolve(simulation="")) + 1  # and the preflight
    begun.kill()
    wait_until(lambda: not any(runs(pid) for pid in nodes), lambda: f"still there: {[p for p in nodes if runs(p)]}")
