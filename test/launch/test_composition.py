"""`ros2 launch` of files that compose this package's: under PushRosNamespace, with SetRemap, and for two arms at once.

The robots of two arms are publishers of sound sensors and listeners to commands; nothing here moves.
"""

from __future__ import annotations

import copy
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

pytest.importorskip("ros2launch.api", reason="ROS 2's launch is not installed here")

from sensor_msgs.msg import Image, JointState
from trajectory_msgs.msg import JointTrajectory

from vla_ros.bringup.runner import RosLink, graph_environment
from vla_ros.paths import share_file
from vla_ros.robot.contract import load_contract
from vla_ros.robot.kinematics import Kinematics
from vla_ros.ros.dds.domains import claim_domain, free_domain
from vla_ros.ros.graph.description import load_graph
from vla_ros.ros.messages.conversions import array_to_image, robot_state_to_joint_state
from vla_ros.ros.qos import qos
from vla_ros.ros.transitions import ACTIVE as ACTIVE_STATE
from vla_ros.ros.transitions import LifecycleClient
from vla_ros.types import RobotState

ROOT = Path(__file__).resolve().parents[2]
PANDA = load_contract("panda")
PATIENCE = 120.0  # s that a launch gets, on a machine that may be busy
ACTIVE = "every node is active: publish a sentence on {0}/vla/instruction, call {0}/vla/arm"

COMPOSED = """
from launch import LaunchDescription
from launch.actions import GroupAction, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch_ros.actions import PushRosNamespace, SetRemap


def generate_launch_description():
    def arm(namespace):
        source = PythonLaunchDescriptionSource({file!r})
        remap = SetRemap("/joint_states", f"/{{namespace}}/driver/joint_states")
        include = IncludeLaunchDescription(source, launch_arguments={arguments!r}.items())
        return GroupAction([PushRosNamespace(namespace), remap, include])

    return LaunchDescription([arm(namespace) for namespace in {namespaces!r}])
"""


class Launch:
    """One `ros2 launch`, in a process group of its own; `said` is what it has printed so far."""

    def __init__(self, domain: int, *words: str) -> None:
        command = [sys.executable, "-c", "from ros2cli.cli import main; raise SystemExit(main())", "launch", *words]
        self.process = subprocess.Popen(
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
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said += line

    def wait(self) -> int:
        code = self.process.wait(timeout=PATIENCE)
        self._reader.join(timeout=PATIENCE)
        return code

    def wait_until_said(self, sentence: str) -> None:
        end = time.monotonic() + PATIENCE
        while sentence not in self.said:
            assert time.monotonic() < end, self.said
            assert self.process.poll() is None, self.said
            time.sleep(0.05)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=PATIENCE)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)


@pytest.fixture
def launch() -> Iterator[Callable[..., Launch]]:
    begun: list[Launch] = []

    def begin(domain: int, *words: str) -> Launch:
        begun.append(Launch(domain, *words))
        return begun[-1]

    yield begin
    for one in begun:
        one.close()


class Drivers:
    """Cameras, joint states and controllers of a Panda at home, in a namespace."""

    def __init__(self, domain: int, namespace: str) -> None:
        self.link = RosLink(f"{namespace}_drivers", domain)
        self.node = self.link.node
        home = PANDA.joints.home
        state = RobotState(home, np.zeros(PANDA.joints.count), 0.08, Kinematics(PANDA).forward(home), 1.0)
        rng = np.random.default_rng(0)
        scene = np.kron(rng.integers(0, 255, (30, 40, 3)), np.ones((8, 8, 1))).astype(np.uint8)
        self._speak(JointState, f"/{namespace}/driver/joint_states", robot_state_to_joint_state(state, PANDA), 0.02)
        for camera in PANDA.cameras:
            self._speak(Image, f"/{namespace}{camera.topic}", array_to_image(scene, 1.0, camera.frame), 0.1)
        for topic in (PANDA.controllers.arm_topic, PANDA.controllers.gripper_topic):
            self.node.create_subscription(JointTrajectory, f"/{namespace}{topic}", lambda m: None, qos("arm_command"))

    def _speak(self, kind: type, topic: str, message: Any, period: float) -> None:
        publisher = self.node.create_publisher(kind, topic, qos("camera_out"))

        def publish() -> None:
            said = copy.deepcopy(message)
            said.header.stamp = self.node.get_clock().now().to_msg()
            publisher.publish(said)

        self.node.create_timer(period, publish)


def composed(tmp_path: Path, file: str, namespaces: list[str], **arguments: str) -> str:
    """Write a launch file that includes one of this package for each namespace, and return its path."""
    path = tmp_path / "composed.launch.py"
    text = COMPOSED.format(file=str(ROOT / "launch" / file), arguments=arguments, namespaces=namespaces)
    path.write_text(text, encoding="utf-8")
    return str(path)


def without_policy(tmp_path: Path) -> str:
    """Write the shipped graph without the policy, which takes long to load, and return its path."""
    return of_nodes(tmp_path, [node.name for node in load_graph().nodes if node.name != "policy_node"])


