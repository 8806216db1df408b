"""LIBERO and robomimic files, laid out by h5py as their documentation says."""

import json

import h5py
import numpy as np
import pytest
from scipy.spatial.transform import Rotation as Scipy

from vla_ros.data.errors import ConventionError, DamagedDataError, DataError, MissingColumnError, NotFiniteError
from vla_ros.data.reader import EpisodeReader
from vla_ros.data.readers.hdf5 import Hdf5Reader
from vla_ros.data.step import GRIPPER_NAME, POSE_NAMES

CONTROLLER = {"type": "OSC_POSE", "control_delta": True, "output_max": [0.05] * 3 + [0.5] * 3}
RNG = np.random.default_rng(2)


def environment(**changes):
    return json.dumps({"type": 1, "env_kwargs": {"control_freq": 20, "controller_configs": {**CONTROLLER, **changes}}})


def robosuite_15(freq=20, **parts):
    """Controllers as robosuite 1.5 has them: one a part of the body."""
    arm = {
        "type": "OSC_POSE",
        "input_type": "delta",
        "input_max": 1,
        "input_min": -1,
        "gripper": {"type": "GRIP"},
        "output_max": [0.05] * 3 + [0.5] * 3,
        "output_min": [-0.05] * 3 + [-0.5] * 3,
    }
    body = {"type": "BASIC", "body_parts": {"right": arm, "torso": {"type": "JOINT_POSITION"}, **parts}}
    return json.dumps({"type": 1, "env_kwargs": {"control_freq": freq, "controller_configs": body}})


def picture(count):
    images = np.zeros((count, 8, 8, 3), np.uint8)
    images[:, 0] = 255  # the first row as it is stored
    return images


def write(path, *, libero, demos=("demo_0", "demo_10", "demo_2"), env=None, count=5):
    given = {}
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = environment() if env is None else env
        if libero:
            data.attrs["problem_info"] = json.dumps({"language_instruction": ["p", "ut it"]})
            data.attrs["macros_image_convention"] = "opengl"
        for demo in demos:
            actions, vectors = RNG.uniform(-1, 1, (count, 7)), RNG.normal(size=(count, 3))
            position = RNG.normal(size=(count, 3))
            group = data.create_group(demo)
            group["actions"], group["rewards"] = actions, np.eye(count)[-1]
            names = ("agentview_rgb", "eye_in_hand_rgb") if libero else ("agentview_image",)
            for name in names:
                group[f"obs/{name}"] = picture(count)
            if libero:
                group["obs/ee_pos"], group["obs/ee_ori"] = position, vectors
                group["obs/joint_states"] = np.zeros((count, 7))
            else:
                group["obs/robot0_eef_pos"] = position
                group["obs/robot0_eef_quat"] = Scipy.from_rotvec(vectors).as_quat()
                group["obs/robot0_joint_pos"] = np.zeros((count, 7))
            given[demo] = actions, position, vectors
    return given


@pytest.mark.parametrize("libero", [True, False])
def test_demonstrations_are_read(tmp_path, libero):
    given = write(tmp_path / "put_it_demo.hdf5", libero=libero)
    reader = Hdf5Reader(tmp_path / "put_it_demo.hdf5")
    assert isinstance(reader, EpisodeReader)
    assert reader.episodes == ["demo_0", "demo_2", "demo_10"]
    for demo in reader.episodes:
        actions, position, vectors = given[demo]
        steps = list(reader.read(demo))
        assert [step.index for step in steps] == list(range(5))
        for i, step in enumerate(steps):
            np.testing.assert_allclose(step.action[:3], 0.05 * actions[i, :3])
            np.testing.assert_allclose(step.action[3:6], 0.5 * actions[i, 3:6])
            assert step.action[6] == pytest.approx((actions[i, 6] + 1) / 2)
            np.testing.assert_allclose(step.end_effector.position, position[i])
            turned = Scipy.from_quat(step.end_effector.quaternion).inv() * Scipy.from_rotvec(vectors[i])
            assert turned.magnitude() < 1e-9
            bright = step.images["agentview"].mean(axis=(1, 2)).argmax()
            assert bright == (7 if libero else 0)  # OpenGL's rows begin at the bottom
            assert (step.success, step.last) == (None, i == 4)  # rewards say nothing
            assert step.instruction == ("put it" if libero else "")
    if not libero:
        assert next(Hdf5Reader(reader.path, instruction="lift it").read("demo_0")).instruction == "lift it"


def test_controllers_of_robosuite_15_are_read(tmp_path):
    given = write(tmp_path / "a.hdf5", libero=True, env=robosuite_15())
    first = next(Hdf5Reader(tmp_path / "a.hdf5").read("demo_0"))
    np.testing.assert_allclose(first.action[:3], 0.05 * given["demo_0"][0][0, :3])
    np.testing.assert_allclose(first.action[3:6], 0.5 * given["demo_0"][0][0, 3:6])


def test_scale_and_rate_are_those_of_the_file(tmp_path):
    env = json.loads(environment(output_max=[0.1] * 6, output_min=[-0.1] * 6))
    env["env_kwargs"]["control_freq"] = 10
    given = write(tmp_path / "a.hdf5", libero=False, env=json.dumps(env))
    reader = Hdf5Reader(tmp_path / "a.hdf5")
    assert reader.description.convention.rate_hz == 10.0
    steps = list(reader.read("demo_2"))
    np.testing.assert_allclose([s.action[:6] for s in steps], 0.1 * given["demo_2"][0][:, :6])
    assert [s.timestamp for s in steps] == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])


