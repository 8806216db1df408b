"""Recording over real DDS: a bag and the live topics give the same steps; an episode is kept whole or not at all."""

from __future__ import annotations

import errno
import threading
import time

import numpy as np
import pytest
from mcap_ros2.reader import read_ros2_messages
from rclpy.serialization import serialize_message

from vla_ros.bringup.runner import RosLink
from vla_ros.cli.recorded_data import open_line
from vla_ros.data.assembly import ended
from vla_ros.data.errors import DamagedDataError, DataError, DiskFullError, MissingColumnError
from vla_ros.data.lerobot.reader import LeRobotReader
from vla_ros.data.lerobot.writer import LeRobotWriter
from vla_ros.data.reader import EpisodeReader
from vla_ros.msg import ActionChunk, Instruction, Observation, PolicyStatus
from vla_ros.policies.keyboard import KeyboardPolicy
from vla_ros.recording import bag
from vla_ros.recording import recorder as recorder_module
from vla_ros.recording.bag import BagReader, BagWriter, description, feed, new_assembler
from vla_ros.recording.recorder import Recorder
from vla_ros.recording.teleoperation import Teleoperation
from vla_ros.robot.contract import load_contract
from vla_ros.robot.kinematics import Kinematics
from vla_ros.ros.dds.domains import free_domain
from vla_ros.ros.messages.conversions import chunk_to_message, instruction_to_message, observation_to_message
from vla_ros.ros.messages.definitions import message_definition
from vla_ros.ros.qos import qos
from vla_ros.training.configuration import DataSection, TrainingConfig
from vla_ros.training.datasets.recorded_data import open_recordings, recorded_dataset, recorded_lines
from vla_ros.training.loop_options import LoopOptions
from vla_ros.types import ActionChunk as ChunkType
from vla_ros.types import Instruction as InstructionType
from vla_ros.types import Observation as ObservationType
from vla_ros.types import RobotState

CONTRACT = load_contract("panda")
KINEMATICS = Kinematics(CONTRACT)
DEADLINE = 60.0
SIZES = {camera.name: (camera.policy_height, camera.policy_width) for camera in CONTRACT.cameras}


def wait_for(condition, what):
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, f"no {what}"
        time.sleep(0.005)


def observation(k):
    rng = np.random.default_rng(k)
    q = CONTRACT.joints.home + 0.01 * k
    state = RobotState(q, np.zeros(7), 0.04, KINEMATICS.forward(q), 50.0 + 0.1 * k)
    images = {name: rng.integers(0, 255, (*size, 3)).astype(np.uint8) for name, size in SIZES.items()}
    return ObservationType(images, state, None, 50.0 + 0.1 * k, k + 1)


def chunk(k):
    actions = np.random.default_rng(k).normal(size=(12, 7)) * 0.02
    actions[:, 6] = k % 2
    return ChunkType(actions, 0.1, 50.0 + 0.1 * k, CONTRACT.action.fingerprint, k + 1, 1, "test", 1.0, k + 1)


def messages(count):
    """The messages of an episode in order; chunk 3 is missing, as when a policy was too slow."""
    yield "/vla/task", instruction_to_message(InstructionType("pick up the red cube", 1, stamp=49.0))
    for k in range(count):
        yield "/vla/observation", observation_to_message(observation(k), CONTRACT)
        if k != 3:
            yield "/vla/action_chunk", chunk_to_message(chunk(k))


class Talker:
    """Publishes what a graph would, and sees that each message arrives before the next one is sent."""

    def __init__(self, node):
        kinds = {
            "/vla/task": (Instruction, "task"),
            "/vla/observation": (Observation, "observation"),
            "/vla/action_chunk": (ActionChunk, "action_chunk"),
        }
        self.publishers = {topic: node.create_publisher(kind, topic, qos(q)) for topic, (kind, q) in kinds.items()}

    def say(self, recorder, count):
        for topic, publisher in self.publishers.items():
            wait_for(lambda p=publisher: p.get_subscription_count() > 0, f"listener on {topic}")
        for topic, message in messages(count):
            before = recorder.received[topic]
            self.publishers[topic].publish(message)
            wait_for(lambda t=topic, b=before: recorder.received[t] > b, f"message on {topic}")


@pytest.fixture
def nodes():
    domain = free_domain()
    talker, listener = RosLink("talker", domain), RosLink("listener", domain)
    yield talker.node, listener.node
    listener.close()
    talker.close()


