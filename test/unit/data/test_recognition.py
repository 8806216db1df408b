"""A folder is what its files say."""

from __future__ import annotations

import pytest

from vla_ros.data.errors import DataError
from vla_ros.data.foreign.recognition import recognize


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        ("meta/info.json", "lerobot"),
        ("a.mcap", "mcap"),
        ("a_0.db3", "mcap"),
        ("a_0.mcap.zstd", "mcap"),
        ("a_0.db3.zstd", "mcap"),
        ("bridge-train.tfrecord-00000-of-00001", "rlds"),
        ("variation0/episodes/episode0/low_dim_obs.pkl", "rlbench"),
        ("meta.json", None),
        ("picture.png", None),
    ],
)
def test_a_folder(tmp_path, file, kind):
    path = tmp_path / "set" / file
    path.parent.mkdir(parents=True)
    path.touch()
    assert recognize(tmp_path / "set") == kind


def test_recordings_of_ros2_bag_below_a_folder_are_its_episodes(tmp_path):
    for file in ("one/one_0.mcap", "one/metadata.yaml", "two/two_0.db3", "two/metadata.yaml"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    assert recognize(tmp_path) == "mcap"


def test_a_file(tmp_path):
    (tmp_path / "a.hdf5").touch()
    (tmp_path / "a.txt").touch()
    assert recognize(tmp_path / "a.hdf5") == "hdf5"
    assert recognize(tmp_path / "a.txt") is None and recognize(tmp_path / "nowhere") is None
    with pytest.raises(DataError, match="one a task; name one"):
        recognize(tmp_path)


def test_the_folder_above_says_what_is_below(tmp_path):
    for file in ("lerobot/meta/info.json", "mcap/a.mcap"):
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).touch()
    with pytest.raises(DataError, match=r"is the folder above \['lerobot', 'mcap'\]"):
        recognize(tmp_path)
