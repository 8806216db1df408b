"""A camera whose images come as CompressedImage, over real ROS topics: the perception node as a process of its own."""

from __future__ import annotations

import array
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image, JointState

from vla_ros.bringup.runner import GraphRunner, RosLink
from vla_ros.msg import Observation
from vla_ros.perception.geometry import resize_for_policy
from vla_ros.robot.contract import RobotContract, load_contract
from vla_ros.robot.kinematics import Kinematics
from vla_ros.ros.graph.description import Graph, load_graph
from vla_ros.ros.messages.conversions import (
    array_to_compressed_image,
    array_to_image,
    camera_image_to_array,
    message_to_observation,
    robot_state_to_joint_state,
)
from vla_ros.ros.qos import qos
from vla_ros.types import RobotState

DEADLINE = 60.0
PERIOD = 0.05
TOPIC = "/camera/front/image_raw/compressed"
JPEG_ERROR = 12.0
"""Mean error of a color that JPEG may have, 0 to 255; swapped channels, or another scene, give over 50."""

BLOCKS = np.random.default_rng(0).integers(0, 255, (30, 40, 3))
SCENE = np.kron(BLOCKS, np.ones((8, 8, 1))).astype(np.uint8)
Bend = Callable[[CompressedImage], CompressedImage]
FOREIGN = [
    QoSProfile(depth=1, reliability=reliability, durability=durability)
    for reliability in (ReliabilityPolicy.BEST_EFFORT, ReliabilityPolicy.RELIABLE)
    for durability in (DurabilityPolicy.VOLATILE, DurabilityPolicy.TRANSIENT_LOCAL)
]
"""What drivers offer."""


class Robot:
    """Plays the sensors at 20 Hz; `bend` changes what the compressed camera sends."""

    def __init__(self, runner: GraphRunner, contract: RobotContract) -> None:
        self.node, self.domain, self.contract = runner.node, runner.domain, contract
        self.change = threading.Condition()
        self.observations: list[Observation] = []
        self.said = ""
        self.bend: Bend = lambda message: message
        self.node.create_subscription(Observation, "/vla/observation", self._observe, qos("observation"))
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._report, qos("diagnostics"))
        self.front = self.node.create_publisher(CompressedImage, TOPIC, qos("camera_out"))
        self._wrist = self.node.create_publisher(Image, contract.camera("wrist").topic, qos("camera_out"))
        topic = contract.controllers.joint_states_topic
        self._joints = self.node.create_publisher(JointState, topic, qos("joint_states_out"))
        self._pose = Kinematics(contract).forward(contract.joints.home)
        self._time, self._end = 100.0, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._end.set()
        self._thread.join(timeout=DEADLINE)

    def offer(self, profile: QoSProfile) -> None:
        with self.change:
            if self.front is not None:
                self.node.destroy_publisher(self.front)
            self.front = self.node.create_publisher(CompressedImage, TOPIC, profile)

    def _run(self) -> None:
        while not self._end.wait(PERIOD):
            with self.change:
                self._time = round(self._time + PERIOD, 6)
                home = self.contract.joints.home
                state = RobotState(home, np.zeros(7), 0.05, self._pose, self._time)
                self._joints.publish(robot_state_to_joint_state(state, self.contract))
                front, wrist = self.contract.camera("front"), self.contract.camera("wrist")
                if self.front is not None:
                    self.front.publish(self.bend(array_to_compressed_image(SCENE, self._time, front.frame)))
                self._wrist.publish(array_to_image(SCENE[::-1], self._time, wrist.frame))

    def _observe(self, message: Observation) -> None:
        with self.change:
            self.observations.append(message)
            self.change.notify_all()

    def _report(self, message: DiagnosticArray) -> None:
        with self.change:
            self.said = " ".join(one.message for one in message.status if one.name.endswith("camera front"))
            self.change.notify_all()

    def wait_for(self, condition: Callable[[], Any]) -> None:
        with self.change:
            assert self.change.wait_for(condition, DEADLINE), f"{len(self.observations)} observations; {self.said}"

    def wait_for_another(self) -> Observation:
        with self.change:
            count = len(self.observations)
        self.wait_for(lambda: len(self.observations) > count + 1)
        return self.observations[-1]