def same(found, wanted):
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        for name in ("instruction", "task", "episode", "index", "timestamp", "convention", "proprioception_names"):
            assert getattr(one, name) == getattr(other, name), name
        np.testing.assert_array_equal(one.action, other.action)
        np.testing.assert_array_equal(one.proprioception, other.proprioception)
        assert set(one.images) == set(other.images)
        for camera, image in one.images.items():
            np.testing.assert_array_equal(image, other.images[camera])


def test_a_recording_and_the_live_robot_give_the_same_steps(nodes, tmp_path):
    talker, listener = nodes
    live = []
    with LeRobotWriter(tmp_path / "set", description(CONTRACT, "recorded"), SIZES, video_files=False) as dataset:
        recorder = Recorder(listener, CONTRACT, bags=tmp_path / "bags", dataset=dataset, on_step=live.append)
        recorder.begin("first", "pick")
        Talker(talker).say(recorder, 9)
        kept = recorder.commit(True)
    assert (kept.steps, kept.without_action, kept.success) == (9, 0, True)
    reader = BagReader(tmp_path / "bags")
    assert isinstance(reader, EpisodeReader)
    recorded = list(reader.read("first"))
    same(recorded, live)
    assert [step.last for step in recorded] == [False] * 8 + [True]
    assert {step.success for step in recorded} == {True}
    for k in (0, 1, 2, 4, 8):
        np.testing.assert_array_equal(recorded[k].action, chunk(k).actions[0])
        np.testing.assert_array_equal(recorded[k].images["front"], observation(k).images["front"])
    stored = list(LeRobotReader(tmp_path / "set").read("first"))
    assert len(stored) == 9
    for one, other in zip(stored, recorded, strict=True):
        np.testing.assert_array_equal(one.action, np.float32(other.action))
        np.testing.assert_array_equal(one.images["wrist"], other.images["wrist"])
        assert (one.instruction, one.success, one.last) == (other.instruction, other.success, other.last)


def test_another_reader_of_mcap_understands_the_recording(nodes, tmp_path):
    talker, listener = nodes
    recorder = Recorder(listener, CONTRACT, bags=tmp_path)
    recorder.begin("first", "pick")
    Talker(talker).say(recorder, 3)
    path = recorder.commit(False).bag
    seen = {}
    for message in read_ros2_messages(str(path)):
        seen.setdefault(message.channel.topic, []).append(message.ros_msg)
    assert seen["/vla/task"][-1].text == "pick up the red cube"
    for k, message in enumerate(seen["/vla/observation"]):
        np.testing.assert_allclose(message.joint_positions, observation(k).state.joint_positions)
        assert bytes(message.images[0].data) == observation(k).images[message.camera_names[0]].tobytes()
    np.testing.assert_allclose(seen["/vla/action_chunk"][1].actions, chunk(1).actions.ravel())
    assert next(BagReader(tmp_path).read("first")).success is False


def test_both_kinds_of_recordings_become_the_same_rows_of_a_training(tmp_path):
    torch = pytest.importorskip("torch")
    writer = BagWriter(tmp_path / "mcap" / "a.mcap", CONTRACT)
    assembler, steps = new_assembler(CONTRACT, "a", "pick"), []
    for number, (topic, message) in enumerate(messages(10)):
        writer.write(topic, serialize_message(message), number)
        steps += feed(assembler, CONTRACT, topic, message)
    writer.finish("a", "pick", True)
    there = description(CONTRACT, "recorded")
    with LeRobotWriter(tmp_path / "lerobot", there, SIZES, video_files=False) as dataset:
        dataset.write(ended(steps + assembler.finish(), True))
    found = []
    for kind in ("mcap", "lerobot"):
        section = DataSection((tmp_path / kind,), cache=tmp_path / "cache")
        config = TrainingConfig(LoopOptions(steps=1), model="unified", data=section)
        recordings = open_recordings(recorded_lines(config), CONTRACT, open_line)
        found.append(recorded_dataset(recordings, CONTRACT, section))
    for rows in found:
        assert rows.count == 10
        given, wanted = rows.steps(np.array([4]), [np.random.default_rng(0)])
        commanded = rows.processor.statistics.action.columns(slice(0, 3)).unnormalize(
            wanted.continuous[0, 0, :, :3].numpy()
        )[0]
        np.testing.assert_allclose(commanded, chunk(4).actions[0, :3], atol=1e-5)
        assert given.images["front"].shape == (1, 3, *SIZES["front"])
    one, other = (rows.steps(np.arange(10), [np.random.default_rng(k) for k in range(10)]) for rows in found)
    assert torch.equal(one[0].images["wrist"], other[0].images["wrist"])
    torch.testing.assert_close(one[0].state, other[0].state, atol=1e-4, rtol=0)
    torch.testing.assert_close(one[1].actions(), other[1].actions(), atol=1e-4, rtol=0)


