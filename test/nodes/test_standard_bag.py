"""A robot's own topics, recorded as `ros2 bag record` does, become steps: MCAP or sqlite3, packed, split, or named."""

from __future__ import annotations

import sqlite3
from dataclasses import replace

import cv2
import numpy as np
import pytest
import zstandard
from builtin_interfaces.msg import Duration
from geometry_msgs.msg import PoseStamped
from mcap.writer import Writer
from rclpy.serialization import serialize_message
from sensor_msgs.msg import CompressedImage, JointState
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from vla_ros.actions.decoding import decode
from vla_ros.actions.rotations import matrix_from_quaternion
from vla_ros.cli.recorded_data import open_line
from vla_ros.data.checking import CheckedReader
from vla_ros.data.errors import DamagedDataError, DataError, MissingColumnError
from vla_ros.recording.bag import BagReader
from vla_ros.robot.contract import ArmInterface, load_contract
from vla_ros.robot.kinematics import Kinematics
from vla_ros.ros.messages.conversions import array_to_image, pose_to_message, seconds_to_stamp
from vla_ros.training.configuration import DataSection, TrainingConfig
from vla_ros.training.datasets.recorded_data import open_recordings, recorded_dataset, recorded_lines
from vla_ros.training.datasets.recorded_fit import motion_limits
from vla_ros.training.loop_options import LoopOptions

CONTRACT = load_contract("panda")
KINEMATICS = Kinematics(CONTRACT)
BEGIN = 1_700_000_000.0
"""Stamps of the sensors, s."""
OFFSET = 3.5
"""The recorder's clock is so far ahead, s, as with simulated time."""
WORDS = "pick up the red cube"


def joints(time):
    return CONTRACT.joints.home + 0.15 * np.sin(1.2 * time + np.arange(7))


def opening(time):
    return 0.08 if time < 1.0 else 0.02


def picture(time, camera):
    blocks = np.random.default_rng([int(1000 * time), len(camera)]).integers(0, 255, (12, 16, 3), np.uint8)
    image = cv2.resize(blocks, (320, 240), interpolation=cv2.INTER_LINEAR)
    image[:20] = 30 + int(50 * time) % 200
    return image


def trajectory(names, begin, rows, *, stamped=False, times=(0.0, 0.2)):
    message = JointTrajectory(joint_names=list(names))
    if stamped:
        message.header.stamp = seconds_to_stamp(BEGIN + begin)
    for row, ahead in zip(rows, times, strict=True):
        duration = Duration(sec=int(ahead), nanosec=round(1e9 * (ahead % 1.0)))
        message.points.append(JointTrajectoryPoint(positions=[float(v) for v in row], time_from_start=duration))
    return message


def joint_state(time):
    fingers = CONTRACT.gripper.joint_positions(opening(time))
    names = [*CONTRACT.gripper.names, *reversed(CONTRACT.joints.names)]  # drivers order them as they like
    message = JointState(name=names, position=[*fingers, *reversed(joints(time).tolist())])
    message.header.stamp = seconds_to_stamp(BEGIN + time)
    return message


def compressed(time, camera):
    message = CompressedImage(format="png")
    message.header.stamp = seconds_to_stamp(BEGIN + time)
    message.header.frame_id = CONTRACT.camera(camera).frame
    message.data = cv2.imencode(".png", picture(time, camera)[..., ::-1])[1].tobytes()
    return message


def arm_command(time):
    rows = [joints(time), joints(time + 0.2)]
    return trajectory(CONTRACT.joints.names, time, rows)


def hand_command(time):
    rows = [CONTRACT.gripper.joint_positions(opening(time + 0.1))] * 2
    return trajectory(CONTRACT.gripper.names, time, rows, stamped=True)


def recording(seconds=2.0, *, front_compressed=False, words=WORDS, gripper=True, poses=False):
    """Return (topic, message, time) of a robot that moves: joints at 100 Hz, cameras at 30, commands at 20."""
    controllers, found = CONTRACT.controllers, []
    if words is not None:
        found.append(("/vla/instruction", String(data=words), 0.0))
    for index in range(int(100 * seconds)):
        found.append((controllers.joint_states_topic, joint_state(index / 100.0), index / 100.0))
    for index in range(int(30 * seconds)):
        time = index / 30.0
        for camera in CONTRACT.cameras:
            if front_compressed and camera.name == "front":
                found.append((camera.topic + "/compressed", compressed(time, "front"), time + 0.004))
            else:
                image = array_to_image(picture(time, camera.name), BEGIN + time, camera.frame)
                found.append((camera.topic, image, time + 0.004))
    for index in range(int(20 * seconds)):
        time = index / 20.0 + 0.01
        command = arm_command(time)
        if poses:
            command = PoseStamped(pose=pose_to_message(KINEMATICS.forward(joints(time + 0.1))))
            command.header.frame_id = CONTRACT.base_frame
        found.append((controllers.arm_topic, command, time))
        if gripper:
            found.append((controllers.gripper_topic, hand_command(time), time))
    return sorted(found, key=lambda item: item[2])


