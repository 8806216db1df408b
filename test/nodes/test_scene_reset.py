"""The service that lays out scenes in Gazebo, over real topics; a simulation that is slow stands in for Gazebo.

It needs no message of ros_gz. The last test runs the whole scene node, where those are installed.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from geometry_msgs.msg import TransformStamped
from rclpy.clock import Clock, ClockType
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock as ClockMessage
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory

from vla_ros.bringup.runner import GraphRunner, RosLink
from vla_ros.envs.gazebo.scene import GazeboScene, GazeboSuccessChecker, lay_out
from vla_ros.errors import SimulationError
from vla_ros.msg import SafetyStatus, TaskStatus
from vla_ros.nodes.sim import scene_reset
from vla_ros.nodes.sim import wait as simulation_wait
from vla_ros.nodes.sim.homing import SPEED_SHARE
from vla_ros.nodes.sim.scene_reset import SERVICE, SceneReset
from vla_ros.nodes.sim.wait import SimulationWait
from vla_ros.robot.contract import load_contract
from vla_ros.robot.kinematics import Kinematics
from vla_ros.ros.dds.domains import free_domain
from vla_ros.ros.graph.description import Graph, load_graph
from vla_ros.ros.messages.conversions import joint_state_to_robot_state, seconds_to_stamp
from vla_ros.ros.qos import qos
from vla_ros.srv import ResetScene
from vla_ros.types import FloatArray

DEADLINE = 60.0
CONTRACT = load_contract("panda")
KINEMATICS = Kinematics(CONTRACT)
AWAY = CONTRACT.joints.home + np.array([0.4, -0.2, 0.1, 0.3, -0.2, 0.1, 0.0])
SEED = 11


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, "the condition did not come true"
        time.sleep(0.005)


class SlowSimulation:
    """Publishes /clock at a third of the wall clock, and joint states that are where the arm was last sent."""

    TICK, STEP = 0.006, 0.002

    def __init__(self, link: RosLink) -> None:
        self.time, self.running, self.follows = 5.0, True, True
        self.positions = dict(zip(CONTRACT.joints.names, AWAY.tolist(), strict=True))
        self.positions |= dict.fromkeys(CONTRACT.gripper.names, 0.01)
        self.arm: list[JointTrajectory] = []
        self.gripper: list[JointTrajectory] = []
        self.node = link.node
        self.clock = self.node.create_publisher(ClockMessage, "/clock", qos("clock"))
        topic = CONTRACT.controllers.joint_states_topic
        self.states = self.node.create_publisher(JointState, topic, qos("joint_states"))
        self.node.create_timer(self.TICK, self.tick, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def listen(self, follow: bool = True) -> None:
        """As the controllers do, and bring the arm to where they are told."""
        self.follows = follow
        controllers = CONTRACT.controllers
        for topic, kept in ((controllers.arm_topic, self.arm), (controllers.gripper_topic, self.gripper)):
            self.node.create_subscription(JointTrajectory, topic, self.follower(kept), qos("arm_command"))

    def follower(self, kept: list[JointTrajectory]) -> Callable[[JointTrajectory], None]:
        def follow(message: JointTrajectory) -> None:
            kept.append(message)
            if self.follows:
                self.positions |= dict(zip(message.joint_names, message.points[0].positions, strict=True))

        return follow

    def tick(self) -> None:
        if self.running:
            self.time += self.STEP
        self.clock.publish(ClockMessage(clock=seconds_to_stamp(self.time)))
        message = JointState(name=list(self.positions), position=list(self.positions.values()))
        message.velocity = [0.0] * len(message.name)
        message.header.stamp = seconds_to_stamp(self.time)
        self.states.publish(message)


def asked_for(request: Path) -> dict[str, FloatArray]:
    """The positions in a request to move models."""
    text = request.read_text()
    found = re.findall(r'name: "(\w+)" position \{ x: (\S+) y: (\S+) z: (\S+) \}', text)
    return {name: np.array([float(x), float(y), float(z)]) for name, x, y, z in found}


def put_gz(folder: Path, answer: str) -> None:
    """A `gz` that keeps the request and gives this answer."""
    command = folder / "gz"
    command.write_text(f'#!/bin/sh\nprintf "%s " "$@" > "{folder}/request"\necho "{answer}"\n')
    command.chmod(0o755)


class Cell:
    """What the scene node knows: joint states from a topic in the node's default group; poses from the request."""

    def __init__(self, link: RosLink, request: Path) -> None:
        self.armed, self.request = "", request
        self.judge = GazeboSuccessChecker(lay_out(0))
        self.state: JointState | None = None
        topic = CONTRACT.controllers.joint_states_topic
        link.node.create_subscription(JointState, topic, self.take, qos("joint_states"))

    def take(self, message: JointState) -> None:
        self.state = message

    def refusal(self) -> str:
        return self.armed

    def joint_positions(self) -> FloatArray:
        if self.state is None:
            raise SimulationError("no joint states")
        return joint_state_to_robot_state(self.state, CONTRACT, KINEMATICS).joint_positions

    def expect(self, scene: GazeboScene) -> None:
        self.judge = GazeboSuccessChecker(scene)
        for name, position in asked_for(self.request).items():
            self.judge.moved(name, position)

    def in_place(self) -> bool:
        return self.judge.in_place(0.01)


