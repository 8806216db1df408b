"""RLDS records, written by the `tfrecord` package (protobuf and its own checksums) and by nobody of this project."""

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation as Scipy
from tfrecord import TFRecordWriter

from vla_ros.data.errors import DamagedDataError, DataError, MissingColumnError, NotFiniteError
from vla_ros.data.reader import EpisodeReader
from vla_ros.data.readers.rlds import RldsReader
from vla_ros.data.readers.tfrecord import parse_example, record_offsets

RNG = np.random.default_rng(1)


def jpeg(grey):
    return cv2.imencode(".jpg", np.full((32, 32, 3), grey, np.uint8))[1].tobytes()


def flags(count):
    return {"steps/is_first": ([1] + [0] * (count - 1), "int"), "steps/is_last": ([0] * (count - 1) + [1], "int")}


def bridge(count):
    state, action = RNG.normal(size=(count, 7)) * 0.3, RNG.normal(size=(count, 7)) * 0.1
    state[:, 6], action[:, 6] = 0.9, RNG.integers(0, 2, count)
    return (
        state,
        action,
        {
            **flags(count),
            "steps/observation/image_0": ([jpeg(10 * i) for i in range(count)], "byte"),
            "steps/observation/state": (state.astype(np.float32).ravel().tolist(), "float"),
            "steps/action": (action.astype(np.float32).ravel().tolist(), "float"),
            "steps/language_instruction": ([b"put the pot on the stove"] * count, "byte"),
            "steps/discount": ([1.0] * count, "float"),
            "episode_metadata/episode_id": (7, "int"),
        },
    )


def write(path, *records):
    writer = TFRecordWriter(str(path))
    for record in records:
        writer.write(record)
    writer.close()
    return path


def test_bridge_episodes_are_read(tmp_path):
    given = [bridge(5), bridge(9), bridge(3)]
    write(tmp_path / "bridge_dataset-train.tfrecord-00000-of-00002", given[0][2], given[1][2])
    write(tmp_path / "bridge_dataset-train.tfrecord-00001-of-00002", given[2][2])
    reader = RldsReader(tmp_path)
    assert isinstance(reader, EpisodeReader)
    assert reader.episodes == ["00000-of-00002/000000", "00000-of-00002/000001", "00001-of-00002/000000"]
    for name, (state, action, _) in zip(reader.episodes, given, strict=True):
        steps = list(reader.read(name))
        assert len(steps) == len(state) - 1  # the first one carries no action
        for i, step in enumerate(steps, start=1):
            np.testing.assert_allclose(step.action[:3], action[i, :3], atol=1e-6)
            wanted = Scipy.from_euler("xyz", action[i, 3:6])
            assert (Scipy.from_rotvec(step.action[3:6].copy()).inv() * wanted).magnitude() < 1e-6
            assert step.action[6] == action[i, 6]
            np.testing.assert_allclose(step.end_effector.position, state[i, :3], atol=1e-6)
            turned = Scipy.from_quat(step.end_effector.quaternion.copy()).inv() * Scipy.from_euler("xyz", state[i, 3:6])
            assert turned.magnitude() < 1e-6
            assert step.instruction == "put the pot on the stove"
            assert (step.success, step.last) == (None, i == len(state) - 1)
            assert step.images["image_0"].mean() == pytest.approx(10 * i, abs=2.0)


def test_rt1_gripper_commands_become_states(tmp_path):
    count, closing = 6, [0.0, 1.0, 0.0, -1.0, 0.0, 1.0]
    pose = np.tile([0.1, 0.2, 0.3, 0.0, 0.0, 0.0, 1.0], (count, 1))
    write(
        tmp_path / "fractal20220817_data-train.tfrecord-00000-of-00001",
        {
            **flags(count),
            "steps/observation/image": ([jpeg(80)] * count, "byte"),
            "steps/observation/natural_language_instruction": ([b"pick coke can"] * count, "byte"),
            "steps/observation/base_pose_tool_reached": (pose.ravel().tolist(), "float"),
            "steps/observation/gripper_closed": ([0.25] * count, "float"),
            "steps/action/world_vector": ([0.01] * 3 * count, "float"),
            "steps/action/rotation_delta": ([0.0] * 3 * count, "float"),
            "steps/action/gripper_closedness_action": (closing, "float"),
        },
    )
    reader = RldsReader(tmp_path)
    steps = list(reader.read(reader.episodes[0]))
    assert [step.action[6] for step in steps] == [1.0, 0.0, 0.0, 1.0, 1.0, 0.0]
    assert steps[0].proprioception[-1] == 0.75


