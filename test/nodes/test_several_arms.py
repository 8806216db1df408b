"""The nodes with a robot of two arms, over real topics: both are commanded, held and stopped together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from geometry_msgs.msg import TwistStamped
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from vla_ros.bringup.runner import GraphRunner, RosLink
from vla_ros.bringup.security_policy import rights_of_the_graph
from vla_ros.errors import ObservationError
from vla_ros.msg import ActionChunk as ChunkMessage
from vla_ros.msg import PolicyStatus, SafetyStatus
from vla_ros.nodes.safety.controller_outputs import Outputs
from vla_ros.nodes.safety.graph_watch import GraphWatch
from vla_ros.nodes.sim.homing import Homing
from vla_ros.robot.contract import ArmInterface, load_contract, parse_contract
from vla_ros.robot.kinematics import Kinematics
from vla_ros.ros.dds.domains import free_domain
from vla_ros.ros.graph.description import Graph, load_graph
from vla_ros.ros.messages.commands import commanded_point
from vla_ros.ros.messages.conversions import (
    chunk_to_message,
    message_to_observation,
    observation_to_message,
    robot_state_to_joint_state,
    seconds_to_stamp,
)
from vla_ros.ros.messages.interfaces import remappings, robot_topics
from vla_ros.ros.qos import qos
from vla_ros.ros.transitions import ACTIVATE, DEACTIVATE, LifecycleClient
from vla_ros.types import ActionChunk, Observation, RobotState

DEADLINE = 60.0
SHIPPED = load_contract("so101_pair")
OWN_DRIVERS = "".join(
    f"    {arm.name}: {{joints: [{', '.join((*arm.joints.names, *arm.gripper.names))}], max_age: 0.3}}\n"
    for arm in SHIPPED.arms
)
TEXT = SHIPPED.text.replace(
    "  joint_states_topic: /joint_states\n",
    f"  joint_states_topic: /joint_states\n  joint_states_from:\n{OWN_DRIVERS}",
)
PAIR = parse_contract(TEXT)
"""Each arm has a driver of its own, as on two buses."""

ARMS = {arm.name: arm for arm in PAIR.arms}
N = 5
ROLLS = (N - 1, 2 * N - 1)
"""The last joint of each arm turns freely at home."""


def part_of_state(message: JointState, arm: str) -> JointState:
    """Return what the driver of one arm says of a state."""
    names = (*ARMS[arm].joints.names, *ARMS[arm].gripper.names)
    chosen = [list(message.name).index(name) for name in names]
    part = JointState(header=message.header, name=list(names))
    part.position, part.velocity = [message.position[i] for i in chosen], [message.velocity[i] for i in chosen]
    return part


class Robot:
    """Two ideal arms that are where they were last told to be, a policy, an operator, and all that was heard."""

    def __init__(self, runner: GraphRunner) -> None:
        self.node, self.change = runner.node, threading.Condition()
        noise = np.random.default_rng().uniform(-1e-6, 1e-6, 2 * N)  # no two robots stand at home to the last bit
        self.q, self.openings = np.array(PAIR.joints.home) + noise, dict.fromkeys(ARMS, 0.09)
        self.stamp, self.sequence = 10.0, 0
        self.commands: dict[str, list[JointTrajectory]] = {arm: [] for arm in ARMS}
        self.grips: dict[str, list[JointTrajectory]] = {arm: [] for arm in ARMS}
        self.statuses: list[SafetyStatus] = []
        for name, arm in ARMS.items():
            self._listen(arm.controllers.arm_topic, partial(self._on_arm, name), "arm_command_out")
            self._listen(arm.controllers.gripper_topic, partial(self._on_gripper, name), "gripper_command")
        self.node.create_subscription(SafetyStatus, "/vla/safety_status", self._on_status, qos("status"))
        publish = self.node.create_publisher
        topic = PAIR.controllers.joint_states_topic
        self.states = {arm: publish(JointState, topic, qos("joint_states_out")) for arm in ARMS}
        self.silent: set[str] = set()  # arms whose drivers say nothing
        self.chunks = publish(ChunkMessage, "/vla/action_chunk", qos("action_chunk"))
        self.hearts = publish(PolicyStatus, "/vla/policy_status", qos("status"))
        self.button = publish(Bool, "/vla/estop", qos("estop"))
        self._arm = self.node.create_client(SetBool, "/vla/arm")
        self._reset = self.node.create_client(Trigger, "/vla/reset")
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._talk, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        self._thread.join()

    def _listen(self, topic: str, take: Callable[[JointTrajectory], None], profile: str) -> None:
        self.node.create_subscription(JointTrajectory, topic, take, qos(profile))

    def _talk(self) -> None:
        while not self._closing.wait(0.01):
            with self.change:
                self.stamp = round(self.stamp + 0.01, 6)
                openings = tuple(self.openings.values())
                state = RobotState.of_arms(self.q, np.zeros(2 * N), openings, self.stamp)
                self.change.notify_all()
            message = robot_state_to_joint_state(state, PAIR)
            for name in ARMS.keys() - self.silent:
                self.states[name].publish(part_of_state(message, name))
            self.hearts.publish(PolicyStatus(state=PolicyStatus.RUNNING, inferences=self.sequence))

    def _on_arm(self, name: str, message: JointTrajectory) -> None:
        with self.change:
            self.commands[name].append(message)
            self.q = self.q.copy()
            self.q[PAIR.joint_columns(name)] = commanded_point(message).positions
            self.change.notify_all()

    def _on_gripper(self, name: str, message: JointTrajectory) -> None:
        with self.change:
            self.grips[name].append(message)
            self.openings[name] = ARMS[name].gripper.opening(message.points[0].positions)
            self.change.notify_all()

    def _on_status(self, message: SafetyStatus) -> None:
        with self.change:
            self.statuses.append(message)
            self.change.notify_all()

    def wait(self, condition: Callable[[], bool], repeat: Callable[[], object] = lambda: None) -> None:
        end = time.monotonic() + DEADLINE
        while True:
            repeat()
            with self.change:
                if self.change.wait_for(condition, 0.1):
                    return
            assert time.monotonic() < end, self.statuses[-1:]

    @property
    def state(self) -> str:
        return self.statuses[-1].state_name if self.statuses else ""

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

    def chunk(self) -> ChunkMessage:
        """A plan that turns the last joint of each arm, 20 mrad a row, to opposite sides, and closes the right jaw."""
        actions = np.zeros((12, 12))
        with self.change:
            self.sequence += 1
            actions[:, :N], actions[:, N + 1 : -1] = self.q[:N], self.q[N:]
            stamp, sequence = self.stamp, self.sequence
        actions[:, N - 1] += 0.02 * np.arange(1, 13)
        actions[:, -2] -= 0.02 * np.arange(1, 13)
        actions[:, N] = 1.0
        return chunk_to_message(ActionChunk(actions, 0.1, stamp, PAIR.action.fingerprint, sequence=sequence))

    def run(self) -> None:
        """Arm both and move both."""
        self.wait(
            lambda: self.chunks.get_subscription_count() > 0 and self.states["right"].get_subscription_count() > 0
        )
        self.wait(lambda: bool(self.statuses) and self.statuses[-1].armed, lambda: self.arm())
        start = self.q.copy()
        self.wait(
            lambda: self.state == "RUN" and bool((np.abs(self.q - start)[list(ROLLS)] > 0.05).all()),
            lambda: self.chunks.publish(self.chunk()),
        )

    def resting(self) -> bool:
        """Whether both arms have been commanded to stand still for a while."""
        last = [messages[-10:] for messages in self.commands.values()]
        points = [commanded_point(message) for messages in last for message in messages]
        return all(len(messages) == 10 for messages in last) and not any(any(point.velocities) for point in points)


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory, keep_tested: Callable[[str], None]) -> Iterator[GraphRunner]:
    contract = tmp_path_factory.mktemp("contract") / "so101_pair.yaml"
    contract.write_text(TEXT, encoding="utf-8")
    keep_tested(str(contract))
    graph = load_graph()
    node = next(node for node in graph.nodes if node.name == "safety_node")
    node = replace(node, parameters={**node.parameters, "use_sim_time": False, "robot": str(contract)})
    with GraphRunner(graph=Graph(graph.arguments, (node,)), folder=tmp_path_factory.mktemp("pair")) as running:
        yield running


@pytest.fixture(scope="module")
def robot(runner: GraphRunner) -> Iterator[Robot]:
    robot = Robot(runner)
    yield robot
    robot.close()


@pytest.fixture
def moving(runner: GraphRunner, robot: Robot) -> Iterator[Robot]:
    """Two arms under way, before a safety node that was activated afresh."""
    lifecycle = LifecycleClient(runner.node)
    lifecycle.change("safety_node", DEACTIVATE, DEADLINE)
    lifecycle.change("safety_node", ACTIVATE, DEADLINE)
    robot.run()
    yield robot
    robot.silent.clear()
    robot.button.publish(Bool(data=False))
    robot.wait(lambda: robot.state == "DISARMED", lambda: (robot.reset(), robot.arm(False)))


def test_both_arms_and_grippers_follow_a_chunk(moving: Robot) -> None:
    for name, arm in ARMS.items():
        assert tuple(moving.commands[name][-1].joint_names) == arm.joints.names
        assert len(commanded_point(moving.commands[name][-1]).positions) == N
        assert tuple(moving.grips[name][-1].joint_names) == arm.gripper.names
    turned = moving.q - PAIR.joints.home
    assert turned[ROLLS[0]] > 0.05 and turned[ROLLS[1]] < -0.05
    assert np.abs(np.delete(turned, ROLLS)).max() < 1e-3
    moving.wait(lambda: moving.openings["right"] < 0.08, lambda: moving.chunks.publish(moving.chunk()))
    assert moving.openings["left"] == pytest.approx(0.09)
    status = moving.statuses[-1]
    assert {"left/x", "left/gripper", "right/x", "right/gripper", *PAIR.joints.names} == {
        axis for axis in status.axes if axis.endswith(("/x", "/gripper")) or axis in PAIR.joints.names
    }
    assert len(status.executed) == len(status.proposed) == len(status.axes)


def test_an_emergency_stop_stops_both(moving: Robot) -> None:
    moving.wait(lambda: moving.state == "ESTOP", lambda: moving.button.publish(Bool(data=True)))
    moving.wait(moving.resting)
    assert moving.state == "ESTOP" and not moving.statuses[-1].armed


def test_nonsense_for_one_arm_holds_both(moving: Robot) -> None:
    chunk = moving.chunk()
    chunk.actions[-2] = float("nan")  # of the right arm
    seen = len(moving.statuses)
    moving.wait(
        lambda: any(one.state_name == "HOLD" for one in moving.statuses[seen:]), lambda: moving.chunks.publish(chunk)
    )
    moving.wait(moving.resting)


def test_a_driver_that_falls_silent_holds_both(moving: Robot) -> None:
    moving.silent.add("right")
    moving.wait(lambda: moving.state == "HOLD", lambda: moving.chunks.publish(moving.chunk()))
    assert moving.statuses[-1].reason in ("state_source", "state_stale")
    moving.wait(moving.resting)


def test_a_policy_that_falls_silent_holds_both(moving: Robot) -> None:
    moving.wait(lambda: moving.state == "HOLD")
    moving.wait(moving.resting)


def test_a_controller_of_one_arm_that_is_not_there_forbids_to_arm() -> None:
    link = RosLink("pair_eyes", free_domain())
    try:
        left, right = (arm.controllers for arm in PAIR.arms)
        topics = (left.arm_topic, left.gripper_topic, right.arm_topic)
        for topic in topics:
            link.node.create_subscription(JointTrajectory, topic, lambda message: None, qos("arm_command"))
        watch, end = GraphWatch(link.node, PAIR), time.monotonic() + DEADLINE
        while any(topic in watch.unheard() for topic in topics):
            assert time.monotonic() < end
        assert right.gripper_topic in watch.unheard()
        for _ in range(2):  # one of this node's name might be its own
            link.node.create_publisher(JointTrajectory, right.gripper_topic, 1)
        while right.gripper_topic not in watch.other_commanders():
            assert time.monotonic() < end
    finally:
        link.close()


def test_an_arm_that_is_commanded_by_twists_gets_that_of_its_own_tool() -> None:
    def other(arm: Any) -> Any:
        topics = replace(arm.controllers, arm_interface=ArmInterface.TWIST, arm_topic="/servo/twist")
        return replace(arm, controllers=topics) if arm.name == "right" else arm

    mixed = replace(PAIR, each_arm=tuple(other(arm) for arm in PAIR.each_arm))
    q, v = np.array(PAIR.joints.home) + 0.1, np.linspace(-0.3, 0.4, 2 * N)
    point = JointTrajectoryPoint(positions=q.tolist(), velocities=v.tolist())
    message = JointTrajectory(joint_names=list(PAIR.joints.names), points=[point])
    link, heard, change = RosLink("pair_outputs", free_domain()), {}, threading.Condition()

    def take(name: str, came: Any) -> None:
        with change:
            heard[name] = came
            change.notify_all()

    outputs = Outputs(link.node, mixed)
    try:
        left = ARMS["left"].controllers.arm_topic
        link.node.create_subscription(JointTrajectory, left, partial(take, "left"), qos("arm_command"))
        link.node.create_subscription(TwistStamped, "/servo/twist", partial(take, "right"), qos("arm_command"))
        command, end = outputs.arm(), time.monotonic() + DEADLINE
        while len(heard) < 2:
            command(message)
            with change:
                change.wait_for(lambda: len(heard) == 2, 0.1)
            assert time.monotonic() < end
    finally:
        outputs.close()
        link.close()
    assert list(heard["left"].joint_names) == list(ARMS["left"].joints.names)
    assert list(heard["left"].points[0].velocities) == v[:N].tolist()
    linear = heard["right"].twist.linear
    expected = Kinematics(PAIR.led_by("right")).jacobian(q) @ v
    assert [linear.x, linear.y, linear.z] == pytest.approx(expected[:3].tolist(), abs=1e-9)


def test_the_way_home_is_commanded_to_both() -> None:
    link = RosLink("pair_homing", free_domain())
    heard: dict[str, JointTrajectory] = {}
    try:
        homing = Homing(link.node, PAIR, PAIR.joints.home + 0.2)
        assert not homing.connected
        for arm in PAIR.arms:
            for topic in (arm.controllers.arm_topic, arm.controllers.gripper_topic):
                take = partial(heard.__setitem__, topic)
                link.node.create_subscription(JointTrajectory, topic, take, qos("arm_command"))
        end = time.monotonic() + DEADLINE
        while len(heard) < 4 or not homing.connected:
            homing.step(1e3)
            assert time.monotonic() < end
            time.sleep(0.02)
        homing.close()
    finally:
        link.close()
    for arm in PAIR.arms:
        command, grip = heard[arm.controllers.arm_topic], heard[arm.controllers.gripper_topic]
        assert tuple(command.joint_names) == arm.joints.names
        assert list(command.points[0].positions) == pytest.approx(arm.joints.home.tolist())
        assert list(grip.points[0].positions) == pytest.approx([1.2])


def images() -> dict[str, Any]:
    return {c.name: np.zeros((c.policy_height, c.policy_width, 3), np.uint8) for c in PAIR.cameras}


def test_an_observation_has_the_openings_of_both_grippers() -> None:
    q, v = np.array(PAIR.joints.home) + 0.01, np.linspace(-0.1, 0.1, 2 * N)
    state = RobotState.of_arms(q, v, (0.02, 0.07), 3.5)
    message = observation_to_message(Observation(images(), state, None, 3.5, 8, 0.01), PAIR)
    assert tuple(message.joint_names) == (*PAIR.joints.names, "left_gripper", "right_gripper")
    assert np.isnan(message.gripper_opening) and np.isnan(message.end_effector.position.x)
    again = message_to_observation(message, PAIR).state
    assert again.joint_positions == pytest.approx(q) and again.joint_velocities == pytest.approx(v)
    assert again.gripper_openings == pytest.approx((0.02, 0.07)) and again.stamp == 3.5


@pytest.mark.parametrize("change", ["fewer joints", "NaN", "no fingers"])
def test_an_observation_of_other_arms_is_refused(change: str) -> None:
    state = RobotState.of_arms(np.array(PAIR.joints.home), np.zeros(2 * N), (0.02, 0.07), 3.5)
    message = observation_to_message(Observation(images(), state, None, 3.5), PAIR)
    if change == "NaN":
        message.joint_positions[-1] = float("nan")
    elif change == "no fingers":
        message.joint_names = message.joint_names[:-2]
    else:
        message.joint_positions = message.joint_positions[:-1]
    with pytest.raises(ObservationError):
        message_to_observation(message, PAIR)


def test_topics_of_both_arms_are_remapped_and_belong_to_the_safety_node_alone() -> None:
    wanted = [topic for arm in PAIR.arms for topic in (arm.controllers.arm_topic, arm.controllers.gripper_topic)]
    assert set(wanted) <= set(robot_topics(PAIR))
    assert {f"/cell{topic}" for topic in wanted} <= {to for _, to in remappings(PAIR, "cell")}
    publishers = {topic: [n for n, r in rights_of_the_graph(PAIR).items() if topic in r.publish] for topic in wanted}
    assert set(map(tuple, publishers.values())) == {("safety_node",)}


def test_a_state_as_a_message_names_the_fingers_of_both() -> None:
    state = RobotState.of_arms(np.array(PAIR.joints.home), np.zeros(2 * N), (0.0, 0.09), 2.0)
    message = robot_state_to_joint_state(state, PAIR)
    assert tuple(message.name) == (*PAIR.joints.names, "left_gripper", "right_gripper")
    assert list(message.position[-2:]) == pytest.approx([-0.17, 1.2])
    assert message.header.stamp == seconds_to_stamp(2.0)
