"""LIBERO and robomimic files, laid out by h5py as their documentation says."""

import json

import h5py
import numpy as np
import pytest
from scipy.spatial.transform import Rotation as Scipy

from vla_ros.data.errors import ConventionError, DamagedDataError, DataError, MissingColumnError, NotFiniteError
from vla_ros.data.reader import EpisodeReader
from vla_ros.data.readers.hdf5 import Hdf5Reader

CONTROLLER = {"type": "OSC_POSE", "control_delta": True, "output_max": [0.05] * 3 + [0.5] * 3}
RNG = np.random.default_rng(2)


def environment(**changes):
    return json.dumps({"type": 1, "env_kwargs": {"control_freq": 20, "controller_configs": {**CONTROLLER, **changes}}})


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
            assert (step.success, step.last) == (True, i == 4)
            assert step.instruction == ("put it" if libero else "")
    if not libero:
        assert next(Hdf5Reader(reader.path, instruction="lift it").read("demo_0")).instruction == "lift it"


@pytest.mark.parametrize(
    ("env", "error", "words"),
    [
        (environment(type="JOINT_POSITION"), ConventionError, "JOINT_POSITION"),
        (environment(control_delta=False), ConventionError, "control_delta=False"),
        (environment(output_max=[1.0] * 6), ConventionError, "output_max"),
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
