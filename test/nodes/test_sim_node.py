"""The simulated robot over real ROS topics, as a process of its own in a domain of its own."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from vla_ros.bringup.runner import GraphRunner, graph_environment
from vla_ros.envs.registry import make_env
from vla_ros.msg import ActionChunk, Instruction, PolicyStatus, TaskStatus
from vla_ros.robot.contract import load_contract
from vla_ros.ros.graph.description import Graph, Value, load_graph
from vla_ros.ros.messages.conversions import image_to_array, seconds_to_stamp, stamp_to_seconds
from vla_ros.ros.process import NodeProcess
from vla_ros.ros.qos import qos
from vla_ros.ros.transitions import ACTIVATE, CONFIGURE, DEACTIVATE, GraphError, LifecycleClient
from vla_ros.srv import ResetScene

DEADLINE = 60.0
CONTRACT = load_contract("panda")
ARM, FINGERS = CONTRACT.joints.names, CONTRACT.gripper.names


def sim_alone(folder: Path, **parameters: Value) -> GraphRunner:
    """The shipped graph, reduced to the simulator, with these parameters added."""
    graph = load_graph()
    node = next(node for node in graph.nodes if node.name == "sim_node")
    node = replace(node, parameters={**node.parameters, **parameters})
    return GraphRunner(graph=Graph(graph.arguments, (node,)), folder=folder)


def test_a_second_simulation_in_a_domain_is_refused_and_the_first_named(tmp_path: Path) -> None:
    with sim_alone(tmp_path / "first") as first:
        node = next(one for one in load_graph().resolve() if one.name == "sim_node")
        process = NodeProcess(replace(node, remappings={"__ns": "/right"}), graph_environment(first.domain), tmp_path)
        try:
            client = LifecycleClient(first.node)
            client.change("right/sim_node", CONFIGURE, DEADLINE)
            with pytest.raises(GraphError, match="right/sim_node: activate failed"):
                client.change("right/sim_node", ACTIVATE, DEADLINE)
            assert "/clock is published by /sim_node already: a domain has one clock" in process.last_lines()
            assert len(first.node.get_publishers_info_by_topic("/clock")) == 1
            client.change("sim_node", DEACTIVATE, DEADLINE)  # the first one's own clock is in nobody's way
            client.change("sim_node", ACTIVATE, DEADLINE)
        finally:
            process.end(time.monotonic() + 4.0)


class Listener:
    """Keeps the messages of some topics and lets a test wait for a condition on them."""

    def __init__(self, runner: GraphRunner) -> None:
        self.change = threading.Condition()
        self.messages: dict[str, list[Any]] = {}
        self.node = runner.node

    def listen(self, kind: type, topic: str, profile: str, react: Callable[[Any], None] = lambda _: None) -> list[Any]:
        kept = self.messages.setdefault(topic, [])

        def take(message: Any) -> None:
            react(message)
            with self.change:
                kept.append(message)
                self.change.notify_all()

        self.node.create_subscription(kind, topic, take, qos(profile))
        return kept

    def wait_for(self, condition: Callable[[], bool]) -> None:
        with self.change:
            assert self.change.wait_for(condition, DEADLINE), {k: len(v) for k, v in self.messages.items()}


def wait_for_match(publisher: Any, count: int = 1) -> None:
    end = time.monotonic() + DEADLINE
    while publisher.get_subscription_count() < count:
        assert time.monotonic() < end, f"nobody subscribes to {publisher.topic_name}"
        time.sleep(0.01)


def trajectory(names: tuple[str, ...], positions: Any, stamp: float = 0.0, duration: float = 0.01) -> JointTrajectory:
    message = JointTrajectory(joint_names=list(names))
    message.header.stamp = seconds_to_stamp(stamp)
    point = JointTrajectoryPoint(positions=[float(p) for p in positions])
    point.time_from_start.sec, point.time_from_start.nanosec = int(duration), round((duration % 1) * 1e9)
    message.points.append(point)
    return message


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GraphRunner]:
    with sim_alone(tmp_path_factory.mktemp("sim"), seed=3) as running:
        yield running


@pytest.fixture
def heard(runner: GraphRunner) -> Listener:
    return Listener(runner)


def test_joint_states_name_arm_and_fingers_and_time_rises_by_one_period(heard: Listener) -> None:
    states = heard.listen(JointState, CONTRACT.controllers.joint_states_topic, "joint_states")
    heard.wait_for(lambda: len(states) >= 30)
    first = states[0]
    assert list(first.name) == [*ARM, *FINGERS]
    assert len(first.velocity) == len(first.name)
    opening = sum(first.position[7:])
    assert 0.0 <= opening <= CONTRACT.gripper.max_opening + 1e-3
    assert first.position[7] == pytest.approx(opening / 2)
    stamps = np.array([stamp_to_seconds(s.header.stamp) for s in states])
    np.testing.assert_allclose(np.diff(stamps), 0.01, atol=1e-8)


def test_the_clock_and_the_robot_description_are_there(heard: Listener) -> None:
    clock = heard.listen(Clock, "/clock", "clock")
    description = heard.listen(String, "/robot_description", "robot_description")
    heard.wait_for(lambda: len(clock) >= 2 and len(description) >= 1)
    assert stamp_to_seconds(clock[-1].clock) > stamp_to_seconds(clock[0].clock) > 0.0
    described = ElementTree.fromstring(CONTRACT.urdf.read_text(encoding="utf-8"))
    links = {link.get("name") for link in described.iter("link")} | {CONTRACT.camera("front").frame}
    assert {link.get("name") for link in ElementTree.fromstring(description[0].data).iter("link")} == links


@pytest.mark.parametrize("camera", [camera.name for camera in CONTRACT.cameras])
def test_cameras_show_the_scene_with_their_calibration(heard: Listener, camera: str) -> None:
    contract = CONTRACT.camera(camera)
    images = heard.listen(Image, contract.topic, "camera")
    infos = heard.listen(CameraInfo, contract.info_topic, "camera_info")
    heard.wait_for(lambda: len(images) >= 3 and len(infos) >= 3)
    picture = image_to_array(images[-1])
    assert picture.shape == (contract.height, contract.width, 3)
    assert picture.std() > 10.0  # not one colour
    assert images[-1].header.frame_id == contract.frame
    assert (infos[-1].height, infos[-1].width) == (contract.height, contract.width)
    stamps = {stamp_to_seconds(info.header.stamp) for info in infos}
    assert stamps & {stamp_to_seconds(image.header.stamp) for image in images}
    cell = make_env("pick", CONTRACT)
    np.testing.assert_allclose(np.array(infos[-1].k).reshape(3, 3), cell.camera_matrix(camera))
    np.testing.assert_allclose(np.array(infos[-1].p).reshape(3, 4)[:, :3], cell.camera_matrix(camera))


def test_a_picture_is_bright_where_the_scene_says_the_object_is(runner: GraphRunner, heard: Listener) -> None:
    reset(runner, 3, "pick up the red cube")
    contract = CONTRACT.camera("front")
    images = heard.listen(Image, contract.topic, "camera")
    heard.wait_for(lambda: len(images) >= 4)
    cell = make_env("pick", CONTRACT)
    cell.reset(3, "pick up the red cube")
    cube = next(item for item in cell.objects if item.name == "red cube")
    u, v = cell.project("front", cell.thing_position(cube.pair))
    red, green, blue = image_to_array(images[-1])[round(v), round(u)].astype(int)
    assert red > 80
    assert red > 2 * max(green, blue)


def reset(runner: GraphRunner, seed: int, instruction: str = "") -> ResetScene.Response:
    client = runner.node.create_client(ResetScene, "/sim/reset_scene")
    assert client.wait_for_service(DEADLINE)
    done = threading.Event()
    future = client.call_async(ResetScene.Request(seed=seed, instruction=instruction))
    future.add_done_callback(lambda _: done.set())
    assert done.wait(DEADLINE)
    return future.result()


def test_the_reset_service_makes_the_same_scene_from_the_same_seed(runner: GraphRunner, heard: Listener) -> None:
    verdicts = heard.listen(TaskStatus, "/vla/task_status", "status")
    first = reset(runner, 12, "pick up the green cylinder")
    again = reset(runner, 12, "pick up the green cylinder")
    assert first.success
    assert first.instruction == "pick up the green cylinder"
    assert "green cylinder" in first.objects
    assert list(again.objects) == list(first.objects)
    heard.wait_for(lambda: bool(verdicts) and verdicts[-1].instruction == first.instruction)
    assert not verdicts[-1].success


def test_the_reset_service_refuses_what_the_cell_does_not_have(runner: GraphRunner) -> None:
    refused = reset(runner, 12, "pick up the purple elephant")
    assert not refused.success
    assert "purple elephant" in refused.message


def test_the_judge_follows_the_task_topic(runner: GraphRunner, heard: Listener) -> None:
    names = reset(runner, 20).objects
    verdicts = heard.listen(TaskStatus, "/vla/task_status", "status")
    publisher = runner.node.create_publisher(Instruction, "/vla/task", qos("task"))
    wait_for_match(publisher)
    for sequence, name in enumerate(names, 1):
        publisher.publish(Instruction(sequence=sequence, kind=Instruction.TASK, text=f"pick up the {name}"))
        heard.wait_for(lambda: bool(verdicts) and verdicts[-1].instruction == f"pick up the {name}")  # noqa: B023
    publisher.publish(Instruction(sequence=9, kind=Instruction.STOP, text="stop"))
    runner.node.destroy_publisher(publisher)


def test_commands_move_arm_and_gripper_and_silence_holds(runner: GraphRunner, heard: Listener) -> None:
    reset(runner, 3)
    states = heard.listen(JointState, CONTRACT.controllers.joint_states_topic, "joint_states")
    heard.wait_for(lambda: len(states) >= 5)
    arm = runner.node.create_publisher(JointTrajectory, CONTRACT.controllers.arm_topic, qos("arm_command"))
    gripper = runner.node.create_publisher(JointTrajectory, CONTRACT.controllers.gripper_topic, qos("gripper_command"))
    wait_for_match(arm)
    wait_for_match(gripper)
    goal = np.array(states[-1].position[:7]) + 0.05
    arm.publish(trajectory(tuple(reversed(ARM)), reversed(goal), duration=0.15))
    gripper.publish(trajectory(FINGERS, [0.015, 0.015], duration=0.15))

    def arrived() -> bool:
        last = states[-1]
        near = np.abs(np.array(last.position[:7]) - goal).max() < 2e-3 and abs(sum(last.position[7:]) - 0.03) < 2e-3
        return near and np.abs(last.velocity).max() < 5e-3

    heard.wait_for(arrived)
    arm.publish(trajectory(ARM, [np.nan] * 7))
    count = len(states)
    heard.wait_for(lambda: len(states) >= count + 30)
    assert arrived()
    for publisher in (arm, gripper):
        runner.node.destroy_publisher(publisher)


def test_deactivated_it_is_silent(tmp_path: Path) -> None:
    with sim_alone(tmp_path) as runner:
        heard = Listener(runner)
        states = heard.listen(JointState, CONTRACT.controllers.joint_states_topic, "joint_states")
        heard.wait_for(lambda: len(states) >= 3)
        LifecycleClient(runner.node).change("sim_node", DEACTIVATE, DEADLINE)
        heard.wait_for(lambda: True)
        time.sleep(0.1)  # what was still on its way
        count = len(states)
        time.sleep(0.3)
        assert len(states) == count


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"robot": "nobody"}, "no robot contract 'nobody'"),
        ({"camera_width": 640}, "both sizes or none"),
        ({"instruction": "pick up the purple elephant"}, "purple elephant"),
    ],
)
def test_wrong_parameters_refuse_the_configuration_with_a_sentence(
    tmp_path: Path, parameters: dict[str, Value], sentence: str
) -> None:
    with pytest.raises(GraphError, match=sentence), sim_alone(tmp_path, **parameters):
        pass


class LockstepDriver:
    """Answers every joint state with a fixed motion, as the safety node does, and hashes all that passes by."""

    def __init__(self, runner: GraphRunner, ticks: int) -> None:
        self.ticks, self.done = ticks, threading.Event()
        self.parts: dict[tuple[int, str], bytes] = {}
        node, controllers = runner.node, CONTRACT.controllers
        self._arm = node.create_publisher(JointTrajectory, controllers.arm_topic, qos("arm_command"))
        self._gripper = node.create_publisher(JointTrajectory, controllers.gripper_topic, qos("gripper_command"))
        wait_for_match(self._arm)
        wait_for_match(self._gripper)
        for camera in CONTRACT.cameras:
            node.create_subscription(Image, camera.topic, lambda m, n=camera.name: self._see(n, m), qos("camera_out"))
        node.create_subscription(JointState, controllers.joint_states_topic, self._answer, qos("joint_states_out"))

    def _see(self, name: str, message: Image) -> None:
        self.parts[(self._tick(message.header.stamp), name)] = hashlib.sha256(message.data.tobytes()).digest()

    @staticmethod
    def _tick(stamp: Any) -> int:
        return round(stamp_to_seconds(stamp) / 0.01)

    def _answer(self, message: JointState) -> None:
        tick = self._tick(message.header.stamp)
        numbers = np.array([*message.position, *message.velocity])
        self.parts[(tick, "state")] = numbers.tobytes()
        if tick > self.ticks:
            self.done.set()
            return
        stamp = stamp_to_seconds(message.header.stamp)
        goal = CONTRACT.joints.home + 0.2 * np.sin(2.0 * stamp + np.arange(7))
        self.parts[(tick, "command")] = goal.tobytes()
        self._arm.publish(trajectory(ARM, goal, stamp))
        self._gripper.publish(trajectory(FINGERS, [0.01, 0.01], stamp, duration=0.2))

    def hash(self) -> str:
        whole = hashlib.sha256()
        for key in sorted(self.parts):
            whole.update(repr(key).encode() + self.parts[key])
        return whole.hexdigest()


def lockstep_run(folder: Path, seed: int) -> LockstepDriver:
    with sim_alone(folder, seed=seed, lockstep=True) as runner:
        driver = LockstepDriver(runner, ticks=60)
        assert driver.done.wait(DEADLINE)
        end = time.monotonic() + DEADLINE  # the frames of the last instant that has any travel on topics of their own
        while not {(51, "front"), (51, "wrist")} <= set(driver.parts):
            assert time.monotonic() < end, sorted(driver.parts)
            time.sleep(0.01)
    return driver


def test_in_lockstep_one_seed_repeats_bit_for_bit(tmp_path: Path) -> None:
    first, second, other = (lockstep_run(tmp_path / str(i), seed) for i, seed in enumerate((4, 4, 5)))
    assert set(first.parts) == set(second.parts)
    assert first.hash() == second.hash()
    assert first.hash() != other.hash()
    moved = np.frombuffer(first.parts[(61, "state")])[:7] - np.frombuffer(first.parts[(1, "state")])[:7]
    assert np.abs(moved).max() > 0.02


def test_in_lockstep_with_a_task_time_waits_for_the_chunk(tmp_path: Path) -> None:
    with sim_alone(tmp_path, seed=4, lockstep=True) as runner:
        tasks = runner.node.create_publisher(Instruction, "/vla/task", qos("task"))
        chunks = runner.node.create_publisher(ActionChunk, "/vla/action_chunk", qos("action_chunk"))
        wait_for_match(tasks)
        policy = runner.node.create_publisher(PolicyStatus, "/vla/policy_status", qos("status"))
        wait_for_match(chunks)
        wait_for_match(policy)
        name = reset(runner, 4).objects[0]
        tasks.publish(Instruction(sequence=1, kind=Instruction.TASK, text=f"pick up the {name}"))
        heard = Listener(runner)
        verdicts = heard.listen(TaskStatus, "/vla/task_status", "status")
        heard.wait_for(lambda: bool(verdicts) and verdicts[-1].instruction == f"pick up the {name}")
        states = heard.listen(JointState, CONTRACT.controllers.joint_states_topic, "joint_states_out")
        images = heard.listen(Image, CONTRACT.camera("front").topic, "camera_out")
        driver = LockstepDriver(runner, ticks=40)
        answered: set[int] = set()
        for count in range(1, 5):  # the first frames came before anyone listened: they are taken again
            heard.wait_for(lambda: {driver._tick(image.header.stamp) for image in images} > answered)  # noqa: B023
            newest = max(images, key=lambda image: stamp_to_seconds(image.header.stamp))
            time.sleep(0.05)  # the latency of the policy
            latest = max((driver._tick(state.header.stamp) for state in states), default=0)
            assert latest < driver._tick(newest.header.stamp) + 10  # the next frames are ten instants away
            answered |= {driver._tick(image.header.stamp) for image in images}
            chunks.publish(ActionChunk(observation_stamp=newest.header.stamp))
            policy.publish(PolicyStatus(inferences=count, state=PolicyStatus.RUNNING))
        assert driver.done.wait(DEADLINE)
