"""The perception node over real ROS topics, as a process of its own in a domain of its own.

A feeder plays two cameras and the robot's joints at 20 Hz; a test bends what it plays and watches what comes out.
"""

from __future__ import annotations

import array
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from sensor_msgs.msg import Image, JointState

from vla_ros.bringup.runner import GraphRunner, RosLink
from vla_ros.msg import Observation
from vla_ros.nodes.perception_node import IMAGES_WAITING, PerceptionNode
from vla_ros.perception.assembler import Assembler
from vla_ros.perception.geometry import resize_for_policy
from vla_ros.perception.health import CameraFault
from vla_ros.robot.contract import load_contract
from vla_ros.robot.kinematics import Kinematics
from vla_ros.robot.sections.camera import CameraHealthLimits
from vla_ros.ros.dds.domains import free_domain
from vla_ros.ros.graph.description import Graph, Value, load_graph
from vla_ros.ros.messages.conversions import (
    array_to_image,
    message_to_observation,
    robot_state_to_joint_state,
    seconds_to_stamp,
    stamp_to_seconds,
)
from vla_ros.ros.qos import qos
from vla_ros.ros.transitions import ACTIVATE, DEACTIVATE, GraphError, LifecycleClient
from vla_ros.types import RobotState

NAME = "perception_node"
DEADLINE = 60.0
WELL = ("healthy", "observing", "not active")
PERIOD = 0.05
CONTRACT = load_contract("panda")
CAMERAS = {camera.name: camera for camera in CONTRACT.cameras}
HOME = CONTRACT.joints.home
RNG = np.random.default_rng(0)
SCENES = [
    np.kron(
        RNG.integers(0, 255, (CAMERAS["front"].height // 8, CAMERAS["front"].width // 8, 3)), np.ones((8, 8, 1))
    ).astype(np.uint8)
    for _ in range(16)
]


def perception_alone(folder: Path, **parameters: Value) -> GraphRunner:
    """The shipped graph, reduced to the perception node."""
    graph = load_graph()
    node = next(node for node in graph.nodes if node.name == NAME)
    parameters = {**node.parameters, "use_sim_time": False, **parameters}
    return GraphRunner(graph=Graph(graph.arguments, (replace(node, parameters=parameters),)), folder=folder)


Bend = Callable[[str, Any], Any]
"""(camera name or "joints", message) to the message to send in its place, or None to send nothing."""


class Feeder:
    """Plays the robot, and keeps what the perception node says."""

    def __init__(self, runner: GraphRunner) -> None:
        self.runner, node = runner, runner.node
        self.change = threading.Condition()
        self.observations: list[Observation] = []
        self.reports: list[dict[str, DiagnosticStatus]] = []
        self.bend: Bend = lambda _, message: message
        self.arm_moves = False
        self.time, self.angle, self.sets, self.end = 100.0, 0.0, 0, False
        self.sent: dict[tuple[str, float], np.ndarray] = {}
        self.angles: dict[float, float] = {}
        self._kinematics = Kinematics(CONTRACT)
        node.create_subscription(Observation, "/vla/observation", self._take_observation, qos("observation"))
        node.create_subscription(DiagnosticArray, "/diagnostics", self._take_report, qos("diagnostics"))
        self._cameras = {n: node.create_publisher(Image, c.topic, qos("camera_out")) for n, c in CAMERAS.items()}
        topic = CONTRACT.controllers.joint_states_topic
        self._joints = node.create_publisher(JointState, topic, qos("joint_states_out"))
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self.end = True
        self._thread.join(timeout=DEADLINE)

    def _run(self) -> None:
        due = time.monotonic()
        while not self.end:
            self.play()
            due += PERIOD
            time.sleep(max(due - time.monotonic(), 0.0))

    def play(self) -> None:
        """Send one set: two joint states, the second at the time of the images."""
        with self.change:
            self.time = round(self.time + PERIOD, 6)
            stamp, self.sets, bend = self.time, self.sets + 1, self.bend
            halfway = 0.5 * self.angle
            self.angle = 0.3 * math.sin(0.15 * self.sets) if self.arm_moves else self.angle
            halfway += 0.5 * self.angle
        for at, angle in ((stamp - PERIOD / 2, halfway), (stamp, self.angle)):
            state = RobotState(HOME + angle, np.zeros(7), 0.05, self._kinematics.forward(HOME + angle), at)
            self.angles[at] = angle
            if (joints := bend("joints", robot_state_to_joint_state(state, CONTRACT))) is not None:
                self._joints.publish(joints)
        for place, (name, camera) in enumerate(CAMERAS.items()):
            scene = SCENES[(self.sets + place) % len(SCENES)]
            self.sent[name, stamp] = scene
            if (image := bend(name, array_to_image(scene, stamp, camera.frame))) is not None:
                self._cameras[name].publish(image)

    def _take_observation(self, message: Observation) -> None:
        with self.change:
            self.observations.append(message)
            self.change.notify_all()

    def _take_report(self, message: DiagnosticArray) -> None:
        with self.change:
            self.reports.append({status.name: status for status in message.status})
            self.change.notify_all()

    def wait_for(self, condition: Callable[[], Any]) -> Any:
        with self.change:
            assert self.change.wait_for(condition, DEADLINE), self.describe()
            return condition()

    def listeners(self) -> int:
        """How many subscriptions the node has among what the feeder plays."""
        return sum(publisher.get_subscription_count() for publisher in (*self._cameras.values(), self._joints))

    def describe(self) -> str:
        last = [f"{s.name}: {s.message}" for s in self.reports[-1].values()] if self.reports else "no report"
        return f"{len(self.observations)} observations; {last}\n{self.runner.process(NAME).last_lines()}"

    def wait_observations(self, count: int = 1) -> list[Observation]:
        """Return the next `count` observations."""
        before = len(self.observations)
        self.wait_for(lambda: len(self.observations) >= before + count)
        return self.observations[before:]

    def wait_report(self, **says: str) -> dict[str, DiagnosticStatus]:
        """Wait for a report from now on that says all this: of a camera by its name, of the node as `node`.

        What is well has the level OK, everything else ERROR.
        """
        before = len(self.reports)

        def fits(report: dict[str, DiagnosticStatus]) -> bool:
            for who, text in says.items():
                status = report.get(NAME if who == "node" else f"{NAME}: camera {who}")
                level = DiagnosticStatus.OK if text in WELL else DiagnosticStatus.ERROR
                if status is None or text not in status.message or status.level != level:
                    return False
            return True

        return self.wait_for(lambda: next((report for report in self.reports[before:] if fits(report)), None))

    def frozen_from(self, since: float) -> float:
        """Return the stamp of the last set that may pass where pictures freeze and the arm moves behind `since`.

        So many pictures in a row have to be the same, and the arm has to be so far from where it was in the second of
        them (the first may have been overtaken).
        """
        limits = CameraHealthLimits()
        stamps = [round(since + number * PERIOD, 6) for number in range(1, 200)]
        stamps = [at for at in stamps if at in self.angles]
        travel = [abs(self.angles[at] - self.angles[stamps[1]]) for at in stamps]
        first = next(i for i, way in enumerate(travel) if way > limits.frozen_travel and i > limits.frozen_after)
        return stamps[first]

    def wait_sets(self, count: int) -> None:
        before = self.sets
        end = time.monotonic() + DEADLINE
        while self.sets < before + count:
            assert time.monotonic() < end
            time.sleep(PERIOD / 4)

    @contextmanager
    def bent(self, bend: Bend, moves: bool = False) -> Iterator[float]:
        """Play something else for a while; gives the stamp of the last set before it."""
        with self.change:
            self.bend, self.arm_moves = bend, moves
            since = self.time
        yield since
        with self.change:
            self.bend, self.arm_moves = (lambda _, message: message), False


@pytest.fixture(scope="module")
def feeder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Feeder]:
    with perception_alone(tmp_path_factory.mktemp("perception")) as runner:
        feeder = Feeder(runner)
        feeder.wait_observations(3)
        yield feeder
        feeder.close()


def stamp(message: Observation) -> float:
    return stamp_to_seconds(message.header.stamp)


def test_an_observation_is_what_was_sent_at_its_stamp(feeder: Feeder) -> None:
    with feeder.bent(lambda _, message: message, moves=True):
        messages = feeder.wait_observations(10)
    for message in messages:
        observation = message_to_observation(message, CONTRACT)
        assert message.header.frame_id == CONTRACT.base_frame
        for name, image in zip(message.camera_names, message.images, strict=True):
            camera = CAMERAS[name]
            taken = stamp_to_seconds(image.header.stamp)
            assert image.header.frame_id == camera.frame
            expected = resize_for_policy(feeder.sent[name, taken], camera.policy_height, camera.policy_width)
            np.testing.assert_array_equal(observation.images[name], expected)
        assert observation.skew == 0.0
        tool = Kinematics(CONTRACT).forward(observation.state.joint_positions)
        np.testing.assert_allclose(observation.state.end_effector.position, tool.position, atol=1e-9)
        assert observation.state.gripper_opening == pytest.approx(0.05)
    stamps = [stamp(message) for message in messages]
    assert stamps == sorted(set(stamps))
    assert len({message.joint_positions[0] for message in messages}) > 5, "the arm moved"


SHIFT = {"front": -0.010, "wrist": -0.004}


def shifted(who: str, message: Any) -> Any:
    if who in SHIFT:
        message.header.stamp = seconds_to_stamp(stamp_to_seconds(message.header.stamp) + SHIFT[who])
    return message


def test_parts_of_different_times_keep_them_and_the_state_is_that_of_the_oldest_picture(feeder: Feeder) -> None:
    with feeder.bent(shifted, moves=True):
        messages = feeder.wait_observations(10)[5:]
    for message in messages:
        taken = {n: stamp_to_seconds(i.header.stamp) for n, i in zip(message.camera_names, message.images, strict=True)}
        assert stamp(message) == taken["front"]
        assert taken["wrist"] == pytest.approx(taken["front"] + 0.006, abs=1e-9)
        assert message.skew == pytest.approx(0.006, abs=1e-9)
        played = round(taken["front"] + 0.010, 6)
        before, after = feeder.angles[played - PERIOD / 2], feeder.angles[played]
        expected = before + (after - before) * 0.6  # 15 ms into the 25 ms between the two states
        assert message.joint_positions[0] - HOME[0] == pytest.approx(expected, abs=1e-6)
    assert len({message.joint_positions[0] for message in messages}) == len(messages), "the arm moved"


def test_numbers_rise_by_one(feeder: Feeder) -> None:
    feeder.wait_observations(5)
    numbers = [message.sequence for message in feeder.observations]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def changed(message: Image, **fields: Any) -> Image:
    for name, value in fields.items():
        setattr(message, name, value)
    return message


def filled(message: Image, value: int) -> Image:
    return changed(message, data=array.array("B", [value]) * len(message.data))


def frozen(message: Image) -> Image:
    stamp = message.header.stamp
    again = array_to_image(SCENES[0], 0.0, message.header.frame_id)
    again.header.stamp = stamp
    return again


def unstamped(message: Image) -> Image:
    message.header.stamp.sec = message.header.stamp.nanosec = 0
    return message


def swapped(message: Image) -> Image:
    message.header.frame_id = CAMERAS["front"].frame
    return message


BAD_CAMERA = {
    "black": (lambda m: filled(m, 0), "is black"),
    "another size": (
        lambda m: changed(m, height=m.height // 2, data=m.data[: len(m.data) // 2]),
        "320 x 120 px, expected 320 x 240",
    ),
    "cut off": (lambda m: changed(m, data=m.data[:-1]), "230399 bytes, expected 240 rows"),
    "of another camera": (swapped, "are the two cameras swapped"),
    "without a stamp": (unstamped, "no time stamp"),
    "silent": (lambda m: None, "stopped coming"),
    "frozen while the arm moves": (frozen, "stays the same while the arm moves"),
}


@pytest.mark.parametrize("fault", BAD_CAMERA)
def test_a_bad_camera_silences_the_observation_is_named_and_comes_back(feeder: Feeder, fault: str) -> None:
    bend_one, says = BAD_CAMERA[fault]
    feeder.wait_observations(2)
    before = feeder.observations[-1].sequence
    with feeder.bent(lambda who, m: bend_one(m) if who == "wrist" else m, moves="frozen" in fault) as since:
        feeder.wait_report(wrist=says, front="healthy", node="s: see camera wrist")
        until = feeder.time
    bad = feeder.frozen_from(since) if "frozen" in fault else since
    assert bad < until
    after = feeder.wait_observations(2)
    assert not [s for s in map(stamp, feeder.observations) if bad + PERIOD / 2 < s < until - PERIOD / 2]
    assert stamp(after[-1]) > until
    assert after[0].sequence > before
    assert says in feeder.runner.process(NAME).log_path.read_text(encoding="utf-8")
    feeder.wait_report(wrist="healthy", node="observing")


def without_a_joint(message: JointState) -> JointState:
    return JointState(
        header=message.header, name=message.name[1:], position=message.position[1:], velocity=message.velocity[1:]
    )


def poisoned(message: JointState) -> JointState:
    message.position[3] = math.nan
    return message


def in_degrees(message: JointState) -> JointState:
    message.position = array.array("d", np.degrees(message.position))
    return message


def late_clock(message: JointState) -> JointState:
    message.header.stamp.sec += 7
    return message


BAD_JOINTS = {
    "missing one": (without_a_joint, "lacks ['panda_joint1']"),
    "not a number": (poisoned, "not finite"),
    "in degrees": (in_degrees, "are these degrees"),
    "silent": (lambda m: None, "nearest joint state is"),
    "of another clock": (late_clock, "look at the clocks"),
}


@pytest.mark.parametrize("fault", BAD_JOINTS)
def test_bad_joint_states_silence_the_observation_are_named_and_come_back(feeder: Feeder, fault: str) -> None:
    bend_one, says = BAD_JOINTS[fault]
    feeder.wait_observations(2)
    with feeder.bent(lambda who, m: bend_one(m) if who == "joints" else m) as since:
        feeder.wait_report(node=says, wrist="healthy", front="healthy")
        until = feeder.time
    after = feeder.wait_observations(2)
    # a state from just before may still serve the first picture
    assert not [s for s in map(stamp, feeder.observations) if since + 2 * PERIOD < s < until - PERIOD / 2]
    assert stamp(after[-1]) > until
    feeder.wait_report(node="observing")


@pytest.mark.parametrize("velocity", [[], [math.nan]])
def test_missing_velocities_are_computed_from_positions(feeder: Feeder, velocity: list[float]) -> None:
    def without(who: str, message: Any) -> Any:
        if who == "joints":
            message.velocity = velocity * len(message.name)
        return message

    with feeder.bent(without):
        feeder.wait_observations(5)
        with feeder.change:
            feeder.arm_moves = True
        observations = feeder.wait_observations(20)[4:]  # it begins with a jump
        with feeder.change:
            feeder.arm_moves = False
    largest = max(max(abs(v) for v in one.joint_velocities) for one in observations)
    assert 0.3 < largest < 1.0  # 0.3 rad * 0.15 rad a set * 20 sets a second = 0.9 rad/s at most
    feeder.wait_report(node="observing")


def test_arm_and_gripper_of_two_drivers_are_observed_where_the_contract_says_so(tmp_path: Path) -> None:
    line, arm, fingers = "  joint_states_topic: /joint_states\n", CONTRACT.joints.names, CONTRACT.gripper.names
    assert CONTRACT.text.count(line) == 1
    rows = "".join(
        f"    {name}: {{joints: [{', '.join(joints)}], max_age: 0.5}}\n"
        for name, joints in (("arm", arm), ("hand", fingers))
    )
    text = CONTRACT.text.replace(line, f"{line}  joint_states_from:\n{rows}")
    (tmp_path / "apart.yaml").write_text(text, encoding="utf-8")
    with perception_alone(tmp_path, robot=str(tmp_path / "apart.yaml")) as runner:
        hand = runner.node.create_publisher(JointState, "/joint_states", qos("joint_states_out"))
        feeder = Feeder(runner)

        def part(message: JointState, names: tuple[str, ...]) -> JointState:
            places = [message.name.index(name) for name in names]
            made = JointState(header=message.header, name=list(names))
            made.position = [message.position[place] for place in places]
            made.velocity = [message.velocity[place] for place in places]
            return made

        def split(who: str, message: Any) -> Any:
            if who != "joints":
                return message
            hand.publish(part(message, fingers))
            return part(message, arm)

        try:
            with feeder.bent(split):
                observation = feeder.wait_observations(5)[-1]
                assert observation.gripper_opening == pytest.approx(0.05)
                np.testing.assert_allclose(observation.joint_positions, HOME, atol=1e-6)
            with feeder.bent(lambda who, message: part(message, arm) if who == "joints" else message):
                feeder.wait_report(node="source 'hand'")
        finally:
            feeder.close()


def test_a_still_scene_and_a_still_arm_are_no_alarm(feeder: Feeder) -> None:
    with feeder.bent(lambda who, m: m if who == "joints" else frozen(m)):
        reports = len(feeder.reports)
        feeder.wait_observations(40)
        feeder.wait_for(lambda: len(feeder.reports) > reports + 1)
        levels = [s.level for report in feeder.reports[reports:] for name, s in report.items() if NAME in name]
    assert levels
    assert set(levels) == {DiagnosticStatus.OK}


def test_rate_and_age_are_reported(feeder: Feeder) -> None:
    feeder.wait_observations(40)
    status = feeder.wait_report(front="healthy")[f"{NAME}: camera front"]
    values = {pair.key: pair.value for pair in status.values}
    assert 0.0 < float(values["rate_hz"]) < 2.0 / PERIOD
    assert 0.0 <= float(values["age_s"]) < DEADLINE
    assert int(values["images"]) > 40
    assert values["expected_hz"] == "10.0"


@pytest.mark.parametrize("jump", [-90.0, 3600.0])
def test_a_clock_that_jumps_is_followed(feeder: Feeder, jump: float) -> None:
    feeder.wait_observations(2)
    with feeder.change:
        before = feeder.time
        feeder.time += jump
    feeder.wait_for(lambda: abs(stamp(feeder.observations[-1]) - before) > abs(jump) / 2)
    feeder.wait_observations(3)
    with feeder.change:
        feeder.time = max(feeder.time, 100.0)


def test_a_flood_of_images_keeps_memory_flat_and_the_log_short(feeder: Feeder) -> None:
    process = feeder.runner.process(NAME)

    def resident() -> int:
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
        return int(status.split("VmRSS:")[1].split()[0]) * 1024

    def flood() -> None:
        with feeder.bent(lambda who, m: m if who == "joints" else filled(m, 0) if feeder.sets % 2 else m):
            for _ in range(150):
                feeder.play()
            feeder.wait_sets(2)

    flood()
    before, lines = resident(), len(process.log_path.read_text(encoding="utf-8").splitlines())
    began = time.monotonic()
    for _ in range(3):
        flood()
    grown = len(process.log_path.read_text(encoding="utf-8").splitlines()) - lines
    # three subjects, at most one line a second each
    assert grown <= 3 * (time.monotonic() - began + 1.0)
    assert resident() - before < 32 * 2**20
    feeder.wait_observations(2)


def test_an_inactive_node_is_silent_and_goes_on_counting_afterwards(feeder: Feeder) -> None:
    lifecycle = LifecycleClient(feeder.runner.node)
    lifecycle.change(NAME, DEACTIVATE, DEADLINE)
    last, since = feeder.observations[-1].sequence, feeder.time
    feeder.wait_report(node="not active")
    end = time.monotonic() + DEADLINE
    while feeder.listeners():
        assert time.monotonic() < end, "an inactive node still listens"
        time.sleep(0.01)
    feeder.wait_sets(5)
    until = feeder.time
    lifecycle.change(NAME, ACTIVATE, DEADLINE)
    after = feeder.wait_observations(1)
    assert not [s for s in map(stamp, feeder.observations) if since + PERIOD / 2 < s < until - PERIOD / 2]
    assert after[0].sequence >= last + 1


def test_a_worker_that_is_held_up_costs_old_images_and_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    arrived, release = threading.Event(), threading.Event()

    def hold_up(self: Assembler, *picture: object) -> CameraFault:
        arrived.set()
        release.wait(DEADLINE)
        return CameraFault.NONE

    monkeypatch.setattr(Assembler, "add_image", hold_up)
    link = RosLink("perception_test", free_domain())
    node = PerceptionNode(context=link.node.context, use_global_arguments=False)
    try:
        node.configure()
        node.activate()
        image = array_to_image(SCENES[0], 1.0, CAMERAS["front"].frame)
        node._take_image("front", image)
        assert arrived.wait(DEADLINE)
        for _ in range(50):
            node._take_image("front", image)
            node._take_joint_state(JointState())
        assert len(node._images["front"]) == IMAGES_WAITING
        assert node._overwritten["front"] == 50 - IMAGES_WAITING
        assert node._joint_states.maxlen is not None
    finally:
        release.set()
        node.deactivate()
        node.cleanup()
        node.destroy_node()
        link.close()


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"robot": "unheard_of"}, "no robot contract"),
        ({"skew_tolerance": -1.0}, "skew_tolerance.*expected 0.0 to 1.0"),
        ({"stale_after": math.nan}, "stale_after.*expected 0.0 to 5.0"),
    ],
)
def test_a_parameter_out_of_range_is_refused(tmp_path: Path, parameters: dict[str, Value], says: str) -> None:
    with pytest.raises(GraphError, match=says):
        perception_alone(tmp_path, **parameters).start()
