"""RLBench's pickles: the known classes and nothing else. The files are pickled here, by classes of the same names."""

import os
import pickle
import sys
import types

import cv2
import numpy as np
import pytest

from vla_ros.data.errors import DamagedDataError, DataError, HostileDataError, MissingColumnError, NotFiniteError
from vla_ros.data.reader import EpisodeReader
from vla_ros.data.readers.restricted_pickle import load
from vla_ros.data.readers.rlbench import RlbenchReader


class Observation:
    def __init__(self, **values):
        self.__dict__.update(values)


class Demo:
    def __init__(self, observations, random_seed=None):
        self._observations, self.random_seed = observations, random_seed


@pytest.fixture
def rlbench_classes(monkeypatch):
    """Modules with the names that RLBench's classes have in a pickle."""
    for module, kind in (("rlbench.demo", Demo), ("rlbench.backend.observation", Observation)):
        monkeypatch.setitem(sys.modules, module, types.SimpleNamespace(**{kind.__name__: kind}))
        monkeypatch.setattr(kind, "__module__", module)
    for parent in ("rlbench", "rlbench.backend"):
        monkeypatch.setitem(sys.modules, parent, types.ModuleType(parent))


def observation(index, **changes):
    return Observation(
        **{
            "joint_positions": np.arange(7.0) + index,
            "joint_velocities": np.zeros(7),
            "front_rgb": None,
            "gripper_pose": np.array([0.1 * index, 0.0, 0.5, 0.0, 1.0, 0.0, 0.0]),
            "gripper_open": float(index < 2),
            "gripper_joint_positions": np.zeros(2, np.float32),
            "task_low_dim_state": np.zeros(3),
            "misc": {"a": 1},
            **changes,
        }
    )


def write_episode(root, number, count=4, protocol=4, variation=0, observations=None):
    folder = root / f"variation{variation}" / "episodes" / f"episode{number}"
    folder.mkdir(parents=True)
    observed = observations or [observation(i) for i in range(count)]
    demo = Demo(observed, np.random.RandomState(0).get_state())
    (folder / "low_dim_obs.pkl").write_bytes(pickle.dumps(demo, protocol))
    (root / f"variation{variation}" / "variation_descriptions.pkl").write_bytes(
        pickle.dumps(["reach the red ball", "x"])
    )
    for camera in ("front", "wrist"):
        (folder / f"{camera}_rgb").mkdir()
        for i in range(len(observed)):
            image = np.full((16, 16, 3), (10 * i, 0, 200), np.uint8)
            cv2.imwrite(str(folder / f"{camera}_rgb" / f"{i}.png"), image[..., ::-1])
    return folder


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_demonstrations_are_read(tmp_path, rlbench_classes, protocol):
    for number in (0, 9, 10):
        write_episode(tmp_path / "reach_target", number, protocol=protocol)
    reader = RlbenchReader(tmp_path / "reach_target")
    assert isinstance(reader, EpisodeReader)
    assert reader.episodes == [f"variation0/episodes/episode{n}" for n in (0, 9, 10)]
    steps = list(reader.read(reader.episodes[1]))
    assert len(steps) == 3  # the last observation has nothing behind it
    for i, step in enumerate(steps):
        np.testing.assert_allclose(step.action, [0.1 * (i + 1), 0.0, 0.5, 0.0, 1.0, 0.0, 0.0, float(i + 1 < 2)])
        np.testing.assert_allclose(step.proprioception[:7], np.arange(7.0) + i)
        np.testing.assert_allclose(step.end_effector.position, [0.1 * i, 0.0, 0.5])
        np.testing.assert_array_equal(step.images["front"][0, 0], (10 * i, 0, 200))
        assert (step.task, step.instruction, step.success) == ("reach_target", "reach the red ball", True)
        assert step.last is (i == 2)
    assert next(RlbenchReader(tmp_path).read("reach_target/variation0/episodes/episode0")).task == "reach_target"


