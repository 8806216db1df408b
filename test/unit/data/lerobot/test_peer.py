"""Against the `lerobot` package itself, 0.4.4: what it wrote is read here, and what is written here it reads.

The data set in `written_by_lerobot` was made by its writer (`peer.py write`, codec AV1). The other tests run it:
name the interpreter of an environment that has it in VLA_ROS_LEROBOT_PYTHON.
"""

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vla_ros.actions.space import ActionSpace
from vla_ros.data.catalogue import open_dataset
from vla_ros.data.errors import ConventionError
from vla_ros.data.lerobot.reader import LeRobotReader
from vla_ros.data.lerobot.writer import LeRobotWriter

HERE = Path(__file__).resolve().parent
WRITTEN = HERE / "written_by_lerobot"
CONVENTION = ActionSpace.of_one_tool("base", "delta", "rotation_vector", "open_is_one", 10.0, 1)
PEER = os.environ.get("VLA_ROS_LEROBOT_PYTHON")
needs_peer = pytest.mark.skipif(not PEER, reason="VLA_ROS_LEROBOT_PYTHON names no interpreter that has lerobot")


def run_peer(*words):
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    for name in ("PYTHONPATH", "AMENT_PREFIX_PATH"):
        environment.pop(name, None)
    done = subprocess.run(
        [PEER, str(HERE / "peer.py"), *words], capture_output=True, text=True, timeout=250, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def check_what_the_peer_wrote(folder):
    reader = LeRobotReader(folder, convention=CONVENTION)
    assert reader.description.cameras == ("front",)
    assert reader.description.proprioception_names == ("a", "b", "c")
    assert [len(list(reader.read(name))) for name in reader.episodes] == [5, 8, 3]
    for number, name in enumerate(reader.episodes):
        for index, step in enumerate(reader.read(name)):
            np.testing.assert_array_equal(step.action, np.arange(7.0) + number)
            np.testing.assert_array_equal(step.proprioception, (number, index, 0.5))
            assert step.instruction == f"task {number % 2}"
            assert step.success is (number != 1)
            assert step.timestamp == pytest.approx(index / 10.0, abs=1e-6)
            assert step.images["front"].mean() == pytest.approx(40 + 50 * number + 6 * index, abs=4.0)


def test_what_lerobot_wrote_is_read():
    check_what_the_peer_wrote(WRITTEN)


def test_a_convention_must_be_given_for_it():
    with pytest.raises(ConventionError, match="give a convention"):
        LeRobotReader(WRITTEN)
    with pytest.raises(ConventionError, match=r"10\.0 steps a second, the convention says 5"):
        LeRobotReader(WRITTEN, convention=ActionSpace.of_one_tool("base", "delta", "rotation_vector", "none", 5.0, 1))
    with pytest.raises(ConventionError, match="7 columns, the convention says 6"):
        LeRobotReader(WRITTEN, convention=ActionSpace.of_one_tool("base", "delta", "rotation_vector", "none", 10.0, 1))


@needs_peer
def test_the_peer_writes_and_we_read(tmp_path):
    run_peer("write", str(tmp_path / "theirs"))
    check_what_the_peer_wrote(tmp_path / "theirs")


@needs_peer
@pytest.mark.parametrize("video", [True, False])
def test_we_write_and_the_peer_reads(tmp_path, demonstrations, video):
    episodes = [demonstrations.episode(0, 6), demonstrations.episode(1, 9, success=False, instruction="push it left")]
    with LeRobotWriter(tmp_path, demonstrations.description, demonstrations.sizes, video_files=video) as writer:
        for steps in episodes:
            writer.write(steps)
    seen = json.loads(run_peer("read", str(tmp_path)).splitlines()[-1])
    wanted = [step for steps in episodes for step in steps]
    assert (seen["episodes"], seen["fps"], len(seen["steps"])) == (2, 10, len(wanted))
    for found, step in zip(seen["steps"], wanted, strict=True):
        assert (found["episode"], found["index"], found["task"]) == (int(step.episode), step.index, step.instruction)
        np.testing.assert_array_equal(np.float32(found["action"]), np.float32(step.action))
        np.testing.assert_array_equal(np.float32(found["state"]), np.float32(step.proprioception))
        assert (found["done"], found["success"]) == (step.last, step.last and step.success)
        for camera, image in step.images.items():
            shape, mean = found["pictures"][f"observation.images.{camera}"]
            assert shape == [3, *image.shape[:2]]
            np.testing.assert_allclose(mean, image.mean(axis=(0, 1)), atol=6.0 if video else 0.01)
    actions = np.stack([step.action for step in wanted])
    np.testing.assert_allclose(seen["action_mean"], actions.mean(axis=0), rtol=1e-5)


@needs_peer
@pytest.mark.parametrize("video", [True, False])
def test_what_its_tools_make_of_ours_is_read(tmp_path, demonstrations, same_steps, video):
    """Every number, sentence and image is kept, and the convention; delete and split lose names of tasks."""
    episodes = [
        demonstrations.episode(0, 6),
        demonstrations.episode(1, 9, success=False, instruction="push it left"),
        demonstrations.episode(2, 5, instruction="push it left"),
        demonstrations.episode(3, 7),
    ]
    for folder, written in (("ours", episodes[:3]), ("other", episodes[3:])):
        with LeRobotWriter(
            tmp_path / folder, demonstrations.description, demonstrations.sizes, video_files=video
        ) as writer:
            for steps in written:
                writer.write(steps)
    run_peer("edit", str(tmp_path / "ours"), str(tmp_path / "other"), str(tmp_path))
    before = open_dataset("lerobot", tmp_path / "ours").description
    for folder, numbers in (
        ("merged", (0, 1, 2, 3)),
        ("deleted", (0, 2, 3)),
        ("split/train", (0, 2)),
        ("split/val", (1,)),
    ):
        data = open_dataset("lerobot", tmp_path / folder)
        assert replace(data.description, name=before.name) == before
        assert len(data.episodes) == len(numbers)
        for name, number in zip(data.episodes, numbers, strict=True):
            found = [replace(step, task="") for step in data.read(name)]
            same_steps(found, [replace(step, task="", episode=name) for step in episodes[number]], pixels=20.0 * video)