def test_the_task_that_holds_already_is_part_of_the_next_episode(nodes, tmp_path):
    talker, listener = nodes
    recorder, talk = Recorder(listener, CONTRACT, bags=tmp_path), Talker(talker)
    recorder.begin("first", "pick")
    talk.say(recorder, 4)
    recorder.drop()
    assert list(tmp_path.iterdir()) == []
    recorder.begin("second", "pick")
    for topic, message in list(messages(4))[1:]:
        before = recorder.received[topic]
        talk.publishers[topic].publish(message)
        wait_for(lambda t=topic, b=before: recorder.received[t] > b, "message")
    recorder.commit(None)
    steps = list(BagReader(tmp_path).read("second"))
    assert {step.instruction for step in steps} == {"pick up the red cube"}
    assert {step.success for step in steps} == {None}


def test_an_episode_in_which_nothing_was_commanded_is_refused(nodes, tmp_path):
    _, listener = nodes
    with LeRobotWriter(tmp_path / "set", description(CONTRACT, "recorded"), SIZES) as dataset:
        recorder = Recorder(listener, CONTRACT, bags=tmp_path / "bags", dataset=dataset)
        recorder.begin("first", "pick")
        with pytest.raises(DataError, match="still under way"):
            recorder.begin("second", "pick")
        with pytest.raises(DataError, match="nothing commanded"):
            recorder.commit(True)
        with pytest.raises(DataError, match="no episode is under way"):
            recorder.commit(True)
        assert list((tmp_path / "bags").iterdir()) == [] and dataset.rows == []


def test_a_full_disk_refuses_the_episode_and_keeps_those_before(nodes, tmp_path, monkeypatch):
    talker, listener = nodes
    recorder, talk = Recorder(listener, CONTRACT, bags=tmp_path), Talker(talker)
    recorder.begin("first", "pick")
    talk.say(recorder, 3)
    recorder.commit(True)
    recorder.begin("second", "pick")

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(bag.Writer, "add_message", full)
    talk.say(recorder, 3)
    wait_for(lambda: recorder.failure, "reason")
    with pytest.raises(DiskFullError, match=r"second\.mcap does not fit"):
        recorder.commit(True)
    assert [path.name for path in tmp_path.iterdir()] == ["first.mcap"]
    assert len(list(BagReader(tmp_path).read("first"))) == 3


@pytest.mark.parametrize("step", ["commit", "_write_totals"])
def test_what_the_data_set_does_not_take_is_no_recording_either(nodes, tmp_path, monkeypatch, step):
    talker, listener = nodes

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    with LeRobotWriter(tmp_path / "set", description(CONTRACT, "recorded"), SIZES, video_files=False) as dataset:
        recorder = Recorder(listener, CONTRACT, bags=tmp_path / "bags", dataset=dataset)
        recorder.begin("first", "pick")
        Talker(talker).say(recorder, 3)
        monkeypatch.setattr(dataset, step, full)
        with pytest.raises((OSError, DiskFullError)):
            recorder.commit(True)
        bags = [path.name for path in (tmp_path / "bags").iterdir()]
        # The figures come last: the episode is in the data set then, and stays in both.
        assert (bags, len(dataset.rows)) == (([], 0) if step == "commit" else (["first.mcap"], 1))


def test_a_disk_that_takes_nothing_is_named(nodes, tmp_path, monkeypatch):
    talker, listener = nodes
    go_on = threading.Event()
    monkeypatch.setattr(recorder_module, "WAITING", 1)
    monkeypatch.setattr(recorder_module, "END_PATIENCE", 0.2)
    monkeypatch.setattr(BagWriter, "write", lambda *arguments: go_on.wait(DEADLINE))
    try:
        recorder = Recorder(listener, CONTRACT, bags=tmp_path)
        recorder.begin("first", "pick")
        Talker(talker).say(recorder, 3)
        with pytest.raises(DataError, match="the disk did not take it within"):
            recorder.commit(True)
    finally:
        go_on.set()
    assert list(tmp_path.iterdir()) == []


