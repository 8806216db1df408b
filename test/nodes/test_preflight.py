"""The preflight against topics that are there, that are not, and that are somewhere else."""

import copy
import os
import subprocess
import sys
import threading
import time
from collections import Counter

import numpy as np
import pytest
import yaml
from builtin_interfaces.msg import Time
from rcl_interfaces.srv import GetParameters
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.task import Future
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image, JointState
from trajectory_msgs.msg import JointTrajectory

from vla_ros.bringup.runner import RosLink, graph_environment
from vla_ros.nodes.preflight import FIRST_WORD
from vla_ros.robot.contract import load_contract
from vla_ros.robot.kinematics import Kinematics
from vla_ros.ros.dds.domains import free_domain
from vla_ros.ros.messages.conversions import array_to_compressed_image, array_to_image, robot_state_to_joint_state
from vla_ros.ros.qos import qos
from vla_ros.types import RobotState

PANDA = load_contract("panda")
LIMIT = 4.0


def scene(size=(240, 320)):
    """An image of patches: what is uniform, or noise, is no image of a scene."""
    rng = np.random.default_rng(0)
    return np.kron(rng.integers(0, 255, (size[0] // 8, size[1] // 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)


class Robot:
    """Cameras, joint states and controllers of a Panda at home, under a prefix; `without` leaves topics out.

    `change(topic, message)` is what is published in place of a message, `rate` the images a second.
    """

    def __init__(self, node, prefix="", without=(), size=(240, 320), image=None, change=None, rate=10.0):
        self.change, home = change or (lambda topic, message: message), PANDA.joints.home
        state = RobotState(home, np.zeros(7), 0.08, Kinematics(PANDA).forward(home), 1.0)
        self.node, self.made = node, []
        controllers = PANDA.controllers
        if controllers.joint_states_topic not in without:
            self.speak(JointState, prefix + controllers.joint_states_topic, robot_state_to_joint_state(state, PANDA))
        for camera in PANDA.cameras:
            if camera.topic not in without:
                shown = array_to_image(scene(size) if image is None else image, 1.0, camera.frame)
                self.speak(Image, prefix + camera.topic, shown, 1.0 / rate)
        for topic in (controllers.arm_topic, controllers.gripper_topic):
            if topic not in without:
                listener = node.create_subscription(JointTrajectory, prefix + topic, lambda m: None, qos("arm_command"))
                self.made.append((node.destroy_subscription, listener))

    def speak(self, kind, topic, message, period=0.05):
        publisher = self.node.create_publisher(kind, topic, qos("camera_out"))
        self.made.append((self.node.destroy_publisher, publisher))

        def publish():
            message.header.stamp = self.node.get_clock().now().to_msg()
            publisher.publish(self.change(topic, copy.deepcopy(message)))

        self.made.append((self.node.destroy_timer, self.node.create_timer(period, publish)))

    def close(self):
        for destroy, thing in reversed(self.made):
            destroy(thing)


@pytest.fixture(scope="module")
def link():
    domain = free_domain()
    link = RosLink("preflight_test", domain)
    link.domain = domain
    yield link
    link.close()


def preflight(link, robot="panda", remap=(), timeout=LIMIT, parameters=()):
    command = [
        sys.executable,
        "-m",
        "vla_ros.nodes.preflight",
        "--ros-args",
        "-p",
        f"robot:={robot}",
        "-p",
        f"timeout:={timeout}",
    ]
    for rule in remap:
        command += ["-r", rule]
    for parameter in parameters:
        command += ["-p", parameter]
    began = time.monotonic()
    environment = {**os.environ, **graph_environment(link.domain)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout + done.stderr, time.monotonic() - began


@pytest.fixture
def robot(link):
    made = []

    def make(**options):
        made.append(Robot(link.node, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_a_robot_that_is_complete_passes(link, robot):
    robot()
    code, said, _ = preflight(link, timeout=20.0)
    assert code == 0, said


@pytest.mark.parametrize(
    "topic",
    [
        PANDA.camera("wrist").topic,
        PANDA.controllers.joint_states_topic,
        PANDA.controllers.arm_topic,
        PANDA.controllers.gripper_topic,
    ],
)
def test_what_is_missing_is_named_and_nothing_else(link, robot, topic):
    robot(without=(topic,))
    code, said, _ = preflight(link)
    assert code == 1
    lines = [line for line in said.splitlines() if "FATAL" in line]
    assert len(lines) == 1, said
    assert topic in lines[0]


CONTROLLER = {
    "allow_nonzero_velocity_at_trajectory_end": True,
    "interpolate_from_desired_state": True,
    "allow_trajectory_replacement": False,
    "cmd_timeout": 0.2,
    "constraints.goal_time": 0.0,
    "joints": list(PANDA.joints.names),
}


@pytest.mark.parametrize(
    ("setting", "value", "says"),
    [
        ("cmd_timeout", 0.3, ""),
        ("cmd_timeout", 0.0, "cmd_timeout is 0.0 s, which is never"),
        (
            "constraints.goal_time",
            0.2,
            "cmd_timeout is 0.2 s, which is never: expected more than constraints.goal_time (0.2 s)",
        ),
        ("allow_nonzero_velocity_at_trajectory_end", False, "allow_nonzero_velocity_at_trajectory_end is false"),
        ("interpolate_from_desired_state", False, "interpolate_from_desired_state is false"),
        ("allow_trajectory_replacement", True, "allow_trajectory_replacement is true"),
        ("joints", ["panda_joint1"], "joints are ['panda_joint1'], the contract says ['panda_joint1', 'panda_joint2'"),
    ],
)
def test_a_trajectory_controller_that_would_not_follow_or_not_stop_is_refused(link, robot, setting, value, says):
    robot(without=(PANDA.controllers.arm_topic,))
    controller = RosLink("arm_controller", link.domain)
    for name, usual in CONTROLLER.items():
        controller.node.declare_parameter(name, value if name == setting else usual)
    topic = PANDA.controllers.arm_topic
    controller.node.create_subscription(JointTrajectory, topic, lambda m: None, qos("arm_command"))
    code, said, _ = preflight(link, timeout=LIMIT if says else 20.0)
    controller.close()
    assert code == (1 if says else 0), said
    assert f"/arm_controller: {says}" in said or not says


def test_a_controller_that_does_not_answer_what_its_parameters_are_is_named(link, robot):
    robot(without=(PANDA.controllers.arm_topic,))
    controller = RosLink("arm_controller", link.domain)
    topic = PANDA.controllers.arm_topic
    controller.node.create_subscription(JointTrajectory, topic, lambda m: None, qos("arm_command"))
    end = threading.Event()
    controller.node.create_timer(0.01, lambda: end.wait(60.0))  # its thread has no time for questions
    code, said, _ = preflight(link)
    end.set()
    controller.close()
    assert code == 1
    assert "/arm_controller does not say what its parameters are" in said


class Forgetful:
    """A controller whose first reply about each parameter is lost on the way, as a busy middleware loses one."""

    def __init__(self, domain):
        self.link = RosLink("somebody", domain)
        self.node = Node(
            "arm_controller", context=self.link.node.context, use_global_arguments=False, start_parameter_services=False
        )
        self.asked = Counter()
        group = ReentrantCallbackGroup()
        self.node.create_service(GetParameters, "~/get_parameters", self.answer, callback_group=group)
        topic = PANDA.controllers.arm_topic
        self.node.create_subscription(JointTrajectory, topic, lambda m: None, qos("arm_command"))
        self.link._executor.add_node(self.node)

    async def answer(self, request, response):
        (name,) = request.names
        self.asked[name] += 1
        if self.asked[name] == 1:
            await Future()
        response.values = [Parameter(name, value=CONTROLLER[name]).to_parameter_msg().value]
        return response

    def close(self):
        self.link.close()
        self.node.destroy_node()


def test_a_reply_that_is_lost_is_asked_for_again(link, robot):
    robot(without=(PANDA.controllers.arm_topic,))
    controller = Forgetful(link.domain)
    code, said, _ = preflight(link, timeout=20.0)
    controller.close()
    assert code == 0, said
    assert set(controller.asked) == set(CONTROLLER)
    assert min(controller.asked.values()) > 1


def test_two_clocks_are_named(link, robot):
    robot()
    publishers = [RosLink(name, link.domain) for name in ("sim_left", "sim_right")]
    made = [one.node.create_publisher(Clock, "/clock", qos("clock")) for one in publishers]
    for one, publisher in zip(publishers, made, strict=True):
        one.node.create_timer(0.05, lambda publisher=publisher: publisher.publish(Clock()))
    code, said, _ = preflight(link, parameters=("use_sim_time:=true",))
    for one in publishers:
        one.close()
    assert code == 1
    assert "/clock is published by /sim_left and /sim_right" in said


@pytest.mark.parametrize(
    ("parameter", "says"), [("timeout:=0.0", "expected more than 0"), ("timeout:=9000.0", "600"), ("timeout:=no", "s")]
)
def test_a_wrong_parameter_is_one_sentence(link, parameter, says):
    code, said, _ = preflight(link, parameters=(parameter,))
    assert code == 1
    assert "timeout" in said
    assert says in said
    assert "Traceback" not in said


def test_a_wrong_namespace_is_told_by_where_the_topics_are(link, robot):
    robot(prefix="/left")
    code, said, _ = preflight(link)
    assert code == 1
    assert "/left/joint_states: is the namespace right?" in said


@pytest.mark.parametrize("name", ["rosbag2_recorder", "_ros2cli_17"])
def test_who_only_looks_on_is_no_controller(link, robot, name):
    robot(without=(PANDA.controllers.arm_topic,))
    looker = RosLink(name, link.domain)
    looker.node.create_subscription(JointTrajectory, PANDA.controllers.arm_topic, lambda m: None, qos("arm_command"))
    code, said, _ = preflight(link)
    looker.close()
    assert code == 1
    assert f"no controller listens to {PANDA.controllers.arm_topic}" in said


def test_what_is_missing_is_said_before_the_time_is_up(link, robot):
    robot(without=(PANDA.camera("wrist").topic,))
    code, said, _ = preflight(link, timeout=2 * FIRST_WORD)
    assert code == 1
    lines = [line for line in said.splitlines() if PANDA.camera("wrist").topic in line]
    assert ["WARN" in line for line in lines] == [True, False], said
    assert "still waiting" in lines[0]


def test_a_topic_of_the_contract_is_not_offered_in_place_of_another(link, robot):
    robot(without=(PANDA.camera("wrist").topic,))
    _, said, _ = preflight(link)
    assert PANDA.camera("front").topic not in said


def test_images_of_another_size_are_refused(link, robot):
    robot(size=(480, 640))
    code, said, _ = preflight(link)
    assert code == 1
    assert "640 x 480" in said
    assert "320 x 240" in said


def test_an_unknown_robot_is_named(link):
    code, said, _ = preflight(link, robot="robbie")
    assert code == 1
    assert "no robot contract 'robbie'" in said


FRONT, STATES = PANDA.camera("front").topic, PANDA.controllers.joint_states_topic


def only(topic, change):
    """Return what changes the messages of one topic."""
    return lambda name, message: change(message) if name == topic else message


def setting(path, value):
    """Return what sets a field of a message, "header.frame_id"."""

    def change(message):
        *parents, last = path.split(".")
        place = message
        for name in parents:
            place = getattr(place, name)
        setattr(place, last, value)
        return message

    return change


def fatal(said):
    return [line for line in said.splitlines() if "FATAL" in line]


@pytest.mark.parametrize(
    ("topic", "change", "says"),
    [
        (FRONT, setting("header.frame_id", ""), "frame_id is empty, expected 'camera_front_optical'"),
        (FRONT, setting("header.frame_id", "camera_wrist_optical"), "that of camera wrist, expected"),
        (FRONT, setting("header.stamp", Time()), "no time stamp"),
        (FRONT, setting("encoding", "bayer_of_mars"), "encoding 'bayer_of_mars' is not known"),
        (STATES, setting("header.stamp", Time()), "joint states carry no time stamp"),
        (STATES, setting("position", [200.0] * 9), "are these degrees"),
    ],
)
def test_a_sensor_whose_messages_are_not_sound_is_named(link, robot, topic, change, says):
    robot(change=only(topic, change))
    code, said, _ = preflight(link)
    assert code == 1, said
    assert [topic in line and says in line for line in fatal(said)] == [True], said


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (np.zeros((240, 320, 3), np.uint8), "black"),
        (np.full((240, 320, 3), 128, np.uint8), "uniform"),
        (np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8), "noise"),
    ],
)
def test_an_image_of_no_scene_is_named(link, robot, image, says):
    robot(image=image)
    code, said, _ = preflight(link)
    assert code == 1
    assert [says in line for line in fatal(said)] == [True, True], said


def test_a_camera_that_is_sound_only_now_and_then_is_named(link, robot):
    count = iter(range(10**9))
    robot(change=only(FRONT, lambda m: m if next(count) % 5 else setting("header.frame_id", "other")(m)))
    code, said, _ = preflight(link)
    assert code == 1
    assert ["frame_id is 'other'" in line for line in fatal(said)] == [True], said


def test_another_type_under_the_name_is_named(link, robot):
    made = robot(without=(FRONT,))
    made.speak(CompressedImage, FRONT, CompressedImage(format="jpeg"))
    code, said, _ = preflight(link)
    assert code == 1
    expected = "is published as sensor_msgs/msg/CompressedImage by /preflight_test, expected sensor_msgs/msg/Image"
    assert [f"{FRONT} {expected}" in line for line in fatal(said)] == [True], said
    assert "write 'transport: compressed' for this camera" in said


def test_images_that_come_compressed_only_are_named(link, robot):
    made = robot(without=(FRONT,))
    made.speak(CompressedImage, f"{FRONT}/compressed", CompressedImage(format="jpeg"))
    code, said, _ = preflight(link)
    assert code == 1
    assert [f"only {FRONT}/compressed is published" in line for line in fatal(said)] == [True], said
    assert f"name that topic in the robot contract (topic: {FRONT}/compressed)" in said


def compressed_contract(folder, topic=f"{FRONT}/compressed", **lines):
    values = yaml.safe_load(PANDA.text)
    values["cameras"]["front"] |= {"topic": topic, **lines}
    path = folder / "compressed.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


@pytest.mark.parametrize("lines", [{}, {"topic": FRONT, "transport": "compressed"}], ids=["by its name", "by a line"])
def test_a_camera_that_the_contract_names_compressed_passes(link, robot, tmp_path, lines):
    made = robot(without=(FRONT,))
    path = compressed_contract(tmp_path, **lines)
    frame = PANDA.camera("front").frame
    made.speak(
        CompressedImage, lines.get("topic", f"{FRONT}/compressed"), array_to_compressed_image(scene(), 1.0, frame), 0.1
    )
    code, said, _ = preflight(link, path, timeout=20.0)
    assert code == 0, said


def test_compressed_images_are_tried_as_raw_ones_are(link, robot, tmp_path):
    made = robot(without=(FRONT,))
    shown = array_to_compressed_image(scene(), 1.0, PANDA.camera("front").frame)
    shown.data = shown.data[: len(shown.data) // 2]
    made.speak(CompressedImage, f"{FRONT}/compressed", shown, 0.1)
    code, said, _ = preflight(link, compressed_contract(tmp_path))
    assert code == 1
    assert ["is cut or damaged" in line for line in fatal(said)] == [True], said


def test_a_raw_topic_that_the_contract_takes_for_compressed_is_named(link, robot, tmp_path):
    robot()
    code, said, _ = preflight(link, compressed_contract(tmp_path, FRONT, transport="compressed"))
    assert code == 1
    assert ["write 'transport: raw' for this camera" in line for line in fatal(said)] == [True], said


def test_depth_for_a_color_camera_is_named(link, robot):
    depth = setting("encoding", "16UC1")
    robot(change=only(FRONT, lambda m: depth(m)))
    code, said, _ = preflight(link)
    assert code == 1
    assert ["'16UC1' may be depth, which is no camera image" in line for line in fatal(said)] == [True], said


def test_a_camera_that_is_far_too_slow_is_named(link, robot):
    robot(rate=3.0)
    code, said, _ = preflight(link, timeout=6.0)
    assert code == 1
    assert ["images a second come, the contract says 10" in line for line in fatal(said)] == [True, True], said


def part_of(message, names):
    kept = [i for i, name in enumerate(message.name) if name in names]
    for field in ("name", "position", "velocity"):
        setattr(message, field, [getattr(message, field)[i] for i in kept])
    return message


def test_joint_states_in_parts_are_named_with_both_publishers(link, robot):
    robot(change=only(STATES, lambda m: part_of(m, PANDA.joints.names)))
    driver = RosLink("gripper_driver", link.domain)
    topics = [camera.topic for camera in PANDA.cameras]
    commands = [PANDA.controllers.arm_topic, PANDA.controllers.gripper_topic]
    fingers = Robot(driver.node, without=(*topics, *commands), change=lambda _, m: part_of(m, PANDA.gripper.names))
    code, said, _ = preflight(link)
    fingers.close()
    driver.close()
    assert code == 1
    assert len(fatal(said)) == 1, said
    for word in ("/gripper_driver and /preflight_test", "panda_joint7", "panda_finger_joint1"):
        assert word in fatal(said)[0]


@pytest.fixture(scope="module")
def apart(tmp_path_factory):
    """A contract that has the arm and the gripper from two publishers."""
    line = "  joint_states_topic: /joint_states\n"
    assert PANDA.text.count(line) == 1
    sources = {"arm": (PANDA.joints.names, 0.2), "hand": (PANDA.gripper.names, 0.3)}
    rows = "".join(f"    {n}: {{joints: [{', '.join(j)}], max_age: {age}}}\n" for n, (j, age) in sources.items())
    path = tmp_path_factory.mktemp("apart") / "apart.yaml"
    path.write_text(PANDA.text.replace(line, f"{line}  joint_states_from:\n{rows}"), encoding="utf-8")
    return path


@pytest.mark.parametrize("there", [True, False])
def test_joint_states_in_parts_are_merged_where_the_contract_says_so(link, robot, apart, there):
    robot(change=only(STATES, lambda m: part_of(m, PANDA.joints.names)))
    driver = RosLink("gripper_driver", link.domain)
    topics = [camera.topic for camera in PANDA.cameras]
    commands = [PANDA.controllers.arm_topic, PANDA.controllers.gripper_topic]
    without = (*topics, *commands, *([] if there else [STATES]))
    fingers = Robot(driver.node, without=without, change=lambda _, m: part_of(m, PANDA.gripper.names))
    code, said, _ = preflight(link, robot=apart, timeout=20.0 if there else LIMIT)
    fingers.close()
    driver.close()
    assert code == (0 if there else 1), said
    assert ["source 'hand'" in line and "panda_finger_joint1" in line for line in fatal(said)] == [True] * (1 - there)


@pytest.mark.parametrize("velocity", [[], [float("nan")] * 9])
def test_missing_velocities_are_accepted_and_their_price_is_named(link, robot, velocity):
    robot(change=only(STATES, setting("velocity", velocity)))
    code, said, _ = preflight(link, timeout=20.0)
    assert code == 0, said
    assert (
        f"{STATES}: velocities of joints are missing or NaN: they are computed from positions, and lag behind by 25 ms"
        in said
    )


def test_stamps_that_never_meet_are_named(link, robot):
    def late(message):
        message.header.stamp.sec -= 60
        return message

    robot(change=only(FRONT, late))
    code, said, _ = preflight(link)
    assert code == 1
    assert ["make no observation" in line for line in fatal(said)] == [True], said


def test_a_controller_whose_quality_of_service_does_not_fit_is_named(link, robot):
    robot(without=(PANDA.controllers.arm_topic,))
    controller = RosLink("arm_controller", link.domain)
    profile = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    controller.node.create_subscription(JointTrajectory, PANDA.controllers.arm_topic, lambda m: None, profile)
    code, said, _ = preflight(link)
    controller.close()
    assert code == 1
    assert [f"/arm_controller does not receive {PANDA.controllers.arm_topic}" in line for line in fatal(said)] == [True]