def test_names_are_sorted_by_their_numbers(tmp_path):
    names = ("demo_10", "demo_0_copy", "demo_2", "demo_0", "extra")
    write(tmp_path / "a.hdf5", libero=False, demos=names)
    with h5py.File(tmp_path / "a.hdf5", "a") as file:
        file["data/total"] = 5  # a table beside the demonstrations
    reader = Hdf5Reader(tmp_path / "a.hdf5")
    assert reader.episodes == ["demo_0", "demo_0_copy", "demo_2", "demo_10", "extra"]
    assert [len(list(reader.read(name))) for name in reader.episodes] == [5] * 5


@pytest.mark.parametrize("libero", [True, False])
def test_attributes_may_be_bytes(libero, tmp_path):
    write(tmp_path / "a.hdf5", libero=libero)
    with h5py.File(tmp_path / "a.hdf5", "a") as file:
        for name, value in list(file["data"].attrs.items()):
            file["data"].attrs[name] = np.bytes_(value)
    first = next(Hdf5Reader(tmp_path / "a.hdf5").read("demo_0"))
    assert first.instruction == ("put it" if libero else "")
    assert first.images["agentview"].mean(axis=(1, 2)).argmax() == (7 if libero else 0)


@pytest.mark.parametrize("libero", [True, False])
def test_opening_is_the_distance_of_the_fingers(libero, tmp_path):
    write(tmp_path / "a.hdf5", libero=libero)
    name = "gripper_states" if libero else "robot0_gripper_qpos"
    with h5py.File(tmp_path / "a.hdf5", "a") as file:
        for demo in file["data"]:
            file[f"data/{demo}/obs/{name}"] = np.tile([0.03, -0.035], (5, 1))
            del file[f"data/{demo}/obs/{'joint_states' if libero else 'robot0_joint_pos'}"]
    reader = Hdf5Reader(tmp_path / "a.hdf5")
    assert reader.description.proprioception_names == (*POSE_NAMES, GRIPPER_NAME)
    assert next(reader.read("demo_0")).proprioception[-1] == pytest.approx(0.065)


@pytest.mark.parametrize(("said", "success"), [(None, None), (True, True), (np.int64(0), False)])
def test_success_is_unknown_unless_said(said, success, tmp_path):
    path = tmp_path / "a.hdf5"
    write(path, libero=False)
    with h5py.File(path, "a") as file:
        file["data/demo_0/rewards"][()] = 0.0  # as in sets whose demonstrations all succeeded
        if said is not None:
            file["data/demo_0"].attrs["success"] = said
    assert {step.success for step in Hdf5Reader(path).read("demo_0")} == {success}


@pytest.mark.parametrize(
    ("env", "error", "words"),
    [
        (environment(type="JOINT_POSITION"), ConventionError, "JOINT_POSITION"),
        (environment(control_delta=False), ConventionError, "control_delta=False"),
        (environment(output_max=[1.0] * 5), ConventionError, "output_max"),
        (environment(output_max=[1.0] * 6, output_min=[0.0] * 6), ConventionError, "output_min"),
        (environment(input_type="absolute"), ConventionError, "input_type='absolute'"),
        (json.dumps({"env_kwargs": {"control_freq": 20}}), MissingColumnError, "controller_configs"),
        (robosuite_15(left={"type": "OSC_POSE"}), ConventionError, "two arms"),
        (robosuite_15(right={"type": "JOINT_POSITION"}), ConventionError, "JOINT_POSITION"),
        ("{", DamagedDataError, "env_args"),
        ("[]", DamagedDataError, "env_args"),
    ],
)
def test_another_convention_is_refused(tmp_path, env, error, words):
    write(tmp_path / "a.hdf5", libero=True, env=env)
    with pytest.raises(error, match=words):
        Hdf5Reader(tmp_path / "a.hdf5")


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda demo: demo.pop("actions"), MissingColumnError, "actions"),
        (lambda demo: demo["obs"].pop("ee_ori"), MissingColumnError, "ee_ori"),
        (lambda demo: demo["actions"].__setitem__((2, 1), np.nan), NotFiniteError, "'demo_0', step 2"),
        (lambda demo: demo["actions"].__setitem__((2, 1), 1.5), ConventionError, "from -1 to 1"),
    ],
)
def test_what_is_wrong_with_a_demonstration_is_named(tmp_path, change, error, words):
    path = tmp_path / "a.hdf5"
    write(path, libero=True, demos=("demo_0", "demo_1"))
    with h5py.File(path, "a") as file:
        change(file["data/demo_0"])
    reader = Hdf5Reader(path)
    with pytest.raises(error, match=words):
        list(reader.read("demo_0"))
    assert len(list(reader.read("demo_1"))) == 5


def test_rows_that_are_missing_are_named(tmp_path):
    path = tmp_path / "a.hdf5"
    write(path, libero=True)
    with h5py.File(path, "a") as file:
        del file["data/demo_0/obs/agentview_rgb"]
        file["data/demo_0/obs/agentview_rgb"] = picture(3)
    with pytest.raises(DamagedDataError, match="5 actions, but 3 rows of agentview_rgb"):
        list(Hdf5Reader(path).read("demo_0"))


def test_a_cut_file_is_named(tmp_path):
    path = tmp_path / "a.hdf5"
    write(path, libero=True)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(DamagedDataError, match="cannot be opened"):
        Hdf5Reader(path)
    write(path, libero=True, demos=())
    with pytest.raises(DataError, match="no demonstration"):
        Hdf5Reader(path)
