"""The transform tree over real ROS topics: of the simulated robot, and of the node that a robot without one gets."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pinocchio
import pytest

pytest.importorskip("tf2_msgs.msg", reason="the messages of TF are not installed here: make setup builds them")

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import TransformStamped
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from tf2_msgs.msg import TFMessage

from vla_ros.bringup.runner import GraphRunner
from vla_ros.robot.contract import load_contract
from vla_ros.robot.kinematics import Kinematics
from vla_ros.ros.graph.description import Graph, Value, load_graph
from vla_ros.ros.messages.conversions import robot_state_to_joint_state, stamp_to_seconds
from vla_ros.ros.messages.transforms import MAX_RATE
from vla_ros.ros.qos import qos
from vla_ros.ros.transitions import ACTIVATE, DEACTIVATE, LifecycleClient
from vla_ros.types import RobotState

DEADLINE = 60.0
CONTRACT = load_contract("panda")
KINEMATICS = Kinematics(CONTRACT)
TOOL, FRONT = CONTRACT.end_effector_frame, CONTRACT.camera("front").frame


def alone(name: str, folder: Path, **parameters: Value) -> GraphRunner:
    """The shipped graph, reduced to one node."""
    graph = load_graph()
    node = next(node for node in graph.nodes if node.name == name)
    node = replace(node, parameters={**node.parameters, **parameters}, simulation="", when={})
    return GraphRunner(graph=Graph(graph.arguments, (node,)), folder=folder)


class Listener:
    """Keeps the tree as a listener of tf2 does, and every message with its stamp."""

    def __init__(self, runner: GraphRunner) -> None:
        self.node, self.change = runner.node, threading.Condition()
        self.moving: list[TFMessage] = []
        self.fixed: dict[str, TransformStamped] = {}
        self.states: dict[float, JointState] = {}
        self.descriptions: list[str] = []
        self.said = ""
        make = self.node.create_subscription
        make(TFMessage, "/tf", self._keep(lambda m: self.moving.append(m)), qos("tf"))
        make(TFMessage, "/tf_static", self._keep(self._take_fixed), qos("tf_static"))
        make(JointState, CONTRACT.controllers.joint_states_topic, self._keep(self._take_state), qos("joint_states"))
        make(
            String,
            "/robot_description",
            self._keep(lambda m: self.descriptions.append(m.data)),
            qos("robot_description"),
        )
        make(DiagnosticArray, "/diagnostics", self._keep(self._take_report), qos("diagnostics"))

    def _keep(self, take: Callable[[Any], None]) -> Callable[[Any], None]:
        def receive(message: Any) -> None:
            with self.change:
                take(message)
                self.change.notify_all()

        return receive

    def _take_fixed(self, message: TFMessage) -> None:
        self.fixed |= {one.child_frame_id: one for one in message.transforms}

    def _take_state(self, message: JointState) -> None:
        self.states[stamp_to_seconds(message.header.stamp)] = message

    def _take_report(self, message: DiagnosticArray) -> None:
        self.said = " ".join(one.message for one in message.status)

    def wait_for(self, condition: Callable[[], Any]) -> None:
        with self.change:
            assert self.change.wait_for(condition, DEADLINE), (len(self.moving), list(self.fixed), self.said)

    def look_up(self, link: str, message: TFMessage) -> pinocchio.SE3:
        """Where a link is in the base at the time of a message, along its parents."""
        tree = self.fixed | {one.child_frame_id: one for one in message.transforms}
        result = pinocchio.SE3.Identity()
        while link != CONTRACT.base_frame:
            one = tree[link]
            place, turn = one.transform.translation, one.transform.rotation
            rotation = pinocchio.Quaternion(turn.w, turn.x, turn.y, turn.z).toRotationMatrix()
            step = pinocchio.SE3(rotation, np.array([place.x, place.y, place.z]))
            result, link = step * result, one.header.frame_id
        return result


def stamps(messages: list[TFMessage]) -> list[float]:
    return [stamp_to_seconds(one.transforms[0].header.stamp) for one in messages]


def expected_tool(state: JointState) -> pinocchio.SE3:
    place = dict(zip(state.name, state.position, strict=True))
    return KINEMATICS.placement(np.array([place[name] for name in CONTRACT.joints.names]))


def test_the_simulation_shows_the_arm_and_its_cameras(tmp_path: Path) -> None:
    with alone("sim_node", tmp_path, tf="own") as runner:
        heard = Listener(runner)
        heard.wait_for(lambda: len(heard.moving) >= 20 and heard.fixed and heard.descriptions)
        heard.wait_for(lambda: stamps(heard.moving)[-1] in heard.states)
        with heard.change:
            message = heard.moving[-1]
            state = heard.states[stamps([message])[0]]
            times, fixed = np.array(stamps(heard.moving)), dict(heard.fixed)
        np.testing.assert_allclose(
            heard.look_up(TOOL, message).homogeneous, expected_tool(state).homogeneous, atol=1e-6
        )
        camera = CONTRACT.camera("front")
        told = heard.look_up(camera.frame, message)
        np.testing.assert_allclose(told.translation, camera.pose.xyz, atol=1e-6)
        np.testing.assert_allclose(told.rotation, pinocchio.rpy.rpyToMatrix(*camera.pose.rpy), atol=1e-6)
        assert told.rotation[2, 2] < 0.0  # z is forward (REP 103), and it looks down at the table
        assert CONTRACT.camera("wrist").frame in fixed
        assert {one.child_frame_id for one in message.transforms} == {
            *(f"panda_link{i}" for i in range(1, 8)),
            "panda_leftfinger",
            "panda_rightfinger",
        }
        assert (np.diff(times) >= 1.0 / MAX_RATE - 1e-6).all()
        assert f'name="{FRONT}"' in heard.descriptions[-1]


@pytest.mark.parametrize(("source", "describes"), [("none", True), ("robot_state_publisher", False)])
def test_the_simulation_leaves_the_tree_to_others(tmp_path: Path, source: str, describes: bool) -> None:
    with alone("sim_node", tmp_path, tf=source) as runner:
        heard = Listener(runner)
        heard.wait_for(lambda: len(heard.states) >= 300)
        assert not runner.node.get_publishers_info_by_topic("/tf")
        assert not runner.node.get_publishers_info_by_topic("/tf_static")
        assert bool(heard.descriptions) is describes


class Driver:
    """Reports the joints at 100 Hz, in another place each time; `bend` changes what it sends."""

    def __init__(self, runner: GraphRunner) -> None:
        topic = CONTRACT.controllers.joint_states_topic
        self._joints = runner.node.create_publisher(JointState, topic, qos("joint_states_out"))
        self.bend: Callable[[JointState], JointState] = lambda message: message
        self.sent: dict[float, JointState] = {}
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        count = 0
        while not self._end.wait(0.01):
            count += 1
            stamp, q = 100.0 + 0.01 * count, CONTRACT.joints.home + 0.2 * math.sin(0.02 * count)
            state = RobotState(q, np.zeros(7), 0.05, KINEMATICS.forward(q), stamp)
            message = self.bend(robot_state_to_joint_state(state, CONTRACT))
            self.sent[stamp_to_seconds(message.header.stamp)] = message
            self._joints.publish(message)

    def close(self) -> None:
        self._end.set()
        self._thread.join(timeout=DEADLINE)


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GraphRunner]:
    with alone("transform_node", tmp_path_factory.mktemp("tf"), use_sim_time=False) as running:
        yield running


@pytest.fixture(scope="module")
def robot(runner: GraphRunner) -> Iterator[Driver]:
    driver = Driver(runner)
    yield driver
    driver.close()


@pytest.fixture(scope="module")
def heard(runner: GraphRunner) -> Listener:
    return Listener(runner)


def not_a_number(message: JointState) -> JointState:
    message.position[2] = math.nan
    return message


def test_a_robot_is_shown_with_the_stamps_of_its_joints(heard: Listener, robot: Driver) -> None:
    heard.wait_for(lambda: len(heard.moving) >= 30 and heard.fixed and heard.descriptions)
    with heard.change:
        messages = list(heard.moving)
    for message in messages[::10]:
        state = robot.sent[stamps([message])[0]]
        np.testing.assert_allclose(
            heard.look_up(TOOL, message).homogeneous, expected_tool(state).homogeneous, atol=1e-6
        )
    assert (np.diff(stamps(messages)) >= 1.0 / MAX_RATE - 1e-6).all()  # the driver reports twice as often
    assert FRONT in heard.fixed


def test_of_joint_states_that_are_refused_nothing_is_shown(heard: Listener, robot: Driver) -> None:
    robot.bend = not_a_number
    with heard.change:
        first = max(robot.sent)
    heard.wait_for(lambda: heard.states and max(heard.states) > first + 1.0)
    robot.bend = lambda message: message
    heard.wait_for(lambda: heard.moving and stamps(heard.moving)[-1] > first + 1.2)
    refused = {stamp for stamp, state in robot.sent.items() if any(math.isnan(one) for one in state.position)}
    assert len(refused) >= 50
    assert not refused & set(stamps(heard.moving))
    for message in heard.moving:
        values = [one.transform.rotation.w for one in message.transforms]
        assert np.isfinite(values).all()


def test_who_joins_late_learns_of_the_links_that_do_not_move(runner: GraphRunner, heard: Listener) -> None:
    heard.wait_for(lambda: heard.fixed)
    late = Listener(runner)
    late.wait_for(lambda: {FRONT, TOOL} <= set(late.fixed))


def test_a_frame_never_has_two_publishers(runner: GraphRunner, heard: Listener, robot: Driver) -> None:
    heard.wait_for(lambda: heard.moving)
    foreign = runner.node.create_publisher(TFMessage, "/tf_static", qos("tf_static"))
    try:
        one = TransformStamped(child_frame_id="panda_link5")
        one.header.frame_id = "somewhere"
        foreign.publish(TFMessage(transforms=[one]))
        said = f"/tf_static has the frame 'panda_link5' already, from {runner.node.get_fully_qualified_name()}"
        heard.wait_for(lambda: said in heard.said)
        assert "tf:=none" in heard.said
        with heard.change:
            first = max(robot.sent)
        heard.wait_for(lambda: max(heard.states) > first + 1.0)
        assert stamps(heard.moving)[-1] < first + 0.5
        client = LifecycleClient(runner.node)  # it is there before the node is active: nothing is said at all
        client.change("transform_node", DEACTIVATE, DEADLINE)
        client.change("transform_node", ACTIVATE, DEADLINE)
        heard.wait_for(lambda: said in heard.said)
        assert stamps(heard.moving)[-1] < first + 0.5
    finally:
        runner.node.destroy_publisher(foreign)
    client.change("transform_node", DEACTIVATE, DEADLINE)
    client.change("transform_node", ACTIVATE, DEADLINE)
    began = time.monotonic()
    heard.wait_for(lambda: stamps(heard.moving)[-1] > max(robot.sent) - 0.5)
    assert time.monotonic() - began < DEADLINE
