"""An episode is on disk whole or not at all, and nothing in it is unpickled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vla_ros.data.episodes import Episode, EpisodeWriter, read_episodes, read_specification
from vla_ros.errors import VlaError
from vla_ros.robot.contract import load_contract

SPECIFICATION = load_contract("panda").action


def _episode(seed: int = 3) -> Episode:
    rng = np.random.default_rng(seed)
    return Episode(seed, True, {
        "opening": rng.random(4).astype(np.float32),
        "image_front": rng.integers(0, 255, (4, 8, 8, 3)).astype(np.uint8),
        "pixel_front": np.full((4, 3, 2), np.nan, np.float32),
        "names": np.array(["red cube", "blue ball"]),
    })  # fmt: skip


def test_an_episode_survives(tmp_path: Path) -> None:
    EpisodeWriter(tmp_path, SPECIFICATION, {"who": "test"}).write(_episode())
    (there,) = read_episodes(tmp_path)
    assert (there.seed, there.success, len(there)) == (3, True, 4)
    for name, array in _episode().arrays.items():
        np.testing.assert_array_equal(there.arrays[name], array)
    assert read_specification(tmp_path) == SPECIFICATION


def test_a_half_written_episode_does_not_exist(tmp_path: Path) -> None:
    writer = EpisodeWriter(tmp_path, SPECIFICATION, {})
    whole = writer.write(_episode(1))
    (tmp_path / "episode_000000002.77.partial").write_bytes(whole.read_bytes()[:100])
    assert [episode.seed for episode in read_episodes(tmp_path)] == [1]


def test_a_truncated_episode_is_named(tmp_path: Path) -> None:
    path = EpisodeWriter(tmp_path, SPECIFICATION, {}).write(_episode())
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(VlaError, match=path.name):
        list(read_episodes(tmp_path))


def test_pickled_content_is_refused(tmp_path: Path) -> None:
    EpisodeWriter(tmp_path, SPECIFICATION, {})
    np.savez(tmp_path / "episode_000000001.npz", success=True, seed=1, names=np.array([{"a": 1}], dtype=object))
    with pytest.raises(VlaError, match="allow_pickle"):
        list(read_episodes(tmp_path))


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    episode = _episode()
    episode.arrays["opening"][2] = np.nan
    with pytest.raises(VlaError, match="'opening'"):
        EpisodeWriter(tmp_path, SPECIFICATION, {}).write(episode)
    assert list(read_episodes(tmp_path)) == []


def test_a_folder_without_description_is_named(tmp_path: Path) -> None:
    with pytest.raises(VlaError, match=r"meta\.json"):
        read_specification(tmp_path)