def test_damaged_recordings_are_named(nodes, tmp_path):
    talker, listener = nodes
    recorder = Recorder(listener, CONTRACT, bags=tmp_path)
    recorder.begin("first", "pick")
    Talker(talker).say(recorder, 3)
    path = recorder.commit(True).bag
    content = path.read_bytes()
    for cut in (len(content) // 2, len(content) - 10, 20):
        path.write_bytes(content[:cut])
        with pytest.raises(DamagedDataError, match=r"first\.mcap"):
            list(BagReader(tmp_path, contract=CONTRACT).read("first"))
    path.unlink()
    with pytest.raises(DataError, match="no recording"):
        BagReader(tmp_path)
    empty = BagWriter(tmp_path / "empty.mcap", CONTRACT)
    empty.finish("empty", "pick", None)
    with pytest.raises(MissingColumnError, match="none of the topics"):
        list(BagReader(tmp_path).read("empty"))


def test_a_recording_without_a_contract_that_does_not_fit_asks_for_the_robot(tmp_path, monkeypatch):
    """`ros2 bag record` of the graph's topics keeps no contract; that of another robot may be given."""
    with monkeypatch.context() as patch:
        patch.setattr(bag, "METADATA", "of another recorder")
        writer = BagWriter(tmp_path / "first.mcap", CONTRACT)
        for number, (topic, message) in enumerate(messages(3)):
            writer.write(topic, serialize_message(message), number)
        writer.finish("first", "pick", None)
    assert len(list(BagReader(tmp_path, contract=CONTRACT).read("first"))) == 3
    with pytest.raises(DataError, match=r"no robot contract, and 'ur5e' does not fit: .*is of joints.*\(--robot\)"):
        list(BagReader(tmp_path, contract=load_contract("ur5e")).read("first"))


def test_a_definition_holds_all_of_its_parts():
    text = message_definition("vla_ros/msg/Observation")
    parts = [line.removeprefix("MSG: ") for line in text.splitlines() if line.startswith("MSG: ")]
    assert sorted(parts) == [
        "builtin_interfaces/Time",
        "geometry_msgs/Point",
        "geometry_msgs/Pose",
        "geometry_msgs/Quaternion",
        "sensor_msgs/Image",
        "std_msgs/Header",
    ]
    with pytest.raises(DataError, match="nothing_msgs"):
        message_definition("nothing_msgs/msg/Nothing")


def test_a_person_drives_as_a_policy_does(nodes):
    """Keys come out as chunks and heartbeats on the policy's topics; the controllers' topics stay silent."""
    talker, listener = nodes
    policy, heard, beats = KeyboardPolicy(CONTRACT), [], []
    driver = Teleoperation(talker, CONTRACT, policy)
    try:
        listener.create_subscription(ActionChunk, "/vla/action_chunk", heard.append, qos("action_chunk"))
        listener.create_subscription(PolicyStatus, "/vla/policy_status", beats.append, qos("status"))
        tasks = listener.create_publisher(Instruction, "/vla/task", qos("task"))
        sight = listener.create_publisher(Observation, "/vla/observation", qos("observation"))
        wait_for(lambda: tasks.get_subscription_count() and sight.get_subscription_count(), "listener")
        tasks.publish(instruction_to_message(InstructionType("push it", 3, stamp=1.0)))
        k = 0

        def moving():
            nonlocal k
            k += 1
            policy.press("w")
            sight.publish(observation_to_message(observation(k % 20), CONTRACT))
            time.sleep(0.05)
            return any(chunk.actions[0] > 0.0 for chunk in heard)

        wait_for(moving, "chunk that moves forward")
        last = heard[-1]
        assert (last.policy, last.action_specification) == ("keyboard", CONTRACT.action.fingerprint)
        assert last.instruction_sequence == 3
        wait_for(lambda: any((b.state, b.instruction_sequence) == (PolicyStatus.RUNNING, 3) for b in beats), "beat")
        assert (beats[-1].policy, beats[-1].device) == ("keyboard", "cpu")
        published = {name for name, _ in talker.get_publisher_names_and_types_by_node("talker", "/")}
        assert "/vla/action_chunk" in published
        assert not published & {CONTRACT.controllers.arm_topic, CONTRACT.controllers.gripper_topic}
    finally:
        driver.close()