class Bench:
    """Simulation, cell, service and a client, each node with a thread of its own."""

    def __init__(self, folder: Path) -> None:
        domain = free_domain()
        self.links = [RosLink(name, domain) for name in ("simulation", "scene", "client")]
        simulation, scene, client = self.links
        self.simulation = SlowSimulation(simulation)
        self.node = scene.node
        self.node.set_parameters([Parameter("use_sim_time", value=True)])
        self.cell = Cell(scene, folder / "request")
        self.reset = SceneReset(self.node, CONTRACT, "pick", self.cell)
        self.client = client.node.create_client(ResetScene, SERVICE)
        assert self.client.wait_for_service(DEADLINE)
        wait_for(lambda: self.cell.state is not None and self.node.get_clock().now().nanoseconds > 0)

    def call(self, seed: int = SEED) -> Callable[[], Any]:
        """Ask for a scene; what is returned waits for the answer."""
        there = threading.Event()
        future = self.client.call_async(ResetScene.Request(seed=seed))
        future.add_done_callback(lambda _: there.set())

        def answer() -> Any:
            assert there.wait(DEADLINE), "no answer"
            return future.result()

        return answer

    def commanding(self) -> bool:
        return self.node.count_publishers(CONTRACT.controllers.arm_topic) > 0

    def close(self) -> None:
        for link in self.links:
            link.close()


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    put_gz(tmp_path, "data: true")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    bench = Bench(tmp_path)
    yield bench
    bench.close()


def test_a_slow_simulation_gets_its_scene(bench: Bench) -> None:
    bench.simulation.listen()
    answer = bench.call()()
    scene = lay_out(SEED)
    assert (answer.success, answer.instruction) == (True, scene.instruction), answer.message
    assert list(answer.objects) == [item.name for item in scene.objects]
    moved = asked_for(bench.cell.request)
    assert moved.keys() == scene.poses.keys()
    for name, position in moved.items():
        np.testing.assert_allclose(position, scene.poses[name][:3], atol=1e-6)
    assert not bench.commanding()


def test_the_arm_goes_home_smoothly_and_opens_its_hand(bench: Bench) -> None:
    bench.simulation.listen()
    assert bench.call()().success
    way = np.array([list(message.points[0].positions) for message in bench.simulation.arm])
    assert np.abs(way[0] - AWAY).max() < 0.05
    np.testing.assert_allclose(way[-1], CONTRACT.joints.home, atol=1e-9)
    np.testing.assert_allclose(bench.simulation.arm[-1].points[0].velocities, 0.0, atol=1e-9)
    speeds = np.abs([list(message.points[0].velocities) for message in bench.simulation.arm])
    assert (speeds <= SPEED_SHARE * CONTRACT.joints.velocity + 1e-9).all()
    fingers = bench.simulation.gripper[-1]
    assert dict(zip(fingers.joint_names, fingers.points[0].positions, strict=True)) == dict(
        zip(CONTRACT.gripper.names, CONTRACT.gripper.open, strict=True)
    )


def test_another_request_in_the_middle_is_refused_and_harms_nothing(bench: Bench) -> None:
    bench.simulation.listen()
    first = bench.call()
    wait_for(lambda: len(bench.simulation.arm) > 3)
    for _ in range(2):  # the first refusal must not open the door for the next
        second = bench.call(SEED + 1)()
        assert (second.success, second.message) == (False, "another reset is under way")
    assert first().success
    assert bench.call(SEED + 1)().success


def test_an_armed_robot_is_not_moved(bench: Bench) -> None:
    bench.simulation.listen()
    bench.cell.armed = "the robot is armed"
    answer = bench.call()()
    assert (answer.success, answer.message) == (False, "the robot is armed")
    assert not bench.simulation.arm
    assert not bench.cell.request.exists()


def test_a_robot_that_is_armed_in_the_middle_is_left_alone(bench: Bench) -> None:
    bench.simulation.listen()
    answer = bench.call()
    wait_for(lambda: len(bench.simulation.arm) > 3)
    bench.cell.armed = "the robot is armed"
    assert answer().message == "the robot is armed"
    assert not bench.commanding()
    sent = np.array(bench.simulation.arm[-1].points[0].positions)
    assert np.abs(sent - CONTRACT.joints.home).max() > 0.01


def test_a_clock_that_stands_still_is_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (simulation_wait, scene_reset):
        monkeypatch.setattr(module, "STALL_TIMEOUT", 0.3)
    bench.simulation.listen()
    answer = bench.call()
    wait_for(lambda: len(bench.simulation.arm) > 3)
    bench.simulation.running = False
    assert answer().message == "the simulation's clock stood still for 0.3 s"
    assert not bench.commanding()


