"""Files that are not what they say: whatever stands in them, a `DataError` leaves the reader, or sound steps."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from vla_ros.data.catalogue import open_dataset
from vla_ros.data.errors import DataError
from vla_ros.data.lerobot.writer import LeRobotWriter

ODD = (None, -1, 0, "", "x", [], {}, [None], 1e308, True, {"a": []})


@pytest.fixture(scope="module")
def sound(tmp_path_factory, demonstrations):
    root = tmp_path_factory.mktemp("sound") / "set"
    with LeRobotWriter(root, demonstrations.description, demonstrations.sizes, video_files=False) as writer:
        for number in range(2):
            writer.write(demonstrations.episode(number, 4))
    return root


def read(kind, path):
    """Read everything; True when it was refused by a `DataError`."""
    try:
        reader = open_dataset(kind, path)
        for episode in reader.episodes:
            for _ in reader.read(episode):
                pass
    except DataError:
        return True
    return False


def lines(content, above=()):
    for name, value in content.items():
        yield (*above, name)
        if isinstance(value, dict):
            yield from lines(value, (*above, name))


def test_any_line_of_info_may_hold_anything(sound, tmp_path):
    root = tmp_path / "set"
    shutil.copytree(sound, root)
    path = root / "meta/info.json"
    whole, refused = path.read_text(), 0
    for number, place in enumerate(lines(json.loads(whole))):
        for odd in (ODD[(number + turn) % len(ODD)] for turn in (0, 3, 7)):  # each line another three
            content = json.loads(whole)
            inner = content
            for name in place[:-1]:
                inner = inner[name]
            inner[place[-1]] = odd
            path.write_text(json.dumps(content))
            refused += read("lerobot", root)
    assert refused > 30


@pytest.mark.parametrize(
    "file",
    [
        "data/chunk-000/file-000.parquet",
        "meta/episodes/chunk-000/file-000.parquet",
        "meta/tasks.parquet",
        "meta/vla_ros.json",
    ],
)
def test_flipped_bytes_are_data_errors(file, sound, tmp_path):
    root = tmp_path / "set"
    shutil.copytree(sound, root)
    whole, rng = bytearray((root / file).read_bytes()), np.random.default_rng(0)
    for _ in range(40):
        damaged = whole.copy()
        for place in rng.integers(0, len(damaged), 8):
            damaged[place] = int(rng.integers(256))
        (root / file).write_bytes(damaged)
        read("lerobot", root)


def test_flipped_bytes_of_hdf5_are_data_errors(tmp_path):
    h5py = pytest.importorskip("h5py")
    path, controller = tmp_path / "a.hdf5", {"type": "OSC_POSE"}
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps({"env_kwargs": {"controller_configs": controller}})
        data["demo_0/actions"] = np.zeros((5, 7))
        data["demo_0/obs/robot0_eef_pos"] = np.full((5, 3), 0.3)
        data["demo_0/obs/robot0_eef_quat"] = np.tile([1.0, 0.0, 0.0, 0.0], (5, 1))
    assert not read("hdf5", path)
    whole, rng = bytearray(path.read_bytes()), np.random.default_rng(0)
    for _ in range(80):
        damaged = whole.copy()
        for place in rng.integers(0, len(damaged), 8):
            damaged[place] = int(rng.integers(256))
        path.write_bytes(damaged)
        read("hdf5", path)