def cut(message: CompressedImage) -> CompressedImage:
    message.data = message.data[: len(message.data) // 2]
    return message


def as_depth(message: CompressedImage) -> CompressedImage:
    message.format = "16UC1; compressedDepth png"
    return message


def emptied(message: CompressedImage) -> CompressedImage:
    message.data = array.array("B")
    return message


@pytest.fixture(scope="module")
def robot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Robot]:
    folder = tmp_path_factory.mktemp("compressed")
    values = yaml.safe_load(load_contract("panda").text)
    values["cameras"]["front"]["topic"] = TOPIC
    path = Path(folder) / "compressed.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    graph = load_graph()
    node = next(node for node in graph.nodes if node.name == "perception_node")
    node = replace(node, parameters={**node.parameters, "robot": str(path), "use_sim_time": False})
    with GraphRunner(graph=Graph(graph.arguments, (node,)), folder=folder) as runner:
        playing = Robot(runner, load_contract(path))
        yield playing
        playing.close()


def test_its_images_become_observations(robot: Robot) -> None:
    observation = message_to_observation(robot.wait_for_another(), robot.contract)
    for name, scene, error in (("front", SCENE, JPEG_ERROR), ("wrist", SCENE[::-1], 0.0)):
        camera = robot.contract.camera(name)
        expected = resize_for_policy(np.ascontiguousarray(scene), camera.policy_height, camera.policy_width)
        assert np.abs(observation.images[name].astype(int) - expected).mean() <= error, name


@pytest.mark.parametrize(
    ("bend", "says"), [(cut, "cut or damaged"), (emptied, "neither JPEG nor PNG"), (as_depth, "is depth")]
)
def test_an_image_of_no_use_is_named_and_the_next_one_taken(robot: Robot, bend: Bend, says: str) -> None:
    with robot.change:
        robot.bend = bend
    robot.wait_for(lambda: says in robot.said)
    with robot.change:
        robot.bend = lambda message: message
    robot.wait_for_another()
    robot.wait_for(lambda: robot.said == "healthy")


@pytest.mark.parametrize("profile", FOREIGN, ids=lambda one: f"{one.reliability.name}-{one.durability.name}")
def test_every_quality_of_service_of_a_driver_is_received(robot: Robot, profile: QoSProfile) -> None:
    robot.offer(profile)
    end = time.monotonic() + DEADLINE
    while robot.front.get_subscription_count() < 1:
        assert time.monotonic() < end, "nobody listens"
        time.sleep(0.01)
    robot.wait_for_another()


def test_a_camera_that_publishes_another_type_is_named_by_the_node(robot: Robot) -> None:
    with robot.change:
        robot.node.destroy_publisher(robot.front)
        robot.front = None
    driver = RosLink("driver", robot.domain)  # a process cannot publish two types under one name
    try:
        driver.node.create_publisher(Image, TOPIC, qos("camera_out"))
        said = f"{TOPIC} is published as sensor_msgs/msg/Image by /driver"
        robot.wait_for(lambda: said in robot.said)
        assert "write 'transport: raw' for this camera" in robot.said
        assert "stopped coming" in robot.said
    finally:
        driver.close()
    robot.offer(qos("camera_out"))
    robot.wait_for_another()


def test_a_simulated_camera_sends_what_the_contract_says(robot: Robot, tmp_path: Path) -> None:
    path = tmp_path / "compressed.yaml"
    path.write_text(robot.contract.text, encoding="utf-8")
    graph = load_graph()
    node = next(node for node in graph.nodes if node.name == "sim_node")
    node = replace(node, parameters={**node.parameters, "robot": str(path)})
    received: list[CompressedImage] = []
    came = threading.Event()

    def take(message: CompressedImage) -> None:
        received.append(message)
        came.set()

    with GraphRunner(graph=Graph(graph.arguments, (node,)), folder=tmp_path) as runner:
        runner.node.create_subscription(CompressedImage, TOPIC, take, qos("camera"))
        assert came.wait(DEADLINE)
    camera = robot.contract.camera("front")
    image = camera_image_to_array(received[0], camera)
    assert received[0].header.frame_id == camera.frame
    table = image[camera.height // 2 :, :, :].reshape(-1, 3).astype(int).mean(axis=0)
    assert table[0] > table[2] + 10.0  # wood is more red than blue: the channels are not swapped