def test_the_set_of_open_x_embodiment_is_read(tmp_path):
    count = 3
    write(
        tmp_path / "bridge-train.tfrecord-00000-of-00001",
        {
            **flags(count),
            "steps/observation/image": ([jpeg(80)] * count, "byte"),
            "steps/observation/natural_language_instruction": ([b" open the drawer "] * count, "byte"),
            "steps/observation/state": ([0.0] * 7 * count, "float"),
            "steps/action/world_vector": ([0.01, -0.02, 0.03] * count, "float"),
            "steps/action/rotation_delta": ([0.0] * 3 * count, "float"),
            "steps/action/open_gripper": ([1, 0, 1], "int"),
        },
    )
    reader = RldsReader(tmp_path)
    steps = list(reader.read(reader.episodes[0]))
    np.testing.assert_allclose([step.action[[0, 1, 2, 6]] for step in steps], [[0.01, -0.02, 0.03, g] for g in (0, 1)])
    assert steps[0].instruction == "open the drawer"


def test_examples_of_every_kind_are_parsed(tmp_path):
    path = write(
        tmp_path / "a.tfrecord",
        {"b": ([b"", b"\xff" * 300], "byte"), "f": ([1.5, -2.0], "float"), "i": ([0, -5, 2**40], "int")},
    )
    ((offset, length),) = record_offsets(path)
    found = parse_example(path.read_bytes()[offset : offset + length])
    assert found["b"] == [b"", b"\xff" * 300]
    np.testing.assert_array_equal(found["f"], [1.5, -2.0])
    np.testing.assert_array_equal(found["i"], [0, -5, 2**40])


@pytest.mark.parametrize("content", [b"\xff", b"\x0a\x05abc", b"\x0b", b"\x0a\x02\x08\x01", b"\x80" * 12])
def test_what_is_no_example_is_named(content):
    with pytest.raises(DamagedDataError, match="no Example"):
        parse_example(content + b"" if content != b"\x0a\x02\x08\x01" else b"\x08\x01\x0a\x03\x0a\x05a")


def one(tmp_path, change=None):
    record = bridge(4)[2]
    if change:
        change(record)
    return write(tmp_path / "bridge_dataset-train.tfrecord-00000-of-00001", record)


def test_a_cut_file_is_named(tmp_path):
    path = one(tmp_path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DamagedDataError, match="cut short"):
        RldsReader(tmp_path)


@pytest.mark.parametrize("place", [3, 200])
def test_a_flipped_bit_is_named(tmp_path, place):
    path = one(tmp_path)
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(bytes(content))
    with pytest.raises(DamagedDataError, match="does not match its checksum"):
        list((reader := RldsReader(tmp_path)).read(reader.episodes[0]))


def test_a_file_that_is_missing_is_named(tmp_path):
    write(tmp_path / "bridge_dataset-train.tfrecord-00000-of-00002", bridge(3)[2])
    with pytest.raises(DamagedDataError, match="1 of the 2 files"):
        RldsReader(tmp_path)
    with pytest.raises(DataError, match="no files"):
        RldsReader(tmp_path, split="val")


def test_an_unknown_set_needs_a_layout(tmp_path):
    write(tmp_path / "mystery-train.tfrecord-00000-of-00001", bridge(3)[2])
    with pytest.raises(DataError, match="no layout is known for 'mystery'"):
        RldsReader(tmp_path)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda r: r.pop("steps/action"), MissingColumnError, "no field 'steps/action'"),
        (lambda r: r.update({"steps/action": ([0.0] * 27, "float")}), DamagedDataError, "27 values"),
        (
            lambda r: r.update({"steps/action": ([0.0] * 15 + [float("nan")] + [0.0] * 12, "float")}),
            NotFiniteError,
            "step 2: 'action'",
        ),
        (lambda r: r.update({"steps/observation/image_0": ([b"no picture"] * 4, "byte")}), DamagedDataError, "decoded"),
        (lambda r: r.update({"steps/language_instruction": ([b"x"], "byte")}), DamagedDataError, "1 entries"),
    ],
)
def test_what_is_wrong_with_a_field_is_named(tmp_path, change, error, words):
    one(tmp_path, change)
    reader = RldsReader(tmp_path)
    with pytest.raises(error, match=words):
        list(reader.read(reader.episodes[0]))