class Runs:
    """What a hostile pickle does: names a function and has it called."""

    def __init__(self, function, *arguments):
        self._given = function, arguments

    def __reduce__(self):
        return self._given


@pytest.mark.parametrize(
    ("hostile", "named"),
    [
        (lambda trace: Runs(os.system, f"touch {trace}"), "system"),
        (lambda trace: Runs(eval, f"open({str(trace)!r}, 'w')"), "eval"),
        (lambda trace: {"a": [Runs(open, str(trace), "w")]}, "open"),
        (lambda trace: Demo([Runs(os.mkdir, str(trace))]), "mkdir"),
        (lambda trace: np.array([Runs(os.mkdir, str(trace))], dtype=object), "only numbers"),
        (lambda trace: Runs(getattr, "", "upper"), "getattr"),
    ],
)
def test_a_hostile_pickle_runs_nothing(tmp_path, rlbench_classes, hostile, named):
    trace = tmp_path / "it_ran"
    for protocol in range(2, 6):
        folder = write_episode(tmp_path / f"task{protocol}", 0)
        (folder / "low_dim_obs.pkl").write_bytes(pickle.dumps(hostile(trace), protocol))
        reader = RlbenchReader(tmp_path / f"task{protocol}")
        with pytest.raises(HostileDataError, match=named):
            list(reader.read(reader.episodes[0]))
        assert not trace.exists()


def test_the_hostile_pickles_of_this_file_would_run_in_an_ordinary_unpickler(tmp_path):
    pickle.loads(pickle.dumps(Runs(os.mkdir, str(tmp_path / "it_ran"))))
    assert (tmp_path / "it_ran").exists()


def test_a_class_of_arrays_that_is_no_array_is_refused(tmp_path):
    """`_reconstruct` calls the class that the pickle names: only the plain array may be one."""
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(np.ma.masked_array([1.0]), 2))
    with pytest.raises(HostileDataError, match="_mareconstruct"):
        load(path, {})
    path.write_bytes(pickle.dumps(Runs(np._core.multiarray._reconstruct, np.dtype, (0,), b"b"), 2))
    with pytest.raises(HostileDataError, match="an array of the class"):
        load(path, {})


def test_what_is_missing_or_broken_is_named(tmp_path, rlbench_classes):
    folder = write_episode(tmp_path / "a", 0, observations=[observation(0), observation(1, gripper_pose=None)])
    reader = RlbenchReader(tmp_path / "a")
    with pytest.raises(MissingColumnError, match="observation 1 has no 'gripper_pose'"):
        list(reader.read(reader.episodes[0]))
    (folder / "low_dim_obs.pkl").write_bytes((folder / "low_dim_obs.pkl").read_bytes()[:-30])
    with pytest.raises(DamagedDataError, match=r"low_dim_obs\.pkl"):
        list(reader.read(reader.episodes[0]))
    write_episode(tmp_path / "b", 0, observations=[observation(0), observation(1, gripper_open=np.nan)])
    with pytest.raises(NotFiniteError, match="gripper_open"):
        list(RlbenchReader(tmp_path / "b").read("variation0/episodes/episode0"))
    folder = write_episode(tmp_path / "c", 0)
    (folder / "front_rgb" / "1.png").unlink()
    with pytest.raises(DamagedDataError, match=r"front_rgb/1\.png"):
        list(RlbenchReader(tmp_path / "c").read("variation0/episodes/episode0"))
    with pytest.raises(MissingColumnError, match="'overhead'"):
        list(RlbenchReader(tmp_path / "c", cameras=["overhead"]).read("variation0/episodes/episode0"))
    with pytest.raises(DataError, match="no cameras"):
        RlbenchReader(tmp_path / "c", cameras=["side"])
    with pytest.raises(DataError, match="no RLBench"):
        RlbenchReader(tmp_path / "c" / "variation0" / "episodes" / "episode0" / "front_rgb")