def type_of(message):
    return f"{type(message).__module__.split('.')[0]}/msg/{type(message).__name__}"


def write_mcap(path, messages):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        writer = Writer(file)
        writer.start(profile="ros2", library="test")
        channels = {}
        for topic, message, time in messages:
            if topic not in channels:
                schema = writer.register_schema(type_of(message), "ros2msg", b"")
                channels[topic] = writer.register_channel(topic, "cdr", schema)
            received = round((BEGIN + time + OFFSET) * 1e9)
            writer.add_message(channels[topic], received, serialize_message(message), received)
        writer.finish()
    return path


def write_sqlite(path, messages):
    path.parent.mkdir(parents=True, exist_ok=True)
    with sqlite3.connect(path) as base:
        base.execute(
            "CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT, type TEXT, serialization_format TEXT, "
            "offered_qos_profiles TEXT)"
        )
        base.execute("CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER, timestamp INTEGER, data BLOB)")
        numbers = {}
        for topic, message, time in messages:
            if topic not in numbers:
                numbers[topic] = len(numbers) + 1
                base.execute(
                    "INSERT INTO topics VALUES(?,?,?,?,?)", (numbers[topic], topic, type_of(message), "cdr", "")
                )
            received = round((BEGIN + time + OFFSET) * 1e9)
            base.execute(
                "INSERT INTO messages(topic_id, timestamp, data) VALUES(?,?,?)",
                (numbers[topic], received, serialize_message(message)),
            )
    base.close()
    return path


def check(reader, *, words=WORDS, first=0.0, least=18):
    """Compare the steps of the one episode with the motion that was recorded."""
    (episode,) = reader.episodes
    steps = list(CheckedReader(reader, motion_limits(CONTRACT)).read(episode))
    assert len(steps) >= least and [step.index for step in steps] == list(range(len(steps)))
    assert [step.last for step in steps] == [False] * (len(steps) - 1) + [True]
    assert {step.success for step in steps} == {None} and {step.instruction for step in steps} == {words}
    for step in steps[:-1]:
        time = first + step.timestamp
        place, target = KINEMATICS.forward(joints(time)), KINEMATICS.forward(joints(time + 0.1))
        np.testing.assert_allclose(step.proprioception[:7], joints(time), atol=1e-3)
        np.testing.assert_allclose(step.end_effector.position, place.position, atol=2e-3)
        plan = decode(step.action[None], step.convention, step.end_effector, 0.08)
        np.testing.assert_allclose(plan.positions[0], target.position, atol=6e-3)
        turned = matrix_from_quaternion(plan.quaternions[0]).T @ matrix_from_quaternion(target.quaternion)
        assert np.trace(turned) > 2.999
        if not 0.8 < time < 1.1:  # where the hand closes
            assert step.action[6] == pytest.approx(opening(time) / 0.08, abs=1e-6)
        assert set(step.images) == {"front", "wrist"}
    np.testing.assert_allclose(np.diff([step.timestamp for step in steps]), 0.1, atol=0.035)
    return steps


@pytest.mark.parametrize("ending", [".mcap", ".db3", ".mcap.zstd", ".db3.zstd"])
def test_recording_is_read_whatever_its_container(ending, tmp_path):
    plain = ending.removesuffix(".zstd")
    path = (write_mcap if plain == ".mcap" else write_sqlite)(tmp_path / f"bag/bag_0{plain}", recording())
    if ending.endswith(".zstd"):
        (tmp_path / f"bag/bag_0{ending}").write_bytes(zstandard.ZstdCompressor().compress(path.read_bytes()))
        path.unlink()
    check(BagReader(tmp_path / "bag", contract=CONTRACT))


@pytest.mark.parametrize("oddity", [{"front_compressed": True}, {"gripper": False}])
def test_recording_of_other_topics_is_read(oddity, tmp_path):
    write_mcap(tmp_path / "bag/a.mcap", recording(**oddity))
    check(BagReader(tmp_path / "bag", contract=CONTRACT))


def test_commands_may_be_poses(tmp_path):
    write_mcap(tmp_path / "bag/a.mcap", recording(poses=True))
    controllers = replace(CONTRACT.controllers, arm_interface=ArmInterface.POSE)
    reader = BagReader(tmp_path / "bag", contract=replace(CONTRACT, controllers=controllers))
    step = list(reader.read("a"))[5]
    plan = decode(step.action[None], step.convention, step.end_effector, 0.08)
    target = KINEMATICS.forward(joints(step.timestamp + 0.1))
    np.testing.assert_allclose(plan.positions[0], target.position, atol=0.02)


@pytest.mark.parametrize("write", [write_mcap, write_sqlite])
def test_messages_may_be_packed_one_by_one(write, tmp_path, monkeypatch):
    packed = zstandard.ZstdCompressor()
    monkeypatch.setitem(globals(), "serialize_message", lambda m, plain=serialize_message: packed.compress(plain(m)))
    write(tmp_path / f"bag/a{'.mcap' if write is write_mcap else '.db3'}", recording(1.0))
    monkeypatch.undo()
    check(BagReader(tmp_path / "bag", contract=CONTRACT), least=8)


