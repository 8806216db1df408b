"""The safety node before ros2_control itself: its trajectory controllers, as shipped, over mock hardware.

Runs where `controller_manager` and `ros2_controllers` are installed; the robot is theirs, the test plays the policy.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
import yaml
from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from std_srvs.srv import SetBool
from trajectory_msgs.msg import JointTrajectory

from vla_ros.bringup.launch_files import controller_parameters, robot_description
from vla_ros.bringup.runner import GraphRunner, graph_environment
from vla_ros.msg import ActionChunk as ChunkMessage
from vla_ros.msg import PolicyStatus, SafetyStatus
from vla_ros.nodes.safety.controller_settings import (
    AT_SPEED,
    FROM_DESIRED,
    REPLACEMENT,
    TIMEOUT,
    SettingsQuestion,
    objections,
)
from vla_ros.nodes.safety.controller_settings import NAMES as NAMES_ASKED
from vla_ros.robot.contract import load_contract
from vla_ros.robot.kinematics import Kinematics
from vla_ros.ros.graph.description import Graph, load_graph
from vla_ros.ros.messages.conversions import chunk_to_message, stamp_to_seconds
from vla_ros.ros.qos import qos
from vla_ros.types import ActionChunk

DEADLINE = 60.0  # s
PANDA = load_contract("panda")
NAMES = [*PANDA.joints.names, *PANDA.gripper.names]
CONTROLLERS = ("joint_state_broadcaster", "arm_controller", "gripper_controller")
WHOLE = {"joint_state_broadcaster", "joint_trajectory_controller"}


def executable(package: str, name: str) -> str:
    """Return the path of an executable of an installed package."""
    return str(Path(get_package_prefix(package)) / "lib" / package / name)


try:
    MANAGER = executable("controller_manager", "ros2_control_node")
    SPAWNER = executable("controller_manager", "spawner")
    for needed in WHOLE:
        get_package_prefix(needed)
except PackageNotFoundError as missing:
    pytest.skip(f"ros2_control is not installed here: {missing}", allow_module_level=True)


class Robot:
    """ros2_control over mock hardware, with the description and the parameters that the launch files would give it."""

    def __init__(self, runner: GraphRunner, folder: Path) -> None:
        parameters = folder / "controllers.yaml"
        parameters.write_text(yaml.safe_dump(controller_parameters(PANDA, use_sim_time=False)), encoding="utf-8")
        self._environment = {**os.environ, **graph_environment(runner.domain)}
        self._log: IO[bytes] = (folder / "ros2_control.log").open("wb")
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._description = runner.node.create_publisher(String, "/robot_description", latched)
        self._description.publish(String(data=robot_description(PANDA, "mock")))
        self._manager = self._start(MANAGER, "--ros-args", "--params-file", str(parameters))
        for controller in CONTROLLERS:
            spawning = self._start(SPAWNER, controller, "--param-file", str(parameters))
            assert spawning.wait(timeout=DEADLINE) == 0, (folder / "ros2_control.log").read_text(encoding="utf-8")

    def _start(self, *command: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, env=self._environment, stdout=self._log, stderr=self._log)

    def close(self) -> None:
        self._manager.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._manager.wait(timeout=10.0)
        self._manager.kill()
        self._manager.wait(timeout=DEADLINE)
        self._log.close()


class Policy:
    """Sends plans and the heartbeat; keeps what the robot measured, what it was told, what the safety layer said."""

    def __init__(self, runner: GraphRunner) -> None:
        self._node = node = runner.node
        self.change = threading.Condition()
        self.stamps: list[float] = []
        self.measured: list[np.ndarray] = []
        self.commands: list[JointTrajectory] = []
        self.grips: list[JointTrajectory] = []
        self.statuses: list[SafetyStatus] = []
        self.sequence = 0
        names = PANDA.controllers
        node.create_subscription(JointState, names.joint_states_topic, self._on_state, qos("joint_states"))
        node.create_subscription(SafetyStatus, "/vla/safety_status", self._keep(self.statuses), qos("status"))
        # A second listener that is no controller: only the real ones make the safety node arm.
        node.create_subscription(JointTrajectory, names.arm_topic, self._keep(self.commands), qos("arm_command"))
        node.create_subscription(JointTrajectory, names.gripper_topic, self._keep(self.grips), qos("arm_command"))
        self._chunks = node.create_publisher(ChunkMessage, "/vla/action_chunk", qos("action_chunk"))
        self._hearts = node.create_publisher(PolicyStatus, "/vla/policy_status", qos("status"))
        self._arm = node.create_client(SetBool, "/vla/arm")
        self.opening = 1.0
        self.closing = threading.Event()
        self._talker = threading.Thread(target=self._beat, daemon=True)
        self._talker.start()

    def _beat(self) -> None:
        while not self.closing.wait(0.02):
            self._hearts.publish(PolicyStatus(state=PolicyStatus.RUNNING, inferences=self.sequence))

    def close(self) -> None:
        self.closing.set()
        self._talker.join()

    def _keep(self, kept: list[Any]) -> Callable[[Any], None]:
        def keep(message: Any) -> None:
            with self.change:
                kept.append(message)
                self.change.notify_all()

        return keep

    def _on_state(self, message: JointState) -> None:
        values = dict(zip(message.name, message.position, strict=True))
        with self.change:
            self.stamps.append(stamp_to_seconds(message.header.stamp))
            self.measured.append(np.array([values[name] for name in NAMES]))
            self.change.notify_all()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        with self.change:
            assert self.change.wait_for(condition, DEADLINE), self.statuses[-1:]

    def arm(self) -> None:
        assert self._arm.wait_for_service(DEADLINE)
        end = time.monotonic() + DEADLINE
        while not (answer := self._ask_to_arm()).success:
            assert time.monotonic() < end, answer.message

    def _ask_to_arm(self) -> SetBool.Response:
        done = threading.Event()
        future = self._arm.call_async(SetBool.Request(data=True))
        future.add_done_callback(lambda _: done.set())
        assert done.wait(DEADLINE)
        return future.result()

    def moves_until(self, condition: Callable[[], bool], direction: float) -> None:
        """Send plans of 20 mm a row along y, ten a second, until `condition` holds."""
        end = time.monotonic() + DEADLINE
        while not condition():
            assert time.monotonic() < end, self.statuses[-1:]
            actions = np.zeros((12, 7))
            actions[:, 1], actions[:, 6] = direction * 0.02 * np.arange(1, 13), self.opening
            with self.change:
                self.sequence += 1
                stamp = self.stamps[-1]
            chunk = ActionChunk(actions, 0.1, stamp, PANDA.action.fingerprint, self.sequence)
            self._chunks.publish(chunk_to_message(chunk))
            with self.change:
                self.change.wait_for(condition, 0.1)

    def is_at_rest(self) -> bool:
        """Say whether the last half second of measured positions are the same."""
        recent = [q for t, q in zip(self.stamps, self.measured, strict=True) if t > self.stamps[-1] - 0.5]
        return len(recent) > 20 and float(np.ptp(recent, axis=0).max()) < 1e-6


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GraphRunner]:
    graph = load_graph()
    node = next(node for node in graph.nodes if node.name == "safety_node")
    node = replace(node, parameters={**node.parameters, "use_sim_time": False})
    alone = GraphRunner(graph=Graph(graph.arguments, (node,)), folder=tmp_path_factory.mktemp("graph"))
    with alone as running:
        robot = Robot(running, tmp_path_factory.mktemp("robot"))
        yield running
        robot.close()


@pytest.fixture(scope="module")
def policy(runner: GraphRunner) -> Iterator[Policy]:
    policy = Policy(runner)
    policy.wait_for(lambda: bool(policy.measured) and bool(policy.statuses))
    yield policy
    policy.close()


def test_the_preflight_has_no_objection_to_the_shipped_controllers(runner: GraphRunner, policy: Policy) -> None:
    """There are no cameras here: it names those, and nothing else."""
    command = [sys.executable, "-m", "vla_ros.nodes.preflight", "--ros-args", "-p", "timeout:=5.0"]
    environment = {**os.environ, **graph_environment(runner.domain)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=DEADLINE, check=False)
    said = [line for line in (done.stdout + done.stderr).splitlines() if "FATAL" in line]
    assert [camera.topic in line for line, camera in zip(said, PANDA.cameras, strict=True)] == [True, True], said


def asked(runner: GraphRunner, controller: str) -> dict[str, Any]:
    """Return what a real controller says that its parameters are."""
    question, end = SettingsQuestion(runner.node, controller), time.monotonic() + DEADLINE
    while not question.poll():
        assert time.monotonic() < end
        time.sleep(0.01)
    assert question.settings is not None
    return question.settings


def test_the_shipped_controllers_say_what_they_are_set_to(runner: GraphRunner) -> None:
    settings = asked(runner, "/arm_controller")
    assert set(NAMES_ASKED) - set(settings) <= {REPLACEMENT}, "which the controllers of Jazzy do not have"
    assert not objections(settings, PANDA.joints.names)
    assert "joints" in asked(runner, "/joint_state_broadcaster")  # which has this one alone of those asked for


def test_a_trajectory_controller_at_its_defaults_is_objected_to(runner: GraphRunner, tmp_path: Path) -> None:
    joints = list(PANDA.joints.names)
    values = {
        "type": "joint_trajectory_controller/JointTrajectoryController",
        "joints": joints,
        "command_interfaces": ["position"],
        "state_interfaces": ["position", "velocity"],
    }
    parameters = tmp_path / "default.yaml"
    parameters.write_text(yaml.safe_dump({"default_controller": {"ros__parameters": values}}), encoding="utf-8")
    command = [SPAWNER, "default_controller", "--inactive", "--param-file", str(parameters)]
    subprocess.run(command, env={**os.environ, **graph_environment(runner.domain)}, timeout=DEADLINE, check=True)
    said = objections(asked(runner, "/default_controller"), joints)
    assert [one.split()[0] for one in said] == [AT_SPEED, FROM_DESIRED, TIMEOUT]


def test_the_controllers_do_what_the_safety_node_says(policy: Policy) -> None:
    start = policy.measured[-1]
    np.testing.assert_allclose(start[:7], PANDA.joints.home, atol=1e-3)
    policy.arm()
    hand = Kinematics(PANDA)

    def has_moved() -> bool:
        return hand.forward(policy.measured[-1][:7]).position[1] > 0.10

    policy.moves_until(has_moved, direction=1.0)
    policy.wait_for(lambda: policy.statuses[-1].state_name == "HOLD" and policy.is_at_rest())  # no plan any more
    np.testing.assert_allclose(policy.measured[-1][:7], policy.commands[-1].points[0].positions, atol=1e-4)
    # In between it has not jumped: over 20 ms it has gone no further than at its highest speed in twice that time.
    stamps, measured = np.array(policy.stamps), np.array(policy.measured)[:, :7]
    later = np.searchsorted(stamps, stamps + 0.02)
    is_known = later < len(stamps)
    gone = np.abs(measured[later[is_known]] - measured[is_known]).max(axis=0)
    assert (gone < 0.04 * PANDA.joints.velocity).all()


def test_the_gripper_closes_and_opens(policy: Policy) -> None:
    policy.arm()
    for opening in (0.0, 1.0):
        policy.opening = opening
        wanted = opening * PANDA.gripper.max_opening
        policy.moves_until(lambda wanted=wanted: abs(policy.measured[-1][7:].sum() - wanted) < 1e-3, direction=0.0)


def test_the_controllers_hold_the_arm_when_the_safety_node_dies_in_mid_motion(
    runner: GraphRunner, policy: Policy
) -> None:
    policy.arm()
    policy.moves_until(
        lambda: bool(policy.commands) and max(map(abs, policy.commands[-1].points[0].velocities)) > 0.1, -1.0
    )
    runner.process("safety_node").signal(signal.SIGKILL)
    last, heard = policy.measured[-1], len(policy.commands)
    policy.wait_for(policy.is_at_rest)
    assert len(policy.commands) < heard + 5, "somebody still commands the arm"
    # One point a tick, each 10 to 20 ms long: what was under way is all that is still done.
    assert np.abs(policy.measured[-1] - last).max() < 0.05 * PANDA.joints.velocity.max()