def test_controllers_that_do_not_listen_are_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulation_wait, "STEP_TIMEOUT", 0.2)
    assert bench.call()().message == "no controllers that listen within 0.2 s"


def test_gazebo_that_refuses_is_told(bench: Bench, tmp_path: Path) -> None:
    put_gz(tmp_path, "data: false")
    bench.simulation.listen()
    answer = bench.call()()
    assert not answer.success
    assert answer.message == "Gazebo did not move the objects: data: false"


def test_an_object_that_rolled_away_is_put_back(bench: Bench) -> None:
    bench.simulation.listen()
    put, looks = bench.cell.in_place, iter([False, False])
    bench.cell.in_place = lambda: next(looks, True) and put()  # type: ignore[method-assign]
    assert bench.call()().success
    assert next(looks, None) is None


def test_objects_that_never_rest_are_told(bench: Bench) -> None:
    bench.simulation.listen()
    bench.cell.in_place = lambda: False  # type: ignore[method-assign]
    assert bench.call()().message == "the objects do not rest where they were put"


def test_an_arm_that_does_not_follow_is_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulation_wait, "STEP_TIMEOUT", 0.3)
    bench.simulation.listen(follow=False)
    assert bench.call()().message == "no arm at home within 0.3 s"


def test_who_waits_is_told_when_the_node_is_deactivated(bench: Bench) -> None:
    wait = SimulationWait(bench.node)
    told: list[str] = []

    async def forever() -> None:
        try:
            await wait.until(lambda: False, "end")
        except SimulationError as error:
            told.append(str(error))

    executor = bench.node.executor
    assert executor is not None
    executor.create_task(forever)
    wait_for(lambda: bool(wait._waiting))
    executor.create_task(wait.close)
    wait_for(lambda: bool(told))
    assert told == ["the node was deactivated in the middle of it"]
    with pytest.raises(SimulationError, match="deactivated"):
        wait.next_tick()


class Gazebo(SlowSimulation):
    """Publishes the poses that the last `gz` call asked for, too, one message an object."""

    def __init__(self, link: RosLink, request: Path) -> None:
        reason = "the messages of ros_gz are not installed here"
        pytest.importorskip("ros_gz_interfaces.msg", reason=reason)
        self.message = pytest.importorskip("tf2_msgs.msg", reason=reason).TFMessage
        self.request = request
        self.poses = link.node.create_publisher(self.message, "/scene/poses", qos("joint_states"))
        super().__init__(link)

    def tick(self) -> None:
        super().tick()
        if not self.request.exists():
            return
        for name, position in asked_for(self.request).items():
            transform = TransformStamped(child_frame_id=name)
            place = transform.transform.translation
            place.x, place.y, place.z = map(float, position)
            self.poses.publish(self.message(transforms=[transform]))


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[GraphRunner, Gazebo]]:
    put_gz(tmp_path, "data: true")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    graph = load_graph()
    one = next(one for one in graph.nodes if one.name == "scene_node")
    one = replace(one, parameters={**one.parameters, "use_sim_time": True})
    runner = GraphRunner({"seed": 3}, graph=Graph(graph.arguments, (one,)), simulation="gazebo", folder=tmp_path)
    link = RosLink("gazebo", runner.domain)
    try:
        gazebo = Gazebo(link, tmp_path / "request")
        gazebo.listen()
        with runner:
            yield runner, gazebo
    finally:
        link.close()


def test_the_whole_node_resets_and_judges(node: tuple[GraphRunner, Gazebo]) -> None:
    runner, gazebo = node
    statuses: list[TaskStatus] = []
    runner.node.create_subscription(TaskStatus, "/vla/task_status", statuses.append, qos("status"))
    wait_for(lambda: bool(statuses))
    assert statuses[-1].instruction == lay_out(3).instruction

    client = runner.node.create_client(ResetScene, SERVICE)
    assert client.wait_for_service(DEADLINE)

    def ask(seed: int) -> Any:
        future = client.call_async(ResetScene.Request(seed=seed))
        wait_for(future.done)
        return future.result()

    assert "safety layer has not said" in ask(4).message
    safety = runner.node.create_publisher(SafetyStatus, "/vla/safety_status", qos("status"))
    safety.publish(SafetyStatus(state=SafetyStatus.RUN, armed=True))
    wait_for(lambda: "the robot is armed" in ask(4).message)
    assert not gazebo.arm
    safety.publish(SafetyStatus(state=SafetyStatus.DISARMED))
    wait_for(lambda: (answer := ask(4)).success or "is armed" not in answer.message)
    answer = ask(5)
    assert answer.success, answer.message
    scene = lay_out(5)
    assert answer.instruction == scene.instruction
    for name, position in asked_for(gazebo.request).items():
        np.testing.assert_allclose(position, scene.poses[name][:3], atol=1e-6)
    wait_for(lambda: statuses[-1].instruction == scene.instruction)
    assert not statuses[-1].success