def test_parts_of_a_split_recording_are_one_episode(tmp_path):
    whole = recording()
    for number, part in ((9, whole[:300]), (10, whole[300:])):
        write_mcap(tmp_path / f"bag/bag_{number}.mcap", part)
    assert BagReader(tmp_path / "bag", contract=CONTRACT).episodes == ["bag_9", "bag_10"]
    (tmp_path / "bag/metadata.yaml").write_text("rosbag2_bagfile_information: {}\n")
    reader = BagReader(tmp_path / "bag", contract=CONTRACT)
    assert reader.episodes == ["bag"]
    check(reader)


def test_recordings_below_a_folder_train_with_the_contract_of_the_robot(tmp_path):
    torch = pytest.importorskip("torch")
    for name in ("one", "two"):
        write_mcap(tmp_path / f"bags/{name}/{name}_0.mcap", recording(1.0))
        (tmp_path / f"bags/{name}/metadata.yaml").write_text("x: 1\n")
    data = DataSection(folders=(tmp_path / "bags",), cache=tmp_path / "cache")
    lines = recorded_lines(TrainingConfig(loop=LoopOptions(steps=1), model="unified", data=data))
    dataset = recorded_dataset(open_recordings(lines, CONTRACT, open_line), CONTRACT, data)
    assert dataset.episodes == 2 and dataset.count >= 16 and set(dataset.taught) == set(WORDS.split())
    assert torch.isfinite(dataset.rows([np.random.default_rng(0)], 0)[1].continuous).all()


def test_words_may_come_from_the_table(tmp_path):
    write_mcap(tmp_path / "bag/a.mcap", recording(1.0, words=None))
    steps = check(BagReader(tmp_path / "bag", contract=CONTRACT, instruction="wave"), words="wave", least=8)
    assert steps[0].task == "bag"
    assert next(BagReader(tmp_path / "bag", contract=CONTRACT).read("a")).instruction == ""


def test_topics_that_are_missing_are_named_with_those_that_are_there(tmp_path):
    write_mcap(tmp_path / "bag/a.mcap", [m for m in recording(0.5) if "wrist" not in m[0] and "arm" not in m[0]])
    with pytest.raises(MissingColumnError) as error:
        list(BagReader(tmp_path / "bag", contract=CONTRACT).read("a"))
    for words in (
        "/camera/wrist/image_raw (Image",
        "/arm_controller/joint_trajectory (JointTrajectory)",
        "/joint_states",
        "sensor_msgs/msg/Image",
        "(--robot)",
    ):
        assert words in str(error.value)
    with pytest.raises(MissingColumnError, match=r"do not carry a robot contract; give that of the robot \(--robot\)"):
        BagReader(tmp_path / "bag")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda m: m.points.clear(), "with 0 points"),
        (lambda m: m.points.pop() and m.points[0].positions.__setitem__(0, float("nan")), "that cannot be"),
        (lambda m: m.joint_names.__setitem__(0, "other"), "expected .'panda_joint1'"),
    ],
)
def test_commands_that_cannot_be_are_data_errors(change, says, tmp_path):
    messages = recording(0.5)
    for topic, message, _ in messages:
        if topic == CONTRACT.controllers.arm_topic:
            change(message)
    write_mcap(tmp_path / "bag/a.mcap", messages)
    with pytest.raises(DataError, match=says):
        list(CheckedReader(BagReader(tmp_path / "bag", contract=CONTRACT)).read("a"))


def test_files_that_are_damaged_are_named(tmp_path):
    path = write_mcap(tmp_path / "bag/a.mcap", recording(0.5))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DamagedDataError, match=r"a\.mcap"):
        BagReader(tmp_path / "bag", contract=CONTRACT)
    path.unlink()
    (tmp_path / "bag/a.db3").write_bytes(b"SQLite format 3\0" + b"x" * 4000)
    with pytest.raises(DamagedDataError, match=r"a\.db3 cannot be read"):
        list(BagReader(tmp_path / "bag", contract=CONTRACT).read("a"))
    (tmp_path / "bag/a.db3").unlink()
    (tmp_path / "bag/a.mcap.zstd").write_bytes(b"nothing")
    with pytest.raises(DamagedDataError, match=r"a\.mcap\.zstd cannot be unpacked"):
        list(BagReader(tmp_path / "bag", contract=CONTRACT).read("a"))


def test_commands_may_be_stamped_by_another_clock_than_the_sensors(tmp_path):
    """A simulated robot's sensors have a time of their own; commands carry that of the machine, which recorded them."""

    def by_the_machine(message, time):
        if isinstance(message, JointTrajectory):
            message.header.stamp = seconds_to_stamp(BEGIN + time + OFFSET)
        return message

    messages = [(topic, by_the_machine(message, time), time) for topic, message, time in recording()]
    check(BagReader(write_mcap(tmp_path / "bag/a.mcap", messages).parent, contract=CONTRACT))