def of_nodes(tmp_path: Path, names: Sequence[str]) -> str:
    """Write the shipped graph with some of its nodes alone, and return its path."""
    graph = yaml.safe_load(share_file("config/graph.yaml").read_text(encoding="utf-8"))
    graph["nodes"] = [node for node in graph["nodes"] if node["name"] in names]
    path = tmp_path / "graph.yaml"
    path.write_text(yaml.safe_dump(graph, sort_keys=False), encoding="utf-8")
    return str(path)


def test_two_arms_of_one_launch_come_up_under_pushed_namespaces(launch: Callable[..., Launch], tmp_path: Path) -> None:
    domain, arms = free_domain(), ["left", "right"]
    drivers = [Drivers(domain, arm) for arm in arms]
    try:
        begun = launch(domain, composed(tmp_path, "bringup.launch.py", arms, graph=without_policy(tmp_path)))
        for arm in arms:
            begun.wait_until_said(ACTIVE.format(f"/{arm}"))
        names = {f"{space.rstrip('/')}/{name}" for name, space in drivers[0].node.get_node_names_and_namespaces()}
        assert {f"/{arm}/{name}" for arm in arms for name in ("safety_node", "perception_node")} <= names
        for arm in arms:
            assert f"{arm}.preflight]: cameras, joint states and controllers are there" in begun.said
    finally:
        for one in drivers:
            one.link.close()


def test_a_simulation_comes_up_under_a_pushed_namespace_and_a_second_one_is_refused(
    launch: Callable[..., Launch], tmp_path: Path
) -> None:
    domain, graph = free_domain(), without_policy(tmp_path)
    first = launch(domain, composed(tmp_path, "simulation_mujoco.launch.py", ["arm1"], graph=graph))
    first.wait_until_said(ACTIVE.format("/arm1"))
    second = launch(domain, str(ROOT / "launch/simulation_mujoco.launch.py"), "namespace:=arm2")
    assert second.wait() == 1, second.said
    assert "/clock is published by /arm1/sim_node already: a domain has one clock" in second.said
    assert "process started" not in second.said
    assert "deprecated" not in first.said + second.said


def test_nodes_that_share_a_process_come_up_and_come_back_together(
    launch: Callable[..., Launch], tmp_path: Path
) -> None:
    names, (domain, claim) = ["instruction_node", "action_node"], claim_domain()
    words = [f"graph:={of_nodes(tmp_path, names)}", "processes:=shared", "preflight:=false", "namespace:=left"]
    begun, link = launch(domain, str(ROOT / "launch/bringup.launch.py"), *words), RosLink("visitor", domain)
    try:
        begun.wait_until_said(ACTIVE.format("/left"))
        (pid,) = re.findall(r"\[pipeline-\d+\]: process started with pid \[(\d+)\]", begun.said)
        os.kill(int(pid), signal.SIGKILL)
        lifecycle, end = LifecycleClient(link.node), time.monotonic() + PATIENCE
        while len(re.findall(r"process started with pid", begun.said)) < 2:
            assert time.monotonic() < end, begun.said
            time.sleep(0.05)
        for name in names:
            while lifecycle.state(f"left/{name}", PATIENCE) != ACTIVE_STATE:
                assert time.monotonic() < end, begun.said
                time.sleep(0.05)
    finally:
        link.close()
        claim.close()


@pytest.mark.parametrize(
    ("file", "words", "says"),
    [
        ("bringup.launch.py", ["log_level:=verbose"], 'Argument "log_level" provided value "verbose" is not valid'),
        ("bringup.launch.py", ["preflight:=maybe"], 'Argument "preflight" provided value "maybe" is not valid'),
        ("bringup.launch.py", ["arm:=yes"], 'Argument "arm" provided value "yes" is not valid'),
        ("simulation_mujoco.launch.py", ["use_sim_time:=false"], 'Argument "use_sim_time" provided value "false"'),
        ("simulation_mujoco.launch.py", ["seed:=seven"], "argument seed: got 'seven', expected an int"),
        ("bringup.launch.py", ["params_file:=/none.yaml"], "/none.yaml does not exist"),
        ("bringup.launch.py", [f"params_file:={ROOT}/config/controllers.yaml"], "names no node of this launch"),
        ("bringup.launch.py", ["processes:=one"], 'Argument "processes" provided value "one" is not valid'),
        ("record.launch.py", ["use_sim_time:=maybe"], 'Argument "use_sim_time" provided value "maybe"'),
    ],
)
def test_a_value_that_is_none_is_one_sentence(
    launch: Callable[..., Launch], file: str, words: list[str], says: str
) -> None:
    begun = launch(free_domain(), str(ROOT / "launch" / file), *words)
    assert begun.wait() == 1, begun.said
    errors = [line for line in begun.said.splitlines() if "[launch]: Caught exception" in line]
    assert [says in line for line in errors] == [True], begun.said
    assert "Traceback" not in begun.said
    assert "process started" not in begun.said


def test_a_recording_that_fails_ends_with_an_error(launch: Callable[..., Launch], tmp_path: Path) -> None:
    """The folder is there already, which `ros2 bag record` refuses; so is a machine without it."""
    out = tmp_path / "bag"
    out.mkdir()
    begun = launch(free_domain(), str(ROOT / "launch/record.launch.py"), f"out:={out}")
    assert begun.wait() == 1, begun.said
    assert re.search(r"the recorder failed \(exit code \d+\)", begun.said) or "ros2" in begun.said
